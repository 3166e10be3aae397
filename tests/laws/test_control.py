"""Laws about running: limits, warm starts, interrupts and seeds behave alike in every solver."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from laws.drawing import FAMILIES, FAMILY, examples, for_all
from solving import EXACT, HEURISTIC, handles, run, same, slack
from strategies import all_points, brute_force

from moe2opt.canonical import FacilityProblem
from moe2opt.certify import certify
from moe2opt.result import InputError, Limit, Result, Status
from moe2opt.solvers import SOLVERS, Interrupt, Options, choose
from moe2opt.solvers.tuning import TreeTuning, Tuning

SOLVER_NAMES = (*EXACT, *HEURISTIC)
SEEDS = st.integers(0, 2**32 - 1)


def is_sound(problem: Any, result: Result, best: float, solver: str) -> None:
    """Assert everything that a stopped run must still keep."""
    assert result.bound >= best - slack(problem, best, solver), (result.bound, best)
    assert result.limit is None or result.status in (Status.FEASIBLE, Status.NO_SOLUTION)
    assert result.status is not Status.INFEASIBLE or best == -math.inf
    if result.x is not None:
        assert problem.is_feasible(result.x)
        assert result.objective == problem.evaluate(result.x) <= best
    verdict = certify(problem, result)
    assert verdict.ok, verdict.failures


@FAMILY
@examples(quick=3, slow=300)
def test_node_limits_leave_a_certified_bound(family: str, count: int, shard: int) -> None:
    """A run stopped after any number of nodes has a true bound, and its certificate is accepted."""

    def law(problem: Any) -> None:
        best = brute_force(problem)
        for solver in SOLVER_NAMES:
            if not handles(solver, problem):
                continue
            for nodes in (0, 1, 2, 4):
                result = run(problem, solver, node_limit=nodes)
                is_sound(problem, result, best, solver)
                finite = math.isfinite(result.bound)
                if SOLVERS[solver].certified and result.limit is Limit.NODES and finite:
                    assert result.certificate is not None

    for_all(FAMILIES[family], count, shard, law)


STOPS: list[dict[str, Any]] = [
    {"time_limit_s": 0.0},
    {"memory_limit_bytes": 1},
    {"interrupt": Interrupt(raised=True)},
]


@pytest.mark.parametrize("stop", STOPS, ids=["time", "memory", "interrupt"])
@examples(quick=3, slow=60)
def test_limits_never_raise(stop: dict[str, Any], count: int, shard: int) -> None:
    """A limit that is hit at once, or Ctrl-C before the start, ends in a sound result."""

    def law(problem: Any) -> None:
        best = brute_force(problem)
        for solver in SOLVER_NAMES:
            if handles(solver, problem):
                is_sound(problem, run(problem, solver, **stop), best, solver)

    for_all(FAMILIES["any"], count, shard, law)


@FAMILY
@examples(quick=3, slow=100)
def test_depth_first_loses_nothing(family: str, count: int, shard: int) -> None:
    """However few nodes may be open, the optimum is found and no bound on the way is below it."""

    def law(problem: Any) -> None:
        best = brute_force(problem)
        for solver in ("brb", "polyblock"):
            for most in (0, 1, 4):
                narrow = Tuning(tree=TreeTuning(open_nodes=most))
                result = run(problem, solver, tuning=narrow)
                assert same(problem, result.objective, best, solver)
                least = best - slack(problem, best, solver)
                assert min(event.bound for event in result.log) >= least
                is_sound(problem, result, best, solver)
                stopped = run(problem, solver, tuning=narrow, node_limit=2)
                is_sound(problem, stopped, best, solver)

    for_all(FAMILIES[family], count, shard, law)


@FAMILY
@examples(quick=3, slow=100)
def test_warm_starts_never_worsen(family: str, count: int, shard: int) -> None:
    """A feasible warm start is a lower bound on what comes back, however early the run stops."""

    def law(problem: Any, seed: int) -> None:
        points = all_points(problem)
        start = points[np.random.default_rng(seed).integers(len(points))]
        floor = problem.evaluate(start) if problem.is_feasible(start) else -math.inf
        best = brute_force(problem)
        for solver in SOLVER_NAMES:
            if not handles(solver, problem):
                continue
            for nodes in (0, None):
                result = run(problem, solver, warm_start=start, node_limit=nodes)
                assert floor <= result.objective <= best
            if SOLVERS[solver].exact:
                assert same(problem, result.objective, best, solver)

    for_all(st.tuples(FAMILIES[family], SEEDS), count, shard, law)


@FAMILY
@examples(quick=3, slow=50)
def test_same_seed_same_result(family: str, count: int, shard: int) -> None:
    """Two runs with the same seed differ in nothing but their clocks."""

    def law(problem: Any) -> None:
        for solver in SOLVER_NAMES:
            if handles(solver, problem):
                once, again = (without_times(run(problem, solver, seed=7)) for _ in range(2))
                assert once == again

    for_all(FAMILIES[family], count, shard, law)


def without_times(result: Result) -> dict[str, Any]:
    """Return the content of a result less every number of seconds."""
    content = result.to_dict()
    content["stats"] = {k: v for k, v in content["stats"].items() if not k.endswith("_s")}
    return content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_limit_s": -1}, "time_limit_s = -1 is not understood; it must be at least 0"),
        ({"time_limit_s": math.nan}, "time_limit_s = nan is not understood"),
        ({"node_limit": -5}, "node_limit = -5 is not understood"),
        ({"memory_limit_bytes": -1}, "memory_limit_bytes = -1 is not understood"),
        ({"rel_gap": -0.1}, "rel_gap = -0.1 is not understood"),
        ({"rel_gap": math.inf}, "rel_gap = inf is not understood"),
        ({"threads": 0}, "threads = 0 is not understood; it must be at least 1"),
        ({"seed": -1}, "seed = -1 is not understood"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    """An option outside its range is an input error that names it."""
    with pytest.raises(InputError) as caught:
        Options(**options)
    assert str(caught.value).startswith(message)


def test_solver_names_are_checked() -> None:
    """An unknown solver, a wrong family and an unknown bound are input errors."""
    facility = FacilityProblem(values=[[1]], costs=[[1]], budgets=[1])
    with pytest.raises(InputError, match="unknown solver 'magic'; choose from auto, brb"):
        choose("magic", facility)
    with pytest.raises(InputError, match="'milp' does not handle monotone problems"):
        choose("milp", facility.as_monotone())
    with pytest.raises(InputError, match="bound 'magic' does not fit FacilityProblem"):
        run(facility, "brb", bound="magic")
