"""Files for ktransformers, SGLang, vLLM and AdapMoE, read back as those runtimes read them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from small_plans import CPU, DISK, GPU, make_plan, tier

from moe2opt.placement.export import Export, export
from moe2opt.placement.export.judge import seconds
from moe2opt.result import InputError

WIDE = tier("vram", "gpu", 90.0)


def draw_plan(data: st.DataObject, **changes: Any) -> Any:
    """Draw a plan of up to 12 layers on GPU and CPU, with room for everything."""
    layers, experts = data.draw(st.integers(1, 12)), data.draw(st.integers(2, 6))
    values = st.lists(st.integers(0, 1), min_size=layers * experts, max_size=layers * experts)
    where = np.array(data.draw(values)).reshape(layers, experts)
    return make_plan(where, tiers=(WIDE, tier("dram", "cpu", 90.0)), **changes)


def by_layer(made: Export, plan: Any, on_gpu: list[bool]) -> None:
    """Check the reported seconds against a sum over whole layers."""
    fast, slow = plan.seconds_of[0][0], plan.seconds_of[1][0]
    seconds = plan.dense_s + sum(
        sum(row) * (fast if gpu else slow) for row, gpu in zip(plan.uses, on_gpu, strict=True)
    )
    assert made.report.projected_value == pytest.approx(seconds, rel=1e-9)


@given(st.data())
def test_ktransformers_rules(data: st.DataObject) -> None:
    """The first rule that matches a module of experts gives the device that the report prices."""
    first = data.draw(st.integers(0, 3))
    plan = draw_plan(data, model="Qwen3-30B-A3B", first_layer=first)
    made = export(plan, "ktransformers")[0]
    rules = YAML(typ="safe", pure=True).load(made.text)
    for rule in rules:
        assert set(rule) == {"match", "replace", "recursive"}
        assert set(rule["replace"]) == {"class", "kwargs"}
        assert rule["match"]["name"].startswith("^")
        assert rule["match"]["name"].endswith("$")
    assert len(rules) <= 2
    devices = []
    for layer in plan.layers:
        module = f"model.layers.{layer}.mlp.experts"
        rule = next(rule for rule in rules if re.match(rule["match"]["name"], module))
        devices.append(rule["replace"]["kwargs"]["generate_device"])
        other = f"model.layers.{layer}.mlp.shared_experts"
        assert not any(re.match(rule["match"]["name"], other) for rule in rules)
    by_layer(made, plan, [device == "cuda:0" for device in devices])


@given(st.data())
def test_kt_kernel_table(data: st.DataObject) -> None:
    """The global top-n of the table is the mask: experts of the plan, a whole number per layer."""
    plan = draw_plan(data, first_layer=data.draw(st.integers(0, 2)))
    _, table, mask = export(plan, "ktransformers")
    frequencies = np.array(json.loads(table.text)["logical_count"])
    planned = np.array(json.loads(mask.text))
    number = int(re.findall(r"--kt-num-gpu-experts (\d+)", table.launch)[0])
    total = number * len(plan.layers)
    top = np.zeros(frequencies.size, dtype=bool)
    top[np.argsort(-frequencies, axis=None, kind="stable")[:total]] = True
    assert np.array_equal(top.reshape(frequencies.shape), planned)
    assert frequencies.shape == (plan.n_layers, len(plan.uses[0]))
    wanted = plan.assignment.tier[:, :, 0] == 0
    assert not (planned[list(plan.layers)] & ~wanted).any()
    assert 0 <= wanted.sum() - total < len(plan.layers)


@given(st.data())
def test_sglang_map(data: st.DataObject) -> None:
    """Each row lists every expert once, and slots divide evenly over the GPUs."""
    gpus = data.draw(st.integers(1, 3))
    layers, share = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    experts = gpus * share
    values = st.lists(
        st.integers(0, gpus - 1), min_size=layers * experts, max_size=layers * experts
    )
    where = np.array(data.draw(values)).reshape(layers, experts)
    plan = make_plan(where, tiers=tuple(tier(f"gpu{g}", "gpu", 90.0) for g in range(gpus)))
    (made,) = export(plan, "sglang")
    rows = np.array(json.loads(made.text)["physical_to_logical_map"])
    assert (np.sort(rows, axis=1) == np.arange(experts)).all()
    placed = np.empty_like(where)
    np.put_along_axis(placed, rows, np.arange(experts)[None, :] // share, axis=1)
    assert made.report.moved == (placed != where).sum()
    assert f"--ep-size {gpus}" in made.launch


@given(st.data())
def test_vllm_options(data: st.DataObject) -> None:
    """The layers that the options name by vLLM's rules are those that the report prices."""
    plan = draw_plan(data, first_layer=data.draw(st.integers(0, 2)))
    room = data.draw(st.floats(0.3, 1.2))
    size = 0.125 * len(plan.uses[0])
    plan = replace(plan, tiers=(tier("vram", "gpu", room * size * 12 + 1.0), plan.tiers[1]))
    try:
        (made,) = export(plan, "vllm")
    except InputError as error:
        assert "no pattern" in str(error)
        return
    options = json.loads(made.text)
    kind = options.get("offload_backend")
    if kind == "prefetch":
        assert 1 <= options["offload_num_in_group"] <= options["offload_group_size"]
        group, number = options["offload_group_size"], options["offload_num_in_group"]
        off = [layer % group >= group - number for layer in plan.layers]
    elif kind == "uva":
        off, total = [], 0.0
        for _ in plan.layers:
            off.append(total < options["cpu_offload_gb"])
            for share in (2 / 3, 1 / 3):
                total += share * size if total < options["cpu_offload_gb"] else 0.0
        assert total <= sum(off) * size + 1e-9
    else:
        off = [False] * len(plan.layers)
    by_layer(made, plan, [not o for o in off])
    used, limit = made.report.memory[0].used_gib, made.report.memory[0].limit_gib
    assert limit is not None
    assert used <= limit * (1 + 1e-9)


