"""Dominance chains of a facility problem: of experts that are pointwise ordered, one is enough."""

from __future__ import annotations

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray

#: Clusters looked at first: most pairs are already incomparable on a few of them.
_SAMPLE = 16


def dominance_chains(problem: FacilityProblem) -> list[list[int]]:
    """Return disjoint chains of at least two experts, each pointwise at most the next.

    Once an expert is chosen, one that is nowhere better adds nothing, so at most one member of a
    chain is needed; dropping the weaker one frees budget. The exception is a cover that only the
    weaker one meets, and such pairs are not chained.
    """
    columns = np.ascontiguousarray(problem.weighted.T)
    clusters = problem.clusters
    strongest_first = np.argsort(-problem.weighted.sum(axis=0), kind="stable")
    rows = np.linspace(0, clusters - 1, min(_SAMPLE, clusters)).astype(np.int64)
    sample = np.ascontiguousarray(problem.weighted[rows])
    covered = [
        frozenset(h for h, c in enumerate(problem.covers) if i in c) for i in range(problem.size)
    ]
    chains: list[list[int]] = []
    for expert in strongest_first:
        chain = _home(int(expert), chains, columns, sample, covered)
        if chain is None:
            chains.append([int(expert)])
        else:
            chain.append(int(expert))
    return [chain[::-1] for chain in chains if len(chain) > 1]


def _home(
    expert: int,
    chains: list[list[int]],
    columns: FloatArray,
    sample: FloatArray,
    covered: list[frozenset[int]],
) -> list[int] | None:
    """Return the first chain whose weakest member dominates `expert`."""
    if not chains:
        return None
    ends = np.array([chain[-1] for chain in chains])
    likely = (sample[:, ends] >= sample[:, [expert]]).all(axis=0)
    for k in np.flatnonzero(likely):
        end = chains[k][-1]
        if covered[expert] <= covered[end] and (columns[expert] <= columns[end]).all():
            return chains[k]
    return None
