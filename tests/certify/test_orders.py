"""Proofs about ordered points: what lets a certificate take variables in order, and what not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from solving import run

import moe2opt as mo
from moe2opt.canonical import parts

KINDS, COPIES = 3, 4
N = KINDS * COPIES
SETS = [list(range(COPIES * k, COPIES * (k + 1))) for k in range(KINDS)]
CHANCES = np.repeat(np.array([[0.3, 0.1, 0.0], [0.0, 0.4, 0.2], [0.2, 0.2, 0.5]]), COPIES, axis=1)
COSTS = np.repeat([4, 5, 7], COPIES)
WORTHS = np.array([3.0, 5.0, 9.0])


def sensed(x: Any) -> Any:
    """Return the expected worth of the targets that some sensor sees."""
    return (1.0 - np.prod((1.0 - CHANCES) ** x[:, None, :], axis=2)) @ WORTHS


def oracle(sets: Any = SETS) -> mo.MonotoneProblem:
    """Return twelve sensors of three kinds as oracles."""
    return mo.MonotoneProblem(
        [0] * N, [1] * N, sensed, [lambda x: x @ COSTS - 20.0], interchangeable=sets
    )


def declared() -> mo.MonotoneProblem:
    """Return the same from parts."""
    return mo.MonotoneProblem.from_parts(
        [0] * N, [1] * N, parts.coverage(CHANCES, WORTHS), at_most=[(parts.linear(COSTS), 20)]
    )


@pytest.mark.parametrize("solver", ["brb", "polyblock"])
@pytest.mark.parametrize("make", [oracle, declared])
def test_order_shrinks_the_tree(make: Any, solver: str) -> None:
    """A tree of ordered points proves the same optimum with a third of the nodes or fewer."""
    problem, plain = make(), oracle(())
    result, other = mo.solve(problem, solver), mo.solve(plain, solver)
    assert result.status is mo.Status.OPTIMAL
    assert result.objective == pytest.approx(other.objective, rel=1e-12)
    assert result.certificate.types == tuple(map(tuple, SETS))
    assert other.certificate.types == ()
    assert 3 * result.stats["nodes"] <= other.stats["nodes"]
    assert mo.certify(problem, result).kind == "checked"


def test_what_is_only_declared_is_named() -> None:
    """A verdict says which variables were assumed to be alike; parts leave nothing to assume."""
    problem = oracle()
    verdict = mo.certify(problem, mo.solve(problem))
    assert verdict.ok
    assert len(verdict.assumptions) == KINDS
    assert "variables [0, 1, 2, 3] are interchangeable" in verdict.assumptions[0]
    problem = declared()
    verdict = mo.certify(problem, mo.solve(problem))
    assert verdict.ok
    assert verdict.assumptions == ()
    assert mo.certify(oracle(()), mo.solve(oracle(()))).assumptions == ()


@pytest.mark.parametrize("solver", ["brb", "polyblock"])
@pytest.mark.parametrize("start", [None, [0, 1, 1]])
def test_a_run_without_a_node_has_a_proof(solver: str, start: Any) -> None:
    """The best of everything, which is claimed then, needs no order, and no room for roundings."""
    problem = mo.MonotoneProblem.from_parts(
        [0] * 3,
        [2] * 3,
        parts.product([[0.1, 0.7, 1.3]] * 3),
        at_most=[(parts.linear([1, 1, 1]), 4)],
    )
    assert problem.swap_error > 0
    result = run(problem, solver, node_limit=0, warm_start=start, bound="corner")
    verdict = mo.certify(problem, result)
    assert verdict.ok, verdict.failures


def test_roundings_of_large_values_do_not_keep_a_small_gap_open() -> None:
    """Variables are not put in order before an incumbent shows that roundings are small beside it.

    Here the upper corner is worth 1e40, and the optimum 0.4.
    """
    used = parts.total([[0, 17, 23, 400]] * 8)
    problem = mo.MonotoneProblem.from_parts(
        [0] * 8,
        [3] * 8,
        parts.product([[0.1, 1.0, 2.0, 1e5]] * 8),
        at_most=[(used, 131)],
        at_least=[(used, 131)],
    )
    result = run(problem, "polyblock")
    assert result.status is mo.Status.OPTIMAL
    assert result.objective == pytest.approx(0.4)


def changed(result: mo.Result, **fields: Any) -> mo.Result:
    """Return the result with other fields in its certificate."""
    return replace(result, certificate=replace(result.certificate, **fields).sealed())


@pytest.mark.parametrize("make", [oracle, declared])
@pytest.mark.parametrize(
    ("types", "message"),
    [
        ((tuple(range(N)),), "nothing shows"),
        (((0, 1, 2, 3, 4),), "nothing shows"),
        (((0, 4), (1, 5)), "nothing shows"),
        (((0, 1), (1, 2)), "ordered twice"),
        (((0, 0),), "ordered twice"),
        (((0, 99),), "does not exist"),
        (((-1, 0),), "does not exist"),
    ],
)
def test_other_sets_are_refused(make: Any, types: Any, message: str) -> None:
    """Variables that nothing declares alike are not taken in order, whatever the tree proves."""
    problem = make()
    verdict = mo.certify(problem, changed(mo.solve(problem), types=types))
    assert not verdict.ok
    assert message in verdict.failures[0]


@pytest.mark.parametrize("make", [oracle, declared])
def test_a_tree_of_ordered_points_proves_nothing_without_the_order(make: Any) -> None:
    """The same records over all points, or over less of the sets, do not close their boxes."""
    problem = make()
    result = mo.solve(problem)
    for types in ((), result.certificate.types[:1]):
        assert not mo.certify(problem, changed(result, types=types)).ok


def test_oracles_without_a_declaration_have_no_order() -> None:
    """The proof of declared oracles is refused of the same oracles without the declaration."""
    result, plain = mo.solve(oracle()), oracle(())
    moved = changed(result, problem_hash=plain.fingerprint)
    assert "nothing shows" in mo.certify(plain, moved).failures[0]


@pytest.mark.parametrize("make", [oracle, declared])
def test_infeasible_problems_keep_their_conflict(make: Any) -> None:
    """What contradicts itself is explained as without interchangeable variables, and checked."""
    if make is declared:
        rows = [(parts.linear(COSTS), 20)]
        least = [(parts.total([[0.0, 1.0]] * N), 6)]
        problem = mo.MonotoneProblem.from_parts(
            [0] * N, [1] * N, parts.coverage(CHANCES, WORTHS), at_most=rows, at_least=least
        )
    else:
        problem = replace(oracle(), reverse_constraints=[lambda x: x.sum(axis=1) - 6.0])
    result = mo.solve(problem)
    assert result.status is mo.Status.INFEASIBLE
    assert mo.certify(problem, result).ok
    assert result.certificate.conflict is not None
