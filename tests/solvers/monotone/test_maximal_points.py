"""Splits at maximal feasible points."""

from dataclasses import replace

import numpy as np
from solving import run

import moe2opt as mo
from moe2opt.bench.monotone import series
from moe2opt.solvers.base import Options, Search
from moe2opt.solvers.monotone.relaxation import maximal_feasible
from moe2opt.solvers.tuning import DEFAULT


def as_oracles(problem):
    """Return a problem of parts as plain functions, of which nothing is known."""
    return mo.MonotoneProblem(
        problem.lower,
        problem.upper,
        objective=lambda x: problem.objective(x),
        constraints=[lambda x, g=g: g(x) for g in problem.constraints],
    )


def test_no_step_up_from_a_maximal_point_is_feasible():
    """Every coordinate of a maximal feasible point is at its upper end or breaks a row."""
    problem = as_oracles(series(8, seed=1))
    point = maximal_feasible(problem, problem.lower, problem.upper, Search(problem, Options()))
    assert problem.is_feasible(point)
    for axis in np.flatnonzero(point < problem.upper):
        above = point.copy()
        above[axis] += 1
        assert not problem.is_feasible(above)


def test_maximal_points_prove_the_same_with_fewer_nodes():
    """On a series system both ways to split agree, and the points need at most a quarter."""
    problem = as_oracles(series(8, seed=0))
    middle = replace(DEFAULT, monotone=replace(DEFAULT.monotone, fine_bits=0))
    found = [run(problem, "brb", tuning=tuning) for tuning in (DEFAULT, middle)]
    assert [mo.certify(problem, r).kind for r in found] == ["checked", "checked"]
    assert found[0].objective == found[1].objective
    assert 4 * found[0].stats["nodes"] <= found[1].stats["nodes"]
