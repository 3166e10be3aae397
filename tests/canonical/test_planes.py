"""Planes of parts: whatever the parameters and prices, the bound holds in every box."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from drawn_parts import made_of_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import all_points

import moe2opt as mo
from moe2opt.canonical import parts
from moe2opt.canonical.planes import Planes
from moe2opt.canonical.terms import Coupled, Rising
from moe2opt.canonical.wrapped import Curved, Mean, Quotient, Together
from moe2opt.result import Multipliers

#: Positive numbers of many sizes.
PRICES = st.sampled_from((0.0, 0.0, 1.0, 0.3, 1e-3, 7.0, 1e4))


def drawn_parameters(draw: Any, term: Any) -> list[float]:
    """Return parameters of a term as wild as a checker may meet them."""
    if isinstance(term, Rising):
        count = len(term.part.weights)
        spans = [(0.0, 9.0)] * count + [(0.0, 1.0)] * count
        return [draw(st.floats(*span)) for span in spans]
    if isinstance(term, Coupled):
        shares = [draw(st.floats(-3.0, 9.0)) for _ in term.first]
        return shares + [draw(PRICES) for _ in range(term.parameters - len(shares))]
    if isinstance(term, Mean | Together):
        count = term.parameters - sum(inner.parameters for inner in term.inner)
        weights = [draw(st.floats(0.0, 1.0 / count)) for _ in range(count)]
        return weights + [v for inner in term.inner for v in drawn_parameters(draw, inner)]
    if isinstance(term, Curved):
        return [draw(st.floats(-5.0, 30.0)), *drawn_parameters(draw, term.inner)]
    if isinstance(term, Quotient):
        below = (drawn_parameters(draw, part) for part in (term.top, term.under))
        return [draw(PRICES), *(v for own in below for v in own)]
    return [draw(st.floats(0.0, 3.0)) for _ in range(term.parameters)]


def drawn_multipliers(draw: Any, planes: Planes) -> Multipliers:
    """Return multipliers as wild as a checker may meet them."""
    given = [v for own in planes.sums for v in drawn_parameters(draw, own.term)]
    row = [draw(PRICES) for _ in planes.above]
    cover = [draw(PRICES) for _ in planes.below]
    return Multipliers(*(np.array(v, dtype=np.float64) for v in (given, row, cover)))


@settings(max_examples=40)
@given(st.data())
def test_no_feasible_point_is_above_its_bound(data: Any) -> None:
    """In any box and under any multipliers, the bound is at least the best feasible value."""
    problem = data.draw(made_of_parts())
    assert problem.structure is not None
    planes = Planes(problem.structure, problem.lower, problem.upper)
    points = all_points(problem)
    below = (problem.constraint_values(points) <= 0).all(axis=1)
    feasible = points[below & (problem.reverse_values(points) >= 0).all(axis=1)]
    ends = [
        sorted(data.draw(st.tuples(*[st.integers(int(a), int(b))] * 2)))
        for a, b in zip(problem.lower, problem.upper, strict=True)
    ]
    lower, upper = np.array(ends).T
    inside = feasible[((feasible >= lower) & (feasible <= upper)).all(axis=1)]
    prices = drawn_multipliers(data.draw, planes)
    around = planes.around(lower, upper)
    if len(inside):
        best = float(problem.objective_values(inside).max())
        assert planes.value(prices, around) >= best
        assert planes.value(prices, around, farkas=True) >= 0


def knapsack(n: int = 10, seed: int = 0) -> mo.MonotoneProblem:
    """Return a small quadratic knapsack."""
    rng = np.random.default_rng(seed)
    pairs = np.triu(rng.integers(1, 30, (n, n)) * (rng.random((n, n)) < 0.5))
    weights = rng.integers(1, 20, n)
    rows = [(parts.linear(weights), int(weights.sum() // 3))]
    return mo.MonotoneProblem.from_parts([0] * n, [1] * n, parts.quadratic(pairs), at_most=rows)


def covering(n: int = 12, seed: int = 0) -> mo.MonotoneProblem:
    """Return a small question of the least cost that covers enough."""
    rng = np.random.default_rng(seed)
    chances = rng.random((15, n)) * (rng.random((15, n)) < 0.4)
    weights = rng.integers(1, 9, 15)
    cost = parts.linear(rng.integers(1, 9, n))
    return mo.MonotoneProblem.from_parts(
        [0] * n, [2] * n, minimise=cost, at_least=[(parts.coverage(chances, weights), 50)]
    )


@pytest.mark.parametrize("make", [knapsack, covering])
def test_planes_prove_what_corners_need_more_nodes_for(make: Any) -> None:
    """Coupled parts are proven in fewer nodes with their planes, and the checker agrees."""
    problem = make()
    result = mo.solve(problem)
    assert mo.certify(problem, result).kind == "checked"
    corners = mo.solve(problem, bound="corner" if problem.mixed_objective is None else "mixed")
    assert result.objective == corners.objective
    assert result.stats["nodes"] < corners.stats["nodes"] / 2
    assert any(record[0] == "dual" for record in result.certificate.tree)


def test_wide_boxes_have_no_planes() -> None:
    """A box of a million levels is left to its corners."""
    problem = mo.MonotoneProblem.from_parts(
        [0, 0], [10**6, 3], parts.quadratic([[0, 1], [0, 0]]), at_most=[]
    )
    result = mo.solve(problem)
    assert result.objective == 3e6
    assert math.isfinite(result.bound)
