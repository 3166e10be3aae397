r"""Boxes and leaf reasons of facility problems.

For thresholds :math:`\lambda_c \ge 0`, prices
:math:`\mu, \nu \ge 0`, opening costs o and any feasible S inside the box,

.. math:: f(S) \le \sum_c \lambda_c + \sum_r \mu_r b_r - \sum_h \nu_h
          + \sum_{i \in S} \Big( \sum_c (W_{ci} - \lambda_c)^+ - o_i
          - \sum_r \mu_r A_{ri} + \sum_{h \ni i} \nu_h \Big),

because a cluster's best value is at most :math:`\lambda_c` plus the excesses of the chosen, and
each price multiplies a quantity that is non-negative for feasible S. The right side is maximised
over the box in closed form: forced experts count, free ones count when positive, and of a set
with at most one member only the best counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from moe2opt.canonical import (
    FacilityProblem,
    at_most_one_sets,
    indicators,
    merge,
    partition,
    rounded_row,
)
from moe2opt.certify.exact import (
    Dyadic,
    Estimate,
    Recent,
    RejectedError,
    Rows,
    checked_prices,
    clearly_supports,
    error_of,
    on_grid,
    outward,
    require_cover,
    require_group,
    require_row,
    supports,
    thresholds,
)
from moe2opt.certify.near import NearTable
from moe2opt.result import BoolArray, Certificate, InputError, Multipliers

#: Multipliers up to which no table of the best values is made.
_FEW = 100

#: Numbers of a block of values when excesses are summed.
_BLOCK = 2**16


@dataclass(frozen=True, slots=True)
class _Subset:
    """Solutions between a set of forced experts and a set of allowed ones."""

    forced: BoolArray
    allowed: BoolArray


class FacilityProof:
    """Boxes are pairs forced ⊆ allowed; of every group and chain at most one is chosen."""

    def __init__(self, problem: FacilityProblem, certificate: Certificate) -> None:
        try:
            self.merged = merge(problem, certificate.types)
        except InputError as error:
            raise RejectedError(str(error)) from error
        problem = self.merged.problem
        self.problem, self.certificate = problem, certificate
        self._estimated = Recent()
        _check_chains(problem, certificate.chains)
        self.sets = at_most_one_sets(problem.groups, certificate.chains)
        self.parts = partition(self.sets, problem.size)
        self.order = np.concatenate(self.parts)
        lengths = [len(part) for part in self.parts]
        self.starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        self.part_of = np.empty(problem.size, dtype=np.int64)
        self.part_of[self.order] = np.repeat(np.arange(len(self.parts)), lengths)
        self.bits = certificate.grid_bits
        # One row per expert: the sums below run along rows.
        self.values = on_grid(np.ceil(np.ldexp(problem.weighted.T, self.bits)))
        self.largest = int(self.values.max(initial=0))
        self.rows = self._all_rows(certificate.rounded)
        self.covers = indicators(problem.covers, problem.size)
        worth_it = len(certificate.multipliers) > _FEW and self.values.dtype != object
        self.near = NearTable(self.values) if worth_it and problem.clusters else None

    def _all_rows(self, rounded: Sequence[tuple[int, int]]) -> Rows:
        """Return budgets, sets of at most one, and the rounded rows that the certificate names."""
        problem, matrix, limits = self.problem, [], []
        for row, parts in rounded:
            require_row(row, len(problem.limits))
            try:
                coefficients, limit = rounded_row(self.merged, row, parts)
            except ValueError as error:
                raise RejectedError(str(error)) from error
            matrix.append(coefficients)
            limits.append(limit)
        return Rows(
            np.vstack([problem.costs, indicators(self.sets, problem.size), *matrix]),
            np.concatenate(
                [outward(problem.costs, problem.limits), np.ones(len(self.sets)), limits]
            ),
        )

    def root(self) -> _Subset:
        size = self.problem.size
        return _Subset(np.zeros(size, dtype=bool), np.ones(size, dtype=bool))

    def split(self, box: _Subset, axis: int, cut: int) -> tuple[_Subset, _Subset]:
        if not 0 <= axis < self.problem.size or cut != 0:
            raise RejectedError(f"split of axis {axis} at {cut} is outside the problem")
        if box.forced[axis] or not box.allowed[axis]:
            raise RejectedError(f"split of axis {axis}, which is already fixed")
        allowed, forced = box.allowed.copy(), box.forced.copy()
        allowed[axis], forced[axis] = False, True
        return _Subset(box.forced, allowed), _Subset(forced, box.allowed)

    def holds(self, reason: str, index: int, box: _Subset) -> bool:
        problem, claim = self.problem, self.certificate.claim
        if reason == "budget":
            require_row(index, len(problem.limits))
            return bool(problem.usage_of(box.forced)[index] > problem.limits[index])
        if reason == "group":
            require_group(index, len(self.sets))
            return int(np.count_nonzero(box.forced[self.sets[index]])) > 1
        if reason == "cover":
            require_cover(index, self.certificate, len(problem.covers))
            return not box.allowed[problem.covers[index]].any()
        if reason == "packing":
            if not 0 <= index < len(self.merged.types):
                raise RejectedError(f"type {index} does not exist")
            return self.merged.packing(box.forced, index) is None
        if reason == "corner":
            return problem.most(box.allowed, box.forced) <= claim
        if reason in ("dual", "farkas"):
            if self._clearly(box, index, reason):
                return True
            return supports(self._dual(index, box, reason), claim, reason, problem.is_integral)
        return False

    def reduced(self, box: _Subset, kind: str, axes: list[int], index: int) -> _Subset:
        side, reason = kind.split(":")
        clear = self._clearly_closed(box, axes, index, reason) if side == "out" else set()
        if len(clear) == len(axes):
            return self._without(box, axes)
        for axis in axes:
            without, chosen = self.split(box, axis, 0)
            closed, kept = (chosen, without) if side == "out" else (without, chosen)
            if axis not in clear and not self.holds(reason, index, closed):
                raise RejectedError(f"{kind!r} of expert {axis} does not hold")
            box = kept
        return box

    def _without(self, box: _Subset, axes: list[int]) -> _Subset:
        """Return the box without several experts, all free and all different."""
        if not (box.allowed & ~box.forced)[axes].all():
            raise RejectedError("split of an axis that is already fixed")
        allowed = box.allowed.copy()
        allowed[axes] = False
        return _Subset(box.forced, allowed)

    def _clearly(self, box: _Subset, index: int, reason: str) -> bool:
        """Tell whether rounding cannot matter for a Lagrangian leaf."""
        estimate = self._estimate(box, index, reason)
        value = estimate.constant + self._part_values(box, estimate).sum()
        return bool(self._clear(value, estimate, reason))

    def _clearly_closed(self, box: _Subset, axes: list[int], index: int, reason: str) -> set[int]:
        """Return the experts whose choice is clearly ruled out by multipliers, all at once."""
        if reason not in ("dual", "farkas"):
            return set()
        estimate = self._estimate(box, index, reason)
        parts = self._part_values(box, estimate)
        taken = np.bincount(self.part_of[box.forced], minlength=len(self.parts)) > 0
        free = np.array([axis for axis in axes if not taken[self.part_of[axis]]], dtype=np.int64)
        rest = estimate.constant + parts.sum() - parts[self.part_of[free]]
        return set(free[self._clear(rest + estimate.profit[free], estimate, reason)].tolist())

    def _clear(self, value: Any, estimate: Estimate, reason: str) -> Any:
        claim, integral = self.certificate.claim, self.problem.is_integral
        return clearly_supports(value, estimate.error, claim, reason, integral)

    def _part_values(self, box: _Subset, estimate: Estimate) -> Any:
        """Return the most that each part can contribute, in floating point."""
        if len(self.parts) == self.problem.size:  # every expert is a part of its own
            best = np.maximum(np.where(box.allowed, estimate.profit, 0.0), 0.0)
            return np.where(box.forced, estimate.profit, best)[self.order]
        forced = box.forced[self.order]
        profit = np.where(box.allowed, estimate.profit, -np.inf)[self.order]
        best = np.maximum(np.maximum.reduceat(profit, self.starts), 0.0)
        fixed = np.add.reduceat(np.where(forced, profit, 0.0), self.starts)
        return np.where(np.logical_or.reduceat(forced, self.starts), fixed, best)

    def _estimate(self, box: _Subset, index: int, reason: str) -> Estimate:
        """Return profits of the allowed experts; the first box with a price is the largest."""
        known = self._estimated.get(index, reason)
        if known is not None and not (box.allowed & ~known[0]).any():
            estimate: Estimate = known[1]
            return estimate
        estimate = self._estimated_profits(box.allowed, index, reason)
        self._estimated.put(index, reason, (box.allowed, estimate))
        return estimate

    def _estimated_profits(self, columns: BoolArray, index: int, reason: str) -> Estimate:
        """Return constant and profits in floating point with a bound on all rounding errors."""
        price = self._prices(index)
        cost, reward = price.row @ self.rows.matrix, price.cover @ self.covers
        constant = [price.row @ self.rows.limits, -price.cover.sum()]
        excess = np.zeros(self.problem.size)
        if reason == "dual":
            threshold, total = self._threshold(price)
            excess[columns] = np.ldexp(self._excess_estimate(threshold, columns), -self.bits)
            constant.append(math.ldexp(float(total), -self.bits))
            cost = cost + self.problem.fixed
        terms = sum(self.rows.matrix.shape) + self.problem.clusters + 16
        size = float((excess + cost + reward).sum()) + sum(map(abs, constant))
        return Estimate(sum(constant), excess + reward - cost, error_of(terms, size))

    def _excess_estimate(self, threshold: Any, columns: BoolArray) -> Any:
        """Return what `_excess` does, as floats."""
        if self.near is not None:
            found = self.near.excess(threshold, columns)
            if found is not None:
                return found[columns]
        return self._excess(threshold, columns).astype(np.float64)

    def _dual(self, index: int, box: _Subset, reason: str) -> Fraction:
        """Return the exact right side of the inequality above, maximised over the box."""
        constant, profit = self._profits(index, reason)
        total = 0
        for part in self.parts:
            forced = [profit.numerators[i] for i in part if box.forced[i]]
            free = [profit.numerators[i] for i in part if box.allowed[i] and not box.forced[i]]
            total += sum(forced) if forced else max([0, *free])
        return constant + Fraction(total, 2**profit.shift)

    def _profits(self, index: int, reason: str) -> tuple[Fraction, Dyadic]:
        """Return the constant of the inequality and each expert's profit under multipliers."""
        price = self._prices(index)
        cost, base = self.rows.priced(price.row)
        reward, shift = Rows(self.covers, np.ones(len(self.covers))).priced(price.cover)
        profit = reward.plus(cost, -1)
        if reason == "farkas":
            return base - shift, profit
        threshold, total = self._threshold(price)
        excess = self._excess(threshold, np.ones(self.problem.size, dtype=bool))
        constant = Fraction(total, 2**self.bits)
        profit = profit.plus(Dyadic(excess.astype(object), self.bits))
        return constant + base - shift, profit.plus(Dyadic.of(self.problem.fixed), -1)

    def _threshold(self, price: Multipliers) -> tuple[Any, int]:
        return thresholds(price.cluster, self.problem.clusters, self.bits, self.largest)

    def _excess(self, threshold: Any, columns: BoolArray) -> Any:
        """Return the wanted experts' excess over the thresholds in units of the grid."""
        experts = np.flatnonzero(columns)
        excess = np.zeros(len(experts), dtype=self.values.dtype)
        # A few experts at a time, so that the intermediate numbers stay in the processor's cache.
        step = max(1, _BLOCK // max(1, self.problem.clusters))
        for start in range(0, len(experts), step):
            above = self.values[experts[start : start + step]]
            np.maximum(np.subtract(above, threshold, out=above), 0, out=above)
            above.sum(axis=1, out=excess[start : start + step])
        return excess

    def _prices(self, index: int) -> Multipliers:
        return checked_prices(self.certificate, index, self.rows, self.covers)


def _check_chains(problem: FacilityProblem, chains: Sequence[Sequence[int]]) -> None:
    """Raise unless each expert of a chain is pointwise at most the next.

    Then a solution with two members of a chain stays feasible and loses nothing when the weaker
    one is dropped (covers: the stronger one must be in every cover of the weaker one), whatever
    their opening costs: that of the weaker one is saved.
    """
    for chain in chains:
        if any(not 0 <= i < problem.size for i in chain) or len(set(chain)) != len(chain):
            raise RejectedError("a dominance chain names an expert that does not exist, or twice")
        for weak, strong in pairwise(chain):
            if (problem.weighted[:, weak] > problem.weighted[:, strong]).any():
                raise RejectedError(f"expert {weak} is not dominated by expert {strong}")
            if any(weak in cover and strong not in cover for cover in problem.covers):
                raise RejectedError(f"expert {weak} covers what expert {strong} does not")
