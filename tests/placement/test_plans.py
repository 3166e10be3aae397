"""Plans: round trip, summary, baselines, parts of the layer options."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.placement import PlacementPlan
from moe2opt.placement.modes import groupings as aggregate
from moe2opt.placement.options import undominated
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


@pytest.mark.parametrize(("rows", "criteria", "values"), [(60, 3, 6), (700, 4, 9), (600, 1, 50)])
def test_frontier_keeps_exactly_the_undominated(rows: int, criteria: int, values: int) -> None:
    """The frontier is what comparing all pairs gives, first of equals kept, however many."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        table = rng.integers(0, values, size=(rows, criteria)).astype(float)
        table[:, -1] += rng.integers(0, 2) * rng.random(rows)
        kept = undominated(table)
        less = (table[:, None] <= table[None]).all(axis=2)
        equal = (table[:, None] == table[None]).all(axis=2)
        first = np.tri(rows, k=-1, dtype=bool)
        beaten = (less & ~equal).any(axis=0) | (equal & first.T).any(axis=0)
        assert kept.tolist() == np.flatnonzero(~beaten).tolist()


def test_balance_on_a_grid_is_near_the_best(build: Any) -> None:
    """Dynamic programming on a grid balances two machines as well as trying every split."""
    section = {"fast": "fast", "slow": "slow", "steps": 100_000}
    instance = build(split=section, budgets={})
    rng = np.random.default_rng(3)
    for _ in range(5):
        uses = -np.sort(-rng.random(14))
        from moe2opt.placement.modes import split as counts

        every = instance.mode.balance(uses, 2, 0).seconds
        limit, counts._ENUMERATED = counts._ENUMERATED, 0
        try:
            grid = instance.mode.balance(uses, 2, 0).seconds
        finally:
            counts._ENUMERATED = limit
        assert every <= grid <= every * 1.001


def test_exact_medians_are_no_worse(build: Any) -> None:
    """The exact p-median of a layer is no worse than greedy representatives or the dendrogram."""
    section = {"keep": [3], "forms": ["merge"], "groups": "medians"}
    instance = build(aggregation=section)
    use, distance = instance.activation.mixed[0], instance.distances[0]
    exact = mo.solve(aggregate.median_problem(instance, 0, 3))
    least = use.sum() * distance.max() - exact.objective
    for groups in (aggregate.medians, aggregate.dendrogram):
        representative = groups(distance, use, [3])[3]
        assert len(set(representative.tolist())) == 3
        paid = float(use @ distance[np.arange(6), representative])
        assert least <= paid + 1e-12


def test_dendrogram_weighs_by_use() -> None:
    """Groups join by use-weighted mean distance, and the most used member represents them."""
    distance = np.array([[0, 1, 9], [1, 0, 9], [9, 9, 0]], dtype=float)
    found = aggregate.dendrogram(distance, np.array([1.0, 5.0, 1.0]), [2, 1])
    assert found[2].tolist() == [1, 1, 2]
    assert found[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("tier", ["fast", "slow", "disk"])
def test_steps_hold_in_their_tier(build: Any, tier: str) -> None:
    """The tier of `lots`, the last one too, holds a multiple of the step or the whole layer."""
    instance = build(experts=5, lots={"tier": tier, "step": 2}, budgets={})
    at = instance.topology.index(tier, "tier")
    counts = instance.mode.numbers(5)
    assert set(counts[:, at]) == {0, 2, 4, 5}
    assert set(counts.sum(axis=1)) == {5}
    plan = mo.solve(instance).plan
    assert set((plan.assignment.tier == at).sum(axis=(1, 2))) <= {0, 2, 4, 5}


@pytest.mark.parametrize(
    "part", [{"lots": {"tier": "fast"}}, {"prefetch": {"accuracy": 0.8, "window_us": 400}}]
)
def test_plans_say_that_formats_do_not_mix(build: Any, part: dict[str, Any]) -> None:
    """With a part of whole layers every layer has one format, and the plan says so."""
    plan = mo.solve(build(**part)).plan
    assert all(len(set(row)) == 1 for row in plan.assignment.precision[:, :, 0].tolist())
    assert any("one precision" in note for note in plan.caveats)
    assert not any("one precision" in note for note in build().caveats)
