"""GGUF models as they are: several files, layers of their own sizes, the context of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moe_gguf import EXPERTS, HIDDEN, PLAIN, WIDTH, write_moe

from moe2opt.placement import PlacementConfig, PlacementInstance, build
from moe2opt.placement.experts.activation import uses_per_token
from moe2opt.placement.export import export
from moe2opt.placement.model.files import shape_from_files
from moe2opt.placement.sections import Model
from moe2opt.result import InputError
from moe2opt.solve import solve

GIB = 2**30
MATRIX = HIDDEN * WIDTH


def place(path: Path, gpu_bytes: float, **changes: Any) -> PlacementInstance:
    """Return the question of a GGUF file on a card with RAM beside it."""
    data = {
        "problem": "placement",
        "name": "file",
        "model": {"gguf": path.name, **changes.pop("model", {})},
        "precisions": [{"name": "stored"}],
        "granularity": "layer",
        "tiers": [
            {"name": "vram", "kind": "gpu", "capacity_gib": gpu_bytes / GIB,
             "compute_gb_per_s": 900},
            {"name": "dram", "kind": "cpu", "capacity_gib": 1, "compute_gb_per_s": 80},
        ],
        "links": [{"between": ["vram", "dram"], "gb_per_s": 25}],
        "activation": {"uniform": True},
        **changes,
    }  # fmt: skip
    return build(PlacementConfig.model_validate(data), path.parent)


def test_all_files_of_a_model_are_read(tmp_path: Path) -> None:
    """Any file of several, or their folder, gives all layers; one that lacks is named."""
    whole = write_moe(tmp_path / "whole.gguf", [PLAIN] * 6)[0]
    (tmp_path / "split").mkdir()
    files = write_moe(tmp_path / "split" / "m.gguf", [PLAIN] * 6, shards=3)
    shape = shape_from_files("gguf", whole, Model(gguf="x"))
    for path in (*files, tmp_path / "split"):
        own = shape_from_files("gguf", path, Model(gguf="x"))
        assert own.layers == tuple(range(6)) == shape.layers
        assert (own.stored_parts, own.dense_bytes) == (shape.stored_parts, shape.dense_bytes)
    files[2].unlink()
    with pytest.raises(InputError, match=r"^model\.gguf: .*m-00003-of-00003\.gguf"):
        shape_from_files("gguf", files[0], Model(gguf="x"))


def test_a_plan_of_a_split_model_fits(tmp_path: Path) -> None:
    """With all layers seen, those that the card has no room for go to RAM, and so does the line."""
    first = write_moe(tmp_path / "m.gguf", [PLAIN] * 6, shards=3)[0]
    layer = EXPERTS * 3 * MATRIX * 2
    dense = 2 * (512 * HIDDEN + 6 * HIDDEN * HIDDEN)
    instance = place(first, dense + 4.5 * layer)
    plan = instance.decode(solve(instance.problem()).x)
    vram, dram = plan.tiers
    assert (vram.experts, dram.experts) == (4 * EXPERTS, 2 * EXPERTS)
    assert vram.used_gib * GIB == pytest.approx(dense + 4 * layer)
    # The token table lies in RAM and is not read as a whole.
    assert dram.used_gib * GIB == pytest.approx(2 * layer + 2 * 512 * HIDDEN)
    assert plan.dense_s == pytest.approx(dense / 900e9)
    assert "=CPU" in export(plan, "llama.cpp")[0].text


WIDE = dict.fromkeys(PLAIN, np.float32)


def test_layers_count_with_their_own_bytes(tmp_path: Path) -> None:
    """What a plan puts on the card is what the tensors of those layers weigh, seconds as well."""
    path = write_moe(tmp_path / "m.gguf", [WIDE] * 4 + [PLAIN] * 8)[0]
    dense = 2 * (512 * HIDDEN + 12 * HIDDEN * HIDDEN)
    narrow = EXPERTS * 3 * MATRIX * 2
    instance = place(path, dense + 9.5 * narrow)
    plan = instance.decode(solve(instance.problem()).x)
    on = plan.assignment.tier[:, 0, 0] == 0
    weigh = np.where(np.arange(12) < 4, 2 * narrow, narrow)
    assert plan.tiers[0].used_gib * GIB == pytest.approx(dense + weigh[on].sum())
    assert plan.tiers[0].used_gib * GIB <= dense + 9.5 * narrow
    # Uniform use: every layer costs its bytes over the rate, so that 9 narrow units are best.
    share = uses_per_token(np.full((1, EXPERTS), 0.5), 1).sum() / EXPERTS
    read = weigh * share / np.where(on, 900e9, 80e9)
    moved = 2 * (~on).sum() * 2 * 2 * HIDDEN / 25e9
    assert plan.seconds_per_token == pytest.approx(plan.dense_s + read.sum() + moved, rel=0.05)
    assert weigh[on].sum() == 9 * narrow or weigh[on].sum() == 8 * narrow
    report = export(plan, "llama.cpp")[0].report
    assert [c.used_gib for c in report.memory] == pytest.approx([t.used_gib for t in plan.tiers])
    again = type(plan).from_dict(plan.to_dict())
    assert again.scale == plan.scale


def test_matrices_count_with_their_own_bytes(tmp_path: Path) -> None:
    """With the granularity tensor gate, up and down have the sizes of the header."""
    types = {"gate": np.float16, "up": np.float16, "down": np.float32}
    path = write_moe(tmp_path / "m.gguf", [types] * 6)[0]
    dense = 2 * (512 * HIDDEN + 6 * HIDDEN * HIDDEN)
    unit = EXPERTS * MATRIX * 2
    instance = place(path, dense + 11.4 * unit, granularity="tensor")
    plan = instance.decode(solve(instance.problem()).x)
    on = (plan.assignment.tier[:, 0, :] == 0).sum(axis=0)
    assert on[0] + on[1] + 2 * on[2] == 11
    assert plan.tiers[0].used_gib * GIB == pytest.approx(dense + 11 * unit)
    assert instance.check(plan) == []


def test_a_part_counts_every_layer_as_the_largest(tmp_path: Path) -> None:
    """Parts that know one size take the largest layer's, and say so."""
    path = write_moe(tmp_path / "m.gguf", [WIDE] * 2 + [PLAIN] * 2)[0]
    instance = place(path, 1e9, granularity="expert", lots={"tier": "vram", "least_share": 0.5})
    assert instance.expert_bytes.tolist() == [3 * MATRIX * 4]
    assert any("each counts as the largest" in note for note in instance.notes)


