"""Replaying the tree of a multiple-choice proof, many leaves and reductions at once.

The tree is walked level by level. What the steps of a level assert about their boxes is decided
together, in floating point with a bound on all rounding errors. Whatever is not clear then is
decided one by one in exact arithmetic by `ChoiceProof`, which also words what is wrong. So nothing
is accepted here that `ChoiceProof` would not accept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.archive import Records
from moe2opt.certify.choice import ChoiceProof
from moe2opt.certify.exact import RejectedError, clearly_supports, error_of
from moe2opt.result import BoolArray, FloatArray, IntArray, PriceTable, Record

#: Steps that are decided together: flags of their boxes at most (their terms stay in the cache),
#: and a number below which too much time would go into the calls.
_MOST_FLAGS, _FEWEST_STEPS = 2**18, 16

#: Options per group up to which groups of one size are compared option by option.
_FEW_OPTIONS = 16

#: Reasons that are decided here, all others one by one.
_REASONS = ("dual", "farkas", "corner", "budget")


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """The steps of a tree, reductions that share a reason and an index as one.

    Attributes
    ----------
    kinds, codes
        Names of the kinds, and the position in them of each step's kind.
    first, last
        Fields of the (first) record of each step.
    start, end
        First record of each step and the one after its last.
    right
        The step of the right child; 0 where there is none.
    reduces, splits
        Flags of reductions and of inner nodes with two children.
    """

    kinds: tuple[str, ...]
    codes: IntArray
    first: IntArray
    last: IntArray
    start: IntArray
    end: IntArray
    right: IntArray
    reduces: BoolArray
    splits: BoolArray


class _View:
    """The options that a box leaves open; the only options of all other groups are constants."""

    def __init__(self, proof: ChoiceProof, whole: BoolArray, every_group: bool) -> None:
        problem = proof.problem
        sizes = np.add.reduceat(whole.astype(np.int64), problem.offsets[:-1])
        self.whole = whole
        self.groups = np.flatnonzero((sizes > 1) | every_group)
        is_open = np.zeros(problem.size, dtype=bool)
        is_open[self.groups] = True
        inside = whole & is_open[proof.group_of]
        self.options = np.flatnonzero(inside)
        self.place = np.full(len(whole), -1)
        self.place[self.options] = np.arange(len(self.options))
        self.starts = np.concatenate([[0], np.cumsum(sizes[self.groups])]).astype(np.int64)
        self.group_of = np.repeat(np.arange(len(self.groups)), sizes[self.groups])
        self.values = problem.flat_values[self.options]
        self.costs = problem.costs[:, self.options]
        alone = np.flatnonzero(whole & ~inside)
        self.fixed_value = float(problem.flat_values[alone].sum())
        self.fixed_cost = problem.costs[:, alone].sum(axis=1)

    def box(self) -> BoolArray:
        """Return the box of the view in its own terms."""
        return self.whole[self.options]

    def full(self, box: BoolArray) -> BoolArray:
        """Return a box in terms of the problem."""
        whole: BoolArray = self.whole.copy()
        whole[self.options] = box
        return whole


class BatchedReplay:
    """One walk through one tree, level by level."""

    def __init__(self, proof: ChoiceProof) -> None:
        self.proof = proof
        problem, certificate = proof.problem, proof.certificate
        largest = np.maximum.reduceat(np.abs(problem.flat_values), problem.offsets[:-1])
        self.value_size = float(largest.sum())
        self.cost_size = np.array(
            [np.maximum.reduceat(row, problem.offsets[:-1]).sum() for row in problem.costs]
        ).reshape(len(problem.limits))
        self.operations = problem.size + len(problem.limits) + 16
        self.every_row = np.ones(len(problem.limits), dtype=bool)
        self.prices, self.usable = _prices(certificate.multipliers, len(problem.limits))
        self.view = _View(proof, proof.root(), every_group=False)
        self.steps = _steps(certificate.tree)
        self.axes = _axes(certificate.tree, self.steps, len(self.view.place))
        self.places = np.where(self.axes < 0, -1, self.view.place[self.axes])

    def replay(self) -> None:
        """Walk the tree; raise where a step does not hold."""
        if ((self.places < 0) & (self.axes >= 0)).any():
            self._change_view(self.view.whole, every_group=True)
        waiting = [(np.zeros(1, dtype=np.int64), self.view.box()[None, :])]
        while waiting:
            steps, boxes = waiting.pop()
            most = max(_FEWEST_STEPS, _MOST_FLAGS // (boxes.shape[1] + 1))
            if len(steps) > 2 * most:
                waiting += [(steps[k::2], boxes[k::2]) for k in (1, 0)]
                continue
            for k in range(0, len(steps), most):
                self._decide(steps[k : k + most], boxes[k : k + most])
            steps, boxes = self._below(steps, boxes)
            if not waiting and len(steps) == 1:
                boxes = self._narrowed(steps, boxes)
            if len(steps):
                waiting.append((steps, boxes))

    # ------------------------------------------------------------------ the walk

    def _below(self, at: IntArray, boxes: BoolArray) -> tuple[IntArray, BoolArray]:
        """Return the next steps and their boxes."""
        steps = self.steps
        reduced, split = steps.reduces[at], steps.splits[at]
        smaller = boxes[reduced]
        step_of, record = self._records(at[reduced])
        smaller[step_of, self.places[record]] = False
        above, count = at[split], np.arange(int(split.sum()))
        place = self.places[steps.start[above]]
        for k in np.flatnonzero((steps.last[above] != 0) | ~boxes[split][count, place]):
            self._reject_split(int(above[k]), boxes[split][k])
        left = boxes[split]
        right = left & (self.view.group_of != self.view.group_of[place][:, None])
        left[count, place], right[count, place] = False, True
        below = np.concatenate([at[reduced] + 1, above + 1, steps.right[above]])
        return below, np.concatenate([smaller, left, right])

    def _records(self, at: IntArray) -> tuple[IntArray, IntArray]:
        """Return the records of steps, and for each the position of its step."""
        lengths = self.steps.end[at] - self.steps.start[at]
        step_of = np.repeat(np.arange(len(at)), lengths)
        before = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(at) else lengths
        return step_of, np.arange(len(step_of)) + (self.steps.start[at] - before)[step_of]

    def _narrowed(self, steps: IntArray, boxes: BoolArray) -> BoolArray:
        """Look at the open options only, when they are few and all that is still named."""
        if not boxes.shape[1]:
            return boxes
        sizes = np.add.reduceat(boxes[0].astype(np.int64), self.view.starts[:-1])
        if sizes.min() == 0 or 2 * sizes[sizes > 1].sum() > boxes.shape[1]:
            return boxes
        ahead = self.places[self.steps.start[steps[0]] :]
        is_open = boxes[0] & (sizes > 1)[self.view.group_of]
        if not is_open[ahead[ahead >= 0]].all():
            return boxes
        self._change_view(self.view.full(boxes[0]), every_group=False)
        return self.view.box()[None, :]

    def _change_view(self, whole: BoolArray, *, every_group: bool) -> None:
        self.view = _View(self.proof, whole, every_group)
        self.places = np.where(self.axes < 0, -1, self.view.place[self.axes])

    # ------------------------------------------------------------------ decisions

    def _decide(self, at: IntArray, boxes: BoolArray) -> None:
        """Decide what steps assert about their boxes."""
        steps = self.steps
        clear = steps.splits[at]
        index = np.where(steps.reduces[at], steps.last[at], steps.first[at])
        for code, kind in enumerate(steps.kinds):
            reason = kind.removeprefix("out:")
            if reason not in _REASONS:
                continue
            usable = self.every_row if reason == "budget" else self.usable
            known = steps.codes[at] == code
            if reason != "corner":
                known &= (index >= 0) & (index < len(usable))
                known[known] = usable[index[known]]
            if known.any():
                clear[known] = self._are_clear(reason, at[known], index[known], boxes[known])
        for k in np.flatnonzero(~clear):
            self._decide_alone(int(at[k]), boxes[k])

    def _are_clear(self, reason: str, at: IntArray, index: IntArray, boxes: BoolArray) -> BoolArray:
        """Return flags of the steps that hold beyond all rounding errors."""
        view = self.view
        needed, which = np.unique(index, return_inverse=True)
        terms, constant, error = self._terms(reason, needed)
        worth = terms[which]
        np.copyto(worth, -np.inf, where=~boxes)
        best = _best(worth, view.starts)
        total = constant[which] + best.sum(axis=1)
        if not self.steps.reduces[at[0]]:
            return self._hold(reason, total, error[which], index)
        of, record = self._records(at)
        place = self.places[record]
        with np.errstate(invalid="ignore"):
            values = total[of] - best[of, view.group_of[place]] + worth[of, place]
        holds = self._hold(reason, values, error[which][of], index[of]) & boxes[of, place]
        return np.asarray(np.bincount(of[~holds], minlength=len(at)) == 0)

    def _hold(self, reason: str, values: Any, error: FloatArray, index: IntArray) -> BoolArray:
        problem, claim = self.proof.problem, self.proof.certificate.claim
        with np.errstate(invalid="ignore"):
            if reason == "budget":
                return np.asarray(-values - error > problem.limits[index])
            integral = problem.is_integral and reason == "dual"
            return np.asarray(clearly_supports(values, error, claim, reason, integral))

    def _terms(self, reason: str, needed: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return terms of all options, constants and error bounds for indices of a reason.

        The terms of a budget are its costs with the sign turned, so that the best is the least.
        """
        view = self.view
        if reason == "budget":
            return (
                -view.costs[needed],
                -view.fixed_cost[needed],
                self._error(self.cost_size[needed]),
            )
        if reason == "corner":
            count = len(needed)
            terms = np.broadcast_to(view.values, (count, len(view.values)))
            error = np.full(count, self._error(self.value_size))
            return terms, np.full(count, view.fixed_value), error
        price, limits = self.prices[needed], self.proof.rows.limits
        worth = float(reason == "dual")
        constant = price @ limits - price @ view.fixed_cost + worth * view.fixed_value
        size = price @ self.cost_size + worth * self.value_size + price @ np.abs(limits)
        return worth * view.values - price @ view.costs, constant, self._error(size)

    def _error(self, size: Any) -> Any:
        return error_of(self.operations, size)

    def _decide_alone(self, step: int, box: BoolArray) -> None:
        """Decide a step alone, in exact arithmetic where needed."""
        steps, full = self.steps, self.view.full(box)
        kind = steps.kinds[steps.codes[step]]
        try:
            if steps.reduces[step]:
                axes = self.axes[steps.start[step] : steps.end[step]].tolist()
                self.proof.reduced(full, kind, axes, int(steps.last[step]))
            elif not self.proof.holds(kind, int(steps.first[step]), full):
                raise RejectedError(f"reason {kind!r} does not hold in its box")
        except (IndexError, ValueError, OverflowError) as error:
            raise RejectedError(f"step {step} ({kind}): {error}") from error
        except RejectedError as error:
            raise RejectedError(f"step {step}: {error}") from error

    def _reject_split(self, step: int, box: BoolArray) -> None:
        axis, cut = int(self.axes[self.steps.start[step]]), int(self.steps.last[step])
        try:
            self.proof.split(self.view.full(box), axis, cut)
        except RejectedError as error:
            raise RejectedError(f"step {step}: {error}") from error
        raise RejectedError(f"step {step}: the split is not understood")


