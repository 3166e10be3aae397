r"""Boxes and leaf reasons of multiple-choice proofs that count equal groups.

Groups with equal options are interchangeable: a solution is worth what it chooses how often in
each class of them. A box bounds the counts :math:`y_{co}` of every option of every class, with
:math:`\sum_o y_{co} = n_c`. For row prices :math:`\mu \ge 0` every feasible choice in it is worth
at most

.. math:: \mu b + \sum_c \max \Big\{ \sum_o (v_{co} - \mu u_{co})\, y_{co} :
          \sum_o y_{co} = n_c,\ l_{co} \le y_{co} \le h_{co} \Big\},

and the maximum takes the most profitable options first. Rounded rows (`rounded` of the
certificate, see `moe2opt.canonical.rounding`) are priced like budgets.

A box also bounds totals, sums of counts over sets of options (`totals` of the certificate), such as
how many groups are on a device in one format. They are whole numbers, too, so that they may be
split; each adds two rows to what is priced, "at most its upper bound" and "at least its lower
bound", after the budgets and before the rounded rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.certify.exact import (
    Dyadic,
    Estimate,
    Recent,
    RejectedError,
    Rows,
    checked_prices,
    clearly_supports,
    error_of,
    outward,
    require_group,
    require_row,
    rounded_rows,
    supports,
)
from moe2opt.result import BoolArray, Certificate, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Solutions whose counts and totals lie between bounds.

    Attributes
    ----------
    lower, upper
        Bounds on how often each option of each class is chosen.
    least, most
        Bounds on the totals.
    """

    lower: IntArray
    upper: IntArray
    least: IntArray
    most: IntArray


