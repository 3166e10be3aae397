"""Compiled rounding: from the fractional choice of a node to a solution."""

from __future__ import annotations

from moe2opt.result import FloatArray
from moe2opt.solvers.choice.state import NODES, State
from moe2opt.solvers.choice.vertex import Core, Vertex, assign, is_live
from moe2opt.solvers.jit import inner

FRACTION = 1e-7


@inner
def round_choice(core: Core, at: Vertex, state: State, left: FloatArray) -> bool:
    """Round the fractional choice and use up what is left; tell whether it fits.

    The larger half of each tie first, then single moves that relieve rows at least regret, then
    single upgrades, each found by a pass over all options: options times rows per move.
    """
    rows = len(left)
    x = state.candidate
    assign(x, at.key)
    for i in range(rows):
        if is_live(core.group_of, at, state.box, i) and at.weight[i] > 0.5:
            x[core.group_of[at.first[i]]] = at.first[i]
    assign(left, core.limits)
    for g in range(len(x)):
        for k in range(rows):
            left[k] -= core.costs[x[g], k]
    _lighten(core, at, state, left)
    for k in range(rows):
        if left[k] < 0.0:
            return False
    _fill(core, state, left)
    return True


@inner
def _lighten(core: Core, at: Vertex, state: State, left: FloatArray) -> None:
    """Move to options that lose little and relieve the rows that are over, while any are."""
    rows = len(left)
    x = state.candidate
    for _ in range(len(x)):
        over = 0.0
        for k in range(rows):
            over += max(0.0, -left[k])
        if over <= 0.0:
            return
        best, move = 0.0, -1
        for g in range(len(x)):
            now = x[g]
            for o in range(core.starts[g], core.starts[g + 1]):
                if state.box[o] and o != now:
                    after = 0.0
                    for k in range(rows):
                        after += max(0.0, core.costs[o, k] - core.costs[now, k] - left[k])
                    loss = max(at.profit[now] - at.profit[o], 0.0) + core.tiny
                    if (over - after) / loss > best:
                        best, move = (over - after) / loss, o
        if move < 0:
            return
        g = core.group_of[move]
        for k in range(rows):
            left[k] += core.costs[x[g], k] - core.costs[move, k]
        x[g] = move


@inner
def _fill(core: Core, state: State, left: FloatArray) -> None:
    """Take the upgrade that gains most while one fits, some times."""
    rows = len(left)
    x = state.candidate
    for _ in range(8):
        best, move = core.tiny, -1
        for g in range(len(x)):
            now = x[g]
            for o in range(core.starts[g], core.starts[g + 1]):
                gain = core.values[o] - core.values[now]
                if gain > best and state.box[o]:
                    fits = True
                    for k in range(rows):
                        if core.costs[o, k] - core.costs[now, k] > left[k]:
                            fits = False
                            break
                    if fits:
                        best, move = gain, o
        if move < 0:
            return
        g = core.group_of[move]
        for k in range(rows):
            left[k] += core.costs[x[g], k] - core.costs[move, k]
        x[g] = move


@inner
def is_promising(core: Core, at: Vertex, state: State, node: int) -> bool:
    """Tell whether to round here: near the root, now and then, and where nothing is fractional."""
    if state.node_depth[node] < 6 or state.counts[NODES] % 8 == 0:
        return True
    for i in range(len(at.first)):
        if is_live(core.group_of, at, state.box, i) and FRACTION < at.weight[i] < 1.0 - FRACTION:
            return False
    return True


@inner
def worth(core: Core, state: State) -> float:
    """Return the value of the candidate, up to rounding."""
    total = core.base
    for g in range(len(state.candidate)):
        total += core.values[state.candidate[g]]
    return total
