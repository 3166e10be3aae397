"""The cuts that the projected LP has found, in a few flat arrays, and the compiled loops over them.

The clusters of all blocks are one array, `members`, in which block b takes the places from
``starts[b]`` to ``starts[b + 1]``; the thresholds of all cuts are one array too, cut k from
``first[k]`` on, in the order of its block's members.
"""

from __future__ import annotations

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.facility.kernels import IndexArray
from moe2opt.solvers.facility.model import FacilityModel
from moe2opt.solvers.jit import entry

#: Duals up to this are taken for zero: in the multipliers, and where cuts count as slack.
_NO_SHARE, _SLACK = 1e-12, 1e-9


class CutPool:
    """Cuts of blocks of clusters.

    Parameters
    ----------
    blocks
        Clusters of each of the B blocks, none empty, together all of them.

    Attributes
    ----------
    block
        ``(n,)`` block of each cut.
    slack_for
        ``(n,)`` solves in a row that each cut has been slack for.
    """

    def __init__(self, blocks: list[IntArray]) -> None:
        self.members = np.concatenate([np.zeros(0, dtype=np.int64), *blocks])
        self.lengths = np.array([len(b) for b in blocks], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self._block_of_member = np.repeat(np.arange(len(blocks)), self.lengths)
        self.block = np.zeros(0, dtype=np.int64)
        self.slack_for = np.zeros(0, dtype=np.int64)
        self._first = np.zeros(1, dtype=np.int64)
        self._thresholds = np.zeros(0)

    def __len__(self) -> int:
        return len(self.block)

    def add(self, thresholds: FloatArray, wanted: BoolArray) -> None:
        """Add the cuts of the wanted blocks, with ``(C,)`` thresholds by cluster."""
        new = np.flatnonzero(wanted)
        content = thresholds[self.members[np.repeat(wanted, self.lengths)]]
        end = int(self._first[-1])
        if end + len(content) > len(self._thresholds):
            room = np.zeros(2 * (end + len(content)))
            room[:end] = self._thresholds[:end]
            self._thresholds = room
        self._thresholds[end : end + len(content)] = content
        self.block = np.concatenate([self.block, new])
        self.slack_for = np.concatenate([self.slack_for, np.zeros(len(new), dtype=np.int64)])
        ends = end + np.cumsum(self.lengths[new])
        self._first = np.concatenate([self._first, ends])

    def rows(self, model: FacilityModel, start: int) -> tuple[FloatArray, FloatArray]:
        """Return coefficients, blocks' columns included, and constants of the cuts from `start`.

        Cut k says that its block is worth at most its constant plus the first N coefficients times
        the choice; the columns of the blocks are left at zero.
        """
        size, number = model.problem.size, len(self) - start
        rows = np.zeros((number, size + len(self.lengths)))
        constants = np.zeros(number)
        cut_rows(
            model.ranked,
            model.experts,
            self.members,
            self.starts,
            self.block[start:],
            self._first[start:-1],
            self._thresholds,
            rows,
            constants,
        )
        return rows, constants

    def worth(self, model: FacilityModel, thresholds: FloatArray, y: FloatArray) -> FloatArray:
        """Return ``(B,)`` the right-hand sides of the blocks' cuts with these thresholds at `y`."""
        worth = np.zeros(len(self.lengths))
        worth_at(model.ranked, model.experts, self.members, self.starts, thresholds, y, worth)
        return worth

    def by_block(self, value: FloatArray) -> FloatArray:
        """Return ``(B,)`` sums of a figure of the clusters."""
        blocks = len(self.lengths)
        sums = np.bincount(self._block_of_member, weights=value[self.members], minlength=blocks)
        return sums.astype(np.float64)

    def averaged(self, dual: FloatArray, otherwise: FloatArray) -> FloatArray:
        """Return ``(C,)`` thresholds averaged by the duals of a block's cuts.

        Parameters
        ----------
        dual
            ``(n,)`` of the cuts.
        otherwise
            ``(C,)`` thresholds of blocks whose cuts all have none.
        """
        cluster = otherwise.copy()
        weight = np.where(dual > _NO_SHARE, dual, 0.0)
        average(
            weight,
            self.block,
            self._first,
            self._thresholds,
            self.members,
            self.starts,
            np.zeros(len(self.lengths)),
            cluster,
        )
        return cluster

    def age(self, dual: FloatArray) -> None:
        """Count for how long each cut has been slack."""
        known = len(dual)
        self.slack_for[:known] = np.where(dual > _SLACK, 0, self.slack_for[:known] + 1)

    def drop(self, idle: BoolArray) -> None:
        """Forget some cuts."""
        keep = ~idle
        lengths = self.lengths[self.block]
        end = int(self._first[-1])
        self._thresholds = self._thresholds[:end][np.repeat(keep, lengths)]
        self.block, self.slack_for = self.block[keep], self.slack_for[keep]
        self._first = np.concatenate([[0], np.cumsum(lengths[keep])])


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

    The cut of block k is theta_k <= sum over its clusters of [l_c + sum_i max(0, W_ci - l_c) y_i]
    (Nemhauser and Wolsey 1981, aggregated as in Fischetti, Ljubic and Sinnl 2016). Cost: the values
    above the thresholds of the cuts.

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

    The right-hand side of a cut is convex in its thresholds, so the average by the LP's duals
    bounds no worse than the LP. Cost: cuts with a dual times the clusters of their blocks.

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
