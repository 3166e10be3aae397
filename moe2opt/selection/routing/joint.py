r"""Selection and cost-aware routing together: budgets for expected energy and delay.

Expected costs are not monotone in the deployed set (a new expert may displace a costly one), so
they cannot be rows of the facility problem. Their prices can:

.. math:: \max_{S \in \mathcal F}\ \max_{r: X \to S,\ \bar c(r) \le B} \bar v(r)
   \ \le\ U(\lambda) = \lambda^\top B + \max_{S \in \mathcal F} \frac1P \sum_x
   \max_{n \in S} \bigl( v_n(x) - \lambda^\top c_n(x) \bigr)

for every :math:`\lambda \ge 0`. The inner maximum is a facility problem once every row is raised by
the constant :math:`\max_n \lambda^\top c_n(x)`, and a certified bound of that problem will do in
its place. The bound reported is the least :math:`U` over all prices tried. It also holds for
routings and deployments that draw lots; what is left between it and the best plan found is a
duality gap, which more iterations need not close.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.routing.prices import Market, Priced, lowest_prices, price

#: Returns a solution (None if there is none) and a valid upper bound of a facility problem.
FacilitySolver = Callable[[FacilityProblem], tuple[IntArray | None, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """The best deployment and routing found, and a bound on all of them.

    Attributes
    ----------
    chosen
        Deployed experts, None when nothing within the budgets was found.
    routing
        Their prices and routing; its `answer` indexes `chosen`.
    value
        Mean value of the routing, ``-inf`` without one.
    bound
        No deployment in the feasible set with a routing within the budgets is worth more.
    iterations
        Facility problems solved.
    """

    chosen: IntArray | None
    routing: Priced | None
    value: float
    bound: float
    iterations: int


def solve_jointly(
    problem: FacilityProblem,
    market: Market,
    solve: FacilitySolver,
    *,
    iterations: int = 20,
    gap: float = 1e-6,
) -> Joint:
    """Alternate between prices and deployments.

    Parameters
    ----------
    problem
        Gives the feasible deployments (costs, budgets, groups, covers); every prompt must have an
        allowed expert in each of them. Its values are not used.
    market
        All N experts on the prompts.
    solve
        A solver of facility problems; its bound must be valid even when it stops early.
    iterations
        Facility problems at most.
    gap
        Stop when bound and value are this close.
    """
    prices = np.zeros(len(market.limits))
    cuts: list[tuple[float, FloatArray]] = []
    best = Joint(None, None, -np.inf, np.inf, 0)
    for number in range(1, iterations + 1):
        x, bound = solve(priced_problem(problem, market, prices))
        upper = min(best.bound, bound + offset(market, prices))
        best = Joint(best.chosen, best.routing, best.value, upper, number)
        if x is None:
            break
        chosen = np.flatnonzero(x)
        part = market.restricted_to(chosen)
        found = price(part)
        cuts += [*found.cuts, part.worth(part.response(prices))]
        if found.value > best.value:
            best = Joint(chosen, found, found.value, upper, number)
        raised, promised = lowest_prices(cuts, market.limits)
        if best.value >= upper - gap or promised >= upper - gap:
            break
        prices = raised
    return best


def priced_problem(problem: FacilityProblem, market: Market, prices: FloatArray) -> FacilityProblem:
    """Return the facility problem whose values are worth minus priced costs, raised above 0."""
    charge = np.tensordot(prices, market.costs, axes=1)
    raised = market.values - charge + _ceiling(market, prices)[:, None]
    count = len(market.values)
    return FacilityProblem(
        values=np.where(market.allowed, np.maximum(raised, 0.0), 0.0),
        costs=problem.costs,
        budgets=problem.budgets,
        weights=np.full(count, 1 / count),
        groups=problem.groups,
        covers=problem.covers,
    )


def offset(market: Market, prices: FloatArray) -> float:
    """Return what is added to a bound of `priced_problem` to get :math:`U` at the prices."""
    return float(prices @ market.limits - _ceiling(market, prices).mean())


def _ceiling(market: Market, prices: FloatArray) -> FloatArray:
    charge = np.tensordot(prices, market.costs, axes=1)
    highest: FloatArray = np.where(market.allowed, charge, 0.0).max(axis=1)
    return highest
