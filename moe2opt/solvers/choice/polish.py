"""Polishing solutions of large multiple-choice problems: pairs of moves that use up what is left.

Under the root's prices every option has a regret. A solution is as far from the bound as its
regrets and the priced budget that it leaves unused add up to. So only moves to options of little
regret can help, and of those, pairs whose uses together fill what is left.
"""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.choice.model import ChoiceModel
from moe2opt.solvers.tuning import ChoiceTuning

#: Cells farther away than this are all alike: far.
_FAR = 1e15


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
    left = model.limits - model.costs[picked].sum(axis=0)
    room, worth, loss = left[None, :], np.zeros(1), np.zeros(1)
    chosen = np.zeros((1, 0), dtype=np.int64)
    best, found = model.size * 1e-13, None
    for _ in range(tuning.depth):
        after = room[:, None, :] - uses[None, :, :]
        total, losses = worth[:, None] + gain[None, :], loss[:, None] + lost[None, :]
        apart = (groups[chosen][:, :, None] != groups[None, None, :]).all(axis=1)
        value = np.where(apart & (after >= 0).all(axis=2), total, -np.inf)
        top = int(np.argmax(value))
        if value.flat[top] > best:
            best = float(value.flat[top])
            found = options[np.append(chosen[top // count], top % count)]
        with np.errstate(over="ignore"):
            cells = after * cell
        state, move = _kept(np.where(apart, losses, np.inf), cells, tuning.beam)
        if not len(state):
            break
        room, worth, loss = after[state, move], total[state, move], losses[state, move]
        chosen = np.column_stack([chosen[state], move])
    return found


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
    near = near[np.argsort(extra[near], kind="stable")][: 50 * tuning.moves]
    if rng is not None:
        near = near[np.argsort(extra[near] * rng.exponential(size=len(near)))]
    size = np.rint((model.costs[near] - model.costs[now[near]]) * (price / max(gap, 1e-300)))
    _, sort = np.unique(size, axis=0, return_inverse=True)
    return np.asarray(near[np.argsort(ranks(sort.ravel()), kind="stable")][: tuning.moves])


def ranks(kinds: IntArray) -> IntArray:
    """Return how many entries of the same kind come before each entry."""
    order = np.argsort(kinds, kind="stable")
    ordered = kinds[order]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return rank


def _kept(losses: FloatArray, cells: FloatArray, beam: int) -> tuple[IntArray, IntArray]:
    """Return the combinations to carry on: nearest to what is left, one of those alike."""
    cells = np.clip(cells, -_FAR, _FAR)
    distance = (np.abs(cells).sum(axis=2) + losses).ravel()
    near = np.argpartition(distance, min(20 * beam, distance.size) - 1)[: 20 * beam]
    near = near[np.argsort(distance[near], kind="stable")]
    near = near[np.isfinite(distance[near])]
    alike = np.rint(cells.reshape(-1, cells.shape[2])[near]).astype(np.int64)
    _, first = np.unique(alike, axis=0, return_index=True)
    kept = near[np.sort(first)[:beam]]
    return np.divmod(kept, losses.shape[1])
