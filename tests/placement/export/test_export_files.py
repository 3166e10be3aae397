"""Our own JSON, the device map for accelerate, and the registry."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_plans import CPU, DISK, make_plan, tier

from moe2opt.placement import PlacementPlan
from moe2opt.placement.export import FORMATS, export
from moe2opt.result import InputError


def test_json_keeps_everything(plan: PlacementPlan) -> None:
    """The JSON names the tier and format of each expert, and reads back as the same plan."""
    (made,) = export(plan, "json")
    content = json.loads(made.text)
    again = PlacementPlan.from_dict(content["plan"])
    assert json.dumps(again.to_dict()) == json.dumps(plan.to_dict())
    names = [[("vram", "dram")[t] for t in row] for row in plan.assignment.tier[:, :, 0]]
    assert [layer["tier"] for layer in content["layers"]] == names
    assert made.report.gap == 0.0


def test_json_of_tensors_and_pruned_experts() -> None:
    """Tensors that are apart are lists of three; a pruned expert has no tier."""
    where = np.zeros((1, 2, 3), dtype=np.int64)
    where[0, 1] = -1
    where[0, 0, 2] = 1
    (made,) = export(make_plan(where), "json")
    (layer,) = json.loads(made.text)["layers"]
    assert layer["tier"] == [["vram", "vram", "dram"], [None] * 3]
    assert layer["form"] == ["keep", "prune"]


@given(st.data())
def test_device_map(data: st.DataObject) -> None:
    """One name in the map contains each module of experts and gives its planned device."""
    layers = data.draw(st.integers(1, 6))
    rows = data.draw(st.lists(st.integers(0, 2), min_size=layers, max_size=layers))
    tiers = (tier("vram", "gpu", 90.0), CPU, DISK)
    plan = make_plan(np.array(rows)[:, None].repeat(3, axis=1), tiers=tiers, first_layer=1)
    (made,) = export(plan, "accelerate")
    mapping = json.loads(made.text)
    device = dict(zip(plan.layers, ((0, "cpu", "disk")[t] for t in rows), strict=True))
    for layer in range(plan.n_layers):
        whole, module = f"model.layers.{layer}", f"model.layers.{layer}.mlp.experts"
        assert (whole in mapping) == (device.get(layer, 0) == 0)
        assert mapping.get(module, mapping.get(whole)) == device.get(layer, 0)
    assert {mapping[name] for name in mapping if not name.endswith(".experts")} == {0}
    assert not any(a != b and b.startswith(f"{a}.") for a in mapping for b in mapping)
    assert made.report.gap == 0.0


def test_device_map_of_single_experts() -> None:
    """Switch Transformers have a module per expert, in encoder and decoder."""
    plan = make_plan([[0, 1], [1, 0]], model="Switch-Base-8", first_layer=1, n_layers=4)
    plan = replace(plan, layers=(1, 3))
    (made,) = export(plan, "accelerate")
    experts = {k: v for k, v in json.loads(made.text).items() if "expert_" in k}
    assert experts == {
        "encoder.block.1.layer.1.mlp.experts.expert_0": 0,
        "encoder.block.1.layer.1.mlp.experts.expert_1": "cpu",
        "decoder.block.1.layer.2.mlp.experts.expert_0": "cpu",
        "decoder.block.1.layer.2.mlp.experts.expert_1": 0,
    }


def test_room_for_copied_layers_is_kept() -> None:
    """While a layer is elsewhere, the GPU keeps room for one layer that is copied to it."""
    where = np.zeros((4, 8), dtype=np.int64)
    where[3] = 1
    gpu = tier("vram", "gpu", 3.0)
    (made,) = export(make_plan(where, tiers=(gpu, CPU)), "accelerate")
    assert made.report.moved == 8
    assert made.report.memory[0].used_gib == 3.0


@pytest.mark.parametrize(
    ("name", "meant"), [("llama", "llama.cpp"), ("vLLM", "vllm"), ("sglan", "sglang")]
)
def test_unknown_formats_get_a_hint(plan: PlacementPlan, name: str, meant: str) -> None:
    """An unknown format is answered with the nearest one and the list of all."""
    with pytest.raises(InputError, match=rf"did you mean '{meant}'.*choose one of") as told:
        export(plan, name)
    assert all(known in str(told.value) for known in FORMATS)


def test_reports_are_json(plan: PlacementPlan) -> None:
    """Every report is JSON-ready and says what was validated."""
    for to in ("llama.cpp", "ktransformers", "accelerate", "vllm", "adapmoe", "json"):
        for made in export(plan, to):
            content = json.loads(json.dumps(made.report.to_dict(), allow_nan=False))
            assert content["validated"]
            assert made.report.summary().startswith("Export for ")
