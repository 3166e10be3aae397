"""Groups of experts, numbers per tier, and the balance of two machines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.placement.judge import violations
from moe2opt.placement.modes import groupings, split


def test_balance_on_a_grid_is_near_the_best(build: Any) -> None:
    """Dynamic programming on a grid balances two machines as well as trying every split."""
    section = {"fast": "fast", "slow": "slow", "steps": 100_000}
    instance = build(split=section, budgets={})
    rng = np.random.default_rng(3)
    for _ in range(5):
        uses = -np.sort(-rng.random(14))
        every = instance.mode.balance(uses, 2, 0).seconds
        limit, split._ENUMERATED = split._ENUMERATED, 0
        try:
            grid = instance.mode.balance(uses, 2, 0).seconds
        finally:
            split._ENUMERATED = limit
        assert every <= grid <= every * 1.001


def test_exact_medians_are_no_worse(build: Any) -> None:
    """The exact p-median of a layer is no worse than greedy representatives or the dendrogram."""
    section = {"keep": [3], "forms": ["merge"], "groups": "medians"}
    instance = build(aggregation=section)
    use, distance = instance.activation.mixed[0], instance.distances[0]
    exact = mo.solve(groupings.median_problem(instance, 0, 3))
    least = use.sum() * distance.max() - exact.objective
    for groups in (groupings.medians, groupings.dendrogram):
        representative = groups(distance, use, [3])[3]
        assert len(set(representative.tolist())) == 3
        paid = float(use @ distance[np.arange(6), representative])
        assert least <= paid + 1e-12


def test_dendrogram_weighs_by_use() -> None:
    """Groups join by use-weighted mean distance, and the most used member represents them."""
    distance = np.array([[0, 1, 9], [1, 0, 9], [9, 9, 0]], dtype=float)
    found = groupings.dendrogram(distance, np.array([1.0, 5.0, 1.0]), [2, 1])
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
    ("lots", "allowed"),
    [({"step": 2}, {0, 2, 4, 5}), ({"least_share": 0.5}, {0, 3, 4, 5}), ({"step": 3}, {0, 3, 5})],
)
def test_lots_are_judged(build: Any, lots: dict[str, Any], allowed: set[int]) -> None:
    """A number that `lots` leaves out is no plan and no rule that fits, and the layer is named."""
    instance = build(experts=5, lots={"tier": "slow", **lots}, budgets={})
    at = instance.topology.index("slow", "tier")
    layers = instance.shape.size[0]
    for number in range(6):
        tier = np.full((layers, 5, 1), len(instance.topology.tiers) - 1)
        tier[-1, :number] = at
        found = violations(instance.mode, instance.mode.placed(tier, np.zeros_like(tier)))
        told = [line for line in found if line.startswith("lots: ")]
        place = f"layer {instance.shape.layers[-1]} would have {number} of 5 experts on slow"
        assert told == ([] if number in allowed else [f"lots: {place}"])
    plan = mo.solve(instance).plan
    assert "lack its places" not in plan.summary()
    for rule in plan.baselines:
        assert not rule.feasible or rule.excess >= -1e-9 or rule.moves
