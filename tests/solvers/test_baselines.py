"""Enumeration and the heuristics: exact where they claim it, honest where they do not."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solving import HEURISTIC, run
from strategies import (
    all_points,
    brute_force,
    choice_problems,
    facility_problems,
    monotone_problems,
    problems,
)

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem
from moe2opt.result import InputError, Limit, Status
from moe2opt.solvers import Interrupt, baselines
from moe2opt.solvers.baselines import (
    greedy_choice,
    greedy_facility,
    improve_choice,
    improve_facility,
)
from moe2opt.solvers.ceiling import ceiling
from moe2opt.solvers.monotone.heuristics import greedy_monotone, improving_monotone

SMALL = FacilityProblem(values=[[3, 0, 2], [0, 4, 3]], costs=[[1, 1, 1]], budgets=[1])


def random_facility(clusters: int, experts: int, share: float, seed: int) -> FacilityProblem:
    """Return an unstructured problem with two budgets of `share` of the total cost."""
    rng = np.random.default_rng(seed)
    costs = rng.random((2, experts))
    return FacilityProblem(rng.random((clusters, experts)), costs, costs.sum(axis=1) * share)


# ---------------------------------------------------------------------- enumerate


@settings(max_examples=80)
@given(problems())
def test_enumeration_is_brute_force(problem: Any) -> None:
    """The optimum is that of trying every point with the problem's own functions, to the bit."""
    best, result = brute_force(problem), run(problem, "enumerate")
    assert result.objective == result.bound == best
    assert result.status is (Status.OPTIMAL if best > -math.inf else Status.INFEASIBLE)


def test_enumeration_refuses_large_boxes() -> None:
    """More than 2**22 points are an input error that names their number."""
    problem = random_facility(1, 23, 0.5, 0)
    with pytest.raises(InputError, match=r"enumerate: 8\.38861e\+06 points are more than 4194304"):
        run(problem, "enumerate")


def test_enumeration_breaks_near_ties_exactly() -> None:
    """Sums that differ in the last bit only are told apart, in whatever order they come."""
    tenth = [[0.1, 0.3], [0.2, 0.0]]
    costs = [[1, 2]]
    problem = FacilityProblem(tenth, costs, [2])
    result = run(problem, "enumerate")
    assert result.objective == max(problem.evaluate([1, 0]), problem.evaluate([0, 1]))
    value = 1.0 + 2.0**-52
    close = MultipleChoiceProblem([[1.0, value, 1.0]], np.zeros((1, 3, 0)), [])
    assert run(close, "enumerate").objective == value


def test_enumeration_judges_borderline_budgets_as_the_problem_does() -> None:
    """0.1 + 0.2 meets a budget of 0.3, and one unit over an integer budget does not."""
    problem = FacilityProblem([[1, 0], [0, 1]], [[0.1, 0.2]], [0.3])
    assert run(problem, "enumerate").objective == 2.0
    large = FacilityProblem([[1, 0], [0, 1]], [[2**52, 1]], [2**52])
    assert run(large, "enumerate").objective == 1.0


@pytest.mark.parametrize("nodes", [0, 1, 3, 7])
def test_enumeration_counts_points(nodes: int) -> None:
    """A node is a point, and a stopped run is left with the trivial bound."""
    result = run(SMALL, "enumerate", node_limit=nodes)
    assert result.stats["nodes"] == nodes
    assert result.limit is Limit.NODES
    assert result.bound == ceiling(SMALL) == 7.0


def test_enumeration_finishes_within_an_ample_node_limit() -> None:
    """A node limit above the number of points changes nothing."""
    result = run(SMALL, "enumerate", node_limit=9)
    assert (result.status, result.objective, result.bound) == (Status.OPTIMAL, 5.0, 5.0)
    assert result.stats["nodes"] == 8


def test_enumeration_of_many_forced_groups() -> None:
    """Groups with a single option are no dimensions: a hundred of them are enumerated."""
    values = [[1.0]] * 100 + [[0.0, 2.0]]
    usage = [[[0.0]]] * 100 + [[[0.0], [1.0]]]
    assert run(MultipleChoiceProblem(values, usage, [1]), "enumerate").objective == 102.0


