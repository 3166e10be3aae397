"""Whatever a result holds, the checker gives a verdict, and accepts nothing that is false."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from mutations import MUTATIONS, stated
from solving import run
from strategies import brute_force

import moe2opt as mo
from moe2opt.archive import Records
from moe2opt.result import (
    LEAF_REASONS,
    Certificate,
    Conflict,
    Multipliers,
    PriceTable,
    Relaxation,
)

# ---------------------------------------------------------------------- problems with proofs


def servers(limit: float, energy: float) -> mo.FacilityProblem:
    """Return two identical servers with three experts each, and a budget across them."""
    sizes, use = [2.0, 3.0, 4.0], [5.0, 1.0, 2.0]
    costs = [sizes + [0.0] * 3, [0.0] * 3 + sizes, use + use]
    values = [[5, 3, 4] * 2, [1, 6, 2] * 2, [2, 2, 7] * 2, [4, 1, 1] * 2]
    return mo.FacilityProblem(
        np.array(values, dtype=float), costs, [limit, limit, energy], covers=[[0, 3], [2, 5]]
    )


def choices(budget: float) -> mo.MultipleChoiceProblem:
    """Return five groups of three options under two budgets."""
    rng = np.random.default_rng(3)
    usage = [rng.integers(1, 9, (3, 2)).astype(float) for _ in range(5)]
    return mo.MultipleChoiceProblem(list(rng.random((5, 3))), usage, [budget, budget + 1.0])


def experts(budget: float, *, whole: bool) -> mo.FacilityProblem:
    """Return seven experts with a group and a cover."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 20, (6, 7)).astype(float) if whole else rng.random((6, 7))
    costs = rng.integers(1, 9, (2, 7)).astype(float)
    return mo.FacilityProblem(values, costs, [budget] * 2, groups=[[0, 1, 2]], covers=[[3, 4]])


def levels(limit: float) -> mo.MonotoneProblem:
    """Return three levels of which the products are bounded."""
    return mo.MonotoneProblem(
        lower=[0, 0, 0],
        upper=[3, 3, 2],
        objective=lambda x: np.sqrt(x).sum(axis=1),
        constraints=[lambda x: x[:, 0] * x[:, 1] + x[:, 2] - limit],
        reverse_constraints=[lambda x: x.sum(axis=1) - 2.0],
    )


def marginal() -> mo.MonotoneProblem:
    """Return the monotone view of a facility problem, declared submodular."""
    return experts(12.0, whole=True).as_monotone()


DRAWN: dict[str, tuple[Any, str]] = {
    "facility": (experts(12.0, whole=True), "brb"),
    "facility of fractions": (experts(12.0, whole=False), "brb"),
    "facility by polyblock": (experts(12.0, whole=False), "polyblock"),
    "facility without an answer": (experts(1.0, whole=True), "brb"),
    "servers": (servers(6.0, 9.0), "brb"),
    "servers without an answer": (servers(100.0, 6.0), "brb"),
    "choice": (choices(17.0), "brb"),
    "choice by polyblock": (choices(17.0), "polyblock"),
    "choice without an answer": (choices(9.0), "brb"),
    "monotone": (levels(4.0), "brb"),
    "monotone without an answer": (levels(-1.0), "polyblock"),
    "marginal": (marginal(), "brb"),
}


@functools.cache
def proven(name: str) -> tuple[Any, mo.Result, float]:
    """Return a problem, a result with a certificate, and the true optimum."""
    problem, solver = DRAWN[name]
    bound = {"facility": {"bound": "lagrangian"}, "marginal": {"bound": "marginal"}}.get(name, {})
    result = run(problem, solver, **bound)
    assert mo.certify(problem, result).ok
    assert result.certificate is not None
    return problem, result, brute_force(problem)


