"""Every part: compiled problem, enumeration, formulation by single experts and plan agree."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from direct_milp import direct_model

import moe2opt as mo
from moe2opt.placement.assignment import NOWHERE, plain
from moe2opt.placement.judge import evaluate, violations

PARTS: dict[str, dict[str, Any]] = {
    "tiers": {},
    "layer": {"granularity": "layer"},
    "prune": {"prune": {"loss_nats": 0.5, "max_share": 0.5}},
    "batch": {"batch": 8},
    "loss": {"objective": "loss_nats", "budgets": {"seconds_per_token": 1.8e-4}},
    "memory": {"objective": "memory_gib", "budgets": {"seconds_per_token": 3e-4, "loss_nats": 0.1}},
    "lots": {"lots": {"tier": "fast", "least_share": 0.5}},
    "prefetch": {"prefetch": {"accuracy": 0.8, "window_us": 400}},
    "greedy prefetch": {"prefetch": {"accuracy": 0.8, "window_us": 400, "wasted": False}},
    "split": {"split": {"fast": "fast", "slow": "slow"}},
    "contiguous": {"pattern": {"kind": "contiguous", "fast": "fast", "slow": "slow"}},
}


def optimum(instance: Any) -> float:
    """Return the certified optimum of the compiled problem, as a cost."""
    result = mo.solve(instance, time_limit_s=60)
    assert result.status == "OPTIMAL", result
    verdict = mo.certify(instance, result)
    verdict.raise_if_failed()
    assert verdict.kind == "checked"
    assert instance.evaluate(result.plan) == pytest.approx(result.objective, rel=1e-9)
    assert instance.check(result.plan) == []
    return -result.objective


def minimum(model: Any) -> float:
    """Return the optimum of a Pyomo model by HiGHS."""
    import pyomo.environ as pyo

    solver = pyo.SolverFactory("appsi_highs")
    solver.highs_options = {"mip_rel_gap": 0.0, "mip_feasibility_tolerance": 1e-9}
    solver.solve(model)
    return float(pyo.value(model.cost))


@pytest.mark.parametrize("part", PARTS)
def test_formulation_by_single_experts(part: str, build: Any) -> None:
    """The compiled problem has the optimum of the model written expert by expert."""
    instance = build(layers=2, **PARTS[part])
    assert optimum(instance) == pytest.approx(minimum(direct_model(instance)), rel=1e-6)


@pytest.mark.parametrize("part", ["tiers", "prune", "prefetch", "split", "contiguous"])
def test_solver_milp(part: str, build: Any) -> None:
    """`solver="milp"` finds the same optimum of the compiled problem."""
    instance = build(layers=2, **PARTS[part])
    milp = mo.solve(instance, solver="milp")
    assert -milp.objective == pytest.approx(optimum(instance), rel=1e-6)


def everything(instance: Any, tiers: int) -> Any:
    """Yield every assignment of single experts: each tier with each format, or pruned."""
    layers, experts = instance.shape.size
    ways = [(t, q) for t in range(tiers) for q in range(len(instance.precisions))]
    if instance.config.prune is not None:
        ways.append((NOWHERE, 0))
    for picked in itertools.product(ways, repeat=layers * experts):
        tier, precision = (
            np.array(v).reshape(layers, experts, 1) for v in zip(*picked, strict=True)
        )
        yield plain(tier, precision)


@pytest.mark.parametrize("part", ["tiers", "prune", "batch"])
def test_enumeration_of_assignments(part: str, build: Any) -> None:
    """No assignment of single experts that keeps every limit is better than the optimum."""
    from moe2opt.placement.modes.units import prunable_units

    changes = {"tiers": [*BASE_TIERS], "links": [BASE_LINK], **PARTS[part]}
    instance = build(layers=1, experts=6, **changes)
    allowed = prunable_units(instance)
    found = [
        evaluate(instance.mode, a).seconds_per_token
        for a in everything(instance, 2)
        if not violations(instance.mode, a) and not ((a.tier[:, :, 0] == NOWHERE) & ~allowed).any()
    ]
    assert optimum(instance) == pytest.approx(min(found), rel=1e-9)


BASE_TIERS = [
    {"name": "fast", "kind": "gpu", "capacity_gib": 0.006, "compute_gb_per_s": 100},
    {"name": "slow", "kind": "cpu", "compute_gb_per_s": 10},
]
BASE_LINK = {"between": ["fast", "slow"], "gb_per_s": 8, "latency_us": 3}


def test_joint_aggregation_and_offload(build: Any) -> None:
    """With groups of experts, no way to put stored experts on tiers beats the layer options."""
    from moe2opt.placement.assignment import PRUNE, Assignment
    from moe2opt.placement.modes.groupings import groupings

    aggregation = {"keep": [2, 3, 4], "forms": ["merge", "prune"], "loss_nats": 0.4}
    instance = build(
        layers=1, experts=5, tiers=BASE_TIERS, links=[BASE_LINK], aggregation=aggregation
    )
    best = np.inf
    for grouping in groupings(instance, 0):
        stored = np.flatnonzero(
            (grouping.representative == np.arange(5)) & (grouping.form != PRUNE)
        )
        for tiers in itertools.product(range(2), repeat=len(stored)):
            for q in range(2):
                tier = np.full(5, NOWHERE)
                tier[stored] = tiers
                tier = np.where(grouping.form == PRUNE, NOWHERE, tier[grouping.representative])
                a = Assignment(
                    tier[None, :, None],
                    np.full((1, 5, 1), q),
                    grouping.form[None],
                    grouping.representative[None],
                )
                if not violations(instance.mode, a):
                    best = min(best, evaluate(instance.mode, a).seconds_per_token)
    assert optimum(instance) == pytest.approx(best, rel=1e-9)


def test_all_forms_are_consistent(build: Any) -> None:
    """For random options of every form the compiled value is what the plan is worth."""
    aggregation = {
        "keep": [2, 4],
        "forms": ["merge", "prune", "share", "distil"],
        "distil_loss": {2: 0.05},
        "loss_nats": 0.4,
    }
    instance = build(aggregation=aggregation, batch=3, budgets={"loss_nats": 5})
    problem = instance.problem()
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(50):
        x = [int(rng.integers(len(v))) for v in problem.values]
        plan = instance.decode(np.array(x))
        seen |= set(plan.assignment.form.ravel().tolist())
        assert -plan.objective_value == pytest.approx(problem.evaluate(x), rel=1e-9)
        used = [t.used_gib for t in plan.tiers[:2]]
        assert used == pytest.approx(problem.usage_of(x)[:2], rel=1e-9)
    assert seen >= {0, 2, 3, 4}


def test_coverage(build: Any, trace: Any) -> None:
    """Residents chosen by looking at all sets cover as many tokens as the linear model says."""
    name = trace(2, 6, 2)
    instance = build(
        layers=2,
        activation={"trace": name},
        objective="uncovered_per_token",
        precisions=[{"name": "wide", "bits_per_weight": 8, "loss_nats": 0}],
        budgets={},
        coverage={"tier": "fast", "backing": "slow", "sync_us": 50},
    )
    assert optimum(instance) == pytest.approx(minimum(direct_model(instance)), abs=1e-9)


JOULES: dict[str, dict[str, Any]] = {
    "tiers": {},
    "lots": {"lots": {"tier": "fast", "least_share": 0.5}},
    "cache": {"cache": {"backing": "slow"}, "budgets": {"cache_slots": 4}},
    "split": {"split": {"fast": "fast", "slow": "slow"}},
    "contiguous": {"pattern": {"kind": "contiguous", "fast": "fast", "slow": "slow"}},
}


@pytest.mark.parametrize("part", JOULES)
def test_joules_of_a_part_agree(part: str, build: Any) -> None:
    """The certified least joules are those that the plan's own definition counts."""
    instance = build(layers=2, objective="joules_per_token", **JOULES[part])
    least = optimum(instance)
    assert 0 < instance.dense_j < least