def _steps(tree: Sequence[Record]) -> _Steps:
    """Return the steps of a tree in preorder; raise unless it is one tree, whole."""
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
    right = _right_children(splits, ~splits & ~reduces, opened)
    return _Steps(kinds, codes, first, last, start, end, right, reduces, splits)


def _right_children(splits: BoolArray, leaves: BoolArray, opened: IntArray) -> IntArray:
    """Return the step of each right child.

    It follows a leaf, and as many boxes are open as were open at its parent: among the inner nodes
    and right children with that many open boxes, each parent comes just before its child.
    """
    parents = np.flatnonzero(splits)
    children = np.flatnonzero(leaves[:-1]) + 1
    order = np.argsort(opened[parents], kind="stable")
    right = np.zeros(len(splits), dtype=np.int64)
    right[parents[order]] = children[np.argsort(opened[children], kind="stable")]
    return right


def _axes(tree: Sequence[Record], steps: _Steps, options: int) -> IntArray:
    """Return the option of every record, -1 where it has none; raise where one is impossible."""
    rows = Records.of(tree).rows
    step = np.repeat(np.arange(len(steps.start)), steps.end - steps.start)
    named = (steps.splits | steps.reduces)[step]
    axes = np.where(named, rows[:, 1], -1).astype(np.int64)
    outside = named & ((axes < 0) | (axes >= options))
    if outside.any():
        at = int(np.argmax(outside))
        raise RejectedError(f"step {step[at]}: option {axes[at]} is outside the problem")
    order = np.lexsort((axes, step))
    ordered, step = axes[order], step[order]
    twice = (ordered[1:] == ordered[:-1]) & (step[1:] == step[:-1])
    if twice.any():
        at = int(np.argmax(twice))
        raise RejectedError(f"step {step[at]}: option {ordered[at]} is excluded twice")
    return np.asarray(axes)


