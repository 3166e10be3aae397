r"""Independent checker: replays a certificate knowing only the problem. It imports no solver.

How a proof works. A certificate is a split tree. Its root is the whole box of the problem, every
inner node cuts a box in two, so the leaves cover everything. Each leaf gives one reason why its
box holds nothing better than the claim (`moe2opt.result.LEAF_REASONS`), and this module checks
that reason from the data. If all hold, no solution is better than the claim.

The reasons that need arithmetic are Lagrangian. For thresholds :math:`\lambda_c \ge 0`, prices
:math:`\mu, \nu \ge 0` and any feasible S inside the box,

.. math:: f(S) \le \sum_c \lambda_c + \sum_r \mu_r b_r - \sum_h \nu_h
          + \sum_{i \in S} \Big( \sum_c (W_{ci} - \lambda_c)^+
          - \sum_r \mu_r A_{ri} + \sum_{h \ni i} \nu_h \Big),

because a cluster's best value is at most :math:`\lambda_c` plus the excesses of the chosen, and
each price multiplies a quantity that is non-negative for feasible S. The right side is maximised
over the box in closed form: forced experts count, free ones count when positive, and of a set
with at most one member only the best counts.

Arithmetic is exact. Values are rounded up to multiples of ``2**-grid_bits``, everything else is a
float and hence a rational number; from there on only integers are used. On integer data nothing is
rounded at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from moe2opt.canonical import (
    FacilityProblem,
    Instance,
    MonotoneProblem,
    MultipleChoiceProblem,
    Problem,
    at_most_one_sets,
    indicators,
    is_integral,
    just_below,
    partition,
    relaxed,
)
from moe2opt.result import (
    NUMERICAL_GAP,
    BoolArray,
    Certificate,
    CertificationError,
    Multipliers,
    Record,
    Relaxation,
    Result,
    Status,
)

#: Integers up to this size are added in int64 without overflow.
_INT64_SAFE = 2**62

_FINEST_GRID = 60


@dataclass(frozen=True, slots=True)
class Verdict:
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
    """

    ok: bool
    kind: str
    objective: float
    bound: float
    failures: tuple[str, ...] = ()

    def raise_if_failed(self) -> None:
        """Raise `CertificationError` when the check failed."""
        if not self.ok:
            raise CertificationError("; ".join(self.failures))


