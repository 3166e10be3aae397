"""Filling budgets whose costs are multiples of a unit: the sizes of experts in a few formats.

Where a row knows only a few sizes, what is left of it can often be used up only by many moves at
once (four experts out of a memory, eight smaller ones in). A dynamic programme over the multiples
of the unit finds the cheapest such set of moves row by row; moves for one row leave the rows before
it as they are. What is left of the other rows is then used up by pairs of moves of equal size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.choice.model import ChoiceModel
from moe2opt.solvers.choice.polish import ranks
from moe2opt.solvers.tuning import DEFAULT, ChoiceTuning


@dataclass(frozen=True, slots=True)
class Lattice:
    """A row whose costs are multiples of a unit, up to rounding.

    Attributes
    ----------
    row
        Number of the row.
    unit
        The unit, in the scale of the row.
    multiple
        ``(M,)`` cost of every option in units.
    """

    row: int
    unit: float
    multiple: IntArray


def lattice_of(
    row: int, costs: FloatArray, tuning: ChoiceTuning = DEFAULT.choice
) -> Lattice | None:
    """Return the unit of a row's ``(M,)`` costs, None where they have none that is large enough."""
    sizes = np.unique(costs)
    sizes = sizes[sizes > 0]
    if not 0 < len(sizes) <= tuning.sizes:
        return None
    ratios = [Fraction(float(size / sizes[0])).limit_denominator(200) for size in sizes]
    parts = math.lcm(*(ratio.denominator for ratio in ratios))
    whole = [int(ratio * parts) for ratio in ratios]
    shared = math.gcd(*whole)
    unit = float(sizes[0]) * shared / parts
    multiple = np.rint(costs / unit)
    exact = np.abs(multiple * unit - costs) <= 1e-9 * sizes[0]
    if not exact.all() or multiple.max() > tuning.multiples:
        return None
    return Lattice(row, unit, multiple.astype(np.int64))


def fill(model: ChoiceModel, price: FloatArray, bound: float, search: Search) -> None:
    """Offer what the incumbent becomes when its lattice rows are used up.

    Parameters
    ----------
    model
        Scaled data.
    price
        ``(K,)`` scaled prices of the root.
    bound
        Bound that they prove.
    search
        Incumbent and limits.
    """
    tuning = search.options.tuning.choice
    found = (lattice_of(k, model.costs[:, k], tuning) for k in np.flatnonzero(price > 0).tolist())
    lattices = [lattice for lattice in found if lattice is not None][: tuning.lattice_rows]
    if search.x is None or not lattices:
        return
    filling = _Filling(model, price, lattices, tuning)
    failures = 0
    while failures < tuning.failures:
        gap, before = bound - search.objective, search.objective
        filling.narrow(gap, search.rng if failures else None)
        for start, order in itertools.product(
            (model.starts + search.x, filling.best), filling.orders
        ):
            if search.prunes(bound) or search.limit_reached() is not None:
                return
            picked = filling.filled(start, order, gap)
            if (filling.left(picked) >= 0).all():
                search.offer(picked - model.starts, "H")
        failures = 0 if search.objective > before else failures + 1


