"""Instances on which the multiple-choice engine once went wrong."""

from __future__ import annotations

import numpy as np
import pytest
from solving import run

import moe2opt as mo
from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.certify import certify
from moe2opt.result import Status


@pytest.mark.parametrize("groups", [60, 3000])
@pytest.mark.parametrize("place", ["first", "middle"])
def test_a_group_with_one_option_shifts_no_other(groups: int, place: str) -> None:
    """A group without a choice changes neither the optimum of the others nor the proof."""
    rng = np.random.default_rng(groups)
    values = [rng.random(5) for _ in range(groups)]
    usage = [rng.random((5, 2)) for _ in range(groups)]
    budgets = np.full(2, 0.4 * groups)
    plain = MultipleChoiceProblem(values, usage, budgets)
    at = 0 if place == "first" else groups // 2
    values.insert(at, np.array([0.25]))
    usage.insert(at, np.array([[1.0, 0.0]]))
    more = MultipleChoiceProblem(values, usage, budgets + np.array([1.0, 0.0]))
    expected, found = (run(p, "brb", rel_gap=1e-4, time_limit_s=30.0) for p in (plain, more))
    assert found.status is Status.OPTIMAL
    assert found.objective - 0.25 == pytest.approx(expected.objective, rel=2e-4)
    verdict = certify(more, found)
    assert verdict.ok, verdict.failures


def test_prices_written_down_are_those_that_bounded() -> None:
    """Where ties no longer meet, prices and bound start over together, so the proof holds."""
    forms, loss = "aggregation.forms=[merge, prune, share]", "budgets.loss_nats=0.03"
    problem = mo.load("switch_base_128_phone", overrides=[forms, loss]).problem()
    result = run(problem, "brb", rel_gap=1e-4, time_limit_s=60.0)
    assert result.status is Status.OPTIMAL
    verdict = certify(problem, result)
    assert verdict.ok, verdict.failures
