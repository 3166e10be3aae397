"""Budgets that are no sums over experts, but still only grow when one more is deployed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical.monotone import Oracle
from moe2opt.canonical.validate import BUDGET_TOLERANCE, fingerprint
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.lengths import statistic

#: Values of a budget that are remembered.
_MOST_KNOWN = 200_000

#: What a set of experts uses: ``(N,)`` mask to a number that only grows with the set.
Use = Callable[[BoolArray], float]


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """A budget on a monotone function of the deployed set.

    Attributes
    ----------
    name
        Its name with unit.
    limit
        Its limit.
    use
        What a set uses.
    digest
        SHA-256 of the data behind `use`.
    """

    name: str
    limit: float
    use: Use
    digest: str

    @property
    def allowed(self) -> float:
        """The limit with its numerical slack, as for budget rows that are not integer."""
        return self.limit + BUDGET_TOLERANCE * max(1.0, abs(self.limit))

    def excess(self, points: IntArray) -> FloatArray:
        """Return use minus limit of ``(B, N)`` sets; a set keeps the budget where it is ≤ 0."""
        return np.array([self.use(point > 0) - self.allowed for point in points])

    def oracle(self, size: int) -> Oracle:
        """Return `excess` for the search, or that of everybody where even that keeps the budget."""
        most = self.excess(np.ones((1, size), dtype=np.int64))
        if most[0] > 0:
            return self.excess
        return lambda points: np.broadcast_to(most, len(points))


def remembered(use: Use, on: BoolArray) -> Use:
    """Return `use`, computed once for every set of the experts that matter to it."""
    known: dict[bytes, float] = {}

    def recalled(chosen: BoolArray) -> float:
        own = chosen & on
        key = own.tobytes()
        if key not in known:
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known[key] = use(own)
        return known[key]

    return recalled


def largest_sum(energy_j: FloatArray, k: int) -> Use:
    """Return the sum of the k largest joules of a set.

    Monotone: it is the largest of the sums over k experts of the set, and a larger set has more.
    """
    return lambda chosen: math.fsum(sorted(energy_j[chosen].tolist())[-k:])


def last_answer(
    delay_s: FloatArray, kind: str, level: float | None, groups: IntArray | None = None
) -> Use:
    """Return the statistic of the time until the last expert of a set has answered.

    Parameters
    ----------
    delay_s
        ``(R, N)`` seconds of equally likely answers.
    kind, level
        Mean, quantile or CVaR, and its level.
    groups
        ``(N,)`` server of each expert when those of a server take turns: their times add up.
        By default all experts work side by side.

    Notes
    -----
    Monotone: in every row the last time only grows with the set, and each statistic only grows
    with every row.
    """

    def use(chosen: BoolArray) -> float:
        if not chosen.any():
            return 0.0
        times = delay_s[:, chosen]
        if groups is not None:
            own = groups[chosen]
            times = np.stack([times[:, own == g].sum(axis=1) for g in np.unique(own)], axis=1)
        return float(statistic(times.max(axis=1), kind, level))

    return use


def digest_of(*parts: FloatArray | IntArray | BoolArray | float | str | None) -> str:
    """Return a SHA-256 over arrays, numbers and words."""
    words = "|".join(repr(part) for part in parts if not isinstance(part, np.ndarray))
    coded = np.frombuffer(words.encode(), dtype=np.uint8)
    return fingerprint(coded, *(part for part in parts if isinstance(part, np.ndarray)))
