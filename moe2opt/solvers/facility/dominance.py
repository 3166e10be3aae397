"""Dominance chains of a facility problem: of experts that are pointwise ordered, one is enough."""

from __future__ import annotations

import numpy as np

from moe2opt.canonical import FacilityProblem, indicators
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.jit import entry, inner


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

    Most pairs are incomparable on the first few clusters, so comparing them is cheap.

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
