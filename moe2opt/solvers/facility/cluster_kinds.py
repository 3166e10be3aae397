"""Clusters whose values are all the same, of which a bound needs only one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.result import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class ClusterKinds:
    """Kinds of clusters with equal values, in the order of their first cluster.

    Attributes
    ----------
    of
        ``(C,)`` kind of each cluster.
    first
        ``(K,)`` first cluster of each kind.
    count
        ``(K,)`` clusters of each kind.
    """

    of: IntArray
    first: IntArray
    count: FloatArray

    @classmethod
    def among(cls, values: FloatArray) -> ClusterKinds:
        """Return the kinds of the rows of ``(C, N)`` non-negative values."""
        clusters = len(values)
        alike = _perhaps_equal(values)
        first_of = np.arange(clusters)
        seen: dict[bytes, int] = {}
        for c in alike.tolist():
            first_of[c] = seen.setdefault(values[c].tobytes(), c)
        first = np.flatnonzero(first_of == np.arange(clusters))
        of = np.searchsorted(first, first_of)
        return cls(of, first, np.bincount(of, minlength=len(first)).astype(np.float64))

    def together(self, values: FloatArray) -> FloatArray:
        """Return the ``(K, N)`` sums of the rows of each kind."""
        if len(self.first) == len(self.of):
            return values
        return np.asarray(values[self.first] * self.count[:, None])

    def each(self, kind: FloatArray) -> FloatArray:
        """Return ``(C,)`` the figure of its kind for every cluster; nothing stays nothing."""
        return kind[self.of] if len(kind) and len(self.first) < len(self.of) else kind


def _perhaps_equal(values: FloatArray) -> IntArray:
    """Return the rows whose largest and last value, and whose sum, another row has too."""
    if not values.size:
        return np.arange(len(values))
    keys = np.stack([values.max(axis=1), values[:, -1], values.sum(axis=1)], axis=1)
    order = np.lexsort(keys.T)
    same = (np.diff(keys[order], axis=0) == 0).all(axis=1)
    shared = np.zeros(len(values), dtype=bool)
    shared[order[1:][same]] = True
    shared[order[:-1][same]] = True
    return np.flatnonzero(shared)
