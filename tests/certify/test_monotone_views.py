"""Proofs over monotone views: the view adds the problem's own numbers, and rounds no other way."""

from __future__ import annotations

import itertools
import math
import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
from mutations import stated

import moe2opt as mo
from moe2opt.result import Certificate


def far_apart() -> mo.MultipleChoiceProblem:
    """Return a problem in whose values a shift by the least one loses the others."""
    return mo.MultipleChoiceProblem(
        values=[[-1e16, 0.0], [0.3, 0.6]], usage=[[[0], [1]], [[0], [1]]], budgets=[2]
    )


def one_leaf(problem: Any, claim: float, reason: str = "corner") -> mo.Result:
    """Return a result whose only proof is one leaf over the whole view."""
    return stated(
        Certificate("monotone", claim, ((reason, 0, 0),), problem_hash=problem.fingerprint).sealed()
    )


def forbidden_options(seed: int, far: float, step: float) -> mo.MultipleChoiceProblem:
    """Return groups of near ties, each with an option that a value of ``-far`` forbids."""
    rng = random.Random(seed)
    groups = rng.choice([2, 3])
    values = [[-far] + [0.5 + step * rng.random() for _ in range(3)] for _ in range(groups)]
    usage = [[[0]] + [[rng.randrange(1, 6)] for _ in range(3)] for _ in range(groups)]
    return mo.MultipleChoiceProblem(values, usage, [rng.randrange(3, 12)])


def optimum(problem: mo.MultipleChoiceProblem) -> float:
    """Return the optimum by enumeration."""
    points = itertools.product(*(range(len(group)) for group in problem.values))
    return max(
        (problem.evaluate(x) for x in map(list, points) if problem.is_feasible(x)),
        default=-math.inf,
    )


def test_a_false_corner_is_rejected() -> None:
    """A corner proves the sum of the values themselves, not of their rounded differences."""
    problem = far_apart()
    assert problem.is_feasible([1, 1])
    assert problem.evaluate([1, 1]) == 0.6
    assert not mo.certify(problem, one_leaf(problem, 0.0)).ok
    assert not mo.certify(problem, one_leaf(problem, math.nextafter(0.6, 0.0))).ok
    assert mo.certify(problem, one_leaf(problem, 0.6)).ok


@pytest.mark.parametrize("reason", ["corner", "marginal"])
def test_a_false_bound_of_many_clusters_is_rejected(reason: str) -> None:
    """The value of many clusters is one sum rounded once, and a sum of gains is rounded up."""
    values = np.array([[1e16, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    problem = mo.FacilityProblem(values, costs=[[1, 1]], budgets=[2])
    best = problem.evaluate([1, 1])
    assert best == 1e16 + 4.0
    assert not mo.certify(problem, one_leaf(problem, math.nextafter(best, 0.0), reason)).ok


@pytest.mark.parametrize(("far", "step"), [(1e9, 1e-7), (1e12, 1e-4), (1e15, 0.1), (1e16, 0.3)])
def test_polyblock_is_exact_beside_forbidden_options(far: float, step: float) -> None:
    """A value that stands for "forbidden" costs the others none of their digits."""
    for seed in range(25):
        problem = forbidden_options(seed, far, step)
        result = mo.solve(problem, "polyblock")
        assert result.objective == optimum(problem)
        assert mo.certify(problem, result).ok


@pytest.mark.parametrize("nodes", [0, 1, None])
@pytest.mark.parametrize("size", [1.0, 1e9, 1e12, 2.0**53 - 1.0])
def test_polyblock_proofs_of_big_values_are_accepted(size: float, nodes: int | None) -> None:
    """Whole values of any size give proofs that the checker accepts, also at a limit."""
    problem = mo.FacilityProblem([[size, 2.0 * size - 1.0]], costs=[[1, 1]], budgets=[1])
    result = mo.solve(problem, "polyblock", node_limit=nodes)
    verdict = mo.certify(problem, result)
    assert (verdict.ok, verdict.kind) == (True, "checked")
    assert nodes == 0 or (result.status, result.bound) == ("OPTIMAL", 2.0 * size - 1.0)


def test_views_evaluate_as_their_problem_does() -> None:
    """At its solutions a view returns the problem's own value to the last digit."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.choice([1e16, 1.0, 0.1, 0.3, 1e-12, 7.0], size=(4, 5))
        facility = mo.FacilityProblem(values, rng.random((1, 5)), [2.0])
        choice = mo.MultipleChoiceProblem(list(values - 5.0), [np.ones((5, 1))] * 4, [9.0])
        x = rng.integers(0, 2, 5)
        assert facility.as_monotone().evaluate(x) == facility.evaluate(x)
        picked = rng.integers(0, 5, 4)
        point = np.eye(5, dtype=np.int64)[picked].ravel()
        assert choice.as_monotone().evaluate(point) == choice.evaluate(picked)


def test_views_keep_budgets_beyond_exact_integers() -> None:
    """A view's budget row is broken exactly where the problem's own is, also above 2**53."""
    costs = np.array([[2.0**53, 1.0, 1.0]])
    for budget in (2.0**53, 2.0**53 + 2.0):
        problem = mo.FacilityProblem(np.ones((1, 3)), costs, [budget])
        view = problem.as_monotone()
        for x in itertools.product([0, 1], repeat=3):
            assert view.is_feasible(list(x)) == problem.is_feasible(list(x))


def test_noise_of_whole_objectives_lowers_no_bound() -> None:
    """A value that `evaluate` takes for the next whole number counts as that number in a bound."""
    problem = mo.MonotoneProblem(
        lower=[0, 0],
        upper=[1, 1],
        objective=lambda points: points.sum(axis=1) * (1.0 - 1e-8),
        submodular=True,
        integral=True,
    )
    assert problem.evaluate([1, 1]) == 2.0
    for reason in ("corner", "marginal"):
        assert not mo.certify(problem, one_leaf(problem, 1.0, reason)).ok
        assert mo.certify(problem, one_leaf(problem, 2.0, reason)).ok
    for solver in ("brb", "polyblock"):
        result = mo.solve(problem, solver)
        assert (result.objective, result.bound) == (2.0, 2.0)


def test_views_of_many_groups_stay_small() -> None:
    """A view's memory grows with the number of options, not with its square."""
    groups = 1000
    problem = mo.MultipleChoiceProblem([[0.0, 1.0]] * groups, [[[0.0], [1.0]]] * groups, [9.0])
    tracemalloc.start()
    view = problem.as_monotone()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(view.constraints) == groups + 1
    assert peak < 8 * groups * 2 * groups  # one flag per group and option
