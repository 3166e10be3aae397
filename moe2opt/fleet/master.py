"""The price of the shared budget and a plan that keeps it, from the plans known at each site."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.fleet.priced import SiteState
from moe2opt.fleet.sites import SiteProblem
from moe2opt.result import FloatArray, IntArray

#: Rounding of sums over sites, relative to their size.
_SUM = 1e-9

#: Halvings of the interval of prices.
_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Table:
    """The known plans of all sites as arrays, padded to the longest.

    Attributes
    ----------
    rates
        ``(S,)`` weights.
    values, used
        ``(S, M)`` value and use of the plans; ``-inf`` and 0 where there is none.
    """

    rates: FloatArray
    values: FloatArray
    used: FloatArray

    @classmethod
    def of(cls, sites: Sequence[SiteState], rates: FloatArray) -> Table:
        """Return the table of these sites."""
        shape = (len(sites), max(len(site.answers) for site in sites))
        values, used = np.full(shape, -np.inf), np.zeros(shape)
        for s, site in enumerate(sites):
            values[s, : len(site.answers)] = [a.value for a in site.answers]
            used[s, : len(site.answers)] = [a.used for a in site.answers]
        return cls(rates, values, used)

    def choice(self, price: float) -> IntArray:
        """Return each site's best known plan at a price; of equals the one that uses least."""
        worth = self.values - price * self.used
        best = worth.max(axis=1, keepdims=True)
        tied = np.where(worth >= best - 1e-12 * np.abs(best), self.used, np.inf)
        return np.asarray(np.argmin(tied, axis=1))

    def least(self) -> IntArray:
        """Return the plan of each site that uses least."""
        return np.asarray(np.argmin(np.where(np.isfinite(self.values), self.used, np.inf), axis=1))

    def use(self, choice: IntArray) -> float:
        """Return the use of the shared budget under a choice of plans."""
        return float(self.rates @ self.used[np.arange(len(choice)), choice])


def price_of(table: Table, limit: float) -> float | None:
    """Return the least price at which the best known plans keep the limit, None if none does."""
    if table.use(table.choice(0.0)) <= limit:
        return 0.0
    if table.use(table.least()) > limit:
        return None
    low, high = 0.0, 1e-12
    while table.use(table.choice(high)) > limit:
        low, high = high, high * 8.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if table.use(table.choice(middle)) > limit:
            low = middle
        else:
            high = middle
    return high


def repaired(table: Table, limit: float, price: float) -> IntArray | None:
    """Return a choice of plans that keeps the limit, better ones bought where they still fit.

    None when even the plans that use least exceed the limit, or a site has none.
    """
    choice = table.choice(price)
    if table.use(choice) > limit:
        choice = table.least()
    used = table.use(choice)
    sites = np.arange(len(choice))
    if used > limit or not np.isfinite(table.values[sites, choice]).all():
        return None
    gain = table.values - table.values[sites, choice][:, None]
    more = np.maximum(table.used - table.used[sites, choice][:, None], 1e-300)
    rate = np.where((gain > 0) & np.isfinite(gain), gain / more, -np.inf)
    for place in np.argsort(-rate, axis=None)[: int((rate > -np.inf).sum())]:
        s, k = divmod(int(place), rate.shape[1])
        now = int(choice[s])
        if table.values[s, k] <= table.values[s, now]:
            continue
        extra = float(table.rates[s] * (table.used[s, k] - table.used[s, now]))
        if used + extra <= limit:
            choice[s] = k
            used += extra
    return choice


def least_value(problems: Sequence[SiteProblem], rates: FloatArray) -> float:
    """Return what any plans of the sites are worth at least: rate times least value, added up."""
    return math.fsum(r * _least(p) for p, r in zip(problems, rates.tolist(), strict=True))


def _least(problem: SiteProblem) -> float:
    if isinstance(problem, FacilityProblem):
        return -float(problem.fixed.sum())  # its values and weights are never negative
    return float(np.minimum.reduceat(problem.flat_values, problem.offsets[:-1]).sum())


def proves_none(bound: float, price: float, limit: float, least: float) -> bool:
    """Tell whether a bound at a price is below what any plans are worth: then there are none."""
    rounding = _SUM * (abs(bound) + 2 * price * limit + abs(least))
    return bound == -math.inf or bound + rounding < least
