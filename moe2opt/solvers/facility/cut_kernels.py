"""Compiled inner loops over cuts of blocks of clusters.

The clusters of all blocks are one array, `members`, in which block b takes the places from
``starts[b]`` to ``starts[b + 1]``; the thresholds of all cuts are one array too, cut k from
``first[k]`` on, in the order of its block's members.
"""

from __future__ import annotations

from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.facility.kernels import IndexArray
from moe2opt.solvers.jit import entry


@entry
def cut_rows(
    ranked: FloatArray,
    experts: IndexArray,
    members: IntArray,
    starts: IntArray,
    block: IntArray,
    first: IntArray,
    thresholds: FloatArray,
    rows: FloatArray,
    constants: FloatArray,
) -> None:
    """Fill per cut the experts' values above its thresholds, summed, and the thresholds' sum.

    Parameters
    ----------
    ranked, experts
        ``(C, M)`` values of each cluster in falling order, and whose they are.
    members, starts
        ``(C,)`` and ``(B + 1,)``, see above.
    block, first
        ``(n,)`` block of each cut, and the place of its thresholds.
    thresholds
        Of all cuts.
    rows, constants
        ``(n, at least N)`` and ``(n,)`` zeros, filled.
    """
    depth = ranked.shape[1]
    for cut in range(len(block)):
        begin = starts[block[cut]]
        for place in range(begin, starts[block[cut] + 1]):
            c = members[place]
            threshold = thresholds[first[cut] + place - begin]
            constants[cut] += threshold
            k = 0
            while k < depth and ranked[c, k] > threshold:
                rows[cut, experts[c, k]] += ranked[c, k] - threshold
                k += 1


@entry
def worth_at(
    ranked: FloatArray,
    experts: IndexArray,
    members: IntArray,
    starts: IntArray,
    thresholds: FloatArray,
    y: FloatArray,
    worth: FloatArray,
) -> None:
    """Fill per block the right-hand side of the cut with these thresholds at a point.

    Parameters
    ----------
    ranked, experts, members, starts
        See `cut_rows`.
    thresholds
        ``(C,)`` by cluster.
    y
        ``(N,)`` point.
    worth
        ``(B,)`` zeros, filled.
    """
    depth = ranked.shape[1]
    for b in range(len(worth)):
        for place in range(starts[b], starts[b + 1]):
            c = members[place]
            worth[b] += thresholds[c]
            k = 0
            while k < depth and ranked[c, k] > thresholds[c]:
                worth[b] += (ranked[c, k] - thresholds[c]) * y[experts[c, k]]
                k += 1


@entry
def average(
    share: FloatArray,
    block: IntArray,
    first: IntArray,
    thresholds: FloatArray,
    members: IntArray,
    starts: IntArray,
    total: FloatArray,
    cluster: FloatArray,
) -> None:
    """Replace in `cluster` the thresholds of blocks with cuts by the average over their cuts.

    Parameters
    ----------
    share
        ``(n,)`` weight of each cut.
    block, first, thresholds, members, starts
        See `cut_rows`.
    total
        ``(B,)`` zeros, filled with the weight of each block.
    cluster
        ``(C,)`` thresholds; those of blocks whose cuts all weigh nothing stay.
    """
    for cut in range(len(share)):
        total[block[cut]] += share[cut]
    for b in range(len(total)):
        if total[b] > 0.0:
            for place in range(starts[b], starts[b + 1]):
                cluster[members[place]] = 0.0
    for cut in range(len(share)):
        if share[cut] > 0.0:
            b = block[cut]
            for place in range(starts[b], starts[b + 1]):
                value = thresholds[first[cut] + place - starts[b]]
                cluster[members[place]] += share[cut] / total[b] * value
