"""Conflicts: which budgets clash, and the least change of each that would help."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from solving import run

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem, parts
from moe2opt.certify import certify
from moe2opt.result import Result, Status
from moe2opt.solvers.tuning import Tuning


def conflict_of(problem: object, **options: object) -> Result:
    """Solve an infeasible problem and return the checked result."""
    result = run(problem, "brb", **options)
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


def test_oracles_of_single_points_are_explained_too() -> None:
    """Oracles that are asked point by point are relaxed like batched ones."""
    problem = MonotoneProblem(
        [0, 0],
        [3, 3],
        lambda x: float(x.sum()),
        constraints=[lambda x: float(x[0]) - 3, lambda x: float(x.sum()) - 3],
        reverse_constraints=[lambda x: float(x.sum()) - 5],
        batched=False,
    )
    conflict = conflict_of(problem).certificate.conflict
    assert conflict.rows == (1,)
    assert [(r.row, round(r.limit, 3)) for r in conflict.relaxations] == [(1, 2.0)]


def test_a_time_limit_leaves_a_proof_without_explanation() -> None:
    """When no time is left for the explanation, infeasibility may stay unproven but never wrong."""
    problem = FacilityProblem([[1, 1]], [[3, 4]], [2], covers=[[0, 1]])
    result = run(problem, "brb", time_limit_s=0.0)
    assert result.status in (Status.NO_SOLUTION, Status.INFEASIBLE)
    assert certify(problem, result).ok


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_least_limits_of_choices_are_least(seed: int) -> None:
    """What a clashing row is said to need is the least that enumeration finds with the others."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 4, size=4)
    usage = [rng.integers(1, 9, size=(n, 2)) * rng.choice([1.0, 0.1]) for n in sizes]
    problem = MultipleChoiceProblem(
        [rng.random(n) for n in sizes],
        usage,
        [float(rng.integers(2, 9)), float(rng.integers(2, 9))],
    )
    assume(run(problem, "brb").status is Status.INFEASIBLE)
    used = np.array([problem.usage_of(x) for x in itertools.product(*map(range, sizes))])
    for change in conflict_of(problem).certificate.conflict.relaxations:
        others = np.delete(used, change.row, axis=1) <= np.delete(problem.limits, change.row)
        assert change.limit == pytest.approx(used[others.all(axis=1), change.row].min(), rel=2e-6)


def test_a_change_that_is_hard_to_find_is_left_out() -> None:
    """The clash is named with its proof also where no node is left for the least change."""
    values, usage = [[1.0, 0.0]] * 6, [[[3.0, 1.0], [1.0, 3.0]]] * 6
    problem = MultipleChoiceProblem(values, usage, [8.0, 8.0])
    tuning = replace(Tuning(), tree=replace(Tuning().tree, relaxation_nodes=0))
    conflict = conflict_of(problem, tuning=tuning).certificate.conflict
    assert conflict.rows == (0, 1)
    assert conflict.relaxations == ()


def test_a_row_without_its_limit_allows_infinite_values() -> None:
    """What overflows is no longer limited by a row that a conflict leaves out."""
    steep = parts.composed(lambda v: np.where(v >= 1, np.inf, 0.0), parts.linear([1]))
    rows = [(steep, 5), (parts.linear([1]), 0)]
    problem = MonotoneProblem.from_parts([1], [1], parts.linear([1]), at_most=rows)
    result = run(problem, "brb")
    assert result.status is Status.INFEASIBLE
    assert certify(problem, result).ok
