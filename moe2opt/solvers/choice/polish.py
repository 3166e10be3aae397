"""Polishing solutions of large multiple-choice problems: pairs of moves that use up what is left.

Under the root's prices every option has a regret. A solution is as far from the bound as its
regrets and the priced budget that it leaves unused add up to. So only moves to options of little
regret can help, and of those, pairs whose uses together fill what is left.
"""

from __future__ import annotations

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.choice.model import ChoiceModel
from moe2opt.solvers.tuning import ChoiceTuning

#: Cells farther away than this are all alike: far.
_FAR = 1e15

#: Neither gain nor loss: where combinations start.
_NONE = np.zeros(1)


def polish(model: ChoiceModel, price: FloatArray, bound: float, search: Search) -> None:
    """Improve the incumbent until the bound closes or no combination of few moves helps."""
    if search.x is None:
        return
    profit = model.values - model.costs @ price
    regret = np.maximum.reduceat(profit, model.starts)[model.group_of] - profit
    picked = model.starts + search.x
    failures, tuning = 0, search.options.tuning.choice
    while failures < tuning.failures:
        if search.prunes(bound) or search.limit_reached() is not None:
            return
        rng = search.rng if failures else None
        gap = bound - search.objective
        options = _combination(model, regret, price, picked, gap, rng, tuning)
        if options is None:
            failures += 1
            continue
        picked = picked.copy()
        picked[model.group_of[options]] = options
        if not search.offer(picked - model.starts, "H"):
            return


def _combination(
    model: ChoiceModel,
    regret: FloatArray,
    price: FloatArray,
    picked: IntArray,
    gap: float,
    rng: np.random.Generator | None,
    tuning: ChoiceTuning,
) -> IntArray | None:
    """Return the options of the best combination of moves that a beam search meets.

    A state is what is left of the rows and what was lost and gained so far; states that agree in
    cells of the priced use count as alike. Cost per move of a combination: beam times moves times
    rows, in time and in memory.
    """
    now = picked[model.group_of]
    extra = regret - regret[now]
    extra[picked] = np.inf
    options = _moves(model, extra, now, price, gap, rng, tuning)
    count = len(options)
    if not count:
        return None
    gain = model.values[options] - model.values[now[options]]
    uses = model.costs[options] - model.costs[now[options]]
    groups, lost = model.group_of[options], extra[options]
    cell = np.maximum(price, 1e-3 * gap / np.maximum(np.abs(uses).max(axis=0), 1e-300))
    cell = cell / (tuning.alike * max(gap, 1e-300))
    room, worth, loss = (model.limits - model.costs[picked].sum(axis=0))[None, :], _NONE, _NONE
    chosen = np.zeros((1, 0), dtype=np.int64)
    best, found = model.size * 1e-13, None
    for _ in range(tuning.depth):
        apart = (groups[chosen][:, :, None] != groups[None, None, :]).all(axis=1)
        losses = np.where(apart, loss[:, None] + lost[None, :], np.inf)
        fits, distance = _fitting(room, uses, cell)
        value = np.where(fits & apart, worth[:, None] + gain[None, :], -np.inf)
        top = int(np.argmax(value))
        if value.flat[top] > best:
            best = float(value.flat[top])
            found = options[np.append(chosen[top // count], top % count)]
        near = _nearest((distance + losses).ravel(), 20 * tuning.beam)
        state, move = np.divmod(near, count)
        after = room[state] - uses[move]
        with np.errstate(over="ignore"):
            cells = np.clip(after * cell, -_FAR, _FAR)
        # The nearest of those alike come first, which is what is kept of them.
        kept = first_of_kinds(np.rint(cells).astype(np.int64))[: tuning.beam]
        if not len(kept):
            break
        state, move, room = state[kept], move[kept], after[kept]
        worth, loss = worth[state] + gain[move], loss[state] + lost[move]
        chosen = np.column_stack([chosen[state], move])
    return found


def _fitting(room: FloatArray, uses: FloatArray, cell: FloatArray) -> tuple[BoolArray, FloatArray]:
    """Return which moves fit into what each state leaves, and how many cells they leave.

    Row after row: a table of all rows at once would not stay in the processor's cache.
    """
    shape = (len(room), len(uses))
    fits, distance = np.ones(shape, dtype=bool), np.zeros(shape)
    with np.errstate(over="ignore"):
        for k, width in enumerate(cell):
            after = room[:, k, None] - uses[None, :, k]
            fits &= after >= 0
            np.abs(after, out=after)
            after *= width
            distance += np.minimum(after, _FAR, out=after)
    return fits, distance


def _moves(
    model: ChoiceModel,
    extra: FloatArray,
    now: IntArray,
    price: FloatArray,
    gap: float,
    rng: np.random.Generator | None,
    tuning: ChoiceTuning,
) -> IntArray:
    """Return moves of little regret, of every size: equal sizes alone cannot fill what is left.

    Of each size the moves of least regret, or any moves of little regret with a generator.
    """
    near = np.flatnonzero(extra < gap)
    near = near[_nearest(extra[near], 50 * tuning.moves)]
    if rng is not None:
        near = near[np.argsort(extra[near] * rng.exponential(size=len(near)))]
    size = np.rint((model.costs[near] - model.costs[now[near]]) * (price / max(gap, 1e-300)))
    kinds = hashed(np.clip(size, -_FAR, _FAR).astype(np.int64))
    return np.asarray(near[np.argsort(ranks(kinds), kind="stable")][: tuning.moves])


def _nearest(distance: FloatArray, most: int) -> IntArray:
    """Return the positions of the least finite distances in rising order, `most` of them."""
    near = np.arange(len(distance))
    if len(near) > most:
        near = np.sort(np.argpartition(distance, most)[:most])
    near = near[np.isfinite(distance[near])]
    return np.asarray(near[np.argsort(distance[near], kind="stable")])


def hashed(rows: IntArray) -> IntArray:
    """Return one number for every row of whole numbers, the same for equal rows.

    Different rows share one so rarely that it hardly matters to a search that drops what is alike.
    """
    factors = np.random.default_rng(0).integers(2**62, size=rows.shape[1]) | 1
    with np.errstate(over="ignore"):
        return np.asarray((rows * factors).sum(axis=1))


def first_of_kinds(rows: IntArray) -> IntArray:
    """Return the positions of the rows that equal none before them."""
    return np.sort(np.unique(hashed(rows), return_index=True)[1])


def ranks(kinds: IntArray) -> IntArray:
    """Return how many entries of the same kind come before each entry."""
    order = np.argsort(kinds, kind="stable")
    ordered = kinds[order]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return rank