class _Filling:
    """Prices, regrets and lattices of one problem, and the moves that are looked at."""

    def __init__(
        self,
        model: ChoiceModel,
        price: FloatArray,
        lattices: Sequence[Lattice],
        tuning: ChoiceTuning,
    ) -> None:
        self.tuning = tuning
        self.model, self.price, self.lattices = model, price, lattices
        profit = model.values - model.costs @ price
        self.regret = np.maximum.reduceat(profit, model.starts)[model.group_of] - profit
        #: The options of no regret: they use too much of a row, or leave too much of it.
        self.best = np.flatnonzero(self.regret == 0.0)
        self.best = self.best[np.unique(model.group_of[self.best], return_index=True)[1]]
        of_lattice = {lattice.row for lattice in lattices}
        self.other = np.array([k for k in range(len(price)) if k not in of_lattice], dtype=np.int64)
        self.multiples = np.stack([lattice.multiple for lattice in lattices], axis=1)
        self.radix = (3 * self.tuning.multiples) ** np.arange(len(lattices), dtype=np.int64)
        every = itertools.permutations(range(len(lattices)))
        self.orders = list(itertools.islice(every, self.tuning.orders))
        self.options = np.zeros(0, dtype=np.int64)

    def narrow(self, gap: float, rng: np.random.Generator | None) -> None:
        """Look at options of little regret only; with a generator, at a part of them."""
        near = np.flatnonzero(self.regret < 2.0 * gap)
        self.options = near if rng is None else near[rng.random(len(near)) < self.tuning.part]

    def left(self, picked: IntArray) -> FloatArray:
        """Return ``(K,)`` what is left of each row."""
        return np.asarray(self.model.limits - self.model.costs[picked].sum(axis=0))

    def filled(self, start: IntArray, order: Sequence[int], gap: float) -> IntArray:
        """Return a choice that uses up the lattice rows in turn, and then the others."""
        picked, left = start.copy(), self.left(start)
        for place, k in enumerate(order):
            self._take(self._used_up(picked, left, k, order[:place], gap), picked, left)
        if len(self.other):
            for _ in range(self.tuning.pairs):
                options = self._pair(picked, left, gap)
                if not len(options):
                    break
                self._take(options, picked, left)
        return picked

    def _take(self, options: IntArray, picked: IntArray, left: FloatArray) -> None:
        """Change the choice, and what is left of the rows with it."""
        groups = self.model.group_of[options]
        left += (self.model.costs[picked[groups]] - self.model.costs[options]).sum(axis=0)
        picked[groups] = options

    def _moves(self, picked: IntArray, gap: float) -> tuple[IntArray, IntArray, FloatArray]:
        """Return options to move to, what they replace, and the regret that adds, least first."""
        now = picked[self.model.group_of[self.options]]
        extra = self.regret[self.options] - self.regret[now]
        moves = np.flatnonzero((extra < gap) & (now != self.options))
        moves = moves[np.argsort(extra[moves], kind="stable")]
        return self.options[moves], now[moves], extra[moves]

    # ------------------------------------------------------------------ one lattice row

    def _used_up(
        self, picked: IntArray, left: FloatArray, k: int, before: Sequence[int], gap: float
    ) -> IntArray:
        """Return the moves that use up row `k` at least regret, the rows `before` unchanged."""
        lattice = self.lattices[k]
        moves, now, extra = self._moves(picked, gap)
        step = lattice.multiple[moves] - lattice.multiple[now]
        same = (self.multiples[moves][:, before] == self.multiples[now][:, before]).all(axis=1)
        free = (step != 0) & same
        moves, step, extra = moves[free], step[free], extra[free]
        units = math.floor(left[lattice.row] / lattice.unit + 1e-6)
        worth = float(self.price[lattice.row]) * lattice.unit
        for _ in range(self.tuning.clashes):
            items = np.flatnonzero(ranks(step) < self.tuning.per_size)
            chosen = items[_cheapest(step[items], extra[items], units, worth, self.tuning)]
            groups = self.model.group_of[moves[chosen]]
            _, first = np.unique(groups, return_index=True)
            if len(first) == len(groups):
                return np.asarray(moves[chosen])
            clashing = np.delete(chosen, first)
            moves, step, extra = (np.delete(a, clashing) for a in (moves, step, extra))
        return np.zeros(0, dtype=np.int64)

    # ------------------------------------------------------------------ the other rows

    def _pair(self, picked: IntArray, left: FloatArray, gap: float) -> IntArray:
        """Return the best one or two moves that leave the lattice rows as they are, if any help."""
        model = self.model
        moves, now, extra = self._moves(picked, gap)
        if not len(moves):
            return moves
        uses = (model.costs[moves] - model.costs[now])[:, self.other]
        left, price = left[self.other], self.price[self.other]
        # Steps in all lattice rows as one number: the opposite steps have the opposite number.
        step = (self.multiples[moves] - self.multiples[now]) @ self.radix
        kinds, kind_of = np.unique(step, return_inverse=True)
        places = {kind: number for number, kind in enumerate(kinds.tolist())}
        best, found = float(self._lacking(left, price)) - model.size * 1e-14, moves[:0]
        for kind, number in places.items():
            other = places.get(-kind, -1)
            if other < number:
                continue
            a = np.flatnonzero(kind_of == number)[: self.tuning.paired]
            b = np.flatnonzero(kind_of == other)[: self.tuning.paired]
            after = left - uses[a][:, None, :] - uses[b][None, :, :]
            total = extra[a][:, None] + extra[b][None, :] + self._lacking(after, price)
            apart = model.group_of[moves[a]][:, None] != model.group_of[moves[b]][None, :]
            total = np.where(apart, total, np.inf)
            top = int(np.argmin(total))
            if total.flat[top] < best:
                best, found = float(total.flat[top]), moves[[a[top // len(b)], b[top % len(b)]]]
            if kind == 0:  # one such move alone leaves the lattice rows as they are, too
                single = extra[a] + self._lacking(left - uses[a], price)
                if single.min() < best:
                    best, found = float(single.min()), moves[a[[int(np.argmin(single))]]]
        return np.asarray(found)

    def _lacking(self, left: FloatArray, price: FloatArray) -> FloatArray:
        """Return the priced rest of the rows; what is missing counts far more."""
        missing = np.maximum(-left, 0.0).sum(axis=-1)
        heavy = 1e3 * float(self.price.max()) * missing
        return np.asarray(np.maximum(left, 0.0) @ price + heavy)


def _cheapest(
    step: IntArray,
    extra: FloatArray,
    left: int,
    worth: float,
    tuning: ChoiceTuning = DEFAULT.choice,
) -> IntArray:
    """Return which items sum to at most `left` at least regret plus `worth` per unit unused.

    None where `left` is too far away for a few items; the first items only where they are many.

    A 0/1 knapsack of signed steps by dynamic programming over what is used (Bellman), within a
    window of sums, and the choice read back from one flag per item and sum. Cost: items times the
    window, in time and in bytes.
    """
    largest = int(np.abs(step).max(initial=0))
    if abs(left) > tuning.away * largest or not largest:
        return np.zeros(0, dtype=np.int64)
    reach = tuning.window * largest
    low, high = min(-reach, left - reach), max(reach, left + reach)
    most = tuning.flags // (high - low + 1)
    step, extra = step[:most], extra[:most]
    least = np.full(high - low + 1, np.inf)
    least[-low] = 0.0
    took = np.zeros((len(step), len(least)), dtype=bool)
    for item, (jump, loss) in enumerate(zip(step.tolist(), extra.tolist(), strict=True)):
        moved = np.full(len(least), np.inf)
        if jump > 0:
            moved[jump:] = least[:-jump] + loss
        else:
            moved[:jump] = least[-jump:] + loss
        took[item] = moved < least
        least = np.minimum(least, moved)
    unused = left - np.arange(low, high + 1)
    total = np.where(unused >= 0, least + worth * unused, np.inf)
    place = int(np.argmin(total))
    chosen = []
    for item in range(len(step) - 1, -1, -1):
        if took[item, place]:
            chosen.append(item)
            place -= int(step[item])
    return np.array(chosen, dtype=np.int64)
