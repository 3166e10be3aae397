r"""Multiple choice with equal groups: how often, not where, an option is chosen.

Dozens of equal groups (every layer of a uniform model) make a tree over single groups hopeless:
all their orders look alike. Here a node bounds the counts of options in each class of equal
groups, and its linear relaxation

.. math:: \max \sum_{co} v_{co} y_{co} : \sum_{co} u_{co} y_{co} \le b,\ \sum_o y_{co} = n_c,
          \ l \le y \le h

has as many columns as the classes have options, whatever the number of groups. Rounded rows make
it tighter at the root (a memory with room for 14.4 layers holds 14). Its duals price the rows;
under them the best counts are found by sorting, a bound that `moe2opt.certify.counts` repeats
exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem, rounded_budget
from moe2opt.result import Certificate, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.choice.classes import options_too_large, ordered_class
from moe2opt.solvers.choice.heuristics import greedy_choice, improve_choice
from moe2opt.solvers.lp import LinearProgram
from moe2opt.solvers.relaxation import Examined
from moe2opt.solvers.tree import Exclusions, SplitTree, Tightening

#: A rounded row is worth adding when its left side exceeds the right one by this share.
_VIOLATION = 1e-6

#: A count this near to a whole number is one.
_WHOLE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class _Box:
    """Bounds on the counts of all options, class after class."""

    lower: IntArray
    upper: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class _Priced:
    """Row prices, the profit of each option, the bound, and the fractional counts."""

    row: FloatArray
    profit: FloatArray
    value: float
    error: float
    counts: FloatArray | None = None
    infeasible: bool = False


class CountsRelaxation:
    """Boxes are bounds on counts; a split cuts the count of one option of one class."""

    def __init__(
        self, problem: MultipleChoiceProblem, search: Search, classes: tuple[tuple[int, ...], ...]
    ) -> None:
        self.problem, self.classes = problem, classes
        self.tree = SplitTree()
        self.sizes = np.array([len(members) for members in classes], dtype=np.int64)
        first = [members[0] for members in classes]
        widths = [len(problem.values[g]) for g in first]
        self.starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
        self.class_of = np.repeat(np.arange(len(classes)), widths)
        columns = np.concatenate(
            [np.arange(problem.offsets[g], problem.offsets[g + 1]) for g in first]
        )
        self.values = problem.flat_values[columns]
        self.costs = np.ascontiguousarray(problem.costs[:, columns])
        self.limits = problem.limits
        self.rounded: list[tuple[int, int]] = []
        norms = np.maximum(np.abs(self.limits), self.costs.max(axis=1, initial=0.0))
        self.row_scale = 1.0 / np.where((norms > 0) & np.isfinite(norms), norms, 1.0)
        self.scale = 1000.0 / max(float(np.abs(self.values).max()), 1e-300)
        self.lp = self._new_lp()
        stop, self.tuning = search.pressed, search.options.tuning.choice
        self.ordered = ordered_class(problem, classes, self.tuning)
        start = greedy_choice(problem, stop=stop, tuning=self.tuning)
        if start is not None:
            search.offer(start, "H")
            better = improve_choice(problem, start, stop=stop, tuning=self.tuning)
            search.offer(better, "H")

    def root(self) -> _Box:
        return _Box(np.zeros(len(self.class_of), np.int64), self.sizes[self.class_of])

    def split(self, box: _Box, axis: int, cut: int) -> tuple[_Box, _Box]:
        if cut == -1:
            places, own = np.arange(len(self.class_of)), self.class_of == self.class_of[axis]
            return (
                _Box(box.lower, np.where(own & (places > axis), 0, box.upper)),
                _Box(box.lower, np.where(own & (places <= axis), 0, box.upper)),
            )
        upper, lower = box.upper.copy(), box.lower.copy()
        upper[axis], lower[axis] = cut, cut + 1
        return _Box(box.lower, upper), _Box(lower, box.upper)

    def certificate(self, claim: float) -> Certificate:
        return self.tree.certificate(
            self.problem,
            claim,
            kind="counts",
            rows=len(self.limits),
            types=self.classes,
            rounded=tuple(self.rounded),
        )

    def examine(self, box: _Box, search: Search) -> Examined:
        steps: list[Tightening | Exclusions] = []
        if self.tree.prices:
            steps, box = self._exclude(box)
        empty = self._empty_class(box)
        if empty is not None:
            return Examined(steps, box, ("group", empty))
        priced = self._bound(box, search)
        if not self.tree.prices:
            priced = self._round_rows(box, priced, search)
            search.blur(priced.error)
        nothing = np.zeros(0)
        index = self.tree.price(nothing, priced.row, nothing)
        if priced.infeasible:
            return Examined(steps, box, ("farkas", index))
        proof = ("dual", index)
        if not search.prunes(priced.value):
            self._round(box, priced, search)
        if search.prunes(priced.value):
            return Examined(steps, box, bound=priced.value, proof=proof)
        tightenings, box = self._tighten(box, priced, index, search)
        tightenings = [*steps, *tightenings]
        empty = self._empty_class(box)
        if empty is not None:
            return Examined(tightenings, box, ("group", empty))
        branch = self._branch(box, priced)
        if branch is None:
            return self._single_point(tightenings, box, search)
        return Examined(tightenings, box, None, priced.value, proof, branch)

    # ------------------------------------------------------------------ bound

    def _new_lp(self) -> LinearProgram:
        top = self.sizes[self.class_of].astype(np.float64)
        lp = LinearProgram(self.values * self.scale, np.zeros(len(top)), top)
        columns, ones = np.arange(len(top)), np.ones(len(top))
        lp.add_sparse_rows(self.starts[:-1], columns, ones, self.sizes.astype(np.float64))
        lp.add_sparse_rows(self.starts[:-1], columns, -ones, -self.sizes.astype(np.float64))
        self._add_rows(lp, self.costs, self.limits, self.row_scale)
        return lp

    @staticmethod
    def _add_rows(
        lp: LinearProgram, costs: FloatArray, limits: FloatArray, scale: FloatArray
    ) -> None:
        """Append budget rows; one without limit keeps its place and says nothing."""
        finite = np.isfinite(limits)
        matrix = np.where(finite, scale, 0.0)[:, None] * costs
        lp.add_rows(matrix, np.where(finite, limits * scale, 1.0))

    def _round_rows(self, box: _Box, priced: _Priced, search: Search) -> _Priced:
        """Add the rounded rows that the fractional counts violate, in a few rounds.

        Searches for any feasible point do without: proofs for several limits share their rows.
        """
        if search.first_feasible:
            return priced
        for _ in range(self.tuning.rounded_rounds):
            if priced.counts is None or search.prunes(priced.value):
                return priced
            new = self._violated(priced.counts)[: self.tuning.rounded_rows - len(self.rounded)]
            if not new:
                return priced
            for row, parts in new:
                own, limit = rounded_budget(self.costs[row], self.problem.limits[row], parts)
                self._add_rows(self.lp, own[None, :], np.array([limit]), np.array([1.0 / limit]))
                self.costs = np.vstack([self.costs, own])
                self.limits = np.append(self.limits, limit)
                self.row_scale = np.append(self.row_scale, 1.0 / limit)
                self.rounded.append((row, parts))
            priced = self._bound(box, search)
        return priced

    def _violated(self, counts: FloatArray) -> list[tuple[int, int]]:
        """Return budget rows and numbers of parts whose rounded rows the counts violate.

        Parts are such that some option just counts as one (or as two, three, ...) of them.
        """
        found: list[tuple[float, int, int]] = []
        for row, limit in enumerate(self.problem.limits):
            sizes = np.unique(self.costs[row][self.costs[row] > 0])
            if not 0 < limit < math.inf or not len(sizes) or len(sizes) > self.tuning.sizes:
                continue
            multiples = np.arange(1, self.tuning.capacities + 1)
            with np.errstate(over="ignore"):  # beside the limit a size may be next to nothing
                tried = np.unique(np.floor(multiples[:, None] * limit / sizes))
            within = (tried >= 1) & (tried <= 2 * self.problem.size)
            for parts in tried[within].astype(np.int64).tolist():
                if (row, parts) in self.rounded:
                    continue
                share = np.minimum(self.costs[row], 2.0 * limit) / limit
                taken = np.maximum(np.ceil((parts + 1) * share - 1e-9) - 1.0, 0.0)
                excess = float(taken @ counts) / parts - 1.0
                if excess > _VIOLATION:
                    found.append((excess, row, parts))
        return [(row, parts) for _, row, parts in sorted(found, reverse=True)]

    def _bound(self, box: _Box, search: Search) -> _Priced:
        free = self._value(box, np.zeros(len(self.limits)))
        self.lp.set_bounds(
            np.arange(len(self.class_of)), box.lower.astype(float), box.upper.astype(float)
        )
        solution = self.lp.solve(search.time_left_s)
        if solution.price is None:
            return free
        row = solution.price[2 * len(self.sizes) :] * self.row_scale
        row = np.where(np.isfinite(self.limits), row, 0.0)
        if solution.infeasible:
            found = self._value(box, row, objective=0.0)
            return found if found.infeasible else free
        found = self._value(box, row / self.scale)
        best = found if found.value < free.value else free
        return _Priced(best.row, best.profit, best.value, best.error, solution.x)

    def _value(self, box: _Box, row: FloatArray, objective: float = 1.0) -> _Priced:
        """Return the Lagrangian value of row prices over a box, rounding errors included."""
        paid = row @ self.costs
        profit = objective * self.values - paid
        # A limit of a row that is not priced may be infinite.
        base = float(row @ np.where(row > 0, self.limits, 0.0))
        taken, _ = self._filled(box, profit)
        terms = 2 * len(self.class_of) + len(row) + 16
        size = float((np.abs(profit) + 2.0 * paid) @ taken) + abs(base)
        error = 4.5e-16 * terms * size
        value = base + float(profit @ taken) + error
        return _Priced(row, profit, value, error, infeasible=not objective and value < 0)

    def _filled(self, box: _Box, profit: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return the most profitable counts, and the least profit taken in each class."""
        taken, least = box.lower.copy(), np.full(len(self.sizes), -np.inf)
        for c, size in enumerate(self.sizes.tolist()):
            span = slice(int(self.starts[c]), int(self.starts[c + 1]))
            order = np.argsort(-profit[span], kind="stable")
            room = (box.upper[span] - box.lower[span])[order]
            left = size - int(box.lower[span].sum())
            more = np.clip(left - (np.cumsum(room) - room), 0, room)
            taken[span][order] += more
            if left:
                least[c] = profit[span][order[np.flatnonzero(more)[-1]]]
        return taken, least

    # ------------------------------------------------------------------ tightening, branching

    def _empty_class(self, box: _Box) -> int | None:
        """Return a class whose bounds leave no counts, None without one."""
        least = np.add.reduceat(box.lower, self.starts[:-1])
        most = np.add.reduceat(box.upper, self.starts[:-1])
        empty = (least > self.sizes) | (most < self.sizes)
        return int(np.argmax(empty)) if empty.any() else None

    def _exclude(self, box: _Box) -> tuple[list[Tightening | Exclusions], _Box]:
        """Rule out options that do not fit; their row, alone and with a price, is the proof."""
        finds = options_too_large(
            self.costs, self.limits, self.row_scale, self.starts, self.sizes, box.lower, box.upper
        )
        steps: list[Tightening | Exclusions] = []
        nothing, upper = np.zeros(0), box.upper.copy()
        for row, options in finds:
            price = np.zeros(len(self.limits))
            price[row] = self.row_scale[row]
            index = self.tree.price(nothing, price, nothing)
            steps.append(Exclusions(options, ("farkas", index), -math.inf))
            upper[options] = box.lower[options]
        return steps, _Box(box.lower, upper)

    def _tighten(
        self, box: _Box, priced: _Priced, index: int, search: Search
    ) -> tuple[list[Tightening | Exclusions], _Box]:
        """Rule out that options are chosen more often than they must be, by the prices.

        One more of an option that the best counts do not take replaces the least profitable one.
        """
        taken, least = self._filled(box, priced.profit)
        bounds = priced.value - least[self.class_of] + priced.profit
        room = (box.upper > box.lower) & (taken == box.lower) & np.isfinite(bounds)
        useless = np.flatnonzero(room & search.prunes_each(bounds))
        if not len(useless):
            return [], box
        upper = box.upper.copy()
        upper[useless] = box.lower[useless]
        step = Exclusions(useless, ("dual", index), float(bounds[useless].max()))
        return [step], _Box(box.lower, upper)

    def _branch(self, box: _Box, priced: _Priced) -> tuple[int, int] | None:
        """Return where to cut: the count that is least whole, weighted by what is at stake.

        Of a class of one group, the options are halved: one of them alone would rule out little.
        """
        halves = self._middle(box) or self._halves(priced)
        if halves is not None:
            return halves
        open_axes = np.flatnonzero(box.upper > box.lower)
        if not len(open_axes):
            return None
        counts = priced.counts
        if counts is not None:
            part = counts[open_axes] - np.floor(counts[open_axes])
            middle = np.minimum(part, 1.0 - part)
            if middle.max() > _WHOLE:
                spread = np.maximum.reduceat(self.values, self.starts[:-1])
                spread = spread - np.minimum.reduceat(self.values, self.starts[:-1])
                stake = middle * (1e-9 + spread[self.class_of[open_axes]])
                axis = int(open_axes[np.argmax(np.where(middle > _WHOLE, stake, -1.0))])
                return axis, math.floor(counts[axis])
        axis = int(open_axes[np.argmax(priced.profit[open_axes])])
        return axis, int((box.lower[axis] + box.upper[axis] - 1) // 2)

    def _middle(self, box: _Box) -> tuple[int, int] | None:
        """Return the middle of what is left of the ordered group, None where that is one option."""
        if self.ordered is None:
            return None
        span = slice(int(self.starts[self.ordered]), int(self.starts[self.ordered + 1]))
        left = np.flatnonzero(box.upper[span] > 0)
        return (span.start + int(left[(len(left) - 1) // 2]), -1) if len(left) > 1 else None

    def _halves(self, priced: _Priced) -> tuple[int, int] | None:
        """Return where the fractional choice of the first group that has one is halved."""
        if priced.counts is None:
            return None
        for c in np.flatnonzero(self.sizes == 1):
            start, end = int(self.starts[c]), int(self.starts[c + 1])
            shares = priced.counts[start:end]
            if end - start > 2 and shares.max() < 1 - _WHOLE:
                mean = float(shares @ np.arange(end - start))
                used = np.flatnonzero(shares > _WHOLE)
                at = int(np.clip(math.floor(mean), used[0], used[-1] - 1))
                return start + at, -1
        return None

    def _single_point(
        self, tightenings: list[Tightening | Exclusions], box: _Box, search: Search
    ) -> Examined:
        x = self._spread(box.lower)
        over = self.problem.usage_of(x) > self.problem.limits
        if over.any():
            return Examined(tightenings, box, ("budget", int(np.argmax(over))))
        search.offer(x, "B")
        return Examined(tightenings, box, bound=self.problem.evaluate(x), proof=("corner", 0))

    # ------------------------------------------------------------------ incumbents

    def _round(self, box: _Box, priced: _Priced, search: Search) -> None:
        """Round the fractional counts down and fill up with what fits and is worth most."""
        if priced.counts is None:
            return None
        counts = np.clip(np.floor(priced.counts + _WHOLE).astype(np.int64), box.lower, box.upper)
        room = self.limits - self.costs @ counts
        wanted = priced.counts - counts
        for c, size in enumerate(self.sizes.tolist()):
            span = slice(int(self.starts[c]), int(self.starts[c + 1]))
            for _ in range(size - int(counts[span].sum())):
                free = counts[span] < box.upper[span]
                fits = (self.costs[:, span] <= room[:, None]).all(axis=0) & free
                if not fits.any():
                    return self._repair(counts, search)
                score = np.where(fits, priced.profit[span] + 1e-9 * wanted[span], -np.inf)
                option = int(self.starts[c]) + int(np.argmax(score))
                counts[option] += 1
                room = room - self.costs[:, option]
        search.offer(self._spread(counts), "L")
        return None

    def _repair(self, counts: IntArray, search: Search) -> None:
        """Offer what the greedy rule makes of counts that do not fit."""
        short = self.sizes - np.add.reduceat(counts, self.starts[:-1])
        lightest = counts.copy()
        for c in np.flatnonzero(short > 0):
            span = slice(int(self.starts[c]), int(self.starts[c + 1]))
            use = (self.costs[:, span] * self.row_scale[:, None]).sum(axis=0)
            lightest[int(self.starts[c]) + int(np.argmin(use))] += short[c]
        repaired = greedy_choice(self.problem, self._spread(lightest), search.pressed)
        if repaired is not None:
            search.offer(repaired, "L")

    def _spread(self, counts: IntArray) -> IntArray:
        """Return a choice with these counts: in each class, options in order of the groups."""
        x = np.zeros(self.problem.size, dtype=np.int64)
        for c, members in enumerate(self.classes):
            span = slice(int(self.starts[c]), int(self.starts[c + 1]))
            x[list(members)] = np.repeat(np.arange(span.stop - span.start), counts[span])
        return x
