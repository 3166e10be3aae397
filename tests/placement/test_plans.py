"""Plans: round trip, summary, baselines, parts of the layer options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.placement import PlacementPlan
from moe2opt.result import InputError

BASELINES = {
    "all on the first tier",
    "all on the last tier",
    "first fit in module order",
    "first layers off the fast tier",
    "same number in every layer",
    "top-n by frequency",
    "LRU cache per layer",
    "LFU residents per layer",
}


@pytest.mark.parametrize(
    "changes",
    [{}, {"granularity": "tensor"}, {"cache": {"backing": "slow"}, "budgets": {}}],
    ids=["expert", "tensor", "cache"],
)
def test_round_trip(changes: dict[str, Any], build: Any) -> None:
    """A plan survives JSON, and the rebuilt plan is judged like the original."""
    if "cache" in changes:
        changes = changes | {"tiers": ROOMY, "links": [LINK]}
    instance = build(**changes)
    plan = mo.solve(instance, rel_gap=0.2).plan
    again = PlacementPlan.from_dict(json.loads(json.dumps(plan.to_dict(), allow_nan=False)))
    assert again.to_dict() == plan.to_dict()
    assert instance.evaluate(again) == instance.evaluate(plan)
    assert instance.check(again) == []
    assert again.summary() == plan.summary()


ROOMY = [
    {"name": "fast", "kind": "gpu", "capacity_gib": 0.01, "compute_gb_per_s": 100},
    {"name": "slow", "kind": "cpu", "capacity_gib": 1},
]
LINK = {"between": ["fast", "slow"], "gb_per_s": 8}


def test_not_a_plan(build: Any) -> None:
    """Content that is no plan is one clear error."""
    plan = mo.solve(build(), rel_gap=1e-2).plan.to_dict()
    for broken in ({}, {**plan, "budgets": 3}, {**plan, "extra": 1}, {**plan, "assignment": {}}):
        with pytest.raises(InputError, match="not a placement plan"):
            PlacementPlan.from_dict(broken)


def test_frame_has_a_row_per_expert(build: Any) -> None:
    """The frame has one row per expert, with the names of tiers and formats."""
    plan = mo.solve(build(), rel_gap=1e-2).plan
    frame = plan.to_frame()
    assert len(frame) == 18
    assert set(frame.tier) <= {"fast", "slow", "disk"}
    assert set(frame.layer) == {1, 2, 3}
    assert frame.uses_per_token.sum() == pytest.approx(6)


def test_baselines_are_feasible_plans_or_say_why(build: Any) -> None:
    """Every rule is listed; one that fits is no better than the certified optimum."""
    instance = build()
    result = mo.solve(instance)
    rules = {b.name: b for b in result.plan.baselines}
    assert set(rules) == BASELINES
    for rule in rules.values():
        if rule.feasible:
            assert rule.value >= -result.bound * (1 - 1e-9)
            assert rule.excess == pytest.approx(
                rule.value / result.plan.objective_value - 1, abs=1e-9
            )
        else:
            assert rule.note
        assert rule.name in result.plan.summary()


def test_a_plan_that_costs_nothing_reads_back(build: Any, tmp_path: Path) -> None:
    """Rules have no relative gap to a plan of 0, and its file is one that can be read."""
    result = mo.solve(build(objective="loads_per_token"))
    assert result.plan.objective_value == 0
    rules = {rule.name: rule for rule in result.plan.baselines}
    assert rules["all on the last tier"].value > 0
    assert rules["all on the last tier"].excess is None
    result.save(tmp_path / "result.json")
    assert mo.Result.load(tmp_path / "result.json").objective == 0
    again = json.loads(json.dumps(result.plan.to_dict(), allow_nan=False))
    assert PlacementPlan.from_dict(again) == result.plan


def test_rules_beside_merging_on_two_machines(build: Any) -> None:
    """Merging on two machines that work side by side has the rules of both, and no better one."""
    aggregation = {"keep": [2, 3, 4], "loss_nats": 0.4}
    instance = build(aggregation=aggregation, split={"fast": "fast", "slow": "slow"})
    result = mo.solve(instance)
    mo.certify(instance, result).raise_if_failed()
    rules = {rule.name: rule for rule in result.plan.baselines}
    assert "aggregation only (same number in every layer)" in rules
    assert all(r.value >= -result.bound * (1 - 1e-9) for r in rules.values() if r.feasible)


def test_synthetic_data_are_labelled(build: Any) -> None:
    """What is synthetic shows in the description and in every summary."""
    instance = build(synthetic=["the machine"])
    plan = mo.solve(instance, rel_gap=1e-2).plan
    assert "synthetic use" in instance.describe()
    assert "SYNTHETIC or assumed: the machine" in plan.summary()
    assert "activation: SYNTHETIC" in plan.summary()


def test_small_memories_are_not_shown_as_nothing() -> None:
    """A model of a few megabytes has three digits; nothing is 0.00."""
    from moe2opt.placement.summary import gib

    assert [gib(v) for v in (0.0, 0.00318, 0.0999, 0.1, 7.25)] == [
        "0.00", "0.00318", "0.0999", "0.10", "7.25"
    ]  # fmt: skip


def test_checks_find_what_is_broken(build: Any) -> None:
    """A plan with everything on the fast tier breaks its capacity, and the words name the tier."""
    from moe2opt.placement.assignment import plain
    from moe2opt.placement.judge import violations

    instance = build()
    zero = np.zeros((3, 6, 1), dtype=np.int64)
    found = violations(instance.mode, plain(zero, zero))
    assert len(found) == 1
    assert found[0].startswith("fast would hold 0.0")


def test_infeasible_budgets_are_proven(build: Any) -> None:
    """Limits that cannot hold together are proven infeasible, and the conflict names them."""
    instance = build(layers=1, budgets={"loss_nats": 0.01, "memory_gib": 0.008})
    result = mo.solve(instance, time_limit_s=60)
    assert result.status == "INFEASIBLE"
    mo.certify(instance, result).raise_if_failed()
    rows = [instance.row_names()[k] for k in result.certificate.conflict.rows]
    assert set(rows) == {"loss_nats", "memory_gib"}


@pytest.mark.parametrize(
    "part", [{"lots": {"tier": "fast"}}, {"prefetch": {"accuracy": 0.8, "window_us": 400}}]
)
def test_plans_say_that_formats_do_not_mix(build: Any, part: dict[str, Any]) -> None:
    """With a part of whole layers every layer has one format, and the plan says so."""
    plan = mo.solve(build(**part)).plan
    assert all(len(set(row)) == 1 for row in plan.assignment.precision[:, :, 0].tolist())
    assert any("one precision" in note for note in plan.caveats)
    assert not any("one precision" in note for note in build().caveats)
