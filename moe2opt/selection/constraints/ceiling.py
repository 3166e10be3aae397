r"""A bound for boxes of deployments that knows the linear budgets.

For any prices :math:`\lambda_c` of the rows of the objective and :math:`\mu_r \ge 0` of budgets,

.. math:: f(z) \le \sum_c \lambda_c + \sum_r \mu_r + \sum_i z_i g_i, \qquad
          g_i = \sum_c (w_c V_{ci} - \lambda_c)^+ - \sum_r \mu_r A_{ri} / b_r

holds for every z within the budgets as long as no row of f exceeds the best chosen V: the facility
objective and every mixture of experts. Over y ≤ z ≤ x the right-hand side is largest when all of y
and what gains of x are chosen, which makes it mixed monotone with fixed prices. The prices are
those of a short subgradient search at the root.

Everything is counted in integers, so every machine finds the same prices and the same bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from moe2opt import steps
from moe2opt.canonical import FacilityProblem
from moe2opt.canonical.monotone import MixedOracle
from moe2opt.result import FloatArray, IntArray

#: Integers that stand for the best value there could be, and for a whole budget.
_UNIT_BITS, _WHOLE = 38, 2**20

_STEPS, _PATIENCE = 400, 12


@dataclass(frozen=True, slots=True, eq=False)
class Ceiling:
    """The bound at fixed prices.

    Attributes
    ----------
    constant
        What the prices add up to.
    gains
        ``(N,)`` gain of each expert beyond its price.
    unit
        Value of the integer 1.
    """

    constant: int
    gains: IntArray
    unit: float

    def __call__(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return the bound over boxes between ``(B, N)`` 0/1 corners."""
        won = (upper > 0) * np.maximum(self.gains, 0)
        lost = (lower > 0) * np.minimum(self.gains, 0)
        total = self.constant + (won + lost).sum(axis=1)
        return np.asarray(total * self.unit)


def below(objective: MixedOracle, ceiling: Ceiling) -> MixedOracle:
    """Return the lesser of both bounds over boxes, and the objective itself at points.

    At a point that keeps the budgets both agree, and no other point matters.
    """

    def bound(upper: IntArray, lower: IntArray) -> FloatArray:
        if upper is lower:
            return objective(upper, lower)
        return np.minimum(objective(upper, lower), ceiling(upper, lower))

    return bound


def priced_ceiling(problem: FacilityProblem) -> Ceiling:
    """Return a good ceiling for the objective and the budget rows of `problem`."""
    # Who breaks a budget alone is in no set that keeps it.
    barred = (problem.costs > problem.limits[:, None]).any(axis=0)
    values, unit = _counted(np.where(barred, 0.0, problem.weighted))
    rows = problem.limits > 0
    shares = _shares(problem.costs[rows], problem.limits[rows])
    price, toll = values.max(axis=1, initial=0) * 4 // 5, np.zeros(len(shares), dtype=np.int64)
    best, kept, stalled, pace = _dual(values, shares, price, toll), (price, toll), 0, 0.1
    for _ in range(_STEPS):
        steps.step()
        gains = _gains(values, shares, price, toll)
        chosen = gains > 0
        slack = 1 - ((values > price[:, None]) & chosen).sum(axis=1)
        room = (_WHOLE - shares[:, chosen].sum(axis=1)) / _WHOLE
        norm = int((slack**2).sum()) + sum(float(r) ** 2 for r in room)
        if norm == 0:
            break
        step = pace * best / norm
        price = np.maximum(price - np.rint(step * slack).astype(np.int64), 0)
        toll = np.maximum(toll - np.rint(step * room).astype(np.int64), 0)
        value = _dual(values, shares, price, toll)
        if value < best:
            best, kept, stalled = value, (price, toll), 0
        elif (stalled := stalled + 1) > _PATIENCE:
            stalled, pace, (price, toll) = 0, pace * 0.7, kept
    return Ceiling(int(kept[0].sum() + kept[1].sum()), _gains(values, shares, *kept), unit)


def _counted(weighted: FloatArray) -> tuple[IntArray, float]:
    """Return the terms of the objective in whole units, rounded up, and the unit."""
    largest = float(weighted.max(initial=0.0)) * len(weighted)
    if largest <= 0:
        return np.zeros(weighted.shape, dtype=np.int64), 1.0
    # A power of two: dividing by it rounds nothing.
    unit = math.ldexp(1.0, math.frexp(largest)[1] - _UNIT_BITS)
    return np.ceil(weighted / unit).astype(np.int64), unit


def _shares(costs: FloatArray, limits: FloatArray) -> IntArray:
    """Return the share of a whole budget that each expert takes, rounded down by one more."""
    counted = np.floor(np.minimum(costs / limits[:, None], 2.0) * _WHOLE).astype(np.int64)
    return np.asarray(np.maximum(counted - 1, 0), dtype=np.int64)


def _gains(values: IntArray, shares: IntArray, price: IntArray, toll: IntArray) -> IntArray:
    paid = (shares * toll[:, None]) // _WHOLE
    earned = np.maximum(values - price[:, None], 0).sum(axis=0)
    gains: IntArray = np.asarray(earned - paid.sum(axis=0), dtype=np.int64)
    return gains


def _dual(values: IntArray, shares: IntArray, price: IntArray, toll: IntArray) -> int:
    gains = _gains(values, shares, price, toll)
    return int(price.sum() + toll.sum() + np.maximum(gains, 0).sum())
