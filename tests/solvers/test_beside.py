"""`auto` lets HiGHS have a turn: what it finds is checked, what it claims is kept apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt import progress
from moe2opt.result import Status
from moe2opt.solvers import beside, brb
from moe2opt.solvers.base import Outcome, Search
from moe2opt.solvers.linear import milp


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> mo.MultipleChoiceProblem:
    """Return a problem that own trees leave open, because they get a handful of nodes."""
    monkeypatch.setattr(brb, "_OWN_TURNS", (5, 1e18))
    monkeypatch.setattr(brb, "_TURNS", (5, 5, 1e18))
    monkeypatch.setattr(beside, "PROOF_LEAST", 5)
    monkeypatch.setattr(beside, "PROOF_MOST", 5)
    rng = np.random.default_rng(4)
    values, usage = rng.random((24, 6)), rng.random((24, 6, 5))
    return mo.MultipleChoiceProblem(list(values), list(usage), np.full(5, 10.0))


def test_the_claim_stands_beside_what_is_proven(stuck: mo.MultipleChoiceProblem) -> None:
    """HiGHS closes what own trees leave open: its plan counts, the bound stays the proven one."""
    result = mo.solve(stuck)
    claim = result.stats["claimed"]
    assert claim["by"] == "HiGHS"
    assert (result.status, result.limit) == (Status.FEASIBLE, None)
    assert result.objective <= claim["canonical_bound"] < result.bound
    assert result.objective == mo.solve(stuck, "milp").objective
    verdict = mo.certify(stuck, result)
    assert verdict.ok
    assert verdict.kind == "checked"
    assert verdict.bound == result.bound
    assert "HiGHS claims" in progress.proof_words(result)


def test_equal_runs_are_equal(stuck: mo.MultipleChoiceProblem) -> None:
    """Work is counted in nodes: two runs give the same plan, bound, proof and claim."""
    one, two = mo.solve(stuck), mo.solve(stuck)
    assert one == two
    assert one.stats["claimed"] == two.stats["claimed"]


def test_only_auto_asks_for_help(stuck: mo.MultipleChoiceProblem) -> None:
    """`brb` by its name stays alone, and so does one whose bound was named."""
    for settings in ({"solver": "brb"}, {"bound": "lagrangian"}):
        assert "claimed" not in mo.solve(stuck, node_limit=60, **settings).stats


def test_a_node_limit_holds_for_both(stuck: mo.MultipleChoiceProblem) -> None:
    """Nodes of HiGHS count, too, and the limit of the user is named."""
    result = mo.solve(stuck, node_limit=8)
    assert result.limit is mo.Limit.NODES
    assert mo.certify(stuck, result).kind == "checked"


def _lying(bound: float) -> Any:
    def solve(problem: mo.MultipleChoiceProblem, search: Search) -> Outcome:
        return Outcome(bound=bound)

    return solve


@pytest.mark.parametrize("bound", [-1e9, 0.0])
def test_a_lie_proves_nothing(
    stuck: mo.MultipleChoiceProblem, monkeypatch: pytest.MonkeyPatch, bound: float
) -> None:
    """A claim below what is known is no less than the plan's value, and no part of the bound."""
    monkeypatch.setattr(milp, "solve", _lying(bound))
    result = mo.solve(stuck)
    assert result.status is Status.FEASIBLE
    assert result.stats["claimed"]["canonical_bound"] == result.objective
    assert mo.certify(stuck, result).kind == "checked"


def test_that_nothing_fits_is_not_believed(
    stuck: mo.MultipleChoiceProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HiGHS calling a problem infeasible that has plans is ignored: own trees close it."""
    monkeypatch.setattr(milp, "solve", _lying(-np.inf))
    result = mo.solve(stuck)
    assert result.status is Status.OPTIMAL
    assert "claimed" not in result.stats


def test_large_problems_and_other_families_are_left_alone() -> None:
    """HiGHS has no turn on facility problems, nor where one node would take minutes."""
    facility = mo.FacilityProblem([[1.0, 2.0]], [[1.0, 1.0]], [1.0])
    wide = mo.MultipleChoiceProblem(
        [np.zeros(1000)] * 100, [np.zeros((1000, 20))] * 100, np.ones(20)
    )
    for problem in (facility, wide):
        assert beside.turn_of(problem, Search(problem, beside.Options())) == 0


def test_what_stops_highs_stops_the_run(
    stuck: mo.MultipleChoiceProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that is hit in the turn of HiGHS is named, and no further tree is begun."""

    def interrupted(problem: mo.MultipleChoiceProblem, search: Search) -> Outcome:
        search._interrupt.raised = True  # as Ctrl-C does
        return Outcome(np.inf, mo.Limit.INTERRUPTED)

    monkeypatch.setattr(milp, "solve", interrupted)
    result = mo.solve(stuck)
    assert (result.status, result.limit) == (Status.FEASIBLE, mo.Limit.INTERRUPTED)
    assert int(result.stats["nodes"]) <= 10
    assert mo.certify(stuck, result).kind == "checked"
