"""Plans of the question ``place`` are the best there are, and fit as llama.cpp counts."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_models import MIB, model

import moe2opt as mo
from moe2opt.errors import InputError
from moe2opt.llamacpp import CPU, Layout, LlamaModel
from moe2opt.place import PlaceConfig, PlaceInstance, PlacePlan
from moe2opt.place.case import COMPUTE_MARGIN, Case, Variant
from moe2opt.place.judge import Judge
from moe2opt.place.question import instance_of
from moe2opt.place.variants import variants_of

GIB = 2**30


def asked(name: str | LlamaModel, *gpus: dict[str, Any], **sections: Any) -> PlaceInstance:
    """Return the question about a model on some devices."""
    own = model(name) if isinstance(name, str) else name
    content = {"problem": "place", "model": "m.gguf", "gpus": list(gpus)} | sections
    return instance_of(PlaceConfig.model_validate(content), own)


def solved(instance: PlaceInstance, gap: float | None = None) -> mo.Result[Any]:
    """Return a result that is proven (of many cards within half a percent), and checked."""
    if gap is None:
        gap = 0.005 if len(instance.case.machine.devices) > 2 else 0.0
    result = mo.solve(instance, rel_gap=gap)
    verdict = mo.certify(instance, result)
    assert (verdict.kind, verdict.failures) == ("checked", ())
    return result


MACHINES: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = [
    ("qwen3-30b-a3b", [{"name": "RTX 3060"}], {"ram": {"gib": 64}}),
    ("gpt-oss-120b", [{"name": "RTX 3090"}, {"name": "RTX 3060"}], {"ram": {"gib": 96}}),
    ("qwen35-35b", [{"gib": 12, "gb_per_s": 360}, {"gib": 8, "gb_per_s": 448}], {}),
    ("gemma3-27b", [{"gib": 12, "gb_per_s": 360}], {}),
    ("glm45-air", [{"gib": 24, "gb_per_s": 936}] * 2, {"ram": {"gib": 128}}),
    ("nemotron3-nano", [{"gib": 16, "gb_per_s": 448}], {}),
    ("llama4-maverick", [{"gib": 96, "gb_per_s": 256}], {"ram": {"gib": 256}}),
    ("llama31-8b", [{"gib": 24, "gb_per_s": 936}], {}),
    ("mixtral-8x7b", [], {"ram": {"gib": 64}}),
]


def test_a_name_that_begins_with_a_dash_is_no_option() -> None:
    """The line names such a file by its folder."""
    instance = asked("llama31-8b", {"gib": 24, "gb_per_s": 936}, model="-m.gguf")
    assert shlex.split(solved(instance).plan.command)[1:3] == ["-m", "./-m.gguf"]


def test_a_line_for_the_processor_alone_keeps_devices_out() -> None:
    """A plan without devices holds on a machine that has some: the line rules them out."""
    words = shlex.split(solved(asked("llama31-8b", ram={"gib": 64})).plan.command)
    assert words[words.index("--device") + 1] == "none"


@pytest.mark.parametrize(("name", "gpus", "sections"), MACHINES, ids=lambda value: str(value)[:20])
def test_plans_fit_and_lose_to_no_rule(
    name: str, gpus: list[dict[str, Any]], sections: dict[str, Any]
) -> None:
    """A plan is proven optimal, fits with its margins, and no rule in use is faster."""
    instance = asked(name, *gpus, **sections)
    result = solved(instance)
    assert result.status is mo.Status.OPTIMAL
    plan: PlacePlan = result.plan
    assert instance.check(plan) == []
    assert instance.evaluate(plan) == pytest.approx(result.objective, rel=1e-9)
    for device in plan.devices:
        assert device["free_bytes"] is None or device["free_bytes"] >= 0
    rates = {rule.name: rule.decode_tok_s for rule in plan.baselines if rule.decode_tok_s}
    assert all(plan.decode.value >= rate * (1 - 1e-9) for rate in rates.values())


@pytest.mark.parametrize(
    ("name", "gib", "sections"),
    [
        ("gpt-oss-20b", [24], {}),  # everything fits, and the first guess is all experts in RAM
        ("gpt-oss-20b", [8], {"ubatch": [2048, 512]}),
        ("glm45-air", [12, 24, 16], {}),  # --fit leaves parts of layers on the next card
        ("deepseek-r1", [24, 12], {"goal": {"prompt_tokens": 9, "answer_tokens": 2}}),
        ("gemma3-27b", [6], {}),
        ("qwen3-30b-a3b", [6, 8, 800, 12, 8, 6, 1, 6], {}),  # rules leave small ones out
        ("gpt-oss-20b", [1, 1.1, 12, 0.9, 6, 14], {}),
    ],
)
def test_the_search_starts_from_the_best_rule(
    name: str, gib: list[float], sections: dict[str, Any]
) -> None:
    """The solution offered first is worth what its own layers say, and as fast as any rule."""
    gpus = [{"gib": size, "gb_per_s": 200 + 30 * size} for size in gib]
    instance = asked(name, *gpus, ram={"gib": 512}, **sections)
    start = instance.start
    assert start is not None
    plan = instance.decode(start)
    assert instance.check(plan) == []
    assert instance.problem().evaluate(start) == pytest.approx(instance.evaluate(plan), rel=1e-9)
    best = max(rule.decode_tok_s or 0.0 for rule in plan.baselines)
    assert plan.decode.value >= best * (1 - 1e-9)


def test_a_plan_on_one_card_is_said_by_one_number() -> None:
    """Experts that stay in RAM are those of the first layers, so that `-ncmoe` says it."""
    plan = solved(asked("qwen3-30b-a3b", {"gib": 12, "gb_per_s": 360}, ram={"gib": 64})).plan
    in_ram = [layer["layer"] for layer in plan.layers if layer["experts"] == "cpu"]
    assert in_ram == list(range(len(in_ram)))
    assert f" -ngl 49 -ncmoe {len(in_ram)} --fit off" in plan.command
    assert " -c 8192 -ctk f16 -ctv f16 -fa on -ub 512 -b 2048 -np 1 " in plan.command


def test_context_lies_with_its_layer() -> None:
    """Room for a longer conversation moves experts to RAM, and every byte is accounted for."""
    short, long = (
        solved(asked("gpt-oss-120b", {"gib": 24, "gb_per_s": 936}, context={"tokens": tokens})).plan
        for tokens in (8192, 131072)
    )
    more = long.devices[0]["context_bytes"] - short.devices[0]["context_bytes"]
    assert more == 18 * (131072 - 8192) * 8 * (64 + 64) * 2
    assert sum(x["experts"] == "cpu" for x in long.layers) > sum(
        x["experts"] == "cpu" for x in short.layers
    )
    for plan in (short, long):
        held = sum(device["weights_bytes"] for device in plan.devices)
        assert held == model("gpt-oss-120b").bytes


def test_a_dense_part_larger_than_a_card_is_split_over_two() -> None:
    """DeepSeek on two cards of 24 GiB: each card holds attention and context of its own layers."""
    cards = [{"gib": 24, "gb_per_s": 936}] * 2
    plan = solved(asked("deepseek-r1", *cards, ram={"gib": 256, "gb_per_s": 200})).plan
    shares = re.search(r" -ts (\d+),(\d+) ", plan.command)
    assert shares is not None
    assert all(int(share) > 0 for share in shares.groups())
    for device in plan.devices[:2]:
        assert device["context_bytes"] > 0
        assert device["free_bytes"] >= 0


def test_depth_costs_time_and_room_does_not() -> None:
    """Speed is that at the depth that is filled; room alone changes it only by what fits."""
    card = {"gib": 80, "gb_per_s": 2000}
    roomy = asked("qwen3-30b-a3b", card, context={"tokens": 131072, "depth": 1000})
    small = asked("qwen3-30b-a3b", card, context={"tokens": 8192, "depth": 1000})
    deep = asked("qwen3-30b-a3b", card, context={"tokens": 131072, "depth": 100_000})
    rates = [solved(instance).plan.decode.value for instance in (roomy, small, deep)]
    assert rates[0] == pytest.approx(rates[1])
    assert rates[2] < 0.9 * rates[0]


def computed(name: str) -> LlamaModel:
    """Return a model with two weights a byte, so that a processor alone takes its time."""
    own = model(name)
    sizes = [{"other": layer.other_bytes, "expert": layer.expert_bytes} for layer in own.layers]
    layers = tuple(
        dataclasses.replace(layer, **{f"{kind}_weights": 2 * held for kind, held in own.items()})
        for layer, own in zip(own.layers, sizes, strict=True)
    )
    return dataclasses.replace(own, layers=layers)


def test_prompts_want_larger_parts() -> None:
    """Where experts are copied for prompts, a long prompt takes a larger micro-batch than none."""
    card, own = {"gib": 24, "gb_per_s": 936}, computed("gpt-oss-120b")
    sizes, goal = [512, 2048], {"prompt_tokens": 8000, "answer_tokens": 100}
    answers = solved(asked(own, card, ubatch=sizes)).plan
    both = solved(asked(own, card, ubatch=sizes, goal=goal)).plan
    assert (answers.ubatch, both.ubatch) == (512, 2048)
    assert both.prefill.value > 2 * answers.prefill.value
    assert both.decode.value <= answers.decode.value


def test_a_floor_for_prompts_is_kept() -> None:
    """Prompts are read at least as fast as asked, and not faster than any line could."""
    card, own = {"gib": 24, "gb_per_s": 936}, computed("gpt-oss-120b")
    free = solved(asked(own, card, ubatch=[512, 4096])).plan.prefill.value
    floor = 3 * free
    goal = {"least_prefill_tok_s": floor}
    plan = solved(asked(own, card, ubatch=[512, 4096], goal=goal)).plan
    assert plan.prefill.value >= floor * (1 - 1e-6)
    goal = {"least_prefill_tok_s": 1e6}
    assert mo.solve(asked(own, card, goal=goal)).status is mo.Status.INFEASIBLE


def test_what_fits_nowhere_is_proven() -> None:
    """A model larger than all memory is infeasible, and the memory that lacks is named."""
    instance = asked("llama4-maverick", {"gib": 96, "gb_per_s": 256}, ram={"gib": 64})
    result = solved(instance)
    assert result.status is mo.Status.INFEASIBLE
    assert result.certificate is not None and result.certificate.conflict is not None
    named = [instance.row_names()[row] for row in result.certificate.conflict.rows]
    assert "bytes in RAM" in named


def tiny(
    layers: int, experts: int, dense: int, output: int, odd: bool, matrices: int = 1
) -> LlamaModel:
    """Return a model of a few layers whose sizes are given in MiB; the last may differ."""
    own = model("qwen3-30b-a3b")
    first = own.layers[0]
    made = [
        dataclasses.replace(
            first,
            index=k,
            other_bytes=dense * MIB,
            largest_other_bytes=MIB,
            experts=dict.fromkeys(
                ("up", "gate", "down")[:matrices], (experts + (odd and k == layers - 1)) * MIB
            ),
            key_values=0,
            value_values=0,
            other_weights=dense * MIB,
            expert_weights=matrices * experts * MIB,
        )
        for k in range(layers)
    ]
    return dataclasses.replace(
        own, layers=tuple(made), blocks=layers, output_bytes=output * MIB, input_bytes=MIB,
        hidden=64, heads=1, value_width=64, vocabulary=100, expert_width=8, top_k=1, experts=4,
    )  # fmt: skip


def splits_of(
    homes: list[int], places: tuple[int, ...], matrices: int, count: int
) -> Iterator[dict[int, int]]:
    """Yield which layer of each device keeps how many matrices: at most one of those elsewhere."""
    choices = [
        [None, *((k, n) for k, (p, h) in enumerate(zip(places, homes, strict=True))
                 if p != h == d for n in range(1, matrices))]
        for d in range(count)
    ]  # fmt: skip
    for chosen in itertools.product(*choices):
        yield dict(own for own in chosen if own is not None)


def room_of(case: Case, layout: Layout, rooms: list[float]) -> bool:
    """Tell whether what a layout puts on each device has room there."""
    held = [0.0] * (len(rooms) + 1)
    sizes = case.layer_bytes(max(case.config.ubatch))
    for layer in case.model.layers:
        held[layout.homes[layer.index]] += sizes[layer.index]
        for matrix, size in layer.experts.items():
            held[layout.of_experts(layer.index, matrix)] += size
    used = set(layout.homes) - {CPU}
    return all(held[d] <= rooms[d] for d in range(len(rooms)) if held[d] or d in used)


def best_by_trying(case: Case) -> float:
    """Return the least seconds of any layout that fits, by trying them all."""
    judge, blocks, count = Judge(case), case.model.blocks, len(case.machine.devices)
    best = math.inf
    for variant in variants_of(case):
        last = variant.devices[-1] if variant.devices else CPU
        rooms = [
            case.usable_bytes(d)
            - case.compute_bytes(variant, d)
            - (case.model.output_bytes if d == last else 0)
            for d in range(count)
        ]
        for cuts in itertools.combinations_with_replacement(range(blocks + 1), count):
            ends = [*cuts[1:], blocks]
            homes = [CPU] * blocks
            for d in range(count):
                homes[cuts[d] : ends[d]] = [d] * (ends[d] - cuts[d])
            for places in itertools.product(range(CPU, count), repeat=blocks):
                used = {p for p in (*homes, *places) if p != CPU}
                away = any(p != h for p, h in zip(places, homes, strict=True))
                if not used <= set(variant.devices) or any(
                    h == CPU and p != CPU for p, h in zip(places, homes, strict=True)
                ):
                    continue
                if not variant.offloads and (away or CPU in homes):
                    continue
                for split in splits_of(homes, places, len(case.model.layers[0].experts), count):
                    moved = {
                        k: dict.fromkeys(("up", "gate", "down")[split.get(k, 0) :], p)
                        for k, (p, h) in enumerate(zip(places, homes, strict=True))
                        if p != h
                    }
                    layout = Layout((*homes, last), moved)
                    in_ram = CPU in homes or any(CPU in own.values() for own in moved.values())
                    if in_ram and variant.offloads and not variant.copies:
                        continue
                    if set(variant.devices) == set(layout.homes) - {CPU} and room_of(
                        case, layout, rooms
                    ):
                        best = min(best, judge.seconds(layout, variant.ubatch))
    return best


@given(
    layers=st.integers(1, 4),
    experts=st.integers(20, 60),
    dense=st.integers(1, 20),
    output=st.integers(1, 30),
    odd=st.booleans(),
    matrices=st.integers(1, 3),
    sizes=st.lists(st.integers(60, 200), min_size=1, max_size=2),
    speeds=st.lists(st.integers(100, 2000), min_size=2, max_size=2),
    ubatch=st.sampled_from([[512], [64, 512]]),
    prompt=st.sampled_from([0, 5, 50]),
)
@settings(max_examples=25, deadline=None)
def test_no_layout_is_faster(
    layers: int,
    experts: int,
    dense: int,
    output: int,
    odd: bool,
    matrices: int,
    sizes: list[int],
    speeds: list[int],
    ubatch: list[int],
    prompt: int,
) -> None:
    """On a few layers and devices, trying every layout finds nothing faster than the plan."""
    gpus = [{"gib": s / 1024, "gb_per_s": r} for s, r in zip(sizes, speeds, strict=False)]
    small = tiny(layers, experts // matrices, dense, output, odd, matrices)
    sections = {"ubatch": ubatch, "goal": {"prompt_tokens": prompt}, "context": {"tokens": 256}}
    instance = asked(small, *gpus, margin_gib=0.0, **sections)
    best = best_by_trying(instance.case)
    result = mo.solve(instance)
    assert mo.certify(instance, result).failures == ()
    if result.status is mo.Status.INFEASIBLE:
        assert best == math.inf
    else:
        assert -result.objective <= best * (1 + 1e-9)
        assert instance.check(result.plan) == []


@given(
    layers=st.integers(1, 3),
    size=st.integers(60, 160),
    experts=st.integers(20, 60),
    odd=st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_equal_cards_stand_for_each_other(layers: int, size: int, experts: int, odd: bool) -> None:
    """Of three equal cards, plans use the first ones only, and no layout on any is faster."""
    card = {"gib": size / 1024, "gb_per_s": 800}
    small = tiny(layers, experts // 2, 4, 6, odd, matrices=2)
    instance = asked(small, *[card] * 3, margin_gib=0.0, context={"tokens": 256})
    result = mo.solve(instance)
    assert {v.devices for v in variants_of(instance.case)} == {
        (0, 1, 2), (0, 1), (1, 2), (0,), (1,), ()
    }  # fmt: skip
    assert mo.certify(instance, result).failures == ()
    every = dataclasses.replace(instance.case)
    every.__dict__["variants"] = tuple(
        dataclasses.replace(variant, devices=devices)
        for variant in variants_of(instance.case)
        for devices in itertools.combinations(range(3), len(variant.devices))
    )
    assert -result.objective <= best_by_trying(every) * (1 + 1e-9)


@pytest.mark.parametrize(
    "machine",
    [
        {"gpus": [{"gib": 16, "gb_per_s": 200}], "ram": {"gib": 64}},
        {"gpus": [{"gib": 6, "gb_per_s": 900}, {"gib": 8, "gb_per_s": 360}], "ram": {"gib": 64}},
        {"unified": {"gib": 24, "gb_per_s": 100}},
        {"unified": {"gib": 21, "gb_per_s": 100}},
    ],
    ids=["one", "two", "pool", "small pool"],
)
def test_a_choice_of_micro_batches_is_as_good_as_the_best_of_them(machine: dict[str, Any]) -> None:
    """A window takes more context with a larger micro-batch, which costs a smaller one nothing."""

    def best(*sizes: int) -> float:
        sections = machine | {"ubatch": sizes, "context": {"tokens": 32768}}
        return float(solved(asked("gemma3-27b", **sections)).objective)

    assert best(512, 2048, 4096) == pytest.approx(max(best(512), best(2048), best(4096)), rel=1e-9)


def test_dense_layers_in_ram_are_copied_for_every_batch_of_a_prompt() -> None:
    """Layers in RAM cost their bytes over the bus once a micro-batch, as experts there do."""
    small = tiny(4, 40, 10, 5, odd=False)
    sections = {"ubatch": [64, 512], "goal": {"prompt_tokens": 50}, "pcie_gb_per_s": 10}
    instance = asked(small, {"gib": 1, "gb_per_s": 500}, **sections)
    judge = Judge(instance.case)
    some, none = (Layout((*homes, 0), {}) for homes in ([CPU, CPU, 0, 0], [0, 0, 0, 0]))
    copied = 2 * (10 + 40) * MIB / 10e9
    for ubatch in (64, 512):
        more = judge.prompt_s(some, ubatch) - judge.prompt_s(none, ubatch)
        assert more == pytest.approx(copied / ubatch)


def test_behind_a_server_the_processor_reads_prompts_of_what_is_in_ram() -> None:
    """Nothing is copied to such a device, so that micro-batches make no difference."""
    small = tiny(4, 40, 10, 5, odd=False)
    goal = {"prompt_tokens": 50}
    instance = asked(small, {"gib": 1, "gb_per_s": 500}, rpc=["a:1"], ubatch=[64, 512], goal=goal)
    judge = Judge(instance.case)
    some, none = (Layout((*homes, 0), {}) for homes in ([CPU, CPU, 0, 0], [0, 0, 0, 0]))
    here = instance.case.prompt_home_s(small.layers[0], instance.case.machine.devices[0], 64)
    assert judge.prompt_s(some, 64) == judge.prompt_s(some, 512) > judge.prompt_s(none, 64)
    alone = instance.case.prompt_alone_s
    assert judge.prompt_s(Layout((*[CPU] * 4, 0), {}), 64) == pytest.approx(alone)
    assert instance.case.prompt_home_s(small.layers[0], None, 64) > here


def test_dense_layers_in_ram_want_larger_parts_of_prompts() -> None:
    """A choice of micro-batches for a dense model that does not fit is as good as the best one."""
    own, goal = computed("llama33-70b"), {"prompt_tokens": 4000, "answer_tokens": 100}

    def best(*sizes: int) -> float:
        card, ram = {"gib": 24, "gb_per_s": 936}, {"gib": 64}
        result = solved(asked(own, card, ram=ram, ubatch=sizes, goal=goal))
        return float(result.objective)

    least, most = best(256), best(1024)
    assert best(256, 1024) == pytest.approx(most, rel=1e-9)
    assert most > 0.9 * least  # both are minus the seconds


def test_plans_survive_json() -> None:
    """What is written of a plan is read back as the same plan, and shown on a page."""
    plan = solved(asked("gpt-oss-20b", {"gib": 8, "gb_per_s": 448}, ram={"gib": 32})).plan
    content = json.loads(json.dumps(plan.to_dict()))
    assert PlacePlan.from_dict(content).to_dict() == plan.to_dict()
    view = plan.view()
    assert view.tables[0].rows and view.figures[0][0] == "answers"
    assert list(plan.to_frame().columns) == ["layer", "dense", "experts"]
    with pytest.raises(InputError, match="plan: not understood"):
        PlacePlan.from_dict({"devices": []})


@pytest.mark.parametrize(
    ("sections", "fault"),
    [
        ({"gpus": [{"name": "RTXX"}]}, "gpus.0.name: .*did you mean"),
        ({"gpus": [{"name": "my card"}]}, "give gib and gb_per_s of a device of your own"),
        ({"gpus": [{"gb_per_s": 3}]}, "gpus.0: give name, or gib and gb_per_s"),
        ({"gpus": [{"gib": 0.5, "gb_per_s": 9}]}, "is no less than its memory of 0.5 GiB"),
        ({"ram": {"gib": 1}}, "ram.gib: 1 GiB are no more than the margin"),
        ({"context": {"tokens": 512, "depth": 513}}, "context.depth: 513 tokens do not fit"),
    ],
)
def test_bad_machines_are_refused(sections: dict[str, Any], fault: str) -> None:
    """What is wrong with a machine is said by the name of its key."""
    with pytest.raises(InputError, match=fault):
        asked("gpt-oss-20b", **sections)


#: Machines on which a rule once beat the plan, a printed line gave other layers than the plan
#: states, or the plan was worth less than its canonical problem said.
AWKWARD: list[tuple[str, list[float], int | None, dict[str, Any]]] = [
    ("qwen3-30b-a3b", [12, 12, 8], 64, {}),
    ("gemma3-27b", [12, 6], 64, {}),
    ("glm45-air", [24, 8, 16], 128, {"ubatch": [512, 2048]}),
    ("gpt-oss-20b", [6, 8, 6, 8], 16, {"ubatch": [512, 2048]}),
]


@pytest.mark.parametrize("limit_s", [0.0, None])
@pytest.mark.parametrize(("name", "gib", "ram_gib", "sections"), AWKWARD)
def test_a_line_gives_what_the_plan_states(
    name: str, gib: list[float], ram_gib: int, sections: dict[str, Any], limit_s: float | None
) -> None:
    """Read as llama.cpp reads it, the line puts each layer where the plan does, and fits."""
    gpus = [{"gib": size, "gb_per_s": 200 + 80 * k} for k, size in enumerate(gib)]
    instance = asked(name, *gpus, ram={"gib": ram_gib}, **sections)
    gap = 0.005 if len(gpus) > 2 else 0.0
    plan: PlacePlan = mo.solve(instance, time_limit_s=limit_s, rel_gap=gap).plan
    assert plan is not None
    assert homes_of_line(plan, model(name)) == [
        (layer["dense"], layer["experts"]) for layer in plan.layers
    ]
    assert sum(device["weights_bytes"] for device in plan.devices) == model(name).bytes
    assert all((device["free_bytes"] or 0) >= 0 for device in plan.devices)
    rates = [rule.decode_tok_s for rule in plan.baselines if rule.decode_tok_s is not None]
    assert all(plan.decode.value >= rate * (1 - 1e-9) for rate in rates)


#: Machines of four and more cards: model, context, sizes of cards.
MANY: list[tuple[str, int, tuple[int, ...]]] = [
    ("gpt-oss-120b", 32768, (12, 12, 12, 12)),
    ("deepseek-r1", 16384, (80, 48, 24, 12)),
    ("glm45-air", 8192, (8, 8, 8, 8, 8)),
    ("qwen35-35b", 8192, (6, 8, 6, 8, 6)),
    ("qwen3-235b", 32768, (24, 16, 12, 8, 8, 6)),
    ("deepseek-r1", 32768, (24,) * 8),
]


@pytest.mark.parametrize(("name", "tokens", "gib"), MANY)
def test_no_limit_makes_a_plan_slower_than_a_rule(
    name: str, tokens: int, gib: tuple[int, ...]
) -> None:
    """However many cards there are, a plan without any time is at least as fast as each rule."""
    rates = {6: 192, 8: 448, 12: 360, 16: 448, 24: 936, 48: 768, 80: 2000}
    gpus = [{"gib": size, "gb_per_s": rates[size]} for size in gib]
    instance = asked(name, *gpus, context={"tokens": tokens})
    plan: PlacePlan = mo.solve(instance, time_limit_s=0.0).plan
    assert instance.check(plan) == []
    assert homes_of_line(plan, model(name)) == [
        (layer["dense"], layer["experts"]) for layer in plan.layers
    ]
    found = [rule.decode_tok_s for rule in plan.baselines if rule.decode_tok_s is not None]
    assert found
    assert plan.decode.value >= max(found) * (1 - 1e-9)


def homes_of_line(plan: PlacePlan, own: LlamaModel) -> list[tuple[str, str | None]]:
    """Return the devices of each layer and of its experts, from the words of the line alone."""
    words = shlex.split(plan.command)
    value = dict(itertools.pairwise(words))
    units = own.blocks + 1
    offloaded = min(int(value["-ngl"]), units)
    shares = list(itertools.accumulate(map(float, value.get("-ts", "1").split(","))))
    names = [device["name"] for device in plan.devices]
    homes = ["cpu"] * (units - offloaded)
    for k in range(offloaded):
        first = next(i for i, end in enumerate(shares) if end / shares[-1] > k / offloaded)
        homes.append(names[first])
    experts = {layer.index: homes[layer.index] for layer in own.layers if layer.experts}
    kept = int(value.get("-ncmoe", 0))
    experts |= dict.fromkeys((k for k in experts if k < kept), "cpu")
    for rule in (after for word, after in itertools.pairwise(words) if word == "-ot"):
        pattern, place = rule.rsplit("=", 1)
        name = "cpu" if place == "CPU" else names[int(place.removeprefix("CUDA"))]
        for k in experts:
            if re.search(pattern, f"blk.{k}.ffn_down_exps.weight"):
                experts[k] = name
    return [(homes[layer.index], experts.get(layer.index)) for layer in own.layers]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"other_bytes": 0, "experts": {}}, "model: its layers hold no weights"),
        ({"key_values": 2**40}, "model: block 0 and its context take 1.8e\\+16 B"),
    ],
)
def test_layers_without_weights_or_bounds_are_refused(change: dict[str, Any], fault: str) -> None:
    """A header whose layers take nothing, or more than any machine has, is no model."""
    own = model("llama31-8b")
    layers = tuple(dataclasses.replace(layer, **change) for layer in own.layers)
    with pytest.raises(InputError, match=fault):
        asked(dataclasses.replace(own, layers=layers)).problem()


@pytest.mark.parametrize(
    ("name", "tokens", "gib"),
    [
        ("gpt-oss-120b", 32768, (24, 12)),
        ("gpt-oss-120b", 32768, (24,)),
        ("gpt-oss-120b", 65536, (8,)),
        ("qwen3-30b-a3b", 32768, (8,)),
        ("qwen3-235b", 32768, (24, 12)),
        ("glm45-air", 8192, (24,)),
        ("glm45-air", 32768, (12, 24, 16)),
        ("deepseek-r1", 16384, (48, 24)),
        ("mixtral-8x7b", 8192, (12, 8)),
        ("nemotron3-nano", 32768, (8, 6)),
        ("minimax-m2", 16384, (24, 24)),
        ("llama4-maverick", 8192, (48, 24)),
        ("gemma3-27b", 16384, (12,)),
        ("deepseek-r1", 16384, (24, 24, 16, 12)),
        ("glm45-air", 8192, (8, 8, 8, 8, 8)),
    ],
)
def test_no_plan_is_slower_than_what_fit_sets(name: str, tokens: int, gib: tuple[int, ...]) -> None:
    """By the same model of speed `--fit on` is at best as fast."""
    rates = {6: 192, 8: 448, 12: 360, 16: 448, 24: 936, 48: 768}
    gpus = [{"gib": size, "gb_per_s": rates[size]} for size in gib]
    plan: PlacePlan = solved(asked(name, *gpus, context={"tokens": tokens}), 5e-3).plan
    rule = plan.baselines[0]
    assert rule.name == "--fit"
    assert rule.decode_tok_s is not None
    assert plan.decode.value >= rule.decode_tok_s * (1 - 1e-9)
    assert f"-c {tokens} " in rule.line and " --fit on" in rule.line


def test_prompts_make_splits_of_three_cards_worth_it() -> None:
    """Where prompts count, a plan on three cards loses to no rule, either."""
    gpus = [{"gib": gib, "gb_per_s": rate} for gib, rate in ((6, 192), (8, 448), (6, 192))]
    goal = {"prompt_tokens": 4000, "answer_tokens": 500}
    instance = asked("qwen3-30b-a3b", *gpus, context={"tokens": 32768}, goal=goal)
    plan: PlacePlan = solved(instance).plan
    prompt, answer = instance.case.weights
    ours = answer / plan.decode.value + prompt / plan.prefill.value
    for rule in plan.baselines:
        assert rule.decode_tok_s is not None
        assert rule.prefill_tok_s is not None
        assert ours <= answer / rule.decode_tok_s + prompt / rule.prefill_tok_s


def test_only_the_first_card_keeps_room_for_copies() -> None:
    """What is in RAM is copied to the first card for a batch, whichever card its layer is on."""
    gpus = [{"gib": 48, "gb_per_s": 768}, {"gib": 24, "gb_per_s": 936}]
    instance = asked("deepseek-r1", *gpus, context={"tokens": 16384})
    plan: PlacePlan = solved(instance, 1e-3).plan
    largest = max(max(o.experts.values(), default=0) for o in instance.case.model.layers)
    assert any(layer["experts"] == "cpu" and layer["dense"] == "gpu1" for layer in plan.layers)
    assert plan.devices[0]["compute_bytes"] > largest > plan.devices[1]["compute_bytes"]


def test_a_layer_keeps_some_matrices_where_they_have_room() -> None:
    """What is left of a card holds a part of one more layer; line, plan and JSON say which."""
    plan: PlacePlan = solved(
        asked("gpt-oss-120b", {"gib": 24, "gb_per_s": 936}, context={"tokens": 32768})
    ).plan
    split = [layer for layer in plan.layers if "kept" in layer]
    assert [(layer["experts"], layer["kept"]) for layer in split] == [("cpu", ["up"])]
    block = split[0]["layer"]
    in_ram = sum(layer["experts"] == "cpu" for layer in plan.layers)
    assert (
        f"-ncmoe {in_ram - 1} -ot 'blk\\.{block}\\.ffn_(down|gate)_(ch|)exps\\.=CPU'"
        in plan.command
    )
    assert PlacePlan.from_dict(plan.to_dict()).layout.of_experts(block, "up") == 0
    assert PlacePlan.from_dict(plan.to_dict()).layout.of_experts(block, "down") == CPU


def test_dense_tensors_larger_than_experts_are_kept_room_for() -> None:
    """A layer in RAM is copied tensor by tensor, and the largest need not be of experts."""
    own = model("qwen3-235b")
    sizes = {"largest_other_bytes": 2**30, "other_bytes": 2**30}
    layers = tuple(dataclasses.replace(layer, **sizes) for layer in own.layers)
    case = asked(dataclasses.replace(own, layers=layers), {"gib": 6, "gb_per_s": 900}).case
    layout = Layout((CPU, *[0] * own.blocks), {})
    needed = Judge(case).memory(layout, 512)[0].compute_bytes
    assert case.compute_bytes(Variant((0,), 512, offloads=True), 0) >= COMPUTE_MARGIN * needed
