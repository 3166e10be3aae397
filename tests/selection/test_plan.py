"""Plans: decoding, evaluation, checking, and their form on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.result import InputError
from moe2opt.selection import SelectionInstance, SelectionPlan

#: The optimum of the main job: an LLM for most prompts on an Orin, two for mathematics.
EDGE_OPTIMUM = (
    "Phi-3-mini-4k-instruct q8 @ orin-a",
    "mathstral-7B q8 @ orin-a",
    "Meta-Llama-3_1-8B-Instruct q4 @ rtx-b",
    "Meta-Llama-3_1-8B q4 @ orin-a",
)


def plan_of(instance: SelectionInstance, labels: tuple[str, ...]) -> SelectionPlan:
    """Decode the plan that deploys the experts with these labels."""
    names = [expert.label for expert in instance.experts]
    x = np.zeros(len(names), dtype=np.int64)
    x[[names.index(label) for label in labels]] = 1
    return instance.decode(x)


@pytest.fixture
def plan(tiny: SelectionInstance) -> SelectionPlan:
    """Return the best plan of the tiny instance."""
    return plan_of(tiny, ("beta int8 @ slow", "gamma int8 @ slow"))


def test_tiny_plan_by_hand(tiny: SelectionInstance, plan: SelectionPlan) -> None:
    """Shares, routing, use, accuracies and energies of the best tiny plan are as worked out."""
    assert [(e.llm, round(e.share_of_prompts, 9)) for e in plan.experts] == [
        ("beta", round(4 / 6, 9)),
        ("gamma", round(2 / 6, 9)),
    ]
    assert [route.expert for route in plan.routing] == [0, 0, 0, 1, 1, 0]
    used = {usage.name: (usage.used, usage.share) for usage in plan.budgets}
    assert used["energy_j_per_prompt"] == pytest.approx((126, 126 / 130))
    assert used["memory_gib[fast]"] == (0, 0)
    code, prose = plan.by_category
    assert code.predicted_accuracy == pytest.approx(0.6)
    assert prose.predicted_accuracy == pytest.approx(0.8)
    assert (prose.test_correct, prose.test_prompts, prose.test_accuracy) == (24, 30, 0.8)
    assert (code.energy_j_per_prompt, prose.energy_j_per_prompt) == pytest.approx((42, 70))
    assert plan.energy_j_per_prompt == pytest.approx(56)
    assert (code.deadline_s, code.delay_s) == (5, pytest.approx(4.2, abs=1e-5))
    assert plan.predicted_accuracy == tiny.evaluate(plan) == pytest.approx(0.7)
    assert tiny.check(plan) == []


def test_edge_optimum_is_reproduced(edge: SelectionInstance) -> None:
    """The known optimum of the main job is valid, worth 0.473647, and beats any single LLM."""
    plan = plan_of(edge, EDGE_OPTIMUM)
    assert edge.check(plan) == []
    assert edge.evaluate(plan) == pytest.approx(0.473647, abs=1e-6)
    assert plan.test_prompts == 2407
    weights = edge.tables.weights
    single = max(weights @ edge.quality[:, i] for i in range(len(edge.experts)))
    assert edge.evaluate(plan) > single + 0.03


@given(data=st.data())
def test_decoded_value_is_the_problem_value(data: st.DataObject, tiny: SelectionInstance) -> None:
    """For any choice of experts, the plan's own evaluation equals the compiled objective."""
    x = data.draw(st.lists(st.integers(0, 1), min_size=6, max_size=6))
    plan = tiny.decode(np.array(x))
    assert tiny.evaluate(plan) == tiny.problem().evaluate(x) == plan.predicted_accuracy
    assert (tiny.check(plan) == []) == tiny.problem().is_feasible(x)


def test_json_round_trip(edge: SelectionInstance) -> None:
    """A plan survives JSON unchanged."""
    plan = plan_of(edge, EDGE_OPTIMUM)
    text = json.dumps(plan.to_dict(), allow_nan=False)
    assert SelectionPlan.from_dict(json.loads(text)) == plan


def test_ties_go_to_the_cheaper_expert(load: Any) -> None:
    """Where two deployed experts are equally good, the one with less energy answers."""
    instance = load("tiny", "rich")
    plan = plan_of(instance, ("alpha int8 @ slow", "alpha int8 @ fast"))
    assert {route.expert for route in plan.routing} == {0}
    assert plan.experts[0].server == "slow"


def test_frames(plan: SelectionPlan) -> None:
    """The three tables have one row per expert, cluster and category."""
    assert plan.to_frame()["llm"].tolist() == ["beta", "gamma"]
    assert plan.routing_frame()["llm"].tolist() == ["beta"] * 3 + ["gamma"] * 2 + ["beta"]
    assert plan.category_frame()["category"].tolist() == ["code", "prose"]


