"""The steps of a split tree in preorder, and for how long each one's exclusions hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.archive import Records
from moe2opt.certify.exact import RejectedError
from moe2opt.result import BoolArray, IntArray, Record


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The steps of a tree, reductions that share a reason and an index as one.

    Attributes
    ----------
    kinds, codes
        Names of the kinds, and the position in them of each step's kind.
    first, last
        Fields of the (first) record of each step.
    start, end
        First record of each step and the one after its last.
    right, after
        The step of the right child (that of the parent's end where there is none), and the one
        after the last step below.
    reduces, splits
        Flags of reductions and of inner nodes with two children.
    axes
        The option of every record, -1 where it has none.
    """

    kinds: tuple[str, ...]
    codes: IntArray
    first: IntArray
    last: IntArray
    start: IntArray
    end: IntArray
    right: IntArray
    after: IntArray
    reduces: BoolArray
    splits: BoolArray
    axes: IntArray

    def records(self, at: IntArray) -> tuple[IntArray, IntArray]:
        """Return the records of steps, as the position of the step and the record."""
        lengths = self.end[at] - self.start[at]
        step_of = np.repeat(np.arange(len(at)), lengths)
        before = np.cumsum(lengths) - lengths
        return step_of, np.arange(len(step_of)) + (self.start[at] - before)[step_of]


def steps_of(tree: Sequence[Record], options: int) -> Steps:
    """Return the steps of a tree; raise unless it is one tree, whole, that names options once."""
    try:
        records = Records.of(tree)
    except OverflowError as error:
        raise RejectedError("a field of a record has more than 64 bits") from error
    rows, kinds = records.rows, records.kinds
    reduces = np.array([":" in kind for kind in kinds], dtype=bool)[rows[:, 0]]
    same = (rows[1:, 0] == rows[:-1, 0]) & (rows[1:, 2] == rows[:-1, 2]) & reduces[1:]
    start = np.flatnonzero(np.concatenate([np.ones(min(1, len(rows)), dtype=bool), ~same]))
    codes, first, last = rows[start].T.astype(np.int64)
    splits = np.array([kind == "split" for kind in kinds], dtype=bool)[codes]
    reduces = reduces[start]
    opened = np.concatenate([[1], 1 + np.cumsum(2 * splits + reduces - 1)])
    if (opened[:-1] < 1).any():
        raise RejectedError("the tree goes on after its last leaf")
    if opened[-1] > 0:
        raise RejectedError(f"the tree ends with {opened[-1]} open boxes")
    end = np.append(start[1:], len(rows))
    step = np.repeat(np.arange(len(start)), end - start)
    axes = _axes(rows[:, 1], (splits | reduces)[step], step, options)
    right, after = _ends(opened, ~splits & ~reduces)
    return Steps(kinds, codes, first, last, start, end, right, after, reduces, splits, axes)


def _axes(fields: Any, named: BoolArray, step: IntArray, options: int) -> IntArray:
    """Return the option of every record, -1 where it has none; raise where one is impossible."""
    axes = np.where(named, fields, -1).astype(np.int64)
    outside = named & ((axes < 0) | (axes >= options))
    if outside.any():
        at = int(np.argmax(outside))
        raise RejectedError(f"step {step[at]}: option {axes[at]} is outside the problem")
    keys = np.sort(step[named] * options + axes[named])
    twice = keys[1:] == keys[:-1]
    if twice.any():
        at, axis = divmod(int(keys[np.argmax(twice)]), options)
        raise RejectedError(f"step {at}: option {axis} is excluded twice")
    return axes


def _ends(opened: IntArray, leaves: BoolArray) -> tuple[IntArray, IntArray]:
    """Return for each step the next one after a leaf where as many boxes are open, or one less.

    The first is the right child of an inner node. At the second the whole subtree is done.
    """
    count = len(leaves)
    behind = np.flatnonzero(leaves) + 1
    keys = np.sort(opened[behind] * (count + 1) + behind)
    here = np.arange(count)

    def next_with(level: IntArray) -> IntArray:
        at = np.searchsorted(keys, level * (count + 1) + here, side="right")
        return np.asarray(keys[np.minimum(at, len(keys) - 1)] % (count + 1))

    return next_with(opened[:-1]), next_with(opened[:-1] - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """From which step to which one an option is excluded, as signed events in order of the steps.

    On the left of a split the option is out; on the right its whole group is, and it is not.

    Attributes
    ----------
    rows, record, sign
        Step, record (whose option it is), and change in how often the option is excluded.
    group_rows, group, group_sign
        The same for all options of a group.
    dtype
        A type that holds how often an option can be excluded.
    """

    rows: IntArray
    record: IntArray
    sign: Any
    group_rows: IntArray
    group: IntArray
    group_sign: Any
    dtype: Any

    @staticmethod
    def slice(rows: IntArray, at: int, to: int) -> slice:
        """Return where the events after step `at` up to step `to` are."""
        return slice(*np.searchsorted(rows, [at, to], side="right").tolist())


def spans_of(steps: Steps, group_of: IntArray) -> Spans:
    """Return the spans of all exclusions."""
    below, above = np.flatnonzero(steps.reduces), np.flatnonzero(steps.splits)
    of, out = steps.records(below)
    groups = group_of[steps.axes[steps.start[above]]]
    # Only choices in one group can exclude an option more than twice.
    most = int(np.bincount(groups, minlength=1).max()) + 2
    dtype = np.min_scalar_type(-2 * most)
    chosen = steps.start[above]
    rows = [
        below[of] + 1,
        steps.after[below][of],
        above + 1,
        steps.right[above],
        steps.after[above],
    ]
    sign = np.repeat(np.array([1, -1, 1, -2, 1], dtype=dtype), [len(r) for r in rows])
    record, row = np.concatenate([out, out, chosen, chosen, chosen]), np.concatenate(rows)
    order = _in_order(row, len(steps.start))
    group_row = np.concatenate([steps.right[above], steps.after[above]])
    group_sign = np.repeat(np.array([1, -1], dtype=dtype), len(above))
    by_row = _in_order(group_row, len(steps.start))
    return Spans(
        row[order],
        record[order],
        sign[order],
        group_row[by_row],
        np.concatenate([groups, groups])[by_row],
        group_sign[by_row],
        dtype,
    )


def _in_order(rows: IntArray, end: int) -> IntArray:
    """Return the events before the end of the tree, in order of the steps."""
    within = np.flatnonzero(rows < end)
    return np.asarray(within[np.argsort(rows[within], kind="stable")])
