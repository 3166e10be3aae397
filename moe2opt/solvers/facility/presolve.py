"""What makes a facility problem smaller before its search: equal clusters, dominated experts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import FacilityProblem, indicators
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.jit import entry, inner


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


def dominance_chains(problem: FacilityProblem) -> list[list[int]]:
    """Return disjoint chains of at least two experts, each pointwise at most the next.

    Once an expert is chosen, one that is nowhere better adds nothing, so at most one member of a
    chain is needed; dropping the weaker one frees budget. The exception is a cover that only the
    weaker one meets, and such pairs are not chained.
    """
    covers = np.ascontiguousarray(indicators(problem.covers, problem.size).T > 0)
    columns = np.ascontiguousarray(problem.weighted.T)
    strongest_first = np.argsort(-problem.weighted.sum(axis=0), kind="stable")
    chain_of = assign_chains(columns, covers, strongest_first)
    chains: dict[int, list[int]] = {}
    for expert in strongest_first:
        chains.setdefault(int(chain_of[expert]), []).append(int(expert))
    return [chain[::-1] for chain in chains.values() if len(chain) > 1]


@entry
def assign_chains(columns: FloatArray, covers: BoolArray, order: IntArray) -> IntArray:
    """Return ``(N,)`` the number of the first chain whose weakest member dominates each expert.

    A greedy cover of the dominance order by chains. Cost: experts times chains comparisons of one
    column each; most pairs are incomparable on the first few clusters, so comparing them is cheap.

    Parameters
    ----------
    columns
        ``(N, C)`` weighted values.
    covers
        ``(N, H)`` which cover sets each expert is in.
    order
        ``(N,)`` experts, strongest first.
    """
    ends = np.zeros(len(order), dtype=np.int64)
    chain_of = np.zeros(len(order), dtype=np.int64)
    chains = 0
    for expert in order:
        home = 0
        while home < chains and not _dominates(columns, covers, ends[home], expert):
            home += 1
        if home == chains:
            chains += 1
        ends[home] = expert
        chain_of[expert] = home
    return chain_of


@inner
def _dominates(columns: FloatArray, covers: BoolArray, strong: int, weak: int) -> bool:
    for c in range(columns.shape[1]):
        if columns[weak, c] > columns[strong, c]:
            return False
    for h in range(covers.shape[1]):  # noqa: SIM110  (kernels know no generators)
        if covers[weak, h] and not covers[strong, h]:
            return False
    return True
