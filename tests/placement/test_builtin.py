"""Built-in problems: all are certified; the headline case; published rankings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import moe2opt as mo

NAMES = (
    "adapmoe_mixtral_cache",
    "glm52_server",
    "gpt_oss_20b_orin",
    "mixtral_8x7b_4090",
    "qwen3_30b_a3b_4090",
    "switch_base_128_phone",
    "three_tier_edge",
    "tinymoe",
)


@pytest.mark.parametrize("name", NAMES)
def test_builtin_problem_is_certified(name: str, load: Any) -> None:
    """Every built-in problem is solved within its gap, and the checker takes the certificate."""
    instance = load(name)
    result = mo.solve(instance, rel_gap=1e-3, time_limit_s=60)
    assert result.status == "OPTIMAL"
    verdict = mo.certify(instance, result)
    verdict.raise_if_failed()
    assert verdict.kind == "checked"
    assert result.plan.baselines


def test_glm52_has_all_its_experts(load: Any) -> None:
    """The large instance has 19,200 experts, and at least half of each layer's are kept."""
    instance = load("glm52_server")
    assert int(np.prod(instance.shape.size)) == 19_200
    plan = mo.solve(instance, rel_gap=1e-3).plan
    assert plan.assignment.stored.sum(axis=1).min() >= 108


@pytest.mark.parametrize("capacity_gib", [2.5, 4.377, 9.0])
def test_joint_is_never_worse_than_one_side(capacity_gib: float, load: Any) -> None:
    """Aggregation with offloading is never worse than either alone, and better than offloading."""
    change: dict[str, Any] = {"tiers.0.capacity_gib": capacity_gib, "budgets.loss_nats": 0.05}
    joint = mo.solve(load("switch_base_128_phone", None, change), rel_gap=5e-3)
    offload = mo.solve(load("switch_base_128_phone", "offload_only", change), rel_gap=1e-6)
    assert -joint.objective < -offload.bound
    change["objective"] = "seconds_per_token"
    merged = mo.solve(load("switch_base_128_phone", "aggregation_only", change), rel_gap=1e-6)
    if merged.status == "INFEASIBLE":
        instance = load("switch_base_128_phone", "aggregation_only", change)
        mo.certify(instance, merged).raise_if_failed()
    else:
        assert -joint.bound <= -merged.objective * (1 + 1e-9)


def test_strategies_rank_as_published(shared_data: Any, checkout: Any) -> None:
    """The latency model ranks uniform, front and frequency as measured at 30 to 90 % on the GPU.

    Shape and use of the experts are assumed: there are no per-expert statistics of that model.
    """
    pytest.importorskip("pandas")
    import importlib.util

    path = checkout / "docs" / "studies" / "placement_reference.py"
    spec = importlib.util.spec_from_file_location("placement_reference", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    study = script.strategies(shared_data)
    for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        row = study["by_share"][share]
        assert row["predicted_order"] == row["measured_order"]
    assert study["mape"] < 0.03


def test_a_better_policy_is_not_hidden(load: Any) -> None:
    """Where measured LRU hits beat fixed residents, the plan says so."""
    plan = mo.solve(load("gpt_oss_20b_orin")).plan
    rule = next(b for b in plan.baselines if b.name == "LRU cache per layer")
    assert rule.excess < 0
    assert "measured hits" in rule.note
    text = plan.summary()
    assert "moves experts at run time" in text
    assert "is about zero" in text


@pytest.mark.parametrize("solver", ["greedy", "random"])
def test_worst_cases_are_those_of_the_plan(solver: str) -> None:
    """A heuristic's robust plan counts its own worst case, however high its solution left it."""
    instance = mo.load("three_tier_edge", scenario="worst_domain")
    result = mo.solve(instance, solver)
    assert result.objective == instance.evaluate(result.plan)
    assert mo.certify(instance, result).ok
