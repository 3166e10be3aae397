"""Laws about values: every solver against brute force on tiny instances."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from laws.drawing import FAMILIES, FAMILY, LINEAR_FAMILY, examples, for_all
from solving import EXACT, HEURISTIC, bounds_of, handles, run, same, slack
from strategies import brute_force, choice_problems, facility_problems

from moe2opt.result import Result, Status
from moe2opt.solvers import base


def is_optimal(problem: Any, result: Result, best: float, solver: str) -> None:
    """Assert that `result` is the optimum `best`, or a statement of infeasibility."""
    assert result.limit is None
    if best == -math.inf:
        assert result.status is Status.INFEASIBLE
        assert result.x is None
        assert result.bound == -math.inf
        return
    assert result.status is Status.OPTIMAL
    assert problem.is_feasible(result.x)
    assert result.objective == problem.evaluate(result.x)
    assert same(problem, result.objective, best, solver), (result.objective, best)
    assert result.bound >= best - slack(problem, best, solver)


@FAMILY
@examples(quick=10, slow=900, shards=3)
def test_exact_solvers_agree(family: str, count: int, shard: int) -> None:
    """Every exact solver finds the optimum of a brute-force search, or proves infeasibility."""

    def law(problem: Any) -> None:
        best = brute_force(problem)
        for solver in EXACT:
            if handles(solver, problem):
                is_optimal(problem, run(problem, solver), best, solver)

    for_all(FAMILIES[family], count, shard, law)


@FAMILY
@examples(quick=4, slow=300)
def test_every_bound_leads_to_the_optimum(family: str, count: int, shard: int) -> None:
    """The choice of the bound of `brb` changes the effort, never the answer."""

    def law(problem: Any) -> None:
        best = brute_force(problem)
        for bound in bounds_of(problem):
            is_optimal(problem, run(problem, "brb", bound=bound), best, f"brb {bound}")

    for_all(FAMILIES[family], count, shard, law)


@FAMILY
@examples(quick=5, slow=150)
def test_heuristics_stay_below_the_optimum(family: str, count: int, shard: int) -> None:
    """A heuristic returns a feasible point that is at most optimal, or none, and proves nothing."""

    def law(problem: Any) -> None:
        best = brute_force(problem)
        for solver in HEURISTIC:
            result = run(problem, solver)
            assert result.status in (Status.FEASIBLE, Status.OPTIMAL, Status.NO_SOLUTION)
            assert result.bound >= best
            if result.x is not None:
                assert problem.is_feasible(result.x)
                assert result.objective == problem.evaluate(result.x) <= best

    for_all(FAMILIES[family], count, shard, law)


@FAMILY
@examples(quick=4, slow=120)
def test_progress_never_lies(
    family: str, count: int, shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every line of the log bound ≥ optimum ≥ incumbent, and both only ever improve."""
    monkeypatch.setattr(base, "TICK_S", 0.0)

    def law(problem: Any) -> None:
        best = brute_force(problem)
        for solver in (*EXACT, *HEURISTIC):
            if not handles(solver, problem):
                continue
            log = run(problem, solver).log
            assert log, "the log is never empty"
            for event in log:
                assert event.bound >= best - slack(problem, best, solver), (solver, event, best)
                assert event.objective <= best
            for before, after in itertools.pairwise(log):
                assert after.bound <= before.bound
                assert after.objective >= before.objective
                assert after.time_s >= before.time_s
                assert after.nodes >= before.nodes

    for_all(FAMILIES[family], count, shard, law)


@LINEAR_FAMILY
@examples(quick=3, slow=200)
def test_monotone_view_has_the_same_optimum(family: str, count: int, shard: int) -> None:
    """A problem and its monotone view have the same optimum, for both certified engines."""
    small = {"facility": facility_problems(5, 4), "choice": choice_problems(3, 3)}

    def law(problem: Any) -> None:
        best = brute_force(problem)
        for solver in ("brb", "polyblock"):
            view = problem.as_monotone()
            is_optimal(view, run(view, solver), best, solver)

    for_all(small[family], count, shard, law)


@FAMILY
@examples(quick=3, slow=100)
def test_gap_is_kept(family: str, count: int, shard: int) -> None:
    """With ``rel_gap`` the run may stop early, but the gap it reports is true and small enough."""

    def law(problem: Any) -> None:
        best = brute_force(problem)
        for solver in EXACT:
            if handles(solver, problem):
                result = run(problem, solver, rel_gap=0.2)
                assert result.bound >= best - slack(problem, best, solver)
                assert (result.status is Status.OPTIMAL) == (best > -math.inf)
                if result.x is not None:
                    assert best - result.objective <= 0.2 * max(abs(result.objective), 1e-10) * 1.01

    for_all(FAMILIES[family], count, shard, law)
