r"""Cost-aware routing: prices for expected energy and delay decide who answers each prompt.

For deployed experts S, values :math:`v_n(x)`, costs :math:`c_{bn}(x)` and budgets :math:`B_b` for
their means over the prompts, every price vector :math:`\lambda \ge 0` gives the bound

.. math:: D_S(\lambda) = \lambda^\top B
   + \frac1P \sum_x \max_{n \in S} \bigl( v_n(x) - \lambda^\top c_n(x) \bigr)

on what any routing within the budgets is worth, a routing that draws lots included. The prices that
minimise it are found by dual ascent with cutting planes; each cut is one routing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray

#: Prices are limited to this many units of value per whole budget.
LARGEST_PRICE = 1e4

_ITERATIONS = 200
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Market:
    """Prompts, who may answer them, what that is worth and what it costs.

    Attributes
    ----------
    values
        ``(P, n)`` worth of an answer.
    costs
        ``(B, P, n)`` non-negative use of each budget.
    limits
        ``(B,)`` positive budgets for the means over the prompts.
    allowed
        ``(P, n)``; every prompt has somebody.
    """

    values: FloatArray
    costs: FloatArray
    limits: FloatArray
    allowed: BoolArray

    def restricted_to(self, chosen: IntArray) -> Market:
        """Return the market of some of the experts."""
        return Market(
            self.values[:, chosen], self.costs[:, :, chosen], self.limits, self.allowed[:, chosen]
        )

    def response(self, prices: FloatArray) -> IntArray:
        """Return the ``(P,)`` best expert of every prompt at these prices.

        Ties go to the smaller sum of costs in units of the budgets, then to the lower index.
        """
        worth = self.values - np.tensordot(prices, self.costs, axes=1)
        worth = np.where(self.allowed, worth, -np.inf)
        total = np.tensordot(1 / self.limits, self.costs, axes=1)
        best = worth >= worth.max(axis=1, keepdims=True)
        return np.asarray(np.argmin(np.where(best, total, np.inf), axis=1))

    def cheapest(self, budget: int) -> IntArray:
        """Return the ``(P,)`` expert that uses least of one budget."""
        return np.asarray(np.argmin(np.where(self.allowed, self.costs[budget], np.inf), axis=1))

    def worth(self, answer: IntArray) -> tuple[float, FloatArray]:
        """Return the mean value and the ``(B,)`` mean costs of a routing."""
        prompts = np.arange(len(answer))
        value = float(self.values[prompts, answer].mean())
        return value, self.costs[:, prompts, answer].mean(axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """A routing within budgets, and a bound on all of them.

    Attributes
    ----------
    prices
        ``(B,)`` value per unit of each budget.
    answer
        ``(P,)`` who answers; None when no routing is known to keep the budgets.
    value, costs
        Mean value and mean costs of `answer`; ``-inf`` and NaN without one.
    bound
        :math:`D_S` at the prices: no routing within the budgets is worth more.
    cuts
        Mean value and mean costs of every routing met on the way.
    """

    prices: FloatArray
    answer: IntArray | None
    value: float
    costs: FloatArray
    bound: float
    cuts: tuple[tuple[float, FloatArray], ...]


def price(market: Market) -> Priced:
    """Find the best prices, and a routing within the budgets close to the bound."""
    cuts = [market.worth(market.cheapest(b)) for b in range(len(market.limits))]
    prices, best, bound = np.zeros(len(market.limits)), np.zeros(len(market.limits)), np.inf
    for _ in range(_ITERATIONS):
        value, costs = market.worth(market.response(prices))
        reached = value + float(prices @ (market.limits - costs))
        if reached < bound:
            bound, best = reached, prices
        cuts.append((value, costs))
        prices, promised = lowest_prices(cuts, market.limits)
        if promised >= bound - _TOLERANCE:
            break
    answer = _repaired(market, best)
    value, costs = (-np.inf, np.full(len(best), np.nan))
    if answer is not None:
        value, costs = market.worth(answer)
    return Priced(best, answer, value, costs, bound, tuple(cuts))


def lowest_prices(
    cuts: list[tuple[float, FloatArray]], limits: FloatArray
) -> tuple[FloatArray, float]:
    """Return the prices that minimise the largest of the cuts, and that value."""
    from scipy import optimize

    linprog: Any = optimize.linprog
    count = len(limits)
    # Variables: the price of a whole budget, and the value; the scale keeps the programme tame.
    slopes = np.array([1 - costs / limits for _, costs in cuts])
    table = np.column_stack([slopes, -np.ones(len(cuts))])
    bounds = [(0, LARGEST_PRICE)] * count + [(None, None)]
    done = linprog(
        np.r_[np.zeros(count), 1.0],
        A_ub=table,
        b_ub=-np.array([value for value, _ in cuts]),
        bounds=bounds,
        method="highs",
    )
    return np.asarray(done.x[:count]) / limits, float(done.fun)


def _repaired(market: Market, prices: FloatArray) -> IntArray | None:
    """Return a routing within the budgets: the best response where it is affordable.

    It starts from a routing that keeps the budgets and moves prompts to their best response, those
    that gain most first.
    """
    start = _affordable(market, prices)
    if start is None:
        return None
    target, prompts = market.response(prices), np.arange(len(start))
    worth = market.values - np.tensordot(prices, market.costs, axes=1)
    gain = worth[prompts, target] - worth[prompts, start]
    more = market.costs[:, prompts, target] - market.costs[:, prompts, start]
    answer = start.copy()
    used = market.costs[:, prompts, start].sum(axis=1)
    most = market.limits * len(start) * (1 + 1e-12)
    for x in np.argsort(-gain, kind="stable"):
        raised = used + more[:, x]
        if (raised <= most).all():
            answer[x], used = target[x], raised
    return answer


def _affordable(market: Market, prices: FloatArray) -> IntArray | None:
    """Return a routing that keeps all budgets: at raised prices, or the cheapest."""
    tried = [market.response(prices * factor) for factor in (1.0, 1.01, 1.1, 2.0, 10.0, 1e3)]
    tried += [market.response(prices + LARGEST_PRICE / market.limits)]
    tried += [market.cheapest(b) for b in range(len(market.limits))]
    for answer in tried:
        if (market.worth(answer)[1] <= market.limits * (1 + 1e-12)).all():
            return answer
    return None
