"""Laws about proofs: every certificate is accepted, none that claims too much is."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from laws.drawing import FAMILIES, FAMILY, LINEAR_FAMILY, examples, for_all
from solving import CERTIFIED, bounds_of, run
from strategies import all_points, brute_force

from moe2opt.canonical import MonotoneProblem
from moe2opt.certify import certify
from moe2opt.result import LEAF_REASONS, Certificate, Multipliers, Result, Status

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


def change_leaf(certificate: Certificate, rng: Any, leaf: Callable[[Any], Any]) -> Certificate:
    """Return the certificate with one of its leaves replaced."""
    leaves = [k for k, record in enumerate(certificate.tree) if record[0] != "split"]
    return change_record(certificate, int(rng.choice(leaves)), leaf)


def change_split(certificate: Certificate, rng: Any, split: Callable[[Any], Any]) -> Certificate:
    """Return the certificate with one of its inner nodes replaced."""
    splits = [k for k, record in enumerate(certificate.tree) if record[0] == "split"]
    assume(splits)
    return change_record(certificate, int(rng.choice(splits)), split)


def change_record(certificate: Certificate, k: int, change: Callable[[Any], Any]) -> Certificate:
    """Return the certificate with record `k` replaced by zero or more records."""
    tree = certificate.tree
    return dataclasses.replace(certificate, tree=(*tree[:k], *change(tree[k]), *tree[k + 1 :]))


def other_reason(record: Any, rng: Any) -> Any:
    """Return the leaf with another reason."""
    reasons = [reason for reason in LEAF_REASONS if reason != record[0]]
    return [(str(rng.choice(reasons)), *record[1:])]


def change_price(certificate: Certificate, rng: Any) -> Certificate:
    """Return the certificate with one number of one multiplier vector changed."""
    assume(certificate.multipliers)
    k = int(rng.integers(len(certificate.multipliers)))
    old = certificate.multipliers[k]
    name = str(rng.choice(["cluster", "row", "cover"]))
    vector = getattr(old, name).copy()
    assume(len(vector))
    vector[rng.integers(len(vector))] += rng.choice([-1.0, 1.0, 0.5, -1e-3, math.nan, math.inf])
    fields = {key: getattr(old, key) for key in ("cluster", "row", "cover")}
    new = Multipliers(**{**fields, name: vector})
    return dataclasses.replace(
        certificate,
        multipliers=(*certificate.multipliers[:k], new, *certificate.multipliers[k + 1 :]),
    )


def change_claim(certificate: Certificate, step: float) -> Certificate:
    """Return the certificate with another claim."""
    assume(math.isfinite(certificate.claim))
    claim = certificate.claim + step * max(1.0, abs(certificate.claim))
    return dataclasses.replace(certificate, claim=claim)


MUTATIONS: dict[str, Callable[[Certificate, Any], Certificate]] = {
    "claim less": lambda c, rng: change_claim(c, -rng.choice([1e-9, 1e-3, 0.5])),
    "claim more": lambda c, rng: change_claim(c, 0.5),
    "claim infeasible": lambda c, rng: dataclasses.replace(
        c, claim=-math.inf if math.isfinite(c.claim) else 0.0
    ),
    "drop a leaf": lambda c, rng: change_leaf(c, rng, lambda record: []),
    "repeat a leaf": lambda c, rng: change_leaf(c, rng, lambda record: [record, record]),
    "other reason": lambda c, rng: change_leaf(c, rng, lambda record: other_reason(record, rng)),
    "other index": lambda c, rng: change_leaf(
        c, rng, lambda record: [(record[0], record[1] + int(rng.choice([-1, 1])), record[2])]
    ),
    "no split": lambda c, rng: change_split(c, rng, lambda record: []),
    "other axis": lambda c, rng: change_split(
        c, rng, lambda record: [("split", record[1] + int(rng.choice([-1, 1])), record[2])]
    ),
    "other cut": lambda c, rng: change_split(
        c, rng, lambda record: [("split", record[1], record[2] + int(rng.choice([-1, 1])))]
    ),
    "no tree": lambda c, rng: dataclasses.replace(c, tree=()),
    "other price": change_price,
    "no prices": lambda c, rng: dataclasses.replace(c, multipliers=c.multipliers[:-1]),
    "other grid": lambda c, rng: dataclasses.replace(c, grid_bits=c.grid_bits + 1),
    "other chain": lambda c, rng: dataclasses.replace(c, chains=(*c.chains, (0, 1))),
    "other problem": lambda c, rng: dataclasses.replace(c, problem_hash="0" * 64),
    "other family": lambda c, rng: dataclasses.replace(c, kind="other"),
    "other conflict": lambda c, rng: dataclasses.replace(
        c,
        conflict=None
        if c.conflict is None
        else dataclasses.replace(c.conflict, rows=c.conflict.rows[:-1]),
    ),
}


#: Only these families have what the mutation changes.
PRICED = FAMILIES["facility"] | FAMILIES["choice"]
TARGETS = {"other price": PRICED, "no prices": PRICED, "other grid": FAMILIES["facility"]}


@pytest.mark.parametrize("mutation", MUTATIONS)
@examples(quick=3, slow=60)
def test_mutated_certificates_are_rejected(mutation: str, count: int, shard: int) -> None:
    """A certificate that was changed in any single way is rejected."""

    def law(problem: Any, seed: int) -> None:
        rng = np.random.default_rng(seed)
        result = run(problem, str(rng.choice(CERTIFIED)))
        assert result.certificate is not None
        changed = MUTATIONS[mutation](result.certificate, rng)
        assume(changed.to_dict() != result.certificate.to_dict())
        for bound in {result.bound, changed.claim}:
            if bound >= result.objective:
                forged = dataclasses.replace(
                    result, certificate=changed, bound=bound, rel_gap=math.inf
                )
                assert not certify(problem, forged).ok

    target = TARGETS.get(mutation, FAMILIES["any"])
    for_all(st.tuples(target, SEEDS), count, shard, law)


@pytest.mark.parametrize("mutation", MUTATIONS)
@examples(quick=3, slow=150)
def test_forged_certificates_prove_nothing_false(mutation: str, count: int, shard: int) -> None:
    """A changed certificate with a new, matching digest is rejected unless its claim is true."""

    def law(problem: Any, seed: int) -> None:
        rng = np.random.default_rng(seed)
        result = run(problem, str(rng.choice(CERTIFIED)))
        assert result.certificate is not None
        changed = MUTATIONS[mutation](result.certificate, rng).sealed()
        claim = Result(
            status=Status.INFEASIBLE if changed.claim == -math.inf else Status.NO_SOLUTION,
            limit=None,
            x=None,
            objective=-math.inf,
            bound=changed.claim,
            certificate=changed,
        )
        if certify(problem, claim).ok:
            assert changed.claim >= brute_force(problem)

    target = TARGETS.get(mutation, FAMILIES["any"])
    for_all(st.tuples(target, SEEDS), count, shard, law)


@FAMILY
@examples(quick=3, slow=100)
def test_forged_solutions_are_rejected(family: str, count: int, shard: int) -> None:
    """A result with an infeasible solution or a wrong objective is rejected."""

    def law(problem: Any, seed: int) -> None:
        result = run(problem, "brb")
        assume(result.x is not None)
        worse = dataclasses.replace(result, objective=result.objective - 1.0, rel_gap=math.inf)
        assert not certify(problem, worse).ok
        points = all_points(problem)
        point = points[np.random.default_rng(seed).integers(len(points))]
        if not problem.is_feasible(point):
            value = problem.evaluate(point)
            forged = dataclasses.replace(
                result, x=point, objective=min(value, result.bound), rel_gap=math.inf
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
