"""Simple rules: placed as the plan may be, on the cheapest tiers, and truly explained."""

from __future__ import annotations

from typing import Any

import pytest

import moe2opt as mo
from moe2opt.placement.baselines.rules import baseline_assignments


def test_rules_place_what_the_plan_may(build: Any) -> None:
    """With the granularity layer rules move whole layers; one that does not says why it wins."""
    instance = build(granularity="layer", activation={"zipf": 2.0, "seed": 1}, top_k=1)
    result = mo.solve(instance)
    rules = {rule.name: rule for rule in result.plan.baselines}
    assert "same number in every layer" not in rules
    for name, assignment in baseline_assignments(instance.mode):
        assert (assignment.tier == assignment.tier[:, :1]).all(), name
        assert rules[name].value >= -result.bound * (1 - 1e-9)
    better = rules["LFU residents per layer"]
    assert better.feasible
    assert better.excess < -0.01
    reason = "it places single experts, which granularity: layer does not allow"
    assert f"'{better.name}' is predicted to be" in result.plan.summary()
    assert reason in result.plan.summary()


def test_rules_fill_the_cheapest_tier_first(build: Any) -> None:
    """In whatever order tiers are listed, offloading alone is the best there is for one format."""
    told = build().config.model_dump()
    slow = {"name": "far", "kind": "remote", "device": "b", "capacity_gib": 1,
            "compute_gb_per_s": 100}  # fmt: skip
    link = {"between": ["fast", "far"], "gb_per_s": 0.01, "latency_us": 5000}
    sections = {
        "tiers": [told["tiers"][0], slow, *told["tiers"][1:]],
        "links": [*told["links"], link],
        "precisions": told["precisions"][:1],
    }
    instance = build(**sections, aggregation={"keep": [2, 4], "loss_nats": 0.4})
    alone = next(b for b in mo.solve(instance).plan.baselines if b.name.startswith("offload only"))
    best = mo.solve(build(**sections), rel_gap=0.0)
    assert alone.value == pytest.approx(-best.bound, rel=1e-9)


def test_free_quality_is_said(build: Any) -> None:
    """Several formats without a budget of loss: the plan says that quality is free."""
    free = mo.solve(build(budgets=None)).plan
    assert any(note.startswith("QUALITY IS FREE: several formats") for note in free.caveats)
    assert any("{loss_nats: 0} asks for the loss of wide" in note for note in free.caveats)
    one = [{"name": "wide", "bits_per_weight": 8, "loss_nats": 0.0}]
    for other in (build(), build(budgets=None, precisions=one)):
        assert not any("QUALITY" in note for note in other.caveats)
