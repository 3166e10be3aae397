"""Conflicts: which budgets clash, and the least change of each that would help."""

from __future__ import annotations

import numpy as np
import pytest
from solving import run

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem
from moe2opt.certify import certify
from moe2opt.result import Result, Status


def conflict_of(problem: object) -> Result:
    """Solve an infeasible problem and return the checked result."""
    result = run(problem, "brb")
    assert result.status is Status.INFEASIBLE
    verdict = certify(problem, result)
    assert verdict.ok, verdict.failures
    assert verdict.kind == "checked"
    return result


def test_one_clashing_pair_among_many_rows_is_isolated() -> None:
    """With too many rows to try all subsets, dropping rows ends at the two that clash."""
    rows = 14
    costs = np.zeros((rows, 4))
    costs[3, :2], costs[7, 2:] = 5, 5
    costs[[k for k in range(rows) if k not in (3, 7)], 0] = 1
    budgets = np.full(rows, 2.0)
    problem = FacilityProblem(np.ones((1, 4)), costs, budgets, covers=[[0, 1, 2, 3]])
    conflict = conflict_of(problem).certificate.conflict
    assert conflict.rows == (3, 7)
    assert conflict.covers == (0,)
    assert not conflict.smallest
    assert [(r.row, r.limit) for r in conflict.relaxations] == [(3, 5.0), (7, 5.0)]


@pytest.mark.parametrize("solver", ["brb", "polyblock"])
def test_smallest_set_is_found(solver: str) -> None:
    """The row that clashes alone is reported without the others, with its least limit."""
    problem = MultipleChoiceProblem(
        values=[[1, 1]], usage=[[[3, 0, 9], [0, 3, 9]]], budgets=[2, 3, 8]
    )
    result = run(problem, solver)
    assert result.certificate.conflict.rows == (2,)
    assert result.certificate.conflict.smallest
    assert result.certificate.conflict.relaxations[0].limit == 9.0


@pytest.mark.parametrize("least", [2e9 + 1, 5486784404.0, 2.0**53 + 2])
def test_least_limits_of_large_whole_rows_are_found(least: float) -> None:
    """Limits of whole rows are looked for among whole numbers, also where a unit is no float."""
    problem = MultipleChoiceProblem(
        values=[[1, 1], [1]], usage=[[[least - 5], [2.0**53]], [[5]]], budgets=[8]
    )
    conflict = conflict_of(problem).certificate.conflict
    assert [(r.row, r.limit) for r in conflict.relaxations] == [(0, least)]


def test_servers_that_hold_not_even_nothing_are_infeasible() -> None:
    """Limits of identical servers that lie below zero by less than the slack of their sum clash."""
    limit = -1.0000001e-9
    problem = FacilityProblem([[1, 2] * 3], 0.5 * np.kron(np.eye(3), [1, 1]), [limit] * 3)
    assert len(conflict_of(problem).certificate.conflict.rows) == 1


def test_a_clash_of_structure_names_no_budget() -> None:
    """A group and two covers that cannot hold together leave no budget to blame."""
    problem = FacilityProblem([[1, 1]], [[1, 1]], [5], groups=[[0, 1]], covers=[[0], [1]])
    conflict = conflict_of(problem).certificate.conflict
    assert conflict.rows == ()
    assert conflict.relaxations == ()
    assert conflict.covers != ()


def test_constraints_of_oracles_are_relaxed_too() -> None:
    """For a monotone problem the relaxation is the least excess that a constraint must allow."""
    problem = MonotoneProblem(
        lower=[0, 0],
        upper=[5, 5],
        objective=lambda x: x.sum(axis=1),
        constraints=[lambda x: x[:, 0] + x[:, 1] - 3.0],
        reverse_constraints=[lambda x: x[:, 0] - 4.0],
    )
    conflict = conflict_of(problem).certificate.conflict
    assert conflict.rows == (0,)
    assert conflict.relaxations[0].limit == 1.0
    assert conflict.relaxations[0].x.tolist() == [4, 0]


def test_a_time_limit_leaves_a_proof_without_explanation() -> None:
    """When no time is left for the explanation, infeasibility may stay unproven but never wrong."""
    problem = FacilityProblem([[1, 1]], [[3, 4]], [2], covers=[[0, 1]])
    result = run(problem, "brb", time_limit_s=0.0)
    assert result.status in (Status.NO_SOLUTION, Status.INFEASIBLE)
    assert certify(problem, result).ok