@pytest.mark.parametrize(
    ("architecture", "keys", "per_token", "at_4096"),
    [
        # Multi-head latent attention: 576 values a layer, no separate values.
        ("deepseek2", {"attention__kv_lora_rank": 512, "attention__key_length": 576,
                       "attention__value_length": 512, "attention__key_length_mla": 192,
                       "attention__value_length_mla": 128, "attention__head_count_kv": 1},
         6 * 576 * 2, 4096 * 6 * 576 * 2),
        # Every third layer attends to everything, the others keep a state.
        ("qwen35moe", {"full_attention_interval": 3, "attention__key_length": 256,
                       "attention__value_length": 256, "ssm__conv_kernel": 4,
                       "ssm__inner_size": 512, "ssm__state_size": 128, "ssm__group_count": 2},
         2 * 2 * 2 * 256 * 2,
         4096 * 2 * 2 * 2 * 256 * 2 + 4 * 4 * (3 * (512 + 2 * 2 * 128) + 128 * 512)),
        # Every second layer remembers 128 tokens and has room for a micro-batch more.
        ("gpt-oss", {"attention__sliding_window": 128}, 3 * 2 * 2 * 64 * 2,
         (4096 + 768) * 3 * 2 * 2 * 64 * 2),
        # Heads per layer: two layers without any remember nothing.
        ("llama", {"attention__head_count_kv": [2, 0, 2, 2, 0, 1]}, 7 * 2 * 64 * 2,
         4096 * 7 * 2 * 64 * 2),
    ],
    ids=["latent", "recurrent", "window", "by layer"],
)  # fmt: skip
def test_context_by_architecture(
    tmp_path: Path, architecture: str, keys: dict[str, Any], per_token: float, at_4096: float
) -> None:
    """Each layer's context is that of its kind of attention."""
    path = write_moe(tmp_path / "m.gguf", [PLAIN] * 6, architecture=architecture, **keys)[0]
    shape = shape_from_files("gguf", path, Model(gguf="x"))
    assert shape.kv_bytes_per_token == per_token
    assert shape.context_bytes(4096) == at_4096
    assert shape.context_bytes(4000) == at_4096  # rounded up to 256 tokens
    assert shape_from_files("gguf", path, Model(gguf="x", kv_bits=8.5)).context_bytes(
        4096
    ) == pytest.approx(at_4096 * 8.5 / 16, rel=0.3 if architecture == "qwen35moe" else 1e-12)


def test_room_for_context_costs_no_time(tmp_path: Path) -> None:
    """Only the depth that is read costs seconds; it must have room."""
    path = write_moe(tmp_path / "m.gguf", [PLAIN] * 2)[0]
    empty = place(path, 1e9)
    room = place(path, 1e9, model={"context_tokens": 4096})
    deep = place(path, 1e9, model={"context_tokens": 4096, "context_depth": 1000})
    per_token = 2 * 2 * 2 * 64 * 2
    assert room.dense_s == empty.dense_s
    assert room.fixed_bytes[0] == empty.fixed_bytes[0] + 4096 * per_token
    assert deep.dense_s == pytest.approx(empty.dense_s + 1000 * per_token / 900e9)
    with pytest.raises(ValueError, match="context_depth: 5 tokens have no room"):
        place(path, 1e9, model={"context_depth": 5})
