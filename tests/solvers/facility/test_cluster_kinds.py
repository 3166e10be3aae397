"""Clusters with equal values count as one, and nobody notices but the clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt.canonical import FacilityProblem
from moe2opt.solvers.facility.model import FacilityModel
from moe2opt.solvers.facility.presolve import ClusterKinds
from tests.strategies import facility_problems


@given(
    rows=st.lists(st.integers(0, 3), max_size=12),
    values=st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=4, max_size=4),
)
def test_kinds_are_the_different_rows(rows: list[int], values: list[list[int]]) -> None:
    """Every cluster has the values of its kind, different kinds differ, sums are kept."""
    table = np.array([values[k] for k in rows], dtype=np.float64).reshape(len(rows), 3)
    kinds = ClusterKinds.among(table)
    assert len(kinds.first) == len(np.unique(table, axis=0))
    assert (table[kinds.first][kinds.of] == table).all()
    assert (kinds.count == np.bincount(kinds.of, minlength=len(kinds.first))).all()
    assert kinds.together(table).sum(axis=0) == pytest.approx(table.sum(axis=0))
    assert (np.sort(kinds.first) == kinds.first).all()
    assert (kinds.each(kinds.first.astype(float)) == kinds.first[kinds.of]).all()


@given(problem=facility_problems(), copies=st.lists(st.integers(1, 3), min_size=5, max_size=5))
def test_copies_of_clusters_are_solved_as_weights(
    problem: FacilityProblem, copies: list[int]
) -> None:
    """A cluster that is there k times counts as one with k times the weight, bounds included."""
    times = np.array(copies[: problem.clusters])
    repeated = FacilityProblem(
        np.repeat(problem.weighted, times, axis=0), problem.costs, problem.budgets,
        groups=problem.groups, covers=problem.covers, opening=problem.opening,
    )  # fmt: skip
    weighted = FacilityProblem(
        problem.weighted * times[:, None], problem.costs, problem.budgets,
        groups=problem.groups, covers=problem.covers, opening=problem.opening,
    )  # fmt: skip
    assert len(FacilityModel(repeated).best_values) <= problem.clusters
    found, expected = (mo.solve(p, rel_gap=0.0) for p in (repeated, weighted))
    assert found.status == expected.status
    assert found.objective == pytest.approx(expected.objective, rel=1e-9, abs=1e-12)
    assert mo.certify(repeated, found).ok


@pytest.mark.parametrize("bound", ["cuts", "lagrangian", "submodular", "corner"])
def test_multipliers_of_copies_are_on_the_grid(bound: str) -> None:
    """Three copies share a multiplier that is a third of their sum's, whatever the bound."""
    rng = np.random.default_rng(3)
    values = rng.random((7, 8))
    problem = FacilityProblem(
        np.repeat(values, 3, axis=0), rng.random((2, 8)) + 0.2, np.array([1.9, 1.7])
    )
    assert len(FacilityModel(problem).best_values) == 7
    result = mo.solve(problem, bound=bound, rel_gap=0.0)
    assert result.status is mo.Status.OPTIMAL
    assert result.objective == pytest.approx(mo.solve(problem, "enumerate").objective)
    assert mo.certify(problem, result).ok
    for price in result.certificate.multipliers:  # type: ignore[union-attr]
        assert price.cluster.shape in ((0,), (21,))


@pytest.mark.parametrize("bound", ["auto", "cuts", "lagrangian", "submodular", "corner"])
def test_a_problem_without_clusters_is_solved(bound: str) -> None:
    """Nothing to serve: every choice is worth nothing, and that is proven."""
    problem = FacilityProblem(np.zeros((0, 3)), np.ones((1, 3)), np.ones(1))
    result = mo.solve(problem, bound=bound)
    assert (result.status, result.objective) == (mo.Status.OPTIMAL, 0.0)
    assert mo.certify(problem, result).ok