def test_empty_plan(tiny: SelectionInstance) -> None:
    """Deploying nothing gives a plan that answers nothing and fails every cover."""
    plan = tiny.decode(np.zeros(6, dtype=np.int64))
    assert plan.predicted_accuracy == tiny.evaluate(plan) == 0
    assert plan.to_frame().columns[0] == "llm"
    assert plan.routing_frame()["llm"].isna().all()
    faults = tiny.check(plan)
    assert "cluster code/0: nobody answers" in faults
    assert "not met: code: an expert within 5 s" in faults
    assert "-" in plan.summary()


def test_summary_names_the_essentials(plan: SelectionPlan) -> None:
    """The printed plan shows experts, budgets, categories and notes."""
    text = plan.summary()
    for words in ("beta", "energy_j_per_prompt", "prose", "Note: the outcomes are synthetic"):
        assert words in text


def moved(plan: SelectionPlan, cluster: int, expert: int | None) -> SelectionPlan:
    """Return the plan with one cluster routed elsewhere."""
    routing = list(plan.routing)
    routing[cluster] = replace(routing[cluster], expert=expert)
    return replace(plan, routing=tuple(routing))


def test_evaluation_follows_the_routing_table(tiny: SelectionInstance, plan: SelectionPlan) -> None:
    """Sending a cluster to a worse expert lowers the value, and the stated value is challenged."""
    worse = moved(plan, 3, 0)
    assert tiny.evaluate(worse) == pytest.approx(0.7 - 0.4 / 6)
    assert any(fault.startswith("predicted_accuracy:") for fault in tiny.check(worse))
    honest = replace(worse, predicted_accuracy=tiny.evaluate(worse))
    assert tiny.check(honest) == []


def test_check_finds_every_kind_of_fault(tiny: SelectionInstance, plan: SelectionPlan) -> None:
    """Wrong names, routes, figures and broken requirements are each reported in words."""
    beta, gamma = plan.experts
    cases = {
        "the instance has no expert 'beta int8 @ moon'": replace(
            plan, experts=(replace(beta, server="moon"), gamma)
        ),
        "cluster 'x' is not in the instance": replace(
            plan, routing=(replace(plan.routing[0], cluster="x"), *plan.routing[1:])
        ),
        "routing names expert 2 of 2": moved(plan, 0, 2),
        "routing names expert -1 of 2": moved(plan, 0, -1),
        "must list every cluster once": replace(plan, routing=plan.routing[::-1]),
        "gamma int8 @ slow misses the deadline": moved(plan, 0, 1),
        "nobody answers": moved(plan, 0, None),
        "an expert is deployed twice": replace(plan, experts=(beta, gamma, gamma)),
        "energy_j_per_prompt: the plan states": replace(
            plan, budgets=(*plan.budgets[:2], replace(plan.budgets[2], used=12.0))
        ),
        "rent: the plan states": replace(
            plan, budgets=(*plan.budgets, replace(plan.budgets[2], name="rent"))
        ),
        "memory_gib of beta int8 @ slow: the plan states": replace(
            plan, experts=(replace(beta, memory_gib=0.1), gamma)
        ),
    }
    for words, broken in cases.items():
        faults = tiny.check(broken)
        assert any(words in fault for fault in faults), (words, faults)


def test_check_finds_broken_budgets(tiny: SelectionInstance) -> None:
    """A plan above a budget is reported with use and limit."""
    plan = plan_of(tiny, ("beta int8 @ fast", "gamma int8 @ fast"))
    faults = tiny.check(plan)
    assert "energy_j_per_prompt: 252 used, the limit is 130" in faults
    assert any(fault.startswith("memory_gib[fast]: 5.58794 used") for fault in faults)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("experts", 3),
        ("experts", [{"llm": "a"}]),
        ("routing", [{"cluster": "c", "expert": "first"}]),
        ("routing", [{"cluster": "c", "expert": 0.5}]),
        ("predicted_accuracy", "high"),
        ("caveats", None),
    ],
)
def test_bad_content_is_refused(plan: SelectionPlan, key: str, value: Any) -> None:
    """Content that is not a plan is refused with the key at fault."""
    with pytest.raises(InputError, match=f"not a selection plan: {key}"):
        SelectionPlan.from_dict({**plan.to_dict(), key: value})
    with pytest.raises(InputError, match="not a selection plan"):
        SelectionPlan.from_dict([])  # type: ignore[arg-type]