class CountsProof:
    """Boxes are bounds on how often an option is chosen in a class of equal groups.

    Axes are the options of the classes, class after class, and then the totals. The certificate
    lists the classes as its `types`.
    """

    def __init__(self, problem: MultipleChoiceProblem, certificate: Certificate) -> None:
        self.problem, self.certificate = problem, certificate
        first = _checked_classes(problem, certificate)
        self.sizes = np.array([len(groups) for groups in certificate.types], dtype=np.int64)
        widths = np.array([len(problem.values[g]) for g in first])
        self.starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
        self.class_of = np.repeat(np.arange(len(first)), widths)
        columns = np.concatenate(
            [np.arange(problem.offsets[g], problem.offsets[g + 1]) for g in first]
        )
        self.values = problem.flat_values[columns]
        self.costs = np.ascontiguousarray(problem.costs[:, columns])
        self.members = _checked_totals(certificate, len(columns))
        self.rows = self._all_rows()
        self._sizes = np.abs(self.rows.matrix)
        self._estimated, self._priced = Recent(), Recent()

    def _all_rows(self) -> Rows:
        """Return the budgets, and the rounded rows that the certificate names."""
        problem, matrix = self.problem, [self.costs, self.members, -self.members]
        # What a box says of the totals is added where the rows are priced.
        limits = [*outward(problem.costs, problem.limits), *np.zeros(2 * len(self.members))]
        rounded = rounded_rows(
            self.certificate, self.costs, problem.limits, self.starts, self.sizes
        )
        for own, limit in rounded:
            matrix.append(own[None, :])
            limits.append(limit)
        return Rows(np.vstack(matrix), np.array(limits))

    def root(self) -> _Counts:
        totals = np.zeros(len(self.members), np.int64)
        return _Counts(
            np.zeros(len(self.class_of), np.int64),
            self.sizes[self.class_of],
            totals,
            totals + self.problem.size,
        )

    def split(self, box: _Counts, axis: int, cut: int) -> tuple[_Counts, _Counts]:
        total = axis - len(self.class_of)
        if 0 <= total < len(self.members):
            return self._split_total(box, total, cut)
        if not 0 <= axis < len(self.class_of):
            raise RejectedError(f"split of option {axis}, which does not exist")
        if cut == -1:
            return self._halves(box, axis)
        if not box.lower[axis] <= cut < box.upper[axis]:
            raise RejectedError(f"split of option {axis} at {cut} does not cut the box")
        upper, lower = box.upper.copy(), box.lower.copy()
        upper[axis], lower[axis] = cut, cut + 1
        return replace(box, upper=upper), replace(box, lower=lower)

    def _split_total(self, box: _Counts, total: int, cut: int) -> tuple[_Counts, _Counts]:
        if not box.least[total] <= cut < box.most[total]:
            raise RejectedError(f"split of total {total} at {cut} does not cut the box")
        least, most = box.least.copy(), box.most.copy()
        most[total], least[total] = cut, cut + 1
        return replace(box, most=most), replace(box, least=least)

    def _halves(self, box: _Counts, axis: int) -> tuple[_Counts, _Counts]:
        """Return the boxes in which the one choice of a class lies up to an option, or after it."""
        c = int(self.class_of[axis])
        if self.sizes[c] != 1:
            raise RejectedError(f"option {axis} is not of a class of one group")
        places = np.arange(len(self.class_of))
        own = self.class_of == c
        before, after = own & (places <= axis), own & (places > axis)
        return (
            replace(box, upper=np.where(after, 0, box.upper)),
            replace(box, upper=np.where(before, 0, box.upper)),
        )

    def holds(self, reason: str, index: int, box: _Counts) -> bool:
        problem, claim = self.problem, self.certificate.claim
        if reason == "group":
            require_group(index, len(self.sizes))
            return bool(self._empty(box)[index])
        if self._empty(box).any():
            return True
        if reason == "budget":
            require_row(index, len(problem.limits))
            least = -self._best(Dyadic.of(self.costs[index]).times(-1.0), box)
            return float(least) > float(problem.limits[index])
        if reason == "corner":
            return float(self._best(Dyadic.of(self.values), box)) <= claim
        if reason in ("dual", "farkas"):
            estimate, order = self._estimate(index, reason)
            value = estimate.constant + float(self._held(index, box))
            value += self._filled(estimate.profit, order, box)[0]
            if clearly_supports(value, estimate.error, claim, reason, problem.is_integral):
                return True
            constant, profit = self._profits(index, reason)
            exact = constant + self._held(index, box) + self._best(profit, box)
            return supports(exact, claim, reason, problem.is_integral)
        return False

    def reduced(self, box: _Counts, kind: str, axes: list[int], index: int) -> _Counts:
        """Return the box in which options are chosen no more often than they must be."""
        side, reason = kind.split(":")
        if side != "out":
            raise RejectedError(f"reduction {kind!r} is not understood")
        options = np.array(axes, dtype=np.int64)
        if options.min() < 0 or options.max() >= len(self.class_of):
            raise RejectedError("a reduction names an option outside the problem")
        if len(np.unique(options)) < len(options):
            raise RejectedError("a reduction names an option twice")
        clear = self._clearly_closed(box, options, index, reason)
        for axis in options[~clear].tolist():
            if box.upper[axis] == box.lower[axis]:
                raise RejectedError(f"{kind!r} of option {axis}, which is fixed already")
            _, more = self.split(box, axis, int(box.lower[axis]))
            if not self.holds(reason, index, more):
                raise RejectedError(f"{kind!r} of option {axis} does not hold")
        upper = box.upper.copy()
        upper[options] = box.lower[options]
        return replace(box, upper=upper)

    def _clearly_closed(self, box: _Counts, options: Any, index: int, reason: str) -> Any:
        """Return flags of the options whose further choice is clearly ruled out by multipliers."""
        if self._empty(box).any() or reason not in ("dual", "farkas"):
            return np.zeros(len(options), dtype=bool)
        estimate, order = self._estimate(index, reason)
        value, taken, least = self._filled(estimate.profit, order, box)
        own = self.class_of[options]
        # One more of an option that was not taken comes in the place of the least profitable one.
        value += estimate.constant + float(self._held(index, box))
        values = value - least[own] + estimate.profit[options]
        claim, integral = self.certificate.claim, self.problem.is_integral
        clear = clearly_supports(values, estimate.error, claim, reason, integral)
        untaken = taken[options] == box.lower[options]
        return clear & untaken & np.isfinite(least[own]) & (box.upper > box.lower)[options]

    def _held(self, index: int, box: _Counts) -> Fraction:
        """Return the priced bounds of the totals."""
        first, count = len(self.problem.limits), len(self.members)
        row = self.certificate.multipliers[index].row
        bounds = np.concatenate([box.most, -box.least])
        priced = first + np.flatnonzero(row[first : first + 2 * count])
        return sum((Fraction(float(row[r])) * int(bounds[r - first]) for r in priced), Fraction(0))

    def _empty(self, box: _Counts) -> BoolArray:
        """Return flags of the classes that no counts of the box fill."""
        # Differences of sums, unlike `reduceat`, are right for a class without options, too.
        least, most = (
            np.diff(np.concatenate([[0], np.cumsum(counts)])[self.starts])
            for counts in (box.lower, box.upper)
        )
        return np.asarray((least > self.sizes) | (most < self.sizes))

    def _filled(self, profit: Any, order: IntArray, box: _Counts) -> tuple[float, Any, Any]:
        """Return the best sum of profits, the counts, and the least profit taken in each class.

        `order` holds the options of class after class, best first. In a class whose counts are all
        forced the least profit is ``-inf``.
        """
        own, first = self.class_of, self.starts[:-1]
        room = (box.upper - box.lower)[order]
        before = np.cumsum(room) - room
        left = self.sizes - np.add.reduceat(box.lower, first)
        more = np.clip(left[own] - (before - before[first][own]), 0, room)
        taken, least = box.lower.copy(), np.full(len(self.sizes), -np.inf)
        taken[order] += more
        last = np.flatnonzero(more)
        least[own[last]] = profit[order[last]]  # of several numbers for a class, the last stays
        return float(profit @ taken), taken, least

    def _best(self, profit: Dyadic, box: _Counts) -> Fraction:
        """Return the exact best sum of profits in a box that is not empty."""
        total = 0
        for c, size in enumerate(self.sizes.tolist()):
            span = slice(self.starts[c], self.starts[c + 1])
            own = [int(p) for p in profit.numerators[span]]
            lower, upper = box.lower[span].tolist(), box.upper[span].tolist()
            total += sum(p * count for p, count in zip(own, lower, strict=True) if count)
            left = size - sum(lower)
            for o in sorted(range(len(own)), key=lambda o: -own[o]):
                if not left:
                    break
                more = min(left, upper[o] - lower[o])
                total += own[o] * more
                left -= more
        return Fraction(total, 2**profit.shift)

    def _estimate(self, index: int, reason: str) -> tuple[Estimate, IntArray]:
        """Return profits in floating point, and the options by class and falling profit."""
        known: tuple[Estimate, IntArray] | None = self._estimated.get(index, reason)
        if known is None:
            price = checked_prices(self.certificate, index, self.rows, ())
            value = self.values * (reason == "dual")
            cost = price.row @ self.rows.matrix
            paid = price.row @ self._sizes
            constant = float(price.row @ self.rows.limits)
            first, count = len(self.problem.limits), len(self.members)
            held = self.problem.size * float(price.row[first : first + 2 * count].sum())
            largest = np.maximum.reduceat(np.abs(value) + paid, self.starts[:-1])
            size = float((largest * self.sizes).sum()) + abs(constant) + held
            error = error_of(2 * len(self.class_of) + len(price.row) + 16, size)
            profit = value - cost
            known = Estimate(constant, profit, error), np.lexsort((-profit, self.class_of))
            self._estimated.put(index, reason, known)
        return known

    def _profits(self, index: int, reason: str) -> tuple[Fraction, Dyadic]:
        known = self._priced.get(index, reason)
        if known is None:
            price = checked_prices(self.certificate, index, self.rows, ())
            cost, constant = self.rows.priced(price.row)
            value = self.values if reason == "dual" else np.zeros(len(self.class_of))
            known = constant, Dyadic.of(value).plus(cost, -1)
            self._priced.put(index, reason, known)
        return known  # type: ignore[no-any-return]


def _checked_classes(problem: MultipleChoiceProblem, certificate: Certificate) -> list[int]:
    """Return the first group of each class; raise unless the others are equal to it.

    For a proof of infeasibility values make no difference.
    """
    classes, valued = certificate.types, certificate.claim != -math.inf
    groups = [g for members in classes for g in members]
    if sorted(groups) != list(range(problem.size)) or not all(classes):
        raise RejectedError("the classes do not hold every group once")
    for first, *others in classes:
        for g in others:
            same = np.array_equal(problem.usage[g], problem.usage[first])
            if valued:
                same = same and np.array_equal(problem.values[g], problem.values[first])
            if not same:
                raise RejectedError(f"groups {first} and {g} of a class differ")
    return [members[0] for members in classes]


def _checked_totals(certificate: Certificate, options: int) -> FloatArray:
    """Return ``(T, M)`` which options each total counts; raise for one that does not exist."""
    members = np.zeros((len(certificate.totals), options))
    for t, axes in enumerate(certificate.totals):
        if not axes or min(axes) < 0 or max(axes) >= options or len(set(axes)) < len(axes):
            raise RejectedError(f"total {t} names an option outside the problem, or twice")
        members[t, list(axes)] = 1.0
    return members