def test_enumeration_over_several_tables_of_subsets() -> None:
    """With more experts than one table of subsets holds, the optimum is still that of `milp`."""
    problem = random_facility(6, 12, 0.25, 4)
    exact = run(problem, "enumerate")
    assert exact.status is Status.OPTIMAL
    assert run(problem, "milp").objective == exact.objective


# ---------------------------------------------------------------------- laws of heuristics


@settings(max_examples=60)
@given(problems(), st.sampled_from(HEURISTIC), st.integers(0, 5))
def test_heuristics_are_feasible_and_prove_nothing(problem: Any, solver: str, seed: int) -> None:
    """A solution is feasible and at most optimal; without one, infeasibility is not claimed."""
    best, result = brute_force(problem), run(problem, solver, seed=seed)
    assert result.bound == math.inf
    assert result.status in (Status.FEASIBLE, Status.NO_SOLUTION)
    assert result.objective <= best
    assert result.x is None or problem.is_feasible(result.x)


@settings(max_examples=40)
@given(problems())
def test_local_search_is_at_least_greedy(problem: Any) -> None:
    """The local search starts from the greedy solution and never falls below it."""
    assert run(problem, "local_search").objective >= run(problem, "greedy").objective


@pytest.mark.parametrize("solver", HEURISTIC)
@pytest.mark.parametrize(
    ("stop", "limit"),
    [
        ({"time_limit_s": 0}, Limit.TIME),
        ({"node_limit": 0}, Limit.NODES),
        ({"memory_limit_bytes": 1}, Limit.MEMORY),
        ({"interrupt": Interrupt(raised=True)}, Limit.INTERRUPTED),
    ],
    ids=["time", "nodes", "memory", "interrupt"],
)
def test_limits_come_before_the_first_step(solver: str, stop: Any, limit: Limit) -> None:
    """A limit that is hit at once leaves the warm start alone, and is named."""
    result = run(SMALL, solver, warm_start=[0, 1, 0], **stop)
    assert (result.status, result.limit) == (Status.FEASIBLE, limit)
    assert result.objective == 4.0
    assert result.stats["nodes"] == 0
    assert run(SMALL, solver, **stop).status is Status.NO_SOLUTION


@pytest.mark.parametrize("solver", HEURISTIC)
def test_heuristics_do_not_claim_infeasibility(solver: str) -> None:
    """Where nothing is feasible the answer is NO_SOLUTION, for every family."""
    clash = FacilityProblem([[1, 1]], [[1, 1]], [1], covers=[[0], [1]])
    heavy = MultipleChoiceProblem([[1, 2]], [[[2], [3]]], [1])
    boxed = MonotoneProblem(
        [0],
        [3],
        lambda x: x[:, 0] * 1.0,
        constraints=[lambda x: x[:, 0] - 1.0],
        reverse_constraints=[lambda x: x[:, 0] - 2.0],
    )
    for problem in (clash, heavy, boxed, clash.as_monotone()):
        assert run(problem, solver).status is Status.NO_SOLUTION


def test_random_search_follows_its_seed() -> None:
    """The same seed draws the same points, other seeds others; the default is 1000 samples."""
    problem = random_facility(30, 20, 0.2, 1)
    first, again = (run(problem, "random", seed=3, node_limit=5) for _ in range(2))
    assert np.array_equal(first.x, again.x)
    values = {run(problem, "random", seed=seed, node_limit=1).objective for seed in range(5)}
    assert len(values) > 1
    assert run(SMALL, "random").stats["nodes"] == baselines.DEFAULT_SAMPLES


# ---------------------------------------------------------------------- facility


@settings(max_examples=80)
@given(facility_problems())
def test_facility_moves_end_in_a_local_optimum(problem: FacilityProblem) -> None:
    """No addition, removal, 1-1 swap or 1-2 swap improves what `improve_facility` returns."""
    start = greedy_facility(problem)
    if start is None:
        return
    x = improve_facility(problem, start)
    value = problem.evaluate(x)
    assert value >= problem.evaluate(start)
    margin = 1e-9 * max(1e-9, float(problem.weighted.max(axis=1).sum()))
    for out_count, in_count in ((0, 1), (1, 0), (1, 1), (1, 2)):
        for out in itertools.combinations(np.flatnonzero(x), out_count):
            for into in itertools.combinations(np.flatnonzero(x == 0), in_count):
                y = x.copy()
                y[list(out)], y[list(into)] = 0, 1
                assert not problem.is_feasible(y) or problem.evaluate(y) <= value + margin


