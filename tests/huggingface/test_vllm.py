"""The two patterns in which vLLM keeps layers elsewhere."""

from __future__ import annotations

import pytest

from moe2opt.huggingface.vllm import patterns


@pytest.mark.parametrize("sparse", [True, False])
def test_every_pattern_comes_once_and_says_its_layers(sparse: bool) -> None:
    """The options of each pattern, applied as vLLM does, move the layers that it names."""
    gib = {1: 0.5, 2: 0.5, 4: 2.0, 5: 0.25}
    found = list(patterns(gib, 6, sparse=sparse))
    for pattern in found[1:]:
        own = pattern.options
        if pattern.backend == "uva":
            before = {k: sum(gib[j] for j in gib if j < k) for k in gib}
            moved = [k for k in gib if before[k] < own["cpu_offload_gb"]]
            assert own["cpu_offload_gb"] < sum(gib[k] for k in moved)
        else:
            size, number = own["offload_group_size"], own["offload_num_in_group"]
            moved = [k for k in gib if k % size >= size - number]
        assert pattern.moved == tuple(moved)
        assert [value == ["experts"] for key, value in own.items() if "params" in key] == (
            [True] if sparse else []
        )
    assert found[0].moved == () and found[0].options == {}
    grouped = [pattern.moved for pattern in found if pattern.backend == "prefetch"]
    assert len(set(grouped)) == len(grouped) > 0
