"""Gated instances with robust budgets, shared prompts, and budgets that are no sums."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.selection.evaluation.policies import TestPart
from moe2opt.selection.evaluation.realised import evaluate_on_test, facts_of
from moe2opt.selection.evaluation.sets import baseline_sets, random_sets
from moe2opt.selection.plan import GatedPlan
from moe2opt.selection.routing.prompts import log_odds

Project = Callable[..., Path]

#: Budgets that are no sums over experts.
OTHERS = (
    "energy={limit_j_per_prompt: 90, counts: largest, largest: 1}",
    "delay={limit_s: 9, counts: all}",
    "queue={prompts_per_s: 0.05, wait_limit_s: 5}",
)


@pytest.fixture
def edge(project: Project) -> Path:
    """Return a gated configuration on devices whose predictions have intervals."""
    path = project()
    text = path.read_text().replace("profiles: profiles\n", "").replace("int8", "q4")
    text = text.replace("slow-box", "Jetson AGX Orin 64GB").replace("fast-box", "RTX 4090")
    path.write_text(text.replace("memory_gib: 40", "reserve_gib: 2"))
    return path


def test_robust_plans_tell_their_price(edge: Path) -> None:
    """A robust gated plan keeps the budgets at the quantile and states what that costs."""
    loaded = mo.load(edge, overrides=["robust.quantile=0.9"])
    result, plain = mo.solve(loaded), mo.solve(mo.load(edge))
    own = result.plan.robustness
    assert own.nominal_objective == pytest.approx(plain.objective)
    assert result.objective <= plain.objective
    (energy,) = (m for m in own.margins if m.name == "energy_j_per_prompt")
    assert energy.predicted < energy.robust <= energy.limit * (1 + 1e-9)
    assert "price of robustness" in result.plan.summary()
    assert GatedPlan.from_dict(result.plan.to_dict()) == result.plan
    assert loaded.nominal.evaluate(plain.plan) == pytest.approx(plain.objective)


def test_provenance_names_the_profiles(edge: Path) -> None:
    """The result of a gated instance records the digest of its profile tables too."""
    loaded = mo.load(edge)
    assert loaded.origin["profiles_sha256"] == loaded.profiles_sha256 != ""


def test_mixtures_are_judged_as_mixtures() -> None:
    """Where experts share prompts, the test accuracy is the mean under the gate's weights."""
    instance = mo.load("tiny_gate", overrides=["objective=masked_softmax"])
    result = mo.solve(instance)
    chosen = np.flatnonzero(result.x)
    test = TestPart(instance, instance.split.members("test"))
    raised = np.exp(log_odds(instance.expert_scores[np.ix_(test.prompts, chosen)]))
    weights = raised / raised.sum(axis=1, keepdims=True)
    by_hand = (weights * test.score[:, chosen]).sum(axis=1)
    row = evaluate_on_test(instance, mo.solve, replicates=10).row("moe2")
    assert row.accuracy.mean == pytest.approx(np.nanmean(by_hand))
    assert row.promised == pytest.approx(result.objective)


@pytest.mark.parametrize("override", OTHERS)
def test_baselines_keep_every_budget(override: str) -> None:
    """Budgets that are no sums bind the baselines as they bind the plan."""
    instance = mo.load("tiny_gate", overrides=[override])
    own = instance.compiled
    drawn = random_sets(own, 5, 0, instance.model_of)
    found = [*baseline_sets(own, facts_of(instance)).values(), *drawn]
    assert any(chosen is not None for chosen in found)
    for chosen in found:
        x = np.zeros(own.size, dtype=np.int64)
        x[[] if chosen is None else chosen] = 1
        assert chosen is None or instance.problem().is_feasible(instance.completed(x))


@pytest.mark.parametrize("override", OTHERS[:1])
def test_other_budgets_are_evaluated(override: str) -> None:
    """`evaluate` compares deployments under such budgets, without the joint prices."""
    instance = mo.load("tiny_gate", overrides=[override, "routing.delay_s=5"])
    done = evaluate_on_test(instance, mo.solve, replicates=10)
    names = {row.policy for row in done.rows}
    assert {"moe2", "best single LLM", "cost-aware routing"} <= names
    assert "joint set and prices" not in names