@settings(max_examples=60)
@given(facility_problems())
def test_covers_that_can_be_met_are_met(problem: FacilityProblem) -> None:
    """On tiny problems greedy finds a solution whenever there is one."""
    exists = any(problem.is_feasible(x) for x in all_points(problem))
    assert (greedy_facility(problem) is not None) == exists


def test_one_expert_makes_way_for_two() -> None:
    """A 1-2 swap finds what neither additions nor 1-1 swaps can."""
    problem = FacilityProblem([[3, 0, 0], [0, 2, 0], [0, 0, 2]], [[2, 1, 1]], [2])
    assert improve_facility(problem, np.array([1, 0, 0])).tolist() == [0, 1, 1]


def test_gain_per_cost_wins_where_gain_is_blind() -> None:
    """One large expert blocks two cheap ones: the better of the two rules is kept."""
    problem = FacilityProblem([[3, 0, 0], [0, 2, 0], [0, 0, 2]], [[2, 1, 1]], [2])
    x = greedy_facility(problem)
    assert x is not None
    assert x.tolist() == [0, 1, 1]


def test_gain_wins_where_gain_per_cost_is_blind() -> None:
    """A cheap expert blocks the one that matters: the better of the two rules is kept."""
    problem = FacilityProblem([[2, 0], [0, 10]], [[1, 10]], [10])
    x = greedy_facility(problem)
    assert x is not None
    assert x.tolist() == [0, 1]


def test_improve_facility_leaves_the_infeasible_alone() -> None:
    """An infeasible start comes back unchanged, and so does any start with no rounds."""
    assert improve_facility(SMALL, np.array([1, 1, 1])).tolist() == [1, 1, 1]
    assert improve_facility(SMALL, np.array([1, 0, 0]), rounds=0).tolist() == [1, 0, 0]
    assert improve_facility(SMALL, np.array([1, 0, 0])).tolist() == [0, 0, 1]


def test_greedy_sees_the_whole_of_a_larger_problem() -> None:
    """Lazy evaluation of gains picks what a plain greedy rule picks, step by step."""
    problem = random_facility(300, 40, 0.2, 7)
    chosen: list[int] = []
    for _ in range(problem.size):
        best, pick = problem.evaluate(vector(chosen, 40)), None
        for i in set(range(40)) - set(chosen):
            x = vector([*chosen, i], 40)
            if problem.is_feasible(x) and problem.evaluate(x) > best:
                best, pick = problem.evaluate(x), i
        if pick is None:
            break
        chosen.append(pick)
    found = greedy_facility(problem)
    assert found is not None
    assert problem.evaluate(found) >= problem.evaluate(vector(chosen, 40))


def vector(members: list[int], size: int) -> Any:
    """Return the 0/1 vector of a set."""
    x = np.zeros(size, dtype=np.int64)
    x[members] = 1
    return x


# ---------------------------------------------------------------------- multiple choice


@settings(max_examples=80)
@given(choice_problems())
def test_choice_moves_end_in_a_local_optimum(problem: MultipleChoiceProblem) -> None:
    """No change of one or of two groups that frees a budget improves `improve_choice`."""
    start = greedy_choice(problem)
    if start is None:
        return
    x = improve_choice(problem, start)
    value = problem.evaluate(x)
    assert value >= problem.evaluate(start)
    margin = 1e-9 * max(1e-9, float(np.abs(problem.flat_values).max()))
    for y in all_points(problem):
        if np.count_nonzero(y != x) <= 2 and problem.is_feasible(y):
            assert problem.evaluate(y) <= value + margin


def test_repair_keeps_what_it_can() -> None:
    """An infeasible start is brought back by the move that costs least value."""
    problem = MultipleChoiceProblem(
        values=[[0, 5], [0, 9], [0, 4]], usage=[[[0], [2]], [[0], [2]], [[0], [2]]], budgets=[4]
    )
    x = greedy_choice(problem, np.array([1, 1, 1]))
    assert x is not None
    assert x.tolist() == [1, 1, 0]