def with_conflict(certificate: Certificate, problem: Any, claim_ok: bool) -> None:
    """Assert that a conflict that was accepted is one, and its relaxations are least."""
    conflict = certificate.conflict
    if conflict is None or not claim_ok or isinstance(problem, mo.MonotoneProblem):
        return
    wide = problem.with_budgets(
        [b if k in conflict.rows else problem.costs[k].sum() for k, b in enumerate(problem.budgets)]
    )
    assert brute_force(wide) == -math.inf
    for relaxation in conflict.relaxations:
        budgets = problem.budgets.copy()
        budgets[int(relaxation.row)] = relaxation.limit
        assert problem.with_budgets(budgets).is_feasible(relaxation.x)
        budgets[int(relaxation.row)] = relaxation.limit - 1.0
        assert brute_force(problem.with_budgets(budgets)) == -math.inf


# ---------------------------------------------------------------------- the laws


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_mutation_is_seen_through(mutation: str) -> None:
    """A change is refused by its digest; with a new digest it is refused if its claim is false."""
    applied = 0
    for name in DRAWN:
        problem, result, best = proven(name)
        certificate = result.certificate
        assert certificate is not None
        for seed in range(4):
            changed = MUTATIONS[mutation](certificate, np.random.default_rng(seed))
            if changed.to_dict() == certificate.to_dict():
                continue
            applied += 1
            assert not mo.certify(problem, replace(result, certificate=changed)).ok
            sealed = changed.sealed()
            accepted = mo.certify(problem, stated(sealed)).ok
            assert not accepted or sealed.claim >= best
            with_conflict(sealed, problem, accepted)
    assert applied


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 99, 2**53, 2**63, 10**400, 0.5, -0.0, math.nan, math.inf, -math.inf,
    1e300, 5e-324, "", "1", "facility", b"1", (), (0,), ((0, 1),), (("corner", 0, 0),), [[]], {},
    {"a": 1}, object(), np.zeros(0), np.zeros((2, 2)), np.array(["a"]), np.array([1 + 2j]),
    np.float32(1), np.int8(1), np.array([None]), np.arange(3),
)  # fmt: skip


