r"""Boxes and leaf reasons of facility problems.

For thresholds :math:`\lambda_c \ge 0`, prices
:math:`\mu, \nu \ge 0` and any feasible S inside the box,

.. math:: f(S) \le \sum_c \lambda_c + \sum_r \mu_r b_r - \sum_h \nu_h
          + \sum_{i \in S} \Big( \sum_c (W_{ci} - \lambda_c)^+
          - \sum_r \mu_r A_{ri} + \sum_{h \ni i} \nu_h \Big),

because a cluster's best value is at most :math:`\lambda_c` plus the excesses of the chosen, and
each price multiplies a quantity that is non-negative for feasible S. The right side is maximised
over the box in closed form: forced experts count, free ones count when positive, and of a set
with at most one member only the best counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from moe2opt.canonical import FacilityProblem, at_most_one_sets, indicators, partition
from moe2opt.certify.exact import (
    Dyadic,
    Recent,
    RejectedError,
    Rows,
    checked_prices,
    on_grid,
    outward,
    require_named,
    supports,
    thresholds,
)
from moe2opt.result import BoolArray, Certificate


@dataclass(frozen=True, slots=True)
class _Subset:
    """Solutions between a set of forced experts and a set of allowed ones."""

    forced: BoolArray
    allowed: BoolArray


class FacilityProof:
    """Boxes are pairs forced ⊆ allowed; of every group and chain at most one is chosen."""

    def __init__(self, problem: FacilityProblem, certificate: Certificate) -> None:
        self.problem, self.certificate = problem, certificate
        self._priced = Recent(self._profits)
        _check_chains(problem, certificate.chains)
        self.sets = at_most_one_sets(problem.groups, certificate.chains)
        self.parts = partition(self.sets, problem.size)
        self.bits = certificate.grid_bits
        self.values = on_grid(np.ceil(np.ldexp(problem.weighted, self.bits)))
        self.rows = Rows(
            np.vstack([problem.costs, indicators(self.sets, problem.size)]),
            np.concatenate([outward(problem.costs, problem.limits), np.ones(len(self.sets))]),
        )
        self.covers = indicators(problem.covers, problem.size)

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
            require_named(index, self.certificate, "rows", len(problem.limits))
            return bool(problem.usage_of(box.forced)[index] > problem.limits[index])
        if reason == "group":
            return int(np.count_nonzero(box.forced[self.sets[index]])) > 1
        if reason == "cover":
            require_named(index, self.certificate, "covers", len(problem.covers))
            return not box.allowed[problem.covers[index]].any()
        if reason == "corner":
            return problem.evaluate(box.allowed) <= claim
        if reason in ("dual", "farkas"):
            return supports(self._dual(index, box, reason), claim, reason, problem.is_integral)
        return False

    def _dual(self, index: int, box: _Subset, reason: str) -> Fraction:
        """Return the exact right side of the inequality above, maximised over the box."""
        constant, profit = self._priced.get(index, reason)
        total = 0
        for part in self.parts:
            forced = [profit.numerators[i] for i in part if box.forced[i]]
            free = [profit.numerators[i] for i in part if box.allowed[i] and not box.forced[i]]
            total += (
                sum(forced) if forced else max(free, default=0) if max(free, default=0) > 0 else 0
            )
        return constant + Fraction(total, 2**profit.shift)

    def _profits(self, index: int, reason: str) -> tuple[Fraction, Dyadic]:
        """Return the constant of the inequality and each expert's profit under multipliers."""
        price = checked_prices(
            self.certificate, index, len(self.problem.limits), self.rows, self.covers
        )
        cost, base = self.rows.priced(price.row)
        reward, shift = Rows(self.covers, np.ones(len(self.covers))).priced(price.cover)
        profit = reward.plus(cost, -1)
        if reason == "farkas":
            return base - shift, profit
        threshold = thresholds(price.cluster, self.problem.clusters, self.bits)
        excess = np.maximum(self.values - threshold[:, None], 0).sum(axis=0)
        constant = Fraction(int(threshold.sum()), 2**self.bits)
        return constant + base - shift, profit.plus(Dyadic(excess.astype(object), self.bits))


def _check_chains(problem: FacilityProblem, chains: Sequence[Sequence[int]]) -> None:
    """Raise unless each expert of a chain is pointwise at most the next.

    Then a solution with two members of a chain stays feasible and loses nothing when the weaker
    one is dropped (covers: the stronger one must be in every cover of the weaker one).
    """
    for chain in chains:
        if any(not 0 <= i < problem.size for i in chain) or len(set(chain)) != len(chain):
            raise RejectedError("a dominance chain names an expert that does not exist, or twice")
        for weak, strong in pairwise(chain):
            if (problem.weighted[:, weak] > problem.weighted[:, strong]).any():
                raise RejectedError(f"expert {weak} is not dominated by expert {strong}")
            if any(weak in cover and strong not in cover for cover in problem.covers):
                raise RejectedError(f"expert {weak} covers what expert {strong} does not")