def test_repair_falls_back_to_the_light_start() -> None:
    """Where the repair of a start gets stuck, the lightest options are tried."""
    problem = MultipleChoiceProblem(
        values=[[1, 0, 0]], usage=[[[3, 0], [0, 3], [1, 1]]], budgets=[1, 1]
    )
    x = greedy_choice(problem, np.array([0]))
    assert x is not None
    assert x.tolist() == [2]


def test_light_start_balances_budgets() -> None:
    """Options that are light in one budget only are mixed until both budgets hold."""
    usage = [[[0.0, 1.0], [1.2, 0.0]]] * 10
    problem = MultipleChoiceProblem([[1.0, 1.0]] * 10, usage, [6, 5])
    x = greedy_choice(problem)
    assert x is not None
    assert problem.is_feasible(x)


def test_two_groups_move_at_once() -> None:
    """A pair swap downgrades one group so that another can afford more."""
    problem = MultipleChoiceProblem([[0, 4], [0, 5]], [[[0], [4]], [[0], [5]]], [5])
    assert improve_choice(problem, np.array([1, 0])).tolist() == [0, 1]


def test_worthless_options_are_no_reason_to_move() -> None:
    """Options without any value, one of which overdraws a budget of zero, stay as they are."""
    problem = MultipleChoiceProblem([[0, 0]], [[[0], [1]]], [0])
    assert run(problem, "local_search").x is not None
    assert improve_choice(problem, np.array([0])).tolist() == [0]


def test_improve_choice_leaves_the_infeasible_alone() -> None:
    """An infeasible start comes back unchanged."""
    problem = MultipleChoiceProblem([[0, 5]], [[[0], [9]]], [4])
    assert improve_choice(problem, np.array([1])).tolist() == [1]
    assert improve_choice(problem, np.array([0])).tolist() == [0]


# ---------------------------------------------------------------------- monotone


@settings(max_examples=60)
@given(monotone_problems())
def test_climbs_end_where_no_single_step_gains(problem: MonotoneProblem) -> None:
    """From the result of greedy and local search no coordinate can be raised by one with gain."""
    x = greedy_monotone(problem)
    if x is None:
        return
    for better in improving_monotone(problem, x):
        assert problem.evaluate(better) > problem.evaluate(x)
        x = better
    for i in np.flatnonzero(x < problem.upper):
        y = x.copy()
        y[i] += 1
        assert not problem.is_feasible(y) or problem.evaluate(y) <= problem.evaluate(x)


def test_exchange_leaves_a_local_trap() -> None:
    """Raising one coordinate at the expense of another finds what climbing alone misses."""
    problem = MonotoneProblem(
        [0, 0], [5, 5], lambda x: x @ [2.0, 3.0], constraints=[lambda x: x @ [1.0, 1.0] - 5.0]
    )
    *_, best = improving_monotone(problem, np.array([5, 0]))
    assert best.tolist() == [0, 5]
    assert list(improving_monotone(problem, np.array([5, 5]))) == []


def test_reverse_constraints_are_reached_from_either_corner() -> None:
    """A band of feasible points is found from below, and from above where below is shut."""
    band: dict[str, Any] = {
        "constraints": [lambda x: x.sum(axis=1) - 5.0],
        "reverse_constraints": [lambda x: x.sum(axis=1) - 4.0],
    }
    problem = MonotoneProblem([0] * 3, [4] * 3, lambda x: x @ [1.0, 2.0, 3.0], **band)
    x = greedy_monotone(problem)
    assert x is not None
    assert problem.is_feasible(x)
    assert problem.evaluate(x) == 14.0


def test_large_ranges_are_climbed_in_doubling_steps() -> None:
    """A range of a million levels takes a few steps of the oracle, not a million."""
    calls = 0

    def objective(points: Any) -> Any:
        nonlocal calls
        calls += 1
        return points[:, 0] * 1.0

    problem = MonotoneProblem([0], [10**6], objective, constraints=[lambda x: x[:, 0] - 700_001.0])
    x = greedy_monotone(problem)
    assert x is not None
    assert x.tolist() == [700_001]
    assert calls < 1000