def _best(terms: FloatArray, starts: IntArray) -> FloatArray:
    """Return the best term of every group for every step."""
    if len(starts) == 1:
        return np.zeros((len(terms), 0))
    size = int(starts[1])
    if size <= _FEW_OPTIONS and (np.diff(starts) == size).all():
        # Groups of the same few options, one option of all groups after the other: much faster.
        best = terms[:, ::size].copy()
        for option in range(1, size):
            np.maximum(best, terms[:, option::size], out=best)
        return best
    return np.asarray(np.maximum.reduceat(terms, starts[:-1], axis=1))


def _prices(multipliers: Any, rows: int) -> tuple[FloatArray, BoolArray]:
    """Return all row prices as a table, and which of them may be used."""
    if isinstance(multipliers, PriceTable) and multipliers.rows.shape[1] == rows:
        table, fits = multipliers.rows, np.ones(len(multipliers), dtype=bool)
    else:
        fits = np.array(
            [m.row.shape == (rows,) and not len(m.cover) for m in multipliers], dtype=bool
        )
        table = np.zeros((len(fits), rows))
        for k in np.flatnonzero(fits):
            table[k] = multipliers[k].row
    if table.dtype != np.float64:
        return np.zeros((len(fits), rows)), np.zeros(len(fits), dtype=bool)
    return table, fits & np.isfinite(table).all(axis=1) & (table >= 0).all(axis=1)
