r"""Boxes and leaf reasons of multiple-choice problems.

For row prices :math:`\mu \ge 0`, every feasible choice in a box is worth at most
:math:`\mu b + \sum_g \max_{o \text{ allowed}} (v_{go} - \mu u_{go})`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.certify.exact import (
    Dyadic,
    Recent,
    RejectedError,
    Rows,
    checked_prices,
    outward,
    require_named,
    supports,
)
from moe2opt.result import BoolArray, Certificate


class ChoiceProof:
    """Boxes are sets of options that are still allowed, one flag per option."""

    def __init__(self, problem: MultipleChoiceProblem, certificate: Certificate) -> None:
        self.problem, self.certificate = problem, certificate
        self._priced = Recent(self._profits)
        self.group_of = np.repeat(np.arange(problem.size), np.diff(problem.offsets))
        self.rows = Rows(problem.costs, outward(problem.costs, problem.limits))

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
            return not box[problem.offsets[index] : problem.offsets[index + 1]].any()
        if reason == "budget":
            require_named(index, self.certificate, "rows", len(problem.limits))
            least = self._per_group(problem.costs[index], box, np.minimum, np.inf)
            return math.fsum(least) > float(problem.limits[index])
        if reason == "corner":
            return (
                math.fsum(self._per_group(problem.flat_values, box, np.maximum, -np.inf)) <= claim
            )
        if reason in ("dual", "farkas"):
            return supports(self._dual(index, box, reason), claim, reason, problem.is_integral)
        return False

    def _per_group(self, terms: Any, box: BoolArray, best: np.ufunc, excluded: float) -> Any:
        return best.reduceat(np.where(box, terms, excluded), self.problem.offsets[:-1])

    def _dual(self, index: int, box: BoolArray, reason: str) -> Fraction:
        constant, profit = self._priced.get(index, reason)
        excluded = min(profit.numerators) - 1
        best = np.maximum.reduceat(
            np.where(box, profit.numerators, excluded), self.problem.offsets[:-1]
        )
        return constant + Fraction(int(best.sum()), 2**profit.shift)

    def _profits(self, index: int, reason: str) -> tuple[Fraction, Dyadic]:
        price = checked_prices(self.certificate, index, len(self.problem.limits), self.rows, ())
        cost, constant = self.rows.priced(price.row)
        value = self.problem.flat_values if reason == "dual" else np.zeros(len(self.group_of))
        return constant, Dyadic.of(value).plus(cost, -1)
