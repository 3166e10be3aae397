"""Knee, hypervolume, prices and stability against what can be computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import all_points, facility_problems

import moe2opt as mo
from moe2opt.pareto import grid, stability
from moe2opt.pareto.indicators import hypervolume, is_nondominated, knee
from moe2opt.pareto.prices import best_line
from moe2opt.pareto.ranges import scaled
from moe2opt.pareto.restriction import is_restriction
from moe2opt.result import InputError


def test_hypervolume_of_boxes() -> None:
    """Two overlapping boxes count their overlap once, in two and in three dimensions."""
    assert hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), (3, 3)) == 3.0
    assert hypervolume(np.array([[0.0, 0, 0], [1, 1, 1]]), (2, 2, 2)) == 8.0
    assert hypervolume(np.array([[4.0, 0.0]]), (3, 3)) == 0.0
    with pytest.raises(InputError, match="reference"):
        hypervolume(np.array([[1.0, 2.0]]), (3,))


@settings(max_examples=40)
@given(
    st.integers(2, 3).flatmap(
        lambda d: st.lists(st.lists(st.integers(0, 9), min_size=d, max_size=d), min_size=1)
    )
)
def test_hypervolume_agrees_with_moocore(points: list[list[int]]) -> None:
    """The hypervolume of random points is that of the library moocore."""
    moocore = pytest.importorskip("moocore", reason="moocore is not installed")
    table = np.array(points, dtype=float)
    reference = [8.0] * table.shape[1]
    expected = moocore.hypervolume(table, ref=np.array(reference))
    assert hypervolume(table, reference) == pytest.approx(expected)


def test_knee_is_farthest_above_the_chord() -> None:
    """Of a bent curve the corner is the knee; a straight one has none."""
    costs = np.array([0.0, 1.0, 2.0, 10.0])
    assert knee(costs, np.array([0.0, 8.0, 9.0, 10.0])) == 1
    assert knee(costs, costs) is None
    assert knee(costs[:2], costs[:2]) is None


def test_nondominated_keeps_one_of_equals() -> None:
    """Rows that another one beats go, and of equal rows the first stays."""
    table = np.array([[1.0, 1.0], [1.0, 1.0], [2.0, 0.0], [2.0, 1.0]])
    assert is_nondominated(table).tolist() == [True, False, True, False]


@settings(max_examples=20)
@given(facility_problems(), st.integers(0, 12))
def test_lines_bound_every_budget(problem: Any, budget: int) -> None:
    """The line of a certificate is at least the optimum at every other budget."""
    result = mo.solve(problem)
    line = best_line(problem, result.certificate)
    if line is None or not len(problem.budgets):
        return
    other = problem.with_budgets([budget, *problem.budgets[1:].tolist()])
    values = [other.evaluate(x) for x in all_points(other) if other.is_feasible(x)]
    change = float(line.prices[0]) * (budget - float(problem.budgets[0]))
    assert line.value + change >= max(values, default=-math.inf) - 1e-6


@settings(max_examples=15)
@given(facility_problems(), st.floats(0.05, 0.9))
def test_stability_is_exact(problem: Any, fall: float) -> None:
    """A plan is optimal after a fall of a figure exactly when the fall is below the threshold."""
    result = mo.solve(problem)
    if result.x is None or not len(problem.budgets):
        return
    found = stability(problem, "budgets[0]", x=result.x, most=0.95)
    if abs(fall - found.less) < 1e-5:
        return
    moved = np.ones(problem.size, dtype=bool)
    best = mo.solve(scaled(problem, 0, moved, 1.0 - fall)).objective
    assert (best == result.objective) == (fall < found.less)
    assert found.certified or found.less == 0.0


def test_stability_ends_where_figures_are_tiny() -> None:
    """What fits by the slack of a small budget alone does not hold the search for ever."""
    problem = mo.FacilityProblem([[1e-4], [1e-4]], [[2e-4]], [6e-5], groups=([0],))
    found = stability(problem, "budgets[0]", most=0.95)
    assert found.less == pytest.approx(0.7, abs=1e-4)
    assert found.next_objective == pytest.approx(2e-4)


def test_stability_of_one_expert() -> None:
    """Figures of experts outside the plan may rise without end; those inside until the limit."""
    problem = mo.FacilityProblem(values=[[3, 0, 2], [0, 4, 3]], costs=[[4, 5, 4]], budgets=[9])
    inside = stability(problem, "budgets[0]", members=[0], most=0.9)
    assert inside.objective == 7.0
    assert inside.more == 0.0
    assert math.isinf(stability(problem, "budgets[0]", members=[2]).more)
    with pytest.raises(InputError, match="members"):
        stability(problem, "budgets[0]", members=[3])
    with pytest.raises(InputError, match="most"):
        stability(problem, "budgets[0]", most=1.0)
    with pytest.raises(InputError, match="not optimal"):
        stability(problem, "budgets[0]", x=[0, 0, 0])


def test_restrictions_are_seen() -> None:
    """Smaller budgets, values and covers restrict a problem; larger ones do not."""
    small = mo.FacilityProblem([[1, 2]], [[1, 1]], [1], covers=[[0]])
    large = mo.FacilityProblem([[1, 3]], [[1, 1]], [2], covers=[[0, 1]])
    assert is_restriction(small, large)
    assert not is_restriction(large, small)
    assert not is_restriction(small, large.with_budgets([0]))
    assert is_restriction(
        mo.FacilityProblem([[1, 2]], [[1, 1]], [1], groups=[[0, 1]]),
        mo.FacilityProblem([[1, 2]], [[1, 1]], [1]),
    )
    assert not is_restriction(
        mo.FacilityProblem([[1, 2]], [[1, 1]], [1]),
        mo.FacilityProblem([[1, 2]], [[1, 1]], [1], groups=[[0, 1]]),
    )


def test_grid_front_and_volume() -> None:
    """The front of a grid keeps plans that nothing beats, and its volume is that of their boxes."""
    problem = mo.FacilityProblem([[3, 0, 2], [0, 4, 3]], [[1, 2, 1], [1, 1, 3]], [9, 9])
    found = grid(problem, {"budgets[0]": [1, 3], "budgets[1]": [1, 2, 4]})
    worth = [found.cells[k].objective for k in found.front()]
    assert sorted(worth) == [3.0, 4.0, 5.0, 7.0]
    assert found.hypervolume((3, 4, 0)) > 0
    assert found[1, 2].objective == found.objectives[1, 2] == 7.0