def test_vllm_offloads_only_when_it_must() -> None:
    """With room for everything on the GPU the options are empty."""
    plan = make_plan([[0, 1], [1, 1]], tiers=(WIDE, CPU))
    assert json.loads(export(plan, "vllm")[0].text) == {}


def test_adapmoe_slots_of_a_cache() -> None:
    """The slots of a plan with a cache are exported as they are, with no loss."""
    plan = make_plan(np.ones((3, 4)))
    plan = replace(plan, assignment=replace(plan.assignment, slots=np.array([4, 0, 1])))
    (made,) = export(plan, "adapmoe")
    content = json.loads(made.text)
    assert content == {"cache_strategy": [4, 0, 1], "main_size": 5, "offload_size": 7}
    assert made.report.gap == 0.0
    assert [check.used_gib for check in made.report.memory] == [1.625, 1.5]


def test_adapmoe_slots_of_fixed_residents() -> None:
    """Residents are counted per layer, and the report does not claim to know the loss."""
    (made,) = export(make_plan([[0, 0, 1], [1, 1, 1]]), "adapmoe")
    assert json.loads(made.text)["cache_strategy"] == [2, 0]
    assert made.report.gap is None


@pytest.mark.parametrize(
    ("to", "tiers", "words"),
    [
        ("sglang", (GPU, CPU), "vram would hold 8.00 GiB of experts, 2.50 GiB are free"),
        ("sglang", tuple(tier(f"gpu{g}", "gpu", 90.0) for g in range(3)), "do not divide by 3"),
        ("adapmoe", (GPU, DISK), "no tier of kind cpu"),
        ("adapmoe", (GPU, tier("dram", "cpu", 7.0)), "dram would hold 8.00 GiB"),
        ("vllm", (GPU, DISK), "no pattern of offloaded layers fits"),
        ("vllm", (CPU, DISK), "the dense part is on 'dram', not on a GPU"),
        ("ktransformers", (CPU, DISK), "the dense part is on 'dram', not on a GPU"),
        ("ktransformers", (GPU, DISK), "do not fit in what it can use"),
        ("accelerate", (tier("edge", "remote", 9.0), CPU), "of kind remote, which it cannot use"),
    ],
)
def test_refusals(to: str, tiers: Any, words: str) -> None:
    """What a runtime cannot hold or express is refused in one line with the reason."""
    with pytest.raises(InputError, match=re.escape(words)) as told:
        export(make_plan(np.zeros((8, 8)), tiers=tiers), to)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("to", ["ktransformers", "sglang", "vllm"])
def test_no_encoder_decoder(to: str) -> None:
    """Runtimes for causal models refuse Switch Transformers."""
    with pytest.raises(InputError, match="does not run Switch Transformers"):
        export(make_plan([[0, 0]], model="Switch-Base-8"), to)


@pytest.mark.parametrize("to", ["vllm", "accelerate"])
def test_seconds_are_those_of_a_runtime_that_copies(to: str, build: Any) -> None:
    """Experts in RAM cost a copy where only the GPU computes: those used, or all of a layer."""
    instance = build(
        granularity="layer",
        precisions=[{"name": "wide", "bits_per_weight": 8, "loss_nats": 0.0}],
        budgets=None,
        tiers=[
            {"name": "fast", "kind": "gpu", "capacity_gib": 0.02, "compute_gb_per_s": 100},
            {"name": "slow", "kind": "cpu", "compute_gb_per_s": 50},
        ],
        links=[{"between": ["fast", "slow"], "gb_per_s": 2}],
        activation={"uniform": True},
        layers=8,
    )
    plan = instance.decode(np.ones(8, dtype=np.int64))
    (made,) = export(plan, to)[:1]
    away = next(c for c in made.report.memory if c.tier == "slow").used_gib * 2**30 / 6e6
    # vLLM reads the two experts that a token uses; accelerate copies all six of a layer.
    copied = {"vllm": 2, "accelerate": 6}[to]
    used = 8 * 2 * 1e6 / 100e9 + away * copied * 1e6 / 2e9
    assert made.report.projected_value == pytest.approx(plan.dense_s + used, rel=1e-9)
    assert any("computes on GPUs only" in note for note in made.report.notes)
    old = replace(plan, copied_of=())
    assert any("does not tell" in note for note in export(old, to)[0].report.notes)


def test_whole_layers_are_copied_once_for_all_tokens_of_a_step(build: Any) -> None:
    """Of six experts elsewhere each token pays its share of one copy each, used or not."""
    instance = build(
        granularity="layer",
        precisions=[{"name": "wide", "bits_per_weight": 8, "loss_nats": 0.0}],
        budgets=None,
        tiers=[
            {"name": "fast", "kind": "gpu", "compute_gb_per_s": 100},
            {"name": "slow", "kind": "cpu", "compute_gb_per_s": 50},
        ],
        links=[{"between": ["fast", "slow"], "gb_per_s": 2}],
        activation={"uniform": True},
        batch=4,
    )
    plan = instance.decode(np.ones(3, dtype=np.int64))
    reads = np.array(plan.uses).sum()
    copies = len(plan.layers) * 6 / 4
    assert reads < copies
    found = seconds(plan, plan.assignment, copies="all")
    assert found == pytest.approx(plan.dense_s + reads * 1e6 / 100e9 + copies * 1e6 / 2e9, rel=1e-9)
