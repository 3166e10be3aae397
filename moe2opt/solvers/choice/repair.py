"""Compiled repair: from any choice of options to one that fits and uses up what is left."""

from __future__ import annotations

from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.choice.vertex import Core, assign
from moe2opt.solvers.jit import entry, inner


@inner
def _take(core: Core, x: IntArray, left: FloatArray, move: int) -> None:
    """Choose an option instead of the one of its group."""
    g = core.group_of[move]
    for k in range(len(left)):
        left[k] += core.costs[x[g], k] - core.costs[move, k]
    x[g] = move


@inner
def _lighten(core: Core, profit: FloatArray, x: IntArray, left: FloatArray) -> bool:
    """Move to options that lose little and relieve rows that are over; tell whether none is."""
    rows = len(left)
    for _ in range(4 * len(x) + 4):
        over = 0.0
        for k in range(rows):
            over += max(0.0, -left[k])
        if over <= 0.0:
            return True
        best, move = 0.0, -1
        for g in range(len(x)):
            now = x[g]
            for o in range(core.starts[g], core.starts[g + 1]):
                after = 0.0
                for k in range(rows):
                    after += max(0.0, core.costs[o, k] - core.costs[now, k] - left[k])
                if after < over:
                    loss = max(profit[now] - profit[o], 0.0) + core.tiny
                    if (over - after) / loss > best:
                        best, move = (over - after) / loss, o
        if move < 0:
            return False
        _take(core, x, left, move)
    return False


@inner
def _fill(core: Core, x: IntArray, left: FloatArray) -> None:
    """Take the upgrade that gains most while one fits."""
    rows = len(left)
    for _ in range(len(x)):
        best, move = core.tiny, -1
        for g in range(len(x)):
            now = x[g]
            for o in range(core.starts[g], core.starts[g + 1]):
                gain = core.values[o] - core.values[now]
                if gain > best:
                    fits = True
                    for k in range(rows):
                        if core.costs[o, k] - core.costs[now, k] > left[k]:
                            fits = False
                            break
                    if fits:
                        best, move = gain, o
        if move < 0:
            return
        _take(core, x, left, move)


@entry
def settle(core: Core, profit: FloatArray, x: IntArray, left: FloatArray) -> bool:
    """Repair and fill up a choice in place; return whether it fits.

    Parameters
    ----------
    core
        Data of the open groups.
    profit
        ``(M,)`` values less priced use: what a move is judged by while rows are over.
    x, left
        ``(G,)`` an option of each group and ``(K,)`` room to work.
    """
    assign(left, core.limits)
    for g in range(len(x)):
        for k in range(len(left)):
            left[k] -= core.costs[x[g], k]
    if not _lighten(core, profit, x, left):
        return False
    _fill(core, x, left)
    return True
