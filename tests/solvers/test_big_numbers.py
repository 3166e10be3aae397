"""Whole numbers of any size: bytes, counts of parameters, and what floats no longer tell apart."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from solving import run

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem
from moe2opt.certify import certify
from moe2opt.result import Status
from moe2opt.solvers import Options, Search

SCALES = (1e8, 9e8, 1e9, 2e9, 2.0**31, 1e10, 1e12, 1e13)


def two_clusters(scale: float) -> FacilityProblem:
    """Three experts of which the last one alone or the first two are in reach."""
    return FacilityProblem(
        [[3 * scale, 0, 2 * scale + 1], [0, 4 * scale, 3 * scale]], [[2, 2, 1]], [3]
    )


def two_groups(scale: float) -> MultipleChoiceProblem:
    """Two groups with whole-numbered values of one scale."""
    return MultipleChoiceProblem(
        [[0, 5 * scale], [0, 4 * scale, 6 * scale]], [[[0], [3]], [[0], [2], [4]]], [5]
    )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("solver", ["brb", "polyblock", "enumerate"])
def test_big_whole_numbers_are_solved_to_the_unit(scale: float, solver: str) -> None:
    """A whole-numbered objective of any usual size has no gap at all, and ends in no error."""
    for problem, best in (
        (two_clusters(scale), 6 * scale + 1),
        (two_groups(scale), 9 * scale),
    ):
        result = run(problem, solver)
        assert (result.status, result.objective) == (Status.OPTIMAL, best)
        assert result.bound == best


def test_bytes_are_maximised_with_a_checked_proof() -> None:
    """Sizes of gigabytes in bytes are values like any others."""
    values = [[0, 2147483648, 3221225472], [0, 1073741824, 4294967296]]
    problem = MultipleChoiceProblem(values, [[[0], [3], [4]], [[0], [2], [5]]], [7])
    result = run(problem, "brb")
    assert result.objective == result.bound == 4294967296.0
    assert certify(problem, result).ok


def drawn(seed: int, largest: int) -> MultipleChoiceProblem:
    """Return a problem of four groups whose values are whole and near `largest`."""
    rng = random.Random(seed)
    values = [[float(rng.randrange(largest // 2, largest)) for _ in range(3)] for _ in range(4)]
    usage = [[[rng.randrange(1, 9)] for _ in range(3)] for _ in range(4)]
    return MultipleChoiceProblem(values, usage, [16])


def best_of(problem: MultipleChoiceProblem) -> float:
    """Return the optimum by enumeration, -inf where nothing fits."""
    points = itertools.product(*(range(len(options)) for options in problem.values))
    return max((problem.evaluate(x) for x in points if problem.is_feasible(x)), default=-math.inf)


@pytest.mark.parametrize("bits", [32, 40, 44, 50])
@pytest.mark.parametrize("bound", ["auto", "lagrangian", "core", "corner"])
def test_every_bound_finds_the_last_unit(bits: int, bound: str) -> None:
    """Neighbouring whole numbers are told apart as long as sums of values are exact."""
    for seed in range(8):
        problem = drawn(seed, 2**bits)
        result = run(problem, "brb", bound=bound)
        assert result.objective == best_of(problem)
        assert result.status in (Status.OPTIMAL, Status.INFEASIBLE)
        assert certify(problem, result).ok


@pytest.mark.parametrize("bits", [53, 54, 60, 80])
@pytest.mark.parametrize("bound", ["auto", "core"])
def test_above_the_whole_floats_the_numerical_gap_counts(bits: int, bound: str) -> None:
    """Beyond 2**53 sums are rounded; the answer is as close as one on real numbers."""
    for seed in range(8):
        problem = drawn(seed, 2**bits)
        result, best = run(problem, "brb", bound=bound), best_of(problem)
        assert result.status in (Status.OPTIMAL, Status.INFEASIBLE)
        assert result.bound >= best
        assert best == result.objective or math.isclose(result.objective, best, rel_tol=1e-9)
        assert certify(problem, result).ok


@pytest.mark.parametrize("scale", [2.0**31, 2.0**36, 2.0**42])
def test_facility_bounds_tell_neighbours_apart(scale: float) -> None:
    """Two experts that differ by one in one cluster are not the same, whatever their size."""
    values = [[scale, scale + 1, 3], [scale, scale, 3]]
    problem = FacilityProblem(values, [[1, 1, 1]], [1])
    for bound in ("auto", "cuts", "lagrangian", "submodular", "corner"):
        result = run(problem, "brb", bound=bound)
        assert (result.objective, result.bound) == (2 * scale + 1, 2 * scale + 1)
        assert certify(problem, result).ok


def search_on(values: Any) -> Search:
    """Return a search on a problem with one group, its second option the incumbent."""
    problem = MultipleChoiceProblem([values], [np.zeros((len(values), 0))], [])
    search = Search(problem, Options())
    search.offer([1], "H")
    return search


def test_a_bound_below_the_next_whole_number_closes_a_box() -> None:
    """No size of the values makes a bound of less than one unit above the incumbent open."""
    for value in (7.0, 1e9, 1e12, 2.0**52):
        search = search_on([0.0, value])
        assert search.prunes(np.nextafter(value + 1, 0))
        assert not search.prunes(value + 1)
        assert search.target < value + 1


def test_blurred_bounds_close_within_their_errors() -> None:
    """Where bounds are off by half a unit or more, some of their errors count as no gap."""
    search = search_on([0.0, 1e12])
    assert not search.prunes(1e12 + 1)
    search.blur(0.5)
    assert search.prunes(1e12 + 4)
    assert not search.prunes(1e12 + 5)
    search.blur(1e9)
    assert search.prunes(1e12 + 1000)
    assert not search.prunes(1e12 + 1001)


def test_values_below_every_scale_raise_no_warning() -> None:
    """Costs and values of 1e-320 divide nothing by zero on the way to the answer."""
    tiny = 5e-324
    problem = MultipleChoiceProblem(
        [[tiny, 0.0, -tiny], [0.0, tiny]], [[[tiny], [0], [1]], [[0], [tiny]]], [0.5]
    )
    assert run(problem, "brb").status is Status.OPTIMAL
    facility = FacilityProblem([[1.0, 1e12]], [[1e-300, tiny]], [-1.0])
    assert run(facility, "brb").x is not None or run(facility, "brb").status is Status.INFEASIBLE


def test_points_that_polyblock_repairs_are_plans_of_the_problem() -> None:
    """Where no climb finds a plan, a repaired point of the monotone view is decoded."""
    few, many = [[0.0, 0.0]], [[0.0, 0.0]] * 3
    values = [[-1e12, 0.0, 5.0], [-1e12], [-1e12], [-1e12, 0.0, 5.0]]
    problem = MultipleChoiceProblem(values, [many, few, few, many], [0.0, -1e-9])
    result = run(problem, "polyblock")
    assert result.status is Status.OPTIMAL
    assert result.x.tolist() == [2, 0, 0, 2]