def certify(target: Problem | Instance, result: Result) -> Verdict:
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
        With kind ``checked`` when the certificate was replayed, else ``claimed``.
    """
    problem = target if isinstance(target, _FAMILIES) else target.problem()
    objective, failures = _check_solution(problem, result)
    if isinstance(target, Instance) and result.x is not None:
        failures += [f"plan: {message}" for message in target.check(target.decode(result.x))]
    failures += _check_status(result)
    certificate = result.certificate
    if certificate is not None:
        failures += _check_certificate(problem, result, certificate)
    return Verdict(
        ok=not failures,
        kind="claimed" if certificate is None else "checked",
        objective=objective,
        bound=result.bound if certificate is None else certificate.claim,
        failures=tuple(failures),
    )


_FAMILIES = (FacilityProblem, MultipleChoiceProblem, MonotoneProblem)


def _check_solution(problem: Problem, result: Result) -> tuple[float, list[str]]:
    if result.x is None:
        return -math.inf, []
    try:
        objective, feasible = problem.evaluate(result.x), problem.is_feasible(result.x)
    except ValueError as error:
        return -math.inf, [f"solution: {error}"]
    failures = [] if feasible else ["the solution violates a constraint"]
    if objective != result.objective:
        failures.append(f"objective is {objective!r}, the result says {result.objective!r}")
    return objective, failures


def _check_status(result: Result) -> list[str]:
    if result.status is Status.INFEASIBLE and result.bound != -math.inf:
        return ["INFEASIBLE needs the bound -inf"]
    if result.x is not None and result.bound < result.objective:
        return ["the bound is below the objective"]
    closed = result.gap <= max(result.rel_gap, NUMERICAL_GAP) * 1.01
    return ["OPTIMAL, but the gap is open"] if result.status is Status.OPTIMAL and not closed else []


def _check_certificate(problem: Problem, result: Result, certificate: Certificate) -> list[str]:
    if certificate.digest != certificate.content_digest():
        return ["the digest does not match: the certificate was changed"]
    if certificate.problem_hash != problem.fingerprint:
        return ["the certificate belongs to another problem"]
    if certificate.claim != result.bound:
        return [f"the certificate claims {certificate.claim!r}, the result says {result.bound!r}"]
    try:
        _replay(problem, certificate)
        if certificate.conflict is not None:
            _check_conflict(problem, certificate)
    except _RejectedError as error:
        return [str(error)]
    return []


class _RejectedError(Exception):
    """The certificate proves nothing; the message says where it breaks."""


class _Proof(Protocol):
    """Boxes and leaf reasons of one family of problems."""

    def root(self) -> Any:
        """Return the whole box."""

    def split(self, box: Any, axis: int, cut: int) -> tuple[Any, Any]:
        """Return the two halves of `box`."""

    def holds(self, reason: str, index: int, box: Any) -> bool:
        """Tell whether the reason is true of the box."""


def _replay(problem: Problem, certificate: Certificate) -> None:
    """Walk the tree in preorder; raise at the first leaf whose reason does not hold."""
    if not 0 <= certificate.grid_bits <= _FINEST_GRID:
        raise _RejectedError(f"a grid of {certificate.grid_bits} bits is not understood")
    proof = _proof(problem, certificate)
    for number, (reason, index, box) in enumerate(_leaves(proof, certificate.tree)):
        try:
            holds = proof.holds(reason, index, box)
        except (IndexError, ValueError, OverflowError) as error:
            raise _RejectedError(f"leaf {number} ({reason}): {error}") from error
        if not holds:
            raise _RejectedError(f"leaf {number}: reason {reason!r} does not hold in its box")


def _leaves(proof: _Proof, tree: Sequence[Record]) -> Iterator[tuple[str, int, Any]]:
    pending = [proof.root()]
    for kind, first, second in tree:
        if not pending:
            raise _RejectedError("the tree goes on after its last leaf")
        box = pending.pop()
        if kind == "split":
            left, right = proof.split(box, first, second)
            pending += [right, left]
        else:
            yield kind, first, box
    if pending:
        raise _RejectedError(f"the tree ends with {len(pending)} open boxes")


def _proof(problem: Problem, certificate: Certificate) -> _Proof:
    """Return the rules for the tree: those of the family, or of its monotone view."""
    if certificate.kind == "monotone":
        return _MonotoneProof(problem.as_monotone(), certificate)
    if certificate.kind != problem.kind:
        raise _RejectedError(f"a proof of kind {certificate.kind!r} does not fit {problem.kind!r}")
    if isinstance(problem, FacilityProblem):
        return _FacilityProof(problem, certificate)
    assert isinstance(problem, MultipleChoiceProblem)
    return _ChoiceProof(problem, certificate)


# --------------------------------------------------------------------------- facility


@dataclass(frozen=True, slots=True)
class _Subset:
    """Solutions between a set of forced experts and a set of allowed ones."""

    forced: BoolArray
    allowed: BoolArray


class _FacilityProof:
    """Boxes are pairs forced ⊆ allowed; of every group and chain at most one is chosen."""

    def __init__(self, problem: FacilityProblem, certificate: Certificate) -> None:
        self.problem, self.certificate = problem, certificate
        _check_chains(problem, certificate.chains)
        self.sets = at_most_one_sets(problem.groups, certificate.chains)
        self.parts = partition(self.sets, problem.size)
        self.bits = certificate.grid_bits
        self.values = _grid(np.ceil(np.ldexp(problem.weighted, self.bits)))
        self.rows = _Rows(
            np.vstack([problem.costs, indicators(self.sets, problem.size)]),
            np.concatenate([_outward(problem.costs, problem.limits), np.ones(len(self.sets))]),
        )
        self.covers = indicators(problem.covers, problem.size)

    def root(self) -> _Subset:
        size = self.problem.size
        return _Subset(np.zeros(size, dtype=bool), np.ones(size, dtype=bool))

    def split(self, box: _Subset, axis: int, cut: int) -> tuple[_Subset, _Subset]:
        if not 0 <= axis < self.problem.size or cut != 0:
            raise _RejectedError(f"split of axis {axis} at {cut} is outside the problem")
        if box.forced[axis] or not box.allowed[axis]:
            raise _RejectedError(f"split of axis {axis}, which is already fixed")
        allowed, forced = box.allowed.copy(), box.forced.copy()
        allowed[axis], forced[axis] = False, True
        return _Subset(box.forced, allowed), _Subset(forced, box.allowed)

    def holds(self, reason: str, index: int, box: _Subset) -> bool:
        problem, claim = self.problem, self.certificate.claim
        if reason == "budget":
            _member(index, self.certificate, "rows", len(problem.limits))
            return bool(problem.usage_of(box.forced)[index] > problem.limits[index])
        if reason == "group":
            return int(np.count_nonzero(box.forced[self.sets[index]])) > 1
        if reason == "cover":
            _member(index, self.certificate, "covers", len(problem.covers))
            return not box.allowed[problem.covers[index]].any()
        if reason == "corner":
            return problem.evaluate(box.allowed) <= claim
        if reason in ("dual", "farkas"):
            return _below(self._dual(index, box, reason), claim, reason, problem.is_integral)
        return False

    def _dual(self, index: int, box: _Subset, reason: str) -> Fraction:
        """Return the exact value of the right side of the inequality above, maximised over the box."""
        price = _prices(self.certificate, index, len(self.problem.limits), self.rows, self.covers)
        size = self.problem.size
        if reason == "dual":
            threshold = _thresholds(price.cluster, self.problem.clusters, self.bits)
            excess = np.maximum(self.values - threshold[:, None], 0).sum(axis=0)
            constant = Fraction(int(threshold.sum()), 2**self.bits)
        else:
            excess, constant = np.zeros(size, dtype=object), Fraction(0)
        cost, base = self.rows.priced(price.row)
        reward, shift = _Rows(self.covers, np.ones(len(self.covers))).priced(price.cover)
        profit = [
            Fraction(int(e), 2**self.bits) - c + r
            for e, c, r in zip(excess, cost, reward, strict=True)
        ]
        return constant + base - shift + self._best(profit, box)

    def _best(self, profit: list[Fraction], box: _Subset) -> Fraction:
        """Return the largest total profit of a subset in the box, at most one from each part."""
        total = Fraction(0)
        for part in self.parts:
            forced = [profit[i] for i in part if box.forced[i]]
            free = [profit[i] for i in part if box.allowed[i] and not box.forced[i]]
            total += sum(forced) if forced else max([Fraction(0), *free])
        return total


def _check_chains(problem: FacilityProblem, chains: Sequence[Sequence[int]]) -> None:
    """Raise unless each expert of a chain is pointwise at most the next.

    Then a solution with two members of a chain stays feasible and loses nothing when the weaker
    one is dropped (covers: the stronger one must be in every cover of the weaker one).
    """
    for chain in chains:
        if any(not 0 <= i < problem.size for i in chain) or len(set(chain)) != len(chain):
            raise _RejectedError("a dominance chain names an expert that does not exist, or twice")
        for weak, strong in zip(chain, chain[1:], strict=False):
            if (problem.weighted[:, weak] > problem.weighted[:, strong]).any():
                raise _RejectedError(f"expert {weak} is not dominated by expert {strong}")
            if any(weak in cover and strong not in cover for cover in problem.covers):
                raise _RejectedError(f"expert {weak} covers what expert {strong} does not")


# --------------------------------------------------------------------------- multiple choice


class _ChoiceProof:
    """Boxes are sets of options that are still allowed, one flag per option."""

    def __init__(self, problem: MultipleChoiceProblem, certificate: Certificate) -> None:
        self.problem, self.certificate = problem, certificate
        self.group_of = np.repeat(np.arange(problem.size), np.diff(problem.offsets))
        self.rows = _Rows(problem.costs, _outward(problem.costs, problem.limits))

    def root(self) -> BoolArray:
        return np.ones(len(self.group_of), dtype=bool)

    def split(self, box: BoolArray, axis: int, cut: int) -> tuple[BoolArray, BoolArray]:
        if not 0 <= axis < len(box) or cut != 0:
            raise _RejectedError(f"split of option {axis} at {cut} is outside the problem")
        if not box[axis]:
            raise _RejectedError(f"split of option {axis}, which is already excluded")
        left, right = box.copy(), box & (self.group_of != self.group_of[axis])
        left[axis], right[axis] = False, True
        return left, right

    def holds(self, reason: str, index: int, box: BoolArray) -> bool:
        problem, claim = self.problem, self.certificate.claim
        if reason == "group":
            return not box[problem.offsets[index] : problem.offsets[index + 1]].any()
        if reason == "budget":
            _member(index, self.certificate, "rows", len(problem.limits))
            least = self._per_group(problem.costs[index], box, np.minimum, np.inf)
            return math.fsum(least) > problem.limits[index]
        if reason == "corner":
            return math.fsum(self._per_group(problem.flat_values, box, np.maximum, -np.inf)) <= claim
        if reason in ("dual", "farkas"):
            return _below(self._dual(index, box, reason), claim, reason, problem.is_integral)
        return False

    def _per_group(self, terms: Any, box: BoolArray, best: np.ufunc, excluded: float) -> Any:
        return best.reduceat(np.where(box, terms, excluded), self.problem.offsets[:-1])

    def _dual(self, index: int, box: BoolArray, reason: str) -> Fraction:
        price = _prices(self.certificate, index, len(self.problem.limits), self.rows, ())
        cost, total = self.rows.priced(price.row)
        value = self.problem.flat_values if reason == "dual" else np.zeros(len(box))
        for start, stop in zip(self.problem.offsets, self.problem.offsets[1:], strict=False):
            allowed = range(start, stop)
            total += max(Fraction(float(value[m])) - cost[m] for m in allowed if box[m])
        return total


# --------------------------------------------------------------------------- monotone


class _MonotoneProof:
    """Boxes are integer corners (lower, upper); oracles are called at corners only."""

    def __init__(self, problem: MonotoneProblem, certificate: Certificate) -> None:
        self.problem, self.certificate = problem, certificate

    def root(self) -> tuple[Any, Any]:
        return self.problem.lower, self.problem.upper

    def split(self, box: tuple[Any, Any], axis: int, cut: int) -> tuple[Any, Any]:
        lower, upper = box
        if not 0 <= axis < len(lower) or not lower[axis] <= cut < upper[axis]:
            raise _RejectedError(f"split of axis {axis} at {cut} is outside its box")
        below, above = upper.copy(), lower.copy()
        below[axis], above[axis] = cut, cut + 1
        return (lower, below), (above, upper)

    def holds(self, reason: str, index: int, box: tuple[Any, Any]) -> bool:
        problem = self.problem
        lower, upper = box[0][None, :], box[1][None, :]
        if reason == "budget":
            _member(index, self.certificate, "rows", len(problem.constraints))
            return bool(problem.constraint_values(lower)[0, index] > 0)
        if reason == "cover":
            _member(index, self.certificate, "covers", len(problem.reverse_constraints))
            return bool(problem.reverse_values(upper)[0, index] < 0)
        if reason == "corner":
            return self._closes(float(problem.upper_values(upper, lower)[0]))
        if reason == "marginal":
            return problem.submodular and self._closes(self._all_gains(box))
        return False

    def _all_gains(self, box: tuple[Any, Any]) -> float:
        lower, upper = box
        if (upper - lower > 1).any():
            raise ValueError("the marginal bound needs a unit box")
        steps = np.diag(upper - lower)[upper > lower]
        values = self.problem.objective_values(np.vstack([lower, lower + steps]))
        return math.fsum([values[0], *(values[1:] - values[0])])

    def _closes(self, bound: float) -> bool:
        slack = 1e-12 * abs(bound) if self.problem.is_integral else 0.0
        return (math.floor(bound + slack) if self.problem.is_integral else bound) <= (
            self.certificate.claim
        )


# --------------------------------------------------------------------------- exact arithmetic


class _Rows:
    """Rows A x ≤ b as exact rationals."""

    def __init__(self, matrix: Any, limits: Any) -> None:
        self.matrix, self.limits = matrix, limits

    def priced(self, price: Any) -> tuple[list[Fraction], Fraction]:
        """Return the priced column costs and the priced limits."""
        cost = [Fraction(0)] * self.matrix.shape[1]
        total = Fraction(0)
        for r in np.flatnonzero(price):
            mu = Fraction(float(price[r]))
            total += mu * Fraction(float(self.limits[r]))
            for i in np.flatnonzero(self.matrix[r]):
                cost[i] += mu * Fraction(float(self.matrix[r, i]))
        return cost, total


def _outward(costs: Any, limits: Any) -> Any:
    """Return limits that no feasible exact sum exceeds: usage is compared after rounding."""
    exact = np.array([is_integral(row) for row in costs], dtype=bool)
    return np.where(exact, limits, np.nextafter(limits, np.inf))


def _grid(scaled: Any) -> Any:
    """Return whole numbers as int64 where all sums stay exact, else as Python integers."""
    if scaled.max(axis=1, initial=0).sum() < _INT64_SAFE and scaled.sum(axis=0).max() < _INT64_SAFE:
        return scaled.astype(np.int64)
    return np.array([[int(v) for v in row] for row in scaled], dtype=object).reshape(scaled.shape)


def _thresholds(cluster: Any, clusters: int, bits: int) -> Any:
    scaled = np.ldexp(cluster, bits)
    if cluster.shape != (clusters,) or (cluster < 0).any() or (scaled != np.floor(scaled)).any():
        raise _RejectedError("cluster multipliers must be non-negative multiples of the grid")
    return _grid(scaled[:, None])[:, 0]


def _prices(
    certificate: Certificate, index: int, budgets: int, rows: _Rows, covers: Any
) -> Multipliers:
    """Return multipliers `index` after checking shapes, signs and, if infeasible, the conflict."""
    if not 0 <= index < len(certificate.multipliers):
        raise _RejectedError(f"multipliers {index} do not exist")
    price = certificate.multipliers[index]
    if price.row.shape != rows.limits.shape or price.cover.shape != (len(covers),):
        raise _RejectedError(f"multipliers {index} have the wrong shape")
    for part in (price.row, price.cover):
        if not (np.isfinite(part).all() and (part >= 0).all()):
            raise _RejectedError(f"multipliers {index} are negative or not finite")
    for k in np.flatnonzero(price.row[:budgets]):
        _member(int(k), certificate, "rows", budgets)
    for h in np.flatnonzero(price.cover):
        _member(int(h), certificate, "covers", len(covers))
    return price


def _member(index: int, certificate: Certificate, name: str, count: int) -> None:
    """Raise unless the row exists and, in a proof of infeasibility, is named in the conflict."""
    if not 0 <= index < count:
        raise _RejectedError(f"row {index} does not exist")
    conflict = certificate.conflict
    if conflict is not None and index not in getattr(conflict, name):
        raise _RejectedError(f"the proof uses {name} {index}, which the conflict leaves out")


def _below(value: Fraction, claim: float, reason: str, integral: bool) -> bool:
    """Tell whether a leaf's value supports the claim."""
    if reason == "farkas":
        return value < 0
    if claim == -math.inf:
        return False
    return (math.floor(value) if integral else value) <= Fraction(claim)


# --------------------------------------------------------------------------- infeasibility


def _check_conflict(problem: Problem, certificate: Certificate) -> None:
    """Check every relaxation: its witness works, and nothing below its limit does."""
    assert certificate.conflict is not None
    if certificate.claim != -math.inf:
        raise _RejectedError("only a proof of infeasibility has a conflict")
    for relaxation in certificate.conflict.relaxations:
        if relaxation.row not in certificate.conflict.rows:
            raise _RejectedError(f"row {relaxation.row} is relaxed, but not in the conflict")
        if not relaxed(problem, relaxation.row, relaxation.limit).is_feasible(relaxation.x):
            raise _RejectedError(f"relaxing row {relaxation.row} as stated does not help")
        _check_least(problem, certificate, relaxation)


def _check_least(problem: Problem, certificate: Certificate, relaxation: Relaxation) -> None:
    """Replay the proof that a smaller limit is not enough."""
    limit = just_below(problem, relaxation.row, relaxation.limit)
    proof = replace(
        certificate, tree=relaxation.tree, multipliers=relaxation.multipliers, conflict=None
    )
    _replay(relaxed(problem, relaxation.row, limit), proof)
