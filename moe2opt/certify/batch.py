"""Replaying the tree of a multiple-choice proof, many leaves and reductions at once.

The steps of a tree are taken in preorder, many at a time. A subtree is a run of steps, so that an
exclusion holds from one step to another, and the boxes of all steps are running sums of what
begins and ends to be excluded. What the steps assert about their boxes is decided together, in
floating point with a bound on all rounding errors. Whatever is not clear then is decided one by one
in exact arithmetic by `ChoiceProof`, which also words what is wrong. So nothing is accepted here
that `ChoiceProof` would not accept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moe2opt.certify.choice import ChoiceProof
from moe2opt.certify.exact import RejectedError, clearly_supports, error_of
from moe2opt.certify.steps import spans_of, steps_of
from moe2opt.result import BoolArray, FloatArray, IntArray, PriceTable

#: Steps that are decided together: flags of their boxes at most (their terms stay in the cache),
#: and a number below which too much time would go into the calls.
_MOST_FLAGS, _FEWEST_STEPS = 2**18, 16

#: Options per group up to which groups are compared option by option.
_FEW_OPTIONS = 32

#: From this many options on, boxes are summed up row by row.
_WIDE = 300

#: Multiplications of a matrix product that linear algebra libraries leave to one thread.
_PRODUCTS = 2**18

#: Reasons that are decided here, all others one by one.
_REASONS = ("dual", "farkas", "corner", "budget", "group")


class _View:
    """The options that a box leaves open; the only options of all other groups are constants.

    Larger groups come first, and where all are small, the first options of all groups come before
    all second ones: so the best options are found by comparing whole slices.
    """

    def __init__(self, proof: ChoiceProof, whole: BoolArray, every_group: bool) -> None:
        problem = proof.problem
        sizes = np.add.reduceat(whole.astype(np.int64), problem.offsets[:-1])
        self.whole = whole
        groups = np.flatnonzero((sizes > 1) | every_group)
        groups = groups[np.argsort(-sizes[groups], kind="stable")]
        self.sizes = sizes[groups]
        rank = np.full(problem.size, -1)
        rank[groups] = np.arange(len(groups))
        inside = np.flatnonzero(whole & (rank >= 0)[proof.group_of])
        number = np.arange(len(inside)) - np.searchsorted(
            proof.group_of[inside], proof.group_of[inside]
        )
        ranks = rank[proof.group_of[inside]]
        self.sliced = len(groups) == 0 or self.sizes[0] <= _FEW_OPTIONS
        order = np.lexsort((ranks, number) if self.sliced else (number, ranks))
        self.options = inside[order]
        self.group_of = ranks[order]
        self.rank = rank
        self.place = np.full(len(whole), -1)
        self.place[self.options] = np.arange(len(inside))
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        self.members = np.argsort(self.group_of, kind="stable")
        self.counts = np.bincount(number, minlength=1)  # of groups with a first option, second, ...
        self.costs = proof.rows.matrix[:, self.options]
        self.terms = np.vstack([-self.costs, problem.flat_values[None, self.options]])
        alone = whole & (rank < 0)[proof.group_of]
        self.fixed_value = float(problem.flat_values[alone].sum())
        self.fixed_cost = proof.rows.matrix[:, alone].sum(axis=1)

    def full(self, box: BoolArray) -> BoolArray:
        """Return a box in terms of the problem."""
        whole: BoolArray = self.whole.copy()
        whole[self.options] = box
        return whole

    def best(self, terms: FloatArray) -> FloatArray:
        """Return the ``(n, G)`` best term of every group for every step."""
        if not self.sliced:
            return np.asarray(np.maximum.reduceat(terms, self.starts[:-1], axis=1))
        groups = len(self.sizes)
        best, first = terms[:, :groups].copy(), groups
        for count in self.counts[1:].tolist():
            slice_ = best[:, :count]
            np.maximum(slice_, terms[:, first : first + count], out=slice_)
            first += count
        return best


class BatchedReplay:
    """One walk through one tree, from the first step to the last."""

    def __init__(self, proof: ChoiceProof) -> None:
        self.proof = proof
        problem, certificate = proof.problem, proof.certificate
        largest = np.maximum.reduceat(np.abs(problem.flat_values), problem.offsets[:-1])
        self.value_size = float(largest.sum())
        self.cost_size = np.maximum.reduceat(proof.rows.matrix, problem.offsets[:-1], axis=1).sum(
            axis=1
        )
        self.operations = problem.size + len(proof.tops) + 16
        self.prices, self.usable = _prices(certificate.multipliers, len(proof.tops))
        self.steps = steps_of(certificate.tree, len(proof.group_of))
        self.spans = spans_of(self.steps, proof.group_of)
        self._look(_View(proof, proof.root(), every_group=False))
        if ((self.places < 0) & (self.steps.axes >= 0)).any():
            self._look(_View(proof, proof.root(), every_group=True))

    def _look(self, view: _View) -> None:
        """Look at the options of a view."""
        self.view = view
        self.places = np.where(self.steps.axes < 0, -1, view.place[self.steps.axes])

    def replay(self) -> None:
        """Walk the tree; raise where a step does not hold."""
        steps = self.steps
        excluded = np.zeros(len(self.view.options), dtype=self.spans.dtype)
        # Reductions at the root often leave little, which is all that is looked at from then on.
        at = int(np.argmin(steps.reduces))
        if at:
            excluded = self._narrowed(at, self._walk(0, at, excluded))
        most = max(_FEWEST_STEPS, _MOST_FLAGS // (len(excluded) + 1))
        while at < len(steps.start):
            to = min(at + most, len(steps.start))
            excluded = self._walk(at, to, excluded)
            at = to

    def _walk(self, at: int, to: int, excluded: Any) -> Any:
        """Decide steps, given how often options are excluded at the first; return that after them.

        An option is excluded once, and again with every choice of another one of its group.
        """
        spans, view = self.spans, self.view
        counts = np.zeros((to - at + 1, len(excluded)), dtype=excluded.dtype)
        counts[0] = excluded
        flat = counts.reshape(-1)
        now = spans.slice(spans.rows, at, to)
        row, place = spans.rows[now] - at, self.places[spans.record[now]]
        np.add.at(flat, row * len(excluded) + place, spans.sign[now])
        now = spans.slice(spans.group_rows, at, to)
        group = view.rank[spans.group[now]]
        size = view.sizes[group]
        event = np.repeat(np.arange(len(group)), size)
        member = np.arange(len(event)) - (np.cumsum(size) - size - view.starts[group])[event]
        row = (spans.group_rows[now] - at)[event]
        np.add.at(flat, row * len(excluded) + view.members[member], spans.group_sign[now][event])
        if len(excluded) < _WIDE:
            np.add.accumulate(counts, axis=0, out=counts)
        else:
            for below in range(1, len(counts)):
                np.add(counts[below], counts[below - 1], out=counts[below])
        self._decide(at, counts[:-1] == 0)
        return counts[-1]

    def _narrowed(self, at: int, excluded: Any) -> Any:
        """Look at the open options only, when they are few and all that is still named."""
        view, box = self.view, excluded == 0
        sizes = np.bincount(view.group_of[box], minlength=len(view.sizes))
        if sizes.min(initial=1) == 0 or 2 * sizes[sizes > 1].sum() > len(box):
            return excluded
        ahead = self.places[self.steps.start[at] :]
        if not (box & (sizes > 1)[view.group_of])[ahead[ahead >= 0]].all():
            return excluded
        self._look(_View(self.proof, view.full(box), every_group=False))
        return np.zeros(len(self.view.options), dtype=excluded.dtype)

    # ------------------------------------------------------------------ decisions

    def _decide(self, first: int, boxes: BoolArray) -> None:
        """Decide what steps assert about their boxes."""
        steps = self.steps
        now = slice(first, first + len(boxes))
        codes, reduces = steps.codes[now], steps.reduces[now]
        clear = steps.splits[now] & (steps.last[now] == 0)
        split = np.flatnonzero(clear)
        clear[split] = boxes[split, self.places[steps.start[now][split]]]
        index = np.where(reduces, steps.last[now], steps.first[now])
        reasons = [kind.removeprefix("out:") for kind in steps.kinds]
        for reason in _REASONS:
            known = np.array([r == reason for r in reasons], dtype=bool)[codes]
            if not known.any():
                continue
            usable = self._usable(reason)
            if usable is not None:
                known &= (index >= 0) & (index < len(usable))
                known[known] = usable[index[known]]
            at = np.flatnonzero(known)
            if len(at):
                clear[at] = self._are_clear(reason, at + first, index[at], boxes[at])
        for k in np.flatnonzero(~clear).tolist():
            self._decide_alone(first + k, boxes[k])

    def _usable(self, reason: str) -> BoolArray | None:
        """Return flags of the indices that a reason may have here, None if it has none."""
        if reason == "corner":
            return None
        if reason == "group":
            return self.view.rank >= 0
        return np.ones(len(self.cost_size), dtype=bool) if reason == "budget" else self.usable

    def _are_clear(self, reason: str, at: IntArray, index: IntArray, boxes: BoolArray) -> BoolArray:
        """Return flags of the steps that hold beyond all rounding errors."""
        steps, view = self.steps, self.view
        if reason == "group":
            empty = ~(boxes & (view.group_of == view.rank[index][:, None])).any(axis=1)
            return np.asarray(empty & ~steps.reduces[at])
        terms, constant, error = self._terms(reason, index)
        np.copyto(terms, -np.inf, where=~boxes)
        best = view.best(terms)
        total = constant + best.sum(axis=1)
        holds = self._hold(reason, total, error, index)
        reduced = np.flatnonzero(steps.reduces[at])
        if not len(reduced):
            return holds
        of, record = steps.records(at[reduced])
        step, place = reduced[of], self.places[record]
        with np.errstate(invalid="ignore"):
            values = total[step] - best[step, view.group_of[place]] + terms[step, place]
        fails = ~(self._hold(reason, values, error[step], index[step]) & boxes[step, place])
        holds[reduced] = np.bincount(of[fails], minlength=len(reduced)) == 0
        return holds

    def _hold(self, reason: str, values: Any, error: FloatArray, index: IntArray) -> BoolArray:
        problem, claim = self.proof.problem, self.proof.certificate.claim
        with np.errstate(invalid="ignore"):
            if reason == "budget":
                return np.asarray(-values - error > self.proof.tops[index])
            integral = problem.is_integral and reason == "dual"
            return np.asarray(clearly_supports(values, error, claim, reason, integral))

    def _terms(self, reason: str, index: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return terms of all options, constants and error bounds for indices of a reason.

        The terms of a budget are its costs with the sign turned, so that the best is the least.
        """
        view, count = self.view, len(index)
        if reason == "budget":
            size = self.cost_size[index]
            return view.terms[index], -view.fixed_cost[index], self._error(size)
        if reason == "corner":
            size = np.full(count, self.value_size)
            terms = np.repeat(view.terms[-1:], count, axis=0)
            return terms, np.full(count, view.fixed_value), self._error(size)
        price, limits = self.prices[index], self.proof.rows.limits
        worth = float(reason == "dual")
        constant = price @ limits - price @ view.fixed_cost + worth * view.fixed_value
        size = price @ self.cost_size + worth * self.value_size + price @ np.abs(limits)
        factors = np.column_stack([price, np.full(count, worth)])
        return _product(factors, view.terms), constant, self._error(size)

    def _error(self, size: Any) -> Any:
        return error_of(self.operations, size)

    def _decide_alone(self, step: int, box: BoolArray) -> None:
        """Decide a step alone, in exact arithmetic where needed."""
        steps, full = self.steps, self.view.full(box)
        kind, last = steps.kinds[steps.codes[step]], int(steps.last[step])
        axes = steps.axes[steps.start[step] : steps.end[step]].tolist()
        try:
            if steps.splits[step]:
                self.proof.split(full, axes[0], last)
            elif steps.reduces[step]:
                self.proof.reduced(full, kind, axes, last)
            elif not self.proof.holds(kind, int(steps.first[step]), full):
                raise RejectedError(f"reason {kind!r} does not hold in its box")
        except (IndexError, ValueError, OverflowError) as error:
            raise RejectedError(f"step {step} ({kind}): {error}") from error
        except RejectedError as error:
            raise RejectedError(f"step {step}: {error}") from error


def _product(factors: FloatArray, table: FloatArray) -> FloatArray:
    """Return the matrix product, in pieces too small for a second thread: that would only wait."""
    rows, columns = len(factors), table.shape[1]
    product = np.empty((rows, columns))
    wide = max(1, min(columns, _PRODUCTS // (4 * len(table))))
    high = max(1, _PRODUCTS // (wide * len(table)))
    for left in range(0, columns, wide):
        for top in range(0, rows, high):
            piece = slice(top, top + high), slice(left, left + wide)
            product[piece] = factors[piece[0]] @ table[:, piece[1]]
    return product


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