def odd_certificates(certificate: Certificate) -> Iterator[Certificate]:
    """Yield certificates with odd things in each field, and in the fields of its parts."""
    for field, odd in itertools.product(fields(Certificate), ODD):
        yield replace(certificate, **{field.name: odd})
    for place, odd in itertools.product(range(3), ODD):
        record = [*certificate.tree[0]]
        record[place] = odd
        yield replace(certificate, tree=(tuple(record), *tuple(certificate.tree)[1:]))
    for field, odd in itertools.product(fields(Multipliers), ODD):
        old = certificate.multipliers[0] if len(certificate.multipliers) else None
        price = old or Multipliers(np.zeros(0), np.zeros(0), np.zeros(0))
        yield replace(certificate, multipliers=(replace(price, **{field.name: odd}),))
    for odd in ODD:
        yield replace(certificate, multipliers=PriceTable(odd))
        yield replace(certificate, tree=Records(("corner",), odd))
        yield replace(certificate, chains=(odd,), types=())
        yield replace(certificate, chains=((odd, 1),))
        yield replace(certificate, types=((0, odd),))
        yield replace(certificate, rounded=((odd, 1),))
    conflict = certificate.conflict or Conflict(rows=(0,))
    for field, odd in itertools.product(fields(Conflict), ODD):
        yield replace(certificate, conflict=replace(conflict, **{field.name: odd}))
    spare = Relaxation(0, 1.0, np.zeros(1, dtype=np.int64), (("corner", 0, 0),))
    relaxation = conflict.relaxations[0] if conflict.relaxations else spare
    for field, odd in itertools.product(fields(Relaxation), ODD):
        odd_one = replace(relaxation, **{field.name: odd})
        yield replace(certificate, conflict=replace(conflict, relaxations=(odd_one,)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("name", DRAWN)
def test_odd_certificates_get_a_verdict(name: str) -> None:
    """Wrong types, lengths and numbers anywhere in a certificate are a failure in words."""
    problem, result, best = proven(name)
    assert result.certificate is not None
    for changed in odd_certificates(result.certificate):
        with contextlib.suppress(Exception):  # what cannot be sealed is tried unsealed
            changed = changed.sealed()
        forged = forge(stated(result.certificate), certificate=changed, bound=changed.claim)
        verdict = mo.certify(problem, forged)
        assert verdict.ok or verdict.failures
        assert not verdict.ok or changed.claim >= best
        with_conflict(changed, problem, verdict.ok)


def forge(result: mo.Result, **changes: Any) -> mo.Result:
    """Return a result with other fields, without the checks of its constructor."""
    forged = replace(result)
    for name, value in changes.items():
        object.__setattr__(forged, name, value)
    return forged


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("name", ["facility", "choice", "monotone", "facility without an answer"])
def test_odd_results_get_a_verdict(name: str) -> None:
    """Wrong types, lengths and numbers anywhere in a result never raise and claim nothing false."""
    problem, result, best = proven(name)
    for field, odd in itertools.product(fields(mo.Result), ODD):
        verdict = mo.certify(problem, forge(result, **{field.name: odd}))
        assert verdict.ok or verdict.failures
        if verdict.ok:
            assert verdict.bound >= best
            assert field.name not in ("objective", "rel_gap") or odd >= 0 or odd == best


def test_proofs_that_merge_rows_name_the_rows_they_use() -> None:
    """A proof over merged rows is accepted only with a conflict of rows that do clash."""
    problem = mo.FacilityProblem(
        values=[[1, 1]], costs=[[2, 0], [0, 2], [5, 5]], budgets=[100, 100, 1], covers=[[0, 1]]
    )
    tree = (("out:budget", 0, 0), ("cover", 0, 0))
    for rows in ((), (0,), (1,), (0, 1), (2,), (0, 2), (0, 1, 2), (3,), (2, 2), (-1,)):
        for types in ((), ((0, 1),)):
            proof = Certificate(
                "facility",
                -math.inf,
                tree if types else (("out:budget", 0, 2), ("out:budget", 1, 2), ("cover", 0, 0)),
                types=types,
                problem_hash=problem.fingerprint,
                conflict=Conflict(rows=rows, covers=(0,)),
            ).sealed()
            accepted = mo.certify(problem, stated(proof)).ok
            # A type of which only some rows are left is no longer one.
            kept_whole = not types or (0 in rows) == (1 in rows)
            real = set(rows) <= {0, 1, 2} and 2 in rows and len(set(rows)) == len(rows)
            assert accepted == (real and kept_whole), (rows, types)


def test_a_status_of_plain_text_is_still_a_status() -> None:
    """OPTIMAL as a string is held to the same gap as the status itself."""
    problem = experts(12.0, whole=True)
    best = mo.solve(problem, "brb")
    worse = np.eye(7, dtype=np.int64)[3]
    value = problem.evaluate(worse)
    forged = mo.Result("OPTIMAL", None, worse, value, best.bound, best.certificate)  # type: ignore[arg-type]
    assert value < best.bound
    assert "the gap is open" in " ".join(mo.certify(problem, forged).failures)


@pytest.mark.parametrize("rel_gap", [math.nan, math.inf, -1.0])
def test_a_gap_that_is_no_gap_is_refused(rel_gap: float) -> None:
    """A relative gap that is negative, infinite or not a number allows nothing."""
    problem = experts(12.0, whole=True)
    forged = forge(mo.solve(problem, "brb"), rel_gap=rel_gap)
    assert "rel_gap" in " ".join(mo.certify(problem, forged).failures)


def test_an_objective_without_a_solution_is_refused() -> None:
    """A value that no solution has is a failure, however true the bound is."""
    problem, result, _ = proven("facility")
    assert result.certificate is not None
    forged = replace(stated(result.certificate), objective=1.0)
    assert not mo.certify(problem, forged).ok


@pytest.mark.parametrize("name", ["facility", "choice", "monotone"])
def test_indices_that_do_not_exist_close_no_box(name: str) -> None:
    """No reason holds at an index outside its list, counted from either end."""
    problem, _, _ = proven(name)
    for reason, index in itertools.product(LEAF_REASONS, (-(2**62), -99, -2, -1, 99, 2**62)):
        for tree in (((reason, index, 0),), ((f"out:{reason}", 0, index), (reason, index, 0))):
            if reason in ("corner", "marginal"):  # they look at no list
                continue
            forged = Certificate(problem.kind, -math.inf, tree, problem_hash=problem.fingerprint)
            assert not mo.certify(problem, stated(forged.sealed())).ok, tree
