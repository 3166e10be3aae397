"""Laws about proofs: every certificate is accepted, none that claims too much is."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from laws.drawing import FAMILIES, FAMILY, LINEAR_FAMILY, examples, for_all
from mutations import MUTATIONS, stated
from solving import CERTIFIED, bounds_of, run
from strategies import all_points, brute_force

from moe2opt.canonical import MonotoneProblem
from moe2opt.certify import certify
from moe2opt.result import Result, Status

SEEDS = st.integers(0, 2**32 - 1)


@FAMILY
@examples(quick=5, slow=900, shards=3)
def test_certificates_are_accepted(family: str, count: int, shard: int) -> None:
    """Each certified solver's proof of optimality or infeasibility is accepted, also from JSON."""

    def law(problem: Any) -> None:
        for solver in CERTIFIED:
            result = run(problem, solver)
            for known in (result, Result.from_dict(json.loads(json.dumps(result.to_dict())))):
                verdict = certify(problem, known)
                assert verdict.ok, (solver, verdict.failures)
                assert verdict.kind == "checked"
                assert verdict.bound == result.bound
                assert verdict.objective == result.objective

    for_all(FAMILIES[family], count, shard, law)


@FAMILY
@examples(quick=3, slow=150)
def test_certificates_of_every_bound_are_accepted(family: str, count: int, shard: int) -> None:
    """Whatever bound `brb` is told to use, its proof is accepted."""

    def law(problem: Any) -> None:
        for bound in bounds_of(problem):
            verdict = certify(problem, run(problem, "brb", bound=bound))
            assert verdict.ok, (bound, verdict.failures)
            assert verdict.kind == "checked"

    for_all(FAMILIES[family], count, shard, law)


@FAMILY
@examples(quick=3, slow=200)
def test_proofs_do_not_transfer(family: str, count: int, shard: int) -> None:
    """A proof that is true of one problem is refused for another one."""

    def law(problem: Any, other: Any) -> None:
        assume(problem.fingerprint != other.fingerprint)
        result = run(problem, "brb")
        assert not certify(other, result).ok

    pairs = st.tuples(FAMILIES[family], FAMILIES[family])
    for_all(pairs, count, shard, law)


@pytest.mark.parametrize("mutation", MUTATIONS)
@examples(quick=3, slow=60)
def test_mutated_certificates_are_rejected(mutation: str, count: int, shard: int) -> None:
    """A certificate that was changed in any single way is rejected."""

    def law(problem: Any, seed: int) -> None:
        rng = np.random.default_rng(seed)
        result = run(problem, str(rng.choice(CERTIFIED)))
        assert result.certificate is not None
        changed = MUTATIONS[mutation](result.certificate, rng)
        if changed.to_dict() == result.certificate.to_dict():
            return
        for bound in {result.bound, changed.claim}:
            if bound >= result.objective:
                status = Status.FEASIBLE if result.x is not None else result.status
                forged = dataclasses.replace(
                    result, certificate=changed, bound=bound, status=status
                )
                assert not certify(problem, forged).ok

    for_all(st.tuples(FAMILIES["any"], SEEDS), count, shard, law)


@pytest.mark.parametrize("mutation", MUTATIONS)
@examples(quick=3, slow=150)
def test_forged_certificates_prove_nothing_false(mutation: str, count: int, shard: int) -> None:
    """A changed certificate with a new, matching digest is rejected unless its claim is true."""

    def law(problem: Any, seed: int) -> None:
        rng = np.random.default_rng(seed)
        result = run(problem, str(rng.choice(CERTIFIED)))
        assert result.certificate is not None
        changed = MUTATIONS[mutation](result.certificate, rng).sealed()
        if certify(problem, stated(changed)).ok:
            assert changed.claim >= brute_force(problem)

    for_all(st.tuples(FAMILIES["any"], SEEDS), count, shard, law)


@FAMILY
@examples(quick=3, slow=100)
def test_forged_solutions_are_rejected(family: str, count: int, shard: int) -> None:
    """A result with an infeasible solution or a wrong objective is rejected."""

    def law(problem: Any, seed: int) -> None:
        result = run(problem, "brb")
        assume(result.x is not None)
        worse = dataclasses.replace(
            result, objective=result.objective - 1.0, status=Status.FEASIBLE
        )
        assert not certify(problem, worse).ok
        points = all_points(problem)
        point = points[np.random.default_rng(seed).integers(len(points))]
        if not problem.is_feasible(point):
            value = problem.evaluate(point)
            forged = dataclasses.replace(
                result,
                x=point,
                objective=min(value, result.bound),
                status=Status.FEASIBLE,
            )
            assert not certify(problem, forged).ok

    for_all(st.tuples(FAMILIES[family], SEEDS), count, shard, law)


def loosened(problem: Any, kept: Any) -> Any:
    """Return the problem with the limits of all other rows out of reach."""
    budgets = np.full(len(problem.budgets), problem.costs.sum() + 1.0)
    budgets[list(kept)] = problem.budgets[list(kept)]
    return problem.with_budgets(budgets)


@LINEAR_FAMILY
@examples(quick=10, slow=250)
def test_conflicts_are_true_and_smallest(family: str, count: int, shard: int) -> None:
    """The budgets that a proof of infeasibility names do clash, and no fewer of them would."""

    def law(problem: Any) -> None:
        result = run(problem, "brb")
        assume(result.status is Status.INFEASIBLE)
        assert result.certificate is not None
        conflict = result.certificate.conflict
        assert conflict is not None
        assert brute_force(loosened(problem, conflict.rows)) == -math.inf
        if conflict.smallest and conflict.rows:
            rows_of = range(len(problem.budgets))
            for rows in itertools.combinations(rows_of, len(conflict.rows) - 1):
                assert brute_force(loosened(problem, rows)) > -math.inf

    for_all(FAMILIES[family], count, shard, law)


@LINEAR_FAMILY
@examples(quick=10, slow=250)
def test_relaxations_are_least(family: str, count: int, shard: int) -> None:
    """A relaxation restores feasibility with the smallest possible limit of its row."""

    def law(problem: Any) -> None:
        result = run(problem, "brb")
        assume(result.status is Status.INFEASIBLE)
        assert result.certificate is not None
        assert result.certificate.conflict is not None
        for relaxation in result.certificate.conflict.relaxations:
            others = [r for r in range(len(problem.budgets)) if r != relaxation.row]
            wide = loosened(problem, others)
            uses = [
                wide.usage_of(x)[relaxation.row] for x in all_points(wide) if wide.is_feasible(x)
            ]
            assert relaxation.limit == pytest.approx(min(uses), rel=1e-6, abs=1e-6)

    for_all(FAMILIES[family], count, shard, law)


def test_claims_without_a_proof_stay_claims() -> None:
    """A bound without certificate is called claimed, however it was found."""
    problem = MonotoneProblem(lower=[0], upper=[2], objective=lambda x: x[:, 0] * 1.0)
    verdict = certify(problem, run(problem, "enumerate"))
    assert verdict.ok
    assert verdict.kind == "claimed"
