r"""Boxes and leaf reasons of multiple-choice problems.

For row prices :math:`\mu \ge 0`, every feasible choice in a box is worth at most
:math:`\mu b + \sum_g \max_{o \text{ allowed}} (v_{go} - \mu u_{go})`. Rounded rows (`rounded` of
the certificate, see `moe2opt.canonical.rounding`) follow the budgets and are priced like them.
"""

from __future__ import annotations

import math
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
from moe2opt.result import BoolArray, Certificate, Multipliers


class ChoiceProof:
    """Boxes are sets of options that are still allowed, one flag per option."""

    def __init__(self, problem: MultipleChoiceProblem, certificate: Certificate) -> None:
        self.problem, self.certificate = problem, certificate
        self._estimated = Recent()
        self.group_of = np.repeat(np.arange(problem.size), np.diff(problem.offsets))
        # What usage, rounded as it is, is compared with; exact sums may lie a little above.
        self.tops = problem.limits
        self.rows = Rows(problem.costs, outward(problem.costs, problem.limits))
        if certificate.rounded:
            alone = np.ones(problem.size, dtype=np.int64)
            costs, tops = zip(
                *rounded_rows(certificate, problem.costs, problem.limits, problem.offsets, alone),
                strict=True,
            )
            self.tops = np.append(problem.limits, tops)
            limits = np.append(self.rows.limits, tops)
            self.rows = Rows(np.vstack([problem.costs, *costs]), limits)

    def root(self) -> BoolArray:
        return np.ones(len(self.group_of), dtype=bool)

    def split(self, box: BoolArray, axis: int, cut: int) -> tuple[BoolArray, BoolArray]:
        if not 0 <= axis < len(box) or cut != 0:
            raise RejectedError(f"split of option {axis} at {cut} is outside the problem")
        if not box[axis]:
            raise RejectedError(f"split of option {axis}, which is already excluded")
        left, right = box.copy(), box & (self.group_of != self.group_of[axis])
        left[axis], right[axis] = False, True
        return left, right

    def holds(self, reason: str, index: int, box: BoolArray) -> bool:
        problem, claim = self.problem, self.certificate.claim
        if reason == "group":
            require_group(index, problem.size)
            return not box[problem.offsets[index] : problem.offsets[index + 1]].any()
        if reason == "budget":
            require_row(index, len(self.tops))
            least = self._per_group(self.rows.matrix[index], box, np.minimum, np.inf)
            return math.fsum(least) > float(self.tops[index])
        if reason == "corner":
            return (
                math.fsum(self._per_group(problem.flat_values, box, np.maximum, -np.inf)) <= claim
            )
        if reason in ("dual", "farkas"):
            estimate = self._estimate(index, reason)
            value = estimate.constant + self._best(box, estimate).sum()
            if self._clear(value, estimate, reason):
                return True
            return supports(self._dual(index, box, reason), claim, reason, problem.is_integral)
        return False

    def reduced(self, box: BoolArray, kind: str, axes: list[int], index: int) -> BoolArray:
        side, reason = kind.split(":")
        if side != "out":
            raise RejectedError(f"reduction {kind!r} is not understood")
        options = np.array(axes, dtype=np.int64)
        self._require_allowed(box, options)
        clear = self._clearly_closed(box, options, index, reason)
        # What is ruled out in a box is ruled out in every smaller one: the order does not matter.
        kept = box.copy()
        kept[options[clear]] = False
        for axis in options[~clear].tolist():
            kept, chosen = self.split(kept, axis, 0)
            if not self.holds(reason, index, chosen):
                raise RejectedError(f"{kind!r} of option {axis} does not hold")
        return kept

    def _require_allowed(self, box: BoolArray, options: Any) -> None:
        """Raise unless every option exists, is still allowed and is listed once."""
        if options.min() < 0 or options.max() >= len(box):
            raise RejectedError("a reduction names an option outside the problem")
        if not box[options].all() or len(np.unique(options)) < len(options):
            raise RejectedError("a reduction names an option that is already excluded")

    def _clearly_closed(self, box: BoolArray, options: Any, index: int, reason: str) -> Any:
        """Return flags of the options whose choice is clearly ruled out by multipliers."""
        if reason not in ("dual", "farkas"):
            return np.zeros(len(options), dtype=bool)
        estimate = self._estimate(index, reason)
        best = self._best(box, estimate)
        rest = estimate.constant + best.sum() - best[self.group_of[options]]
        values = rest + estimate.profit[options]
        return self._clear(values, estimate, reason)

    def _best(self, box: BoolArray, estimate: Estimate) -> Any:
        return self._per_group(estimate.profit, box, np.maximum, -np.inf)

    def _clear(self, value: Any, estimate: Estimate, reason: str) -> Any:
        claim, integral = self.certificate.claim, self.problem.is_integral
        return clearly_supports(value, estimate.error, claim, reason, integral)

    def _estimate(self, index: int, reason: str) -> Estimate:
        estimate: Estimate | None = self._estimated.get(index, reason)
        if estimate is None:
            estimate = self._estimated_profits(index, reason)
            self._estimated.put(index, reason, estimate)
        return estimate

    def _estimated_profits(self, index: int, reason: str) -> Estimate:
        """Return constant and profits in floating point with a bound on all rounding errors."""
        row = self._prices(index).row
        value = self.problem.flat_values * (reason == "dual")
        cost = row @ self.rows.matrix
        constant = float(row @ self.rows.limits)
        largest = np.maximum.reduceat(np.abs(value) + cost, self.problem.offsets[:-1])
        terms = self.problem.size + len(row) + 16
        error = error_of(terms, float(largest.sum()) + abs(constant))
        return Estimate(constant, value - cost, error)

    def _per_group(self, terms: Any, box: BoolArray, best: np.ufunc, excluded: float) -> Any:
        return best.reduceat(np.where(box, terms, excluded), self.problem.offsets[:-1])

    def _dual(self, index: int, box: BoolArray, reason: str) -> Fraction:
        constant, profit = self._profits(index, reason)
        excluded = min(profit.numerators) - 1
        best = np.maximum.reduceat(
            np.where(box, profit.numerators, excluded), self.problem.offsets[:-1]
        )
        return constant + Fraction(int(best.sum()), 2**profit.shift)

    def _profits(self, index: int, reason: str) -> tuple[Fraction, Dyadic]:
        price = self._prices(index)
        cost, constant = self.rows.priced(price.row)
        value = self.problem.flat_values if reason == "dual" else np.zeros(len(self.group_of))
        return constant, Dyadic.of(value).plus(cost, -1)

    def _prices(self, index: int) -> Multipliers:
        return checked_prices(self.certificate, index, self.rows, ())
