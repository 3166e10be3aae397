"""The excesses over thresholds, summed over the few best experts of each cluster only.

Good thresholds lie close to the best values of their clusters, so most experts exceed few of them.
A table of the best values per cluster answers for all clusters whose threshold it reaches; the
others are summed in full.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moe2opt.result import BoolArray

#: Best experts kept per cluster.
DEPTH = 64

#: Clusters that the table may leave open, as a share; beyond it sums go over all values.
_MOST_OPEN = 0.25

#: Values partitioned at a time when the table is built.
_BLOCK = 2**22


class NearTable:
    """The best values of each cluster.

    Parameters
    ----------
    values
        ``(N, C)`` values in units of the grid, as whole numbers.
    """

    def __init__(self, values: Any) -> None:
        self.values = values
        size, clusters = values.shape
        self.depth = min(DEPTH, size)
        self.experts = np.empty((clusters, self.depth), dtype=np.int32)
        self.best = np.empty((clusters, self.depth), dtype=values.dtype)
        step = max(1, _BLOCK // size)
        for start in range(0, clusters, step):
            rows = np.ascontiguousarray(values[:, start : start + step].T)
            best = np.argpartition(rows, size - self.depth, axis=1)[:, size - self.depth :]
            self.experts[start : start + step] = best
            self.best[start : start + step] = np.take_along_axis(rows, best, axis=1)
        self.last = self.best.min(axis=1)

    def excess(self, thresholds: Any, wanted: BoolArray) -> Any:
        """Return each wanted expert's excess over the thresholds as floats, None if too costly.

        Parameters
        ----------
        thresholds
            ``(C,)`` thresholds in units of the grid.
        wanted
            ``(N,)`` flags; what is returned for the others means nothing.
        """
        if np.count_nonzero(wanted) < self.depth:
            return None
        reached = self.depth == len(self.values)
        open_rows = np.flatnonzero((self.last > thresholds) & (not reached))
        if len(open_rows) > _MOST_OPEN * len(thresholds):
            return None
        above = self.best - thresholds[:, None]
        above[open_rows] = 0
        places = np.flatnonzero(above > 0)
        total = np.bincount(
            self.experts.ravel()[places],
            weights=above.ravel()[places].astype(np.float64),
            minlength=len(self.values),
        )
        if len(open_rows):
            rest = self.values[np.ix_(wanted, open_rows)] - thresholds[open_rows]
            total[wanted] += np.maximum(rest, 0).sum(axis=1)
        return total
