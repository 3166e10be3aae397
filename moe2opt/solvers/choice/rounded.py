"""Rounded rows of multiple-choice problems: which budgets may be rounded, and which help.

See `moe2opt.canonical.rounding` for what they say: a memory with room for 14.4 layers holds 14.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import rounded_budget, rounded_net
from moe2opt.canonical.rounding import MOST_COUNTED
from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.tuning import ChoiceTuning

#: A rounded row is worth adding when its left side exceeds the right one by this share.
_VIOLATION = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Budgets:
    """Budget rows over classes of equal groups.

    Attributes
    ----------
    costs, limits
        ``(K, M)`` use by each option of each class, and ``(K,)`` limits.
    starts, sizes
        First option of each class and the end; number of groups of each class.
    """

    costs: FloatArray
    limits: FloatArray
    starts: IntArray
    sizes: IntArray

    def rounded(self, row: int, parts: int) -> tuple[FloatArray, float]:
        """Return a rounded row of a budget, or from K on of what is used beyond the least."""
        budget = row % len(self.limits)
        costs, limit = self.costs[budget], float(self.limits[budget])
        if row == budget:
            return rounded_budget(costs, limit, parts)
        return rounded_net(costs, self.starts, self.sizes, limit, parts)

    def violated(
        self, counts: FloatArray, known: Collection[tuple[int, int]], tuning: ChoiceTuning
    ) -> list[tuple[int, int]]:
        """Return rows and parts whose rounded rows fractional counts violate, the most first.

        Parts are such that some option just counts as one (or as two, three, ...) of them.
        """
        found: list[tuple[float, int, int]] = []
        most = min(2 * int(self.sizes.sum()), MOST_COUNTED)
        for row, costs, limit in self._roundable():
            sizes = np.unique(costs[costs > 1e-9 * abs(limit)])
            if not 0 < limit < math.inf or not len(sizes) or len(sizes) > tuning.sizes:
                continue
            multiples = np.arange(1, tuning.capacities + 1)
            with np.errstate(over="ignore"):  # beside the limit a size may be next to nothing
                tried = np.unique(np.floor(multiples[:, None] * limit / sizes))
            for parts in tried[(tried >= 1) & (tried <= most)].astype(np.int64).tolist():
                if (row, parts) in known:
                    continue
                share = np.minimum(costs, 2.0 * limit) / limit
                taken = np.maximum(np.ceil((parts + 1) * share - 1e-9) - 1.0, 0.0)
                excess = float(taken @ counts) / parts - 1.0
                if excess > _VIOLATION:
                    found.append((excess, row, parts))
        return [(row, parts) for _, row, parts in sorted(found, reverse=True)]

    def _roundable(self) -> Iterator[tuple[int, FloatArray, float]]:
        """Yield numbers, costs and limits of the rows that may be rounded."""
        count, class_of = (
            len(self.limits),
            np.repeat(np.arange(len(self.sizes)), np.diff(self.starts)),
        )
        least = np.minimum.reduceat(self.costs, self.starts[:-1], axis=1)
        yield from zip(range(count), self.costs, self.limits, strict=True)
        limits = self.limits - least @ self.sizes
        for k in np.flatnonzero(least.any(axis=1)).tolist():
            yield count + k, self.costs[k] - least[k, class_of], float(limits[k])
