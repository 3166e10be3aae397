"""Walks from the incumbent with a short memory: better plans where many rows bind.

Rounding and swaps end at plans that no single move improves. A walk goes on from there: it takes
the best move that it did not just undo, may overstep rows at prices that rise while they are
overstepped, and so crosses between plans that differ in many moves (a tabu search with strategic
oscillation; Glover and Kochenberger 1996 for knapsacks with many rows). The row prices of the root
say which moves are worth a look, and how much of a gain the use of a row costs.
"""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.choice.model import ChoiceModel
from moe2opt.solvers.choice.vertex import Core, assign
from moe2opt.solvers.jit import entry, inner

#: Factors of the price of a row: when it is overstepped, when it is not, and the most in all.
_UP, _DOWN, _MOST = 1.1, 0.97, 50.0


def walk(model: ChoiceModel, price: FloatArray, bound: float, search: Search, moves: int) -> None:
    """Walk for some moves among options of little regret, and offer the best plan met.

    Parameters
    ----------
    model, price, bound
        The problem, row prices of its root, and the bound that they prove.
    search
        Incumbent and limits.
    moves
        Moves of the walk; each looks at all options that are left, mostly without their rows.
    """
    if search.x is None or model.aimless:
        return
    tuning = search.options.tuning.choice
    profit = model.values - model.costs @ price
    regret = np.maximum.reduceat(profit, model.starts)[model.group_of] - profit
    picked = model.starts + search.x
    shares, gap = tuning.walk_shares, bound - search.objective
    places = np.minimum(len(model.starts) + np.array(tuning.walk_options), len(regret) - 1)
    fewest, most = np.partition(regret, places)[places]
    share = shares[int(search.rng.integers(len(shares)))]
    level = min(gap, max(fewest, min(share * gap, most)))
    box = regret < level
    box[picked] = True
    part = model.part(box)
    core = part.core
    if not len(part.groups):
        return
    now = np.searchsorted(part.options, picked[part.groups])
    left = core.limits - core.costs[now].sum(axis=0)
    best = now.copy()
    least = np.maximum(price + 0.05 * price.mean(), 1e-300)
    worth = np.array([core.values[now].sum(), core.values[now].sum() + core.tiny])
    until, weight = np.zeros(len(core.values), np.int64), least.copy()
    clock = np.array([1, search.rng.integers(2**31)])
    pulled = core.values - tuning.walk_pull * (core.costs @ price)
    start = worth[1]
    while clock[0] <= moves and not search.pressed():
        step(core, pulled, left, now, best, worth, until, weight, 0.1 * least, clock, 500)
    if worth[1] > start:
        search.offer(part.complete(best) - model.starts, "H")


@inner
def _best_move(
    core: Core,
    pulled: FloatArray,
    left: FloatArray,
    now: IntArray,
    worth: FloatArray,
    until: IntArray,
    weight: FloatArray,
    time: int,
) -> int:
    """Return the option to move to: the largest gain less overstepping; -1 if all are tabu.

    A tabu move counts if it leads to a new best plan.
    """
    top, move = -np.inf, -1
    for g in range(len(now)):
        at = now[g]
        for o in range(core.starts[g], core.starts[g + 1]):
            score = pulled[o] - pulled[at]
            if o == at or score <= top:
                continue
            tabu = until[o] > time
            if tabu and worth[0] + core.values[o] - core.values[at] <= worth[1]:
                continue
            for k in range(len(left)):
                over = core.costs[o, k] - core.costs[at, k] - left[k]
                if over > 0.0:
                    score -= over * weight[k]
                    if tabu or score <= top:
                        score = -np.inf
                        break
            if score > top:
                top, move = score, o
    return move


@entry
def step(
    core: Core,
    pulled: FloatArray,
    left: FloatArray,
    now: IntArray,
    best: IntArray,
    worth: FloatArray,
    until: IntArray,
    weight: FloatArray,
    least: FloatArray,
    clock: IntArray,
    moves: int,
) -> None:
    """Take some moves of a walk; all arrays but `core`, `pulled` and `least` change.

    Parameters
    ----------
    core
        The problem.
    pulled
        ``(M,)`` values less most of what the use of the rows costs at the root's prices.
    left
        ``(K,)`` what the plan at hand leaves of the rows; negative where it oversteps.
    now, best
        ``(G,)`` options of the plan at hand and of the best one that oversteps nothing.
    worth
        Their values.
    until
        ``(M,)`` time up to which an option is tabu.
    weight, least
        ``(K,)`` prices of overstepping, and their least values.
    clock
        Time, and the state of a linear congruential generator.
    """
    for _ in range(moves):
        clock[0] += 1
        move = _best_move(core, pulled, left, now, worth, until, weight, clock[0])
        if move < 0:
            continue
        g, fits = core.group_of[move], True
        old = now[g]
        for k in range(len(left)):
            left[k] += core.costs[old, k] - core.costs[move, k]
            if left[k] < 0.0:
                fits = False
                weight[k] = min(weight[k] * _UP, _MOST * least[k])
            else:
                weight[k] = max(weight[k] * _DOWN, least[k])
        worth[0] += core.values[move] - core.values[old]
        now[g] = move
        clock[1] = (clock[1] * 1103515245 + 12345) % 2147483648
        until[old] = clock[0] + 4 + (clock[1] // 256) % 6
        if fits and worth[0] > worth[1]:
            worth[1] = worth[0]
            assign(best, now)
