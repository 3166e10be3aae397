"""The cuts that a projected linear programme has found, in a few flat arrays."""

from __future__ import annotations

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.facility.cut_kernels import average, cut_rows, worth_at
from moe2opt.solvers.facility.model import FacilityModel

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
