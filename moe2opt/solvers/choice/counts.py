r"""Multiple choice with equal groups: how often, not where, an option is chosen.

Dozens of equal groups (every layer of a uniform model) make a tree over single groups hopeless:
all their orders look alike. Here a node bounds the counts of options in each class of equal
groups, and its linear relaxation

.. math:: \max \sum_{co} v_{co} y_{co} : \sum_{co} u_{co} y_{co} \le b,\ \sum_o y_{co} = n_c,
          \ l \le y \le h

has as many columns as the classes have options, whatever the number of groups. Totals of kinds
(`moe2opt.solvers.choice.kinds`) are split before single counts, by what is known of the falls of
the bound (pseudo-costs; Benichou et al. 1971). Rounded rows make it tighter at the root (a memory
with room for 14.4 layers holds 14). Its duals price the rows; under them the best counts are found
by sorting, a bound that `moe2opt.certify.counts` repeats exactly.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import Certificate, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.choice.classes import options_too_large, ordered_class
from moe2opt.solvers.choice.counted import Box, Counted, Priced
from moe2opt.solvers.choice.heuristics import greedy_choice, improve_choice
from moe2opt.solvers.relaxation import Examined
from moe2opt.solvers.tree import Exclusions, SplitTree, Tightening

#: A count this near to a whole number is one.
_WHOLE = 1e-6

#: Halves of a total that are bounded before what was seen of it is relied on.
_LOOKS = 4


class CountsRelaxation:
    """Boxes are bounds on counts and totals; a split cuts one of them."""

    def __init__(
        self, problem: MultipleChoiceProblem, search: Search, classes: tuple[tuple[int, ...], ...]
    ) -> None:
        self.problem, self.classes = problem, classes
        self.tree = SplitTree()
        stop, self.tuning = search.pressed, search.options.tuning.choice
        self.counted = Counted(problem, classes, self.tuning)
        self.falls, self.looks = np.zeros((2, 2, len(self.counted.members)))
        self.ordered = ordered_class(problem, classes, self.tuning)
        if search.x is not None:
            return
        start = greedy_choice(problem, stop=stop, tuning=self.tuning)
        if start is not None:
            search.offer(start, "H")
            better = improve_choice(problem, start, stop=stop, tuning=self.tuning)
            search.offer(better, "H")

    def root(self) -> Box:
        return self.counted.root()

    def split(self, box: Box, axis: int, cut: int) -> tuple[Box, Box]:
        return self.counted.split(box, axis, cut)

    def certificate(self, claim: float) -> Certificate:
        return self.tree.certificate(
            self.problem,
            claim,
            kind="counts",
            rows=len(self.counted.limits),
            types=self.classes,
            rounded=tuple(self.counted.rounded),
            totals=tuple(tuple(np.flatnonzero(row).tolist()) for row in self.counted.members),
        )

    def examine(self, box: Box, search: Search) -> Examined:
        steps: list[Tightening | Exclusions] = []
        if self.tree.prices:
            steps, box = self._exclude(box)
        empty = self.counted.empty_class(box)
        if empty is not None:
            return Examined(steps, box, ("group", empty))
        priced = self.counted.bound(box, search)
        if not self.tree.prices:
            priced = self.counted.round_rows(box, priced, search)
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
        empty = self.counted.empty_class(box)
        if empty is not None:
            return Examined(tightenings, box, ("group", empty))
        branch = self._branch(box, priced, search)
        if branch is None:
            return self._single_point(tightenings, box, search)
        return Examined(tightenings, box, None, priced.value, proof, branch)

    def _exclude(self, box: Box) -> tuple[list[Tightening | Exclusions], Box]:
        """Rule out options that do not fit; their row, alone and with a price, is the proof."""
        c, bounds = self.counted, (box.lower, box.upper)
        limits = c.limits_in(box)
        finds = options_too_large(c.costs, limits, c.row_scale, c.starts, c.sizes, *bounds)
        steps: list[Tightening | Exclusions] = []
        nothing, upper = np.zeros(0), box.upper.copy()
        for row, options in finds:
            price = np.zeros(len(self.counted.limits))
            price[row] = self.counted.row_scale[row]
            index = self.tree.price(nothing, price, nothing)
            steps.append(Exclusions(options, ("farkas", index), -math.inf))
            upper[options] = box.lower[options]
        return steps, replace(box, upper=upper)

    def _tighten(
        self, box: Box, priced: Priced, index: int, search: Search
    ) -> tuple[list[Tightening | Exclusions], Box]:
        """Rule out that options are chosen more often than they must be, by the prices.

        One more of an option that the best counts do not take replaces the least profitable one.
        """
        taken, least = self.counted.filled(box, priced.profit)
        bounds = priced.value - least[self.counted.class_of] + priced.profit
        room = (box.upper > box.lower) & (taken == box.lower) & np.isfinite(bounds)
        useless = np.flatnonzero(room & search.prunes_each(bounds))
        if not len(useless):
            return [], box
        upper = box.upper.copy()
        upper[useless] = box.lower[useless]
        step = Exclusions(useless, ("dual", index), float(bounds[useless].max()))
        return [step], replace(box, upper=upper)

    def _branch(self, box: Box, priced: Priced, search: Search) -> tuple[int, int] | None:
        """Return where to cut: the count that is least whole, weighted by what is at stake.

        Of a class of one group, the options are halved: one of them alone would rule out little.
        """
        first = (
            self._middle(box) or self._fractional_total(box, priced, search) or self._halves(priced)
        )
        if first is not None:
            return first
        open_axes = np.flatnonzero(box.upper > box.lower)
        if not len(open_axes):
            return None
        counts = priced.counts
        if counts is not None:
            part = counts[open_axes] - np.floor(counts[open_axes])
            middle = np.minimum(part, 1.0 - part)
            if middle.max() > _WHOLE:
                spread = np.maximum.reduceat(self.counted.values, self.counted.starts[:-1])
                spread = spread - np.minimum.reduceat(self.counted.values, self.counted.starts[:-1])
                stake = middle * (1e-9 + spread[self.counted.class_of[open_axes]])
                axis = int(open_axes[np.argmax(np.where(middle > _WHOLE, stake, -1.0))])
                return axis, math.floor(counts[axis])
        axis = int(open_axes[np.argmax(priced.profit[open_axes])])
        return axis, int((box.lower[axis] + box.upper[axis] - 1) // 2)

    def _fractional_total(self, box: Box, priced: Priced, search: Search) -> tuple[int, int] | None:
        """Return a total that is not whole and where to cut it, None if all are.

        The one whose halves lose most, by the falls of the linear relaxation that were seen so far
        per unit (pseudo-costs), or are looked up where too few were.
        """
        if priced.totals is None or priced.counts is None:
            return None
        part = priced.totals - np.floor(priced.totals)
        totals = np.flatnonzero((part > _WHOLE) & (part < 1.0 - _WHOLE))
        if not len(totals):
            return None
        now, best, chosen = float(self.counted.values @ priced.counts), -1.0, int(totals[0])
        for t in totals.tolist():
            score = 1.0
            for side, share in ((0, part[t]), (1, 1.0 - part[t])):
                if self.looks[side, t] < _LOOKS and not search.pressed():
                    fall = now - self._half(box, t, side, priced.totals[t], search)
                    self.falls[side, t] += min(fall, abs(now)) / share
                    self.looks[side, t] += 1
                rate = self.falls[side, t] / max(self.looks[side, t], 1)
                score *= max(rate * share, 1e-9 * abs(now))
            if score > best:
                best, chosen = score, t
        return len(self.counted.class_of) + chosen, math.floor(priced.totals[chosen])

    def _half(self, box: Box, total: int, side: int, value: float, search: Search) -> float:
        """Return the linear relaxation of one half of a box, ``-inf`` without points."""
        half = self.split(box, len(self.counted.class_of) + total, math.floor(value))[side]
        x = self.counted.solved(half, search).x
        options = len(self.counted.class_of)
        return -math.inf if x is None else float(self.counted.values @ x[:options])

    def _middle(self, box: Box) -> tuple[int, int] | None:
        """Return the middle of what is left of the ordered group, None where that is one option."""
        if self.ordered is None:
            return None
        start, end = self.counted.starts[self.ordered : self.ordered + 2].tolist()
        span = slice(start, end)
        left = np.flatnonzero(box.upper[span] > 0)
        return (span.start + int(left[(len(left) - 1) // 2]), -1) if len(left) > 1 else None

    def _halves(self, priced: Priced) -> tuple[int, int] | None:
        """Return where the fractional choice of the first group that has one is halved."""
        if priced.counts is None:
            return None
        for c in np.flatnonzero(self.counted.sizes == 1):
            start, end = int(self.counted.starts[c]), int(self.counted.starts[c + 1])
            shares = priced.counts[start:end]
            if end - start > 2 and shares.max() < 1 - _WHOLE:
                mean = float(shares @ np.arange(end - start))
                used = np.flatnonzero(shares > _WHOLE)
                at = int(np.clip(math.floor(mean), used[0], used[-1] - 1))
                return start + at, -1
        return None

    def _single_point(
        self, tightenings: list[Tightening | Exclusions], box: Box, search: Search
    ) -> Examined:
        x = self._spread(box.lower)
        over = self.problem.usage_of(x) > self.problem.limits
        if over.any():
            return Examined(tightenings, box, ("budget", int(np.argmax(over))))
        search.offer(x, "B")
        return Examined(tightenings, box, bound=self.problem.evaluate(x), proof=("corner", 0))

    def _round(self, box: Box, priced: Priced, search: Search) -> None:
        """Round the fractional counts down and fill up with what fits and is worth most."""
        if priced.counts is None:
            return None
        counts = np.clip(np.floor(priced.counts + _WHOLE).astype(np.int64), box.lower, box.upper)
        room = self.counted.limits_in(box) - self.counted.costs @ counts
        first, count = len(self.problem.limits), len(self.counted.members)
        room[first + count : first + 2 * count] = np.inf  # what is missing is added last
        wanted = priced.counts - counts
        for c, size in enumerate(self.counted.sizes.tolist()):
            span = slice(int(self.counted.starts[c]), int(self.counted.starts[c + 1]))
            for _ in range(size - int(counts[span].sum())):
                free = counts[span] < box.upper[span]
                fits = (self.counted.costs[:, span] <= room[:, None]).all(axis=0) & free
                if not fits.any():
                    return self._repair(counts, search)
                score = np.where(fits, priced.profit[span] + 1e-9 * wanted[span], -np.inf)
                option = int(self.counted.starts[c]) + int(np.argmax(score))
                counts[option] += 1
                room = room - self.counted.costs[:, option]
        search.offer(self._spread(counts), "L")
        return None

    def _repair(self, counts: IntArray, search: Search) -> None:
        """Offer what the greedy rule makes of counts that do not fit."""
        short = self.counted.sizes - np.add.reduceat(counts, self.counted.starts[:-1])
        lightest = counts.copy()
        for c in np.flatnonzero(short > 0):
            span = slice(int(self.counted.starts[c]), int(self.counted.starts[c + 1]))
            use = (self.counted.costs[:, span] * self.counted.row_scale[:, None]).sum(axis=0)
            lightest[int(self.counted.starts[c]) + int(np.argmin(use))] += short[c]
        repaired = greedy_choice(self.problem, self._spread(lightest), search.pressed)
        if repaired is not None:
            search.offer(repaired, "L")

    def _spread(self, counts: IntArray) -> IntArray:
        """Return a choice with these counts: in each class, options in order of the groups."""
        x = np.zeros(self.problem.size, dtype=np.int64)
        for c, members in enumerate(self.classes):
            span = slice(int(self.counted.starts[c]), int(self.counted.starts[c + 1]))
            x[list(members)] = np.repeat(np.arange(span.stop - span.start), counts[span])
        return x
