r"""Independent checker: replays a certificate knowing only the problem. It imports no solver.

How a proof works. A certificate is a split tree. Its root is the whole box of the problem, every
inner node cuts a box in two, so the leaves cover everything. Each leaf gives one reason why its
box holds nothing better than the claim (`moe2opt.result.LEAF_REASONS`), and the checker verifies
that reason from the data: `facility`, `choice` and `monotone` say what a box is and when a reason
is true. If all hold, no solution is better than the claim.

A reduction (record ``in:reason`` or ``out:reason``) is a split whose other side is closed at once.

Rounding never decides. Values are rounded up to multiples of ``2**-grid_bits``, everything else is
a float and hence a rational number. A Lagrangian value so far below the claim that a bound on all
rounding errors leaves no doubt is accepted in floating point; any other is computed in integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from moe2opt import heartbeat
from moe2opt.archive import Records
from moe2opt.canonical import (
    FacilityProblem,
    Instance,
    MonotoneProblem,
    MultipleChoiceProblem,
    Problem,
    choice_view,
    just_below,
    relaxed,
    row_count,
    without_rows,
)
from moe2opt.certify.batch import BatchedReplay
from moe2opt.certify.choice import ChoiceProof
from moe2opt.certify.counts import CountsProof
from moe2opt.certify.exact import RejectedError
from moe2opt.certify.facility import FacilityProof
from moe2opt.certify.monotone import MonotoneProof
from moe2opt.content import Content
from moe2opt.present import PLAIN, Measure, measure_of
from moe2opt.result import (
    NUMERICAL_GAP,
    Certificate,
    CertificationError,
    Conflict,
    InputError,
    Record,
    Relaxation,
    Result,
    Status,
    optimal_within,
    own_fields,
    relative_gap,
)

_FINEST_GRID = 60

_FAMILIES = (FacilityProblem, MultipleChoiceProblem, MonotoneProblem)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Verdict(Content):
    """What the checker found.

    Attributes
    ----------
    ok
        No contradiction was found.
    kind
        ``checked`` when a certificate proves `bound`; ``claimed`` when the solver only says so.
    objective
        Value of the solution, recomputed; ``-inf`` without one.
    bound
        The proven or claimed upper bound; ``-inf`` for infeasible.
    failures
        What is wrong, in words.
    assumptions
        What the proof takes for granted because oracles were declared so: which variables are
        interchangeable. Sampling found nothing against it, which is no proof.
    measure
        How `repr` shows the two values, which are canonical.
    """

    ok: bool
    kind: str
    objective: float
    bound: float
    failures: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    measure: Measure = field(default=PLAIN, compare=False)

    def _brief_fields(self) -> Iterator[tuple[str, str]]:
        return own_fields(self)

    def raise_if_failed(self) -> None:
        """Raise `CertificationError` when the check failed."""
        if not self.ok:
            raise CertificationError("; ".join(self.failures))


def certify(target: Problem | Instance[Any], result: Result[Any]) -> Verdict:
    """Check a result against its problem: solution, plan, bound and certificate.

    Parameters
    ----------
    target
        The canonical problem, or the instance that was solved.
    result
        What `moe2opt.solve` returned, or `Result.load` read.

    Returns
    -------
    Verdict
        With kind ``checked`` when the certificate was replayed, else ``claimed``. Whatever the
        result holds, there is a verdict: what cannot be understood is a failure.

    Raises
    ------
    InputError
        For what is no problem, no instance or no result.
    """
    if not isinstance(result, Result):
        raise InputError(f"expected a result of moe2opt.solve, got {type(result).__name__}")
    if not isinstance(target, (*_FAMILIES, Instance)):
        raise InputError(f"expected an instance or a problem, got {type(target).__name__}")
    if result.x is None and result.certificate is None:
        problem: Any = None  # nothing is claimed that the problem could refute
    else:
        problem = target if isinstance(target, _FAMILIES) else target.problem()
    try:
        # What overflows is not accepted, but not told twice.
        with heartbeat.doing("checking the proof"), np.errstate(all="ignore"):
            return _verdict(target, problem, result)
    except Exception as error:
        what = f"the result cannot be checked: {type(error).__name__}: {error}"
        return Verdict(False, "claimed", -math.inf, math.inf, (what,))


def _verdict(target: Problem | Instance, problem: Problem, result: Result) -> Verdict:
    objective, failures = _check_solution(problem, result)
    # A vector that is no solution at all has no value and stands for no plan.
    if isinstance(target, Instance) and result.x is not None and math.isfinite(objective):
        failures += [f"plan: {message}" for message in target.check(target.decode(result.x))]
    failures += _check_status(result)
    certificate = result.certificate
    assumptions: tuple[str, ...] = ()
    if certificate is not None:
        wrong, assumptions = _check_certificate(problem, result, certificate)
        failures += wrong
    return Verdict(
        ok=not failures,
        kind="claimed" if certificate is None else "checked",
        objective=objective,
        bound=result.bound if certificate is None else certificate.claim,
        failures=tuple(failures),
        assumptions=assumptions,
        measure=measure_of(target),
    )


def _check_solution(problem: Problem, result: Result) -> tuple[float, list[str]]:
    objective, failures = -math.inf, []
    if result.x is not None:
        try:
            objective, feasible = problem.evaluate(result.x), problem.is_feasible(result.x)
        except ValueError as error:
            return -math.inf, [f"solution: {error}"]
        failures = [] if feasible else ["the solution violates a constraint"]
    if objective != result.objective:
        failures.append(f"objective is {objective!r}, the result says {result.objective!r}")
    return objective, failures


def _check_status(result: Result) -> list[str]:
    status = Status(result.status)
    if (result.x is not None) != (status in (Status.OPTIMAL, Status.FEASIBLE)):
        return [f"status {status} and the presence of a solution disagree"]
    if math.isnan(result.bound):
        return ["the bound is not a number"]
    if not 0.0 <= result.rel_gap < math.inf:
        return [f"rel_gap = {result.rel_gap!r} is not understood; it must be at least 0"]
    if status is Status.INFEASIBLE and result.bound != -math.inf:
        return ["INFEASIBLE needs the bound -inf"]
    if result.x is not None and result.bound < result.objective:
        return ["the bound is below the objective"]
    tolerance = max(optimal_within(result.rel_gap), NUMERICAL_GAP)
    closed = relative_gap(result.objective, result.bound) <= tolerance
    return ["OPTIMAL, but the gap is open"] if status is Status.OPTIMAL and not closed else []


def _check_certificate(
    problem: Problem, result: Result, certificate: Certificate
) -> tuple[list[str], tuple[str, ...]]:
    """Return what is wrong, and what is assumed."""
    try:
        certificate = replace(certificate, tree=Records.of(certificate.tree))
    except OverflowError:
        return ["a record holds a number of over 64 bits"], ()
    if certificate.digest != certificate.content_digest():
        return ["the digest does not match: the certificate was changed"], ()
    if certificate.problem_hash != problem.fingerprint:
        return ["the certificate belongs to another problem"], ()
    if certificate.claim != result.bound:
        wrong = f"the certificate claims {certificate.claim!r}, the result says {result.bound!r}"
        return [wrong], ()
    try:
        certificate = _plain(certificate)
        if certificate.conflict is not None:
            return [], _check_conflict(problem, certificate, certificate.conflict)
        return [], _replay(problem, certificate)
    except RejectedError as error:
        return [str(error)], ()


def _plain(certificate: Certificate) -> Certificate:
    """Return the certificate with plain numbers in all fields that are looked at one by one."""
    stated = replace(certificate, tree=(), multipliers=()).to_dict()
    plain = Certificate.from_dict(stated)
    if plain.to_dict() != stated:
        raise RejectedError("a field of the certificate has another type than it should")
    return replace(plain, tree=certificate.tree, multipliers=certificate.multipliers)


class _Proof(Protocol):
    """Boxes and leaf reasons of one family of problems."""

    def root(self) -> Any:
        """Return the whole box."""

    def split(self, box: Any, axis: int, cut: int) -> tuple[Any, Any]:
        """Return the two halves of `box`."""

    def holds(self, reason: str, index: int, box: Any) -> bool:
        """Tell whether the reason is true of the box."""

    def reduced(self, box: Any, kind: str, axes: list[int], index: int) -> Any:
        """Return the box after reductions that share a kind and an index; raise if one fails."""


def _replay(problem: Problem, certificate: Certificate) -> tuple[str, ...]:
    """Walk the tree in preorder; raise at the first reason that does not hold.

    What the proof assumes is returned.
    """
    if isinstance(problem, MonotoneProblem) and certificate.kind != problem.kind:
        problem, certificate = _viewed(problem, certificate)
    if not 0 <= certificate.grid_bits <= _FINEST_GRID:
        raise RejectedError(f"a grid of {certificate.grid_bits} bits is not understood")
    proof = _proof(problem, certificate)
    if isinstance(proof, ChoiceProof):
        BatchedReplay(proof).replay()
        return ()
    pending = [proof.root()]
    for number, (kind, axes, index) in enumerate(_grouped(certificate.tree)):
        if not pending:
            raise RejectedError("the tree goes on after its last leaf")
        try:
            pending += _followed(proof, pending.pop(), kind, axes, index)
        except (IndexError, ValueError, OverflowError) as error:
            raise RejectedError(f"step {number} ({kind}): {error}") from error
        except RejectedError as error:
            raise RejectedError(f"step {number}: {error}") from error
    if pending:
        raise RejectedError(f"the tree ends with {len(pending)} open boxes")
    return proof.assumptions if isinstance(proof, MonotoneProof) else ()


def _viewed(problem: MonotoneProblem, certificate: Certificate) -> tuple[Problem, Certificate]:
    """Return a separable problem as a multiple-choice one, and the claim in terms of its values."""
    view = choice_view(problem)
    if view is None:
        raise RejectedError(f"a proof of kind {certificate.kind!r} needs a separable problem")
    return view.problem, replace(certificate, claim=view.scale.within(certificate.claim))


def _grouped(tree: Sequence[Record]) -> Iterator[tuple[str, list[int], int]]:
    """Yield records as (kind, first fields, last field), runs of equal reductions as one."""
    try:
        records = Records.of(tree)
    except OverflowError as error:
        raise RejectedError("a record holds a number of over 64 bits") from error
    reduces = np.array([":" in kind for kind in records.kinds], dtype=bool)
    kind, _, last = records.rows.T
    same = (kind[1:] == kind[:-1]) & (last[1:] == last[:-1]) & reduces[kind[1:]]
    start = 0
    for end in [*(np.flatnonzero(~same) + 1).tolist(), *([len(records)] if len(records) else [])]:
        code, index = int(kind[start]), int(last[start])
        yield records.kinds[code], records.rows[start:end, 1].tolist(), index
        start = end


def _followed(proof: _Proof, box: Any, kind: str, axes: list[int], index: int) -> list[Any]:
    """Return the boxes that a record leaves open, the next one last."""
    if kind == "split":
        left, right = proof.split(box, axes[0], index)
        return [right, left]
    if ":" in kind:
        return [proof.reduced(box, kind, axes, index)]
    if not proof.holds(kind, axes[0], box):
        raise RejectedError(f"reason {kind!r} does not hold in its box")
    return []


def _proof(problem: Problem, certificate: Certificate) -> _Proof:
    """Return the rules for the tree: those of the family, or of its monotone view."""
    if certificate.kind == "monotone":
        return MonotoneProof(problem.as_monotone(), certificate)
    if certificate.kind == "counts" and isinstance(problem, MultipleChoiceProblem):
        return CountsProof(problem, certificate)
    if certificate.kind != problem.kind:
        raise RejectedError(f"a proof of kind {certificate.kind!r} does not fit {problem.kind!r}")
    if isinstance(problem, FacilityProblem):
        return FacilityProof(problem, certificate)
    assert isinstance(problem, MultipleChoiceProblem)
    return ChoiceProof(problem, certificate)


def _check_conflict(
    problem: Problem, certificate: Certificate, conflict: Conflict
) -> tuple[str, ...]:
    """Check that the named rows cannot hold together, and every relaxation.

    The proof is replayed without the other budget rows, so it cannot use them in any guise.
    """
    if certificate.claim != -math.inf:
        raise RejectedError("only a proof of infeasibility has a conflict")
    _check_named("row", conflict.rows, row_count(problem))
    _check_named("cover", conflict.covers, _cover_count(problem))
    if isinstance(problem, MonotoneProblem) and problem.structure is not None:
        if certificate.kind != problem.kind and len(conflict.covers) < _cover_count(problem):
            raise RejectedError("a proof about a choice view uses all covers; name each of them")
        bare = problem.structure.without_objective()  # which options of a view are best, depends
        ends, alike = (problem.lower, problem.upper), problem.interchangeable
        problem = MonotoneProblem.of_structure(*ends, bare, alike)
    assumptions = _replay(without_rows(problem, conflict.rows), certificate)
    for relaxation in conflict.relaxations:
        if relaxation.row not in conflict.rows:
            raise RejectedError(f"row {relaxation.row} is relaxed, but not in the conflict")
        try:
            _check_relaxation(problem, certificate, relaxation)
        except (RejectedError, ValueError, OverflowError) as error:
            raise RejectedError(f"relaxation of row {relaxation.row}: {error}") from error
    return assumptions


def _check_named(what: str, named: tuple[int, ...], count: int) -> None:
    """Raise unless a conflict names what exists, once."""
    for k in named:
        if not 0 <= k < count or named.count(k) > 1:
            raise RejectedError(f"the conflict names {what} {k}, which does not exist, or twice")


def _cover_count(problem: Problem) -> int:
    if isinstance(problem, FacilityProblem):
        return len(problem.covers)
    return len(problem.reverse_constraints) if isinstance(problem, MonotoneProblem) else 0


def _check_relaxation(problem: Problem, certificate: Certificate, relaxation: Relaxation) -> None:
    """Check that the witness works, and replay the proof that a smaller limit is not enough."""
    if not relaxed(problem, relaxation.row, relaxation.limit).is_feasible(relaxation.x):
        raise RejectedError("the limit stated does not help")
    limit = just_below(problem, relaxation.row, relaxation.limit)
    proof = replace(
        certificate, tree=relaxation.tree, multipliers=relaxation.multipliers, conflict=None
    )
    _replay(relaxed(problem, relaxation.row, limit), proof)