def test_joules_of_coverage_agree(build: Any, trace: Any) -> None:
    """Coverage counts the joules of the tier that each resident or absent expert is on."""
    part = {"tier": "fast", "backing": "slow"}
    changes = {"coverage": part, "activation": {"trace": trace(2, 6, 2)}, "budgets": {}}
    assert optimum(build(layers=2, objective="joules_per_token", **changes)) > 0


def test_a_cache_spends_less_with_more_slots(build: Any) -> None:
    """A miss costs its transfer on top of the computing that a hit costs too."""
    cache = {"backing": "slow"}
    few, many = (
        optimum(build(objective="joules_per_token", cache=cache, budgets={"cache_slots": n}))
        for n in (2, 6)
    )
    assert many < few


def test_robust_plan_is_the_least_worst_case(build: Any, tmp_path: Any) -> None:
    """A robust plan is within the resolution of the least worst case over domains."""
    rng = np.random.default_rng(5)
    rows = ["layer,expert,domain,count"]
    for layer in (1, 2):
        for domain in ("a", "b", "c"):
            rows += [f"{layer},{e},{domain},{rng.integers(1, 100)}" for e in range(6)]
    (tmp_path / "counts.csv").write_text("\n".join(rows))
    section = {"counts": "counts.csv", "robust": True, "robust_resolution": 1e-2}
    instance = build(layers=2, activation=section)
    least = minimum(direct_model(instance))
    assert least * (1 - 1e-7) <= optimum(instance) <= least * 1.011


def test_pipeline_is_the_best_cut(build: Any) -> None:
    """The best of all cuts, found by trying them, is what a pipeline's plan achieves."""
    stages = ["fast", "slow"]
    instance = build(
        layers=5,
        precisions=[{"name": "wide", "bits_per_weight": 8, "loss_nats": 0}],
        pattern={"kind": "pipeline", "stages": stages},
        budgets={},
    )
    best = np.inf
    for first in range(6):
        tier = np.repeat([0, 1], [first, 5 - first])[:, None, None] * np.ones((1, 6, 1), dtype=int)
        a = plain(tier, np.zeros_like(tier))
        if not violations(instance.mode, a):
            best = min(best, evaluate(instance.mode, a).seconds_per_token)
    assert optimum(instance) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("kind", ["first", "last", "periodic"])
def test_patterns_are_among_all_layer_choices(kind: str, build: Any) -> None:
    """A pattern's optimum is never below that of free layers, and some option reaches all-fast."""
    one = [{"name": "wide", "bits_per_weight": 8, "loss_nats": 0}]
    free = build(layers=4, granularity="layer", precisions=one)
    bound = optimum(free)
    limited = optimum(build(layers=4, pattern={"kind": kind}, precisions=one))
    assert limited >= bound * (1 - 1e-9)


def test_two_tiers_of_equal_pieces_are_sorted_by_use(build: Any) -> None:
    """With one format and two tiers the optimum is the top-n rule, and the summary says so."""
    one = [{"name": "wide", "bits_per_weight": 8, "loss_nats": 0}]
    instance = build(precisions=one, tiers=BASE_TIERS, links=[BASE_LINK])
    plan = mo.solve(instance).plan
    rule = next(b for b in plan.baselines if b.name == "top-n by frequency")
    assert rule.excess == pytest.approx(0, abs=1e-12)
    assert "is about zero" in plan.summary()
