"""Configurations of models, read without torch."""

from __future__ import annotations

import math
from typing import Any

import pytest
from executor.conftest import CONFIGS, config

from moe2opt.executor.model.families import expected_shapes, expert_names, read_spec
from moe2opt.result import InputError


def test_sizes_and_options_are_read() -> None:
    """The families differ in norms, biases, shared experts and where layers have experts."""
    mixtral, qwen2, qwen3, olmoe = (read_spec(config(f), "c") for f in CONFIGS)
    assert mixtral.renormalise and not qwen2.renormalise
    assert qwen2.qkv_bias and not qwen3.qkv_bias
    assert (qwen2.shared_width, qwen3.shared_width) == (40, 0)
    assert qwen3.moe_layers == (0, 2) and olmoe.moe_layers == (0, 1, 2)
    assert (qwen3.norm_by_head, olmoe.norm_by_head) == (True, False)
    assert mixtral.rope_theta == 1e6 and olmoe.rope_theta == 1e4


@pytest.mark.parametrize("family", CONFIGS)
def test_expert_tensors_have_the_size_of_an_expert(family: str) -> None:
    """Each expert's matrices are among the tensors and have as many weights as the shape says."""
    spec = read_spec(config(family), "c")
    shapes = dict(expected_shapes(spec))
    for layer in spec.moe_layers:
        for expert in range(spec.experts):
            names = expert_names(spec, layer, expert)
            assert sum(math.prod(shapes[n]) for n in names.values()) == spec.expert_weights


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide'"),
        ({"num_experts_per_tok": 9}, "9 experts per token, but a layer has 4"),
        ({"num_key_value_heads": 3}, "cannot share 3"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantised checkpoints"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rotary scaling 'yarn'"),
    ],
)
def test_what_cannot_be_run_is_refused(changes: dict[str, Any], words: str) -> None:
    """Options that change the result and are not implemented end in one message with their name."""
    with pytest.raises(InputError, match=words):
        read_spec(config("mixtral") | changes, "model/config.json")


def test_a_model_without_experts_is_refused() -> None:
    """A configuration whose layers are all dense names that as the reason."""
    with pytest.raises(InputError, match="no layer has experts"):
        read_spec(config("qwen3_moe", mlp_only_layers=[0, 1, 2]), "c")
