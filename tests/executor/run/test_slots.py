"""Cache slots: what stays, what goes, and that hits agree with the model of a plan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.executor.run.slots import SlotCache
from moe2opt.placement.experts.hits import lru_hit_rates


@given(st.integers(0, 6), st.integers(1, 3), st.integers(0, 2**31))
def test_lru_hits_as_often_as_the_placement_model_says(slots: int, top_k: int, seed: int) -> None:
    """Replaying a trace through the slots gives exactly the hit rate that plans count with."""
    draw = np.random.default_rng(seed)
    trace = np.stack([draw.permutation(6)[:top_k] for _ in range(40)])[:, None, :]
    cache, hits = SlotCache(slots, "lru"), 0
    for token in trace[:, 0].tolist():
        hits += len(cache.look_up(token).hits)
    expected = lru_hit_rates(trace, np.zeros(1, dtype=np.int64), 6)[0, slots]
    assert hits / trace.size == pytest.approx(expected)


@given(st.integers(0, 5), st.sampled_from(["lru", "lfu"]), st.integers(0, 2**31))
def test_a_hit_finds_its_own_content(slots: int, policy: str, seed: int) -> None:
    """Writing only what `misses` says, every hit finds its own expert in its slot."""
    draw = np.random.default_rng(seed)
    cache, memory = SlotCache(slots, policy), dict[int, int]()  # type: ignore[arg-type]
    for _ in range(60):
        found = cache.look_up(draw.permutation(6)[:3].tolist())
        assert all(memory[slot] == expert for expert, slot in found.hits)
        assert len(found.hits) + len(found.misses) == 3
        for expert, place in found.misses:
            if place is not None:
                memory[place] = expert


def test_lfu_keeps_what_is_used_most() -> None:
    """An expert used three times survives one used once more recently."""
    cache = SlotCache(2, "lfu")
    for expert in (0, 0, 0, 1, 2):
        cache.look_up([expert])
    assert [e for e, _ in cache.look_up([0, 1]).hits] == [0]


def test_pinned_experts_never_go() -> None:
    """Pinned experts are hits from the start and misses take no slot."""
    cache = SlotCache(2, "pinned", [4, 5])
    assert cache.look_up([1, 4]).misses == ((1, None),)
    assert cache.look_up([4, 5]).hits == ((4, 0), (5, 1))
    cache.clear()
    assert len(cache.look_up([4, 5]).hits) == 2


def test_a_sequence_starts_empty() -> None:
    """After `clear` nothing is a hit."""
    cache = SlotCache(3, "lru")
    cache.look_up([0, 1])
    cache.clear()
    assert not cache.look_up([0, 1]).hits
