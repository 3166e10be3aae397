"""Compiled branch and bound over the core of a multiple-choice problem.

The tree is kept in flat arrays: position 0 is the root of the core, every position is open, an
inner node with one child (a fixing) or two (a split), or a leaf. An open node stores only the
hyperplanes of its parent's vertex; its box follows from the path to the root.
"""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray
from moe2opt.solvers.choice.kernels import INFEASIBLE, NOBODY, PRUNED, descend, follow, prunes
from moe2opt.solvers.choice.rounding import FRACTION, is_promising, round_choice, worth
from moe2opt.solvers.choice.state import (
    BUDGET,
    CANDIDATE,
    CURRENT,
    DONE,
    DUAL,
    FARKAS,
    FREED,
    FULL,
    GROUP,
    NODES,
    OUT_BUDGET,
    OUT_DUAL,
    PAUSED,
    POSITIONS,
    PRICES,
    QUEUED,
    REFUSED,
    SINGLE,
    State,
    exclude,
    pop,
    prune,
    restore,
    split,
    store_price,
)
from moe2opt.solvers.choice.vertex import (
    Core,
    FlagArray,
    Vertex,
    assign,
    clear,
    fill_profit,
    is_live,
    load_row,
    locate,
    mark_basics,
    unmark_basics,
)
from moe2opt.solvers.jit import entry, inner, merged


@inner
def _tighten(core: Core, state: State, node: int, least: FloatArray, base: FloatArray) -> int:
    """Exclude options that fit with nothing.

    Returns
    -------
    int
        A row that is over its limit, or the number of rows plus a group that is left empty, or -1.
    """
    rows = len(core.limits)
    clear(base)
    for g in range(len(core.starts) - 1):
        for k in range(rows):
            least[g, k] = np.inf
        for o in range(core.starts[g], core.starts[g + 1]):
            if state.box[o]:
                for k in range(rows):
                    least[g, k] = min(least[g, k], core.costs[o, k])
        for k in range(rows):
            base[k] += least[g, k]
    for k in range(rows):
        if base[k] > core.loose[k]:
            return k
    for g in range(len(core.starts) - 1):
        left = 0
        for o in range(core.starts[g], core.starts[g + 1]):
            if state.box[o]:
                left += 1
                for k in range(rows):
                    if base[k] - least[g, k] + core.costs[o, k] > core.loose[k]:
                        exclude(state, node, OUT_BUDGET, o, k)
                        left -= 1
                        break
        if left == 0:
            return rows + g
    return -1


@inner
def _fix(
    core: Core, at: Vertex, state: State, node: int, value: float, cutoff: float, number: int
) -> int:
    """Fix to zero the options that the prices rule out; return how many groups are still open."""
    open_groups = 0
    for g in range(len(core.starts) - 1):
        best, allowed = -np.inf, 0
        for o in range(core.starts[g], core.starts[g + 1]):
            if state.box[o]:
                best = max(best, at.profit[o])
                allowed += 1
        if allowed > 1 and not core.aimless:
            for o in range(core.starts[g], core.starts[g + 1]):
                if state.box[o] and at.profit[o] < best:
                    bound = value - (best - at.profit[o]) + core.error * core.size
                    if prunes(core, bound, cutoff):
                        exclude(state, node, OUT_DUAL, o, number)
                        state.pruned[0] = max(state.pruned[0], bound)
                        allowed -= 1
        if allowed > 1:
            open_groups += 1
    return open_groups


@inner
def _fall(core: Core, at: Vertex, box: FlagArray, i: int, side: float) -> float:
    """Return how far the bound falls at least when a fractional option is out, or chosen."""
    f = at.first[i]
    assign(at.saved, at.key)
    mark_basics(core, at, box)
    for k in range(len(at.price)):
        at.direction[k] = side * at.inverse[k, i]
    if side > 0.0:
        at.key[core.group_of[f]] = f
        _, _, fallen = follow(core, at, box, at.weight[i] - 1.0, core.group_of[f])
    else:
        _, _, fallen = follow(core, at, box, -at.weight[i], NOBODY)
    assign(at.key, at.saved)
    unmark_basics(at)
    return fallen


@inner
def _branching(
    core: Core, at: Vertex, box: FlagArray, room: float, small: bool
) -> tuple[int, bool]:
    """Return the option to branch on, and whether to look at the side without it first."""
    best, chosen, out_first = -1.0, -1, False
    for i in range(len(at.first)):
        if not is_live(core.group_of, at, box, i):
            continue
        y = at.weight[i]
        if y < FRACTION or y > 1.0 - FRACTION:
            continue
        if small and room < np.inf:
            out = min(_fall(core, at, box, i, -1.0), room) + 1e-6 * room
            taken = min(_fall(core, at, box, i, 1.0), room) + 1e-6 * room
            score, out_side = out * taken, out < taken
        else:
            score, out_side = min(y, 1.0 - y), y < 0.5
        if score > best:
            best, chosen, out_first = score, at.first[i], out_side
    return chosen, out_first


@inner
def _any_open(core: Core, at: Vertex, box: FlagArray) -> int:
    """Return the key of the first group that is still open."""
    for g in range(len(at.key)):
        allowed = 0
        for o in range(core.starts[g], core.starts[g + 1]):
            allowed += box[o]
        if allowed > 1:
            return int(at.key[g])
    return -1


@inner
def _enter(core: Core, at: Vertex, state: State, node: int) -> None:
    """Go to the vertex of a node's parent."""
    load_row(at.first, state.node_first, node)
    load_row(at.partner, state.node_partner, node)
    locate(core, at)
    fill_profit(core, at)
    for g in range(len(at.key)):
        best, key = -np.inf, -1
        for o in range(core.starts[g], core.starts[g + 1]):
            if state.box[o] and at.profit[o] > best:
                best, key = at.profit[o], o
        at.key[g] = key
    for i in range(len(at.first)):
        if at.first[i] >= 0:
            at.key[core.group_of[at.first[i]]] = at.partner[i]


@merged
def _examine(
    core: Core,
    at: Vertex,
    state: State,
    node: int,
    cutoff: float,
    best: float,
    small_core: int,
    always: int,
) -> int:
    """Bound, fix and split the current node; return why the caller is needed, or PAUSED."""
    least, left = state.least, state.left
    restore(core, state, node)
    over = _tighten(core, state, node, least, left)
    if over >= 0:
        rows = len(left)
        if over < rows:
            prune(state, node, BUDGET, over, -np.inf)
        else:
            prune(state, node, GROUP, over - rows, -np.inf)
        return PAUSED
    _enter(core, at, state, node)
    ending, value = descend(core, at, state.box, cutoff, 40 + 20 * len(left))
    if ending == INFEASIBLE:
        prune(state, node, FARKAS, store_price(state, at.direction), -np.inf)
        return PAUSED
    if core.aimless:
        clear(at.price)
    number = state.node_prices[node]
    if value <= state.node_bound[node]:
        # Even at an equal bound these may be other prices, and fixings need their own.
        number = store_price(state, at.price)
    if value < state.node_bound[node]:
        state.node_bound[node], state.node_prices[node] = value, number
    if ending == PRUNED:
        prune(state, node, DUAL, state.node_prices[node], state.node_bound[node])
        return PAUSED
    tried = state.counts[REFUSED] == node or not is_promising(core, at, state, node)
    fits = not tried and round_choice(core, at, state, left)
    if fits and (core.aimless or worth(core, state) > best):
        return CANDIDATE
    # In a large core, fixings that exclude little would fill the memory with records.
    often = len(state.box) <= always or value - cutoff < 0.6 * state.node_gap[node]
    if value <= state.node_bound[node] and often:
        groups = _fix(core, at, state, node, value, cutoff, number)
        state.node_gap[node] = value - cutoff
    else:
        groups = 1 if _any_open(core, at, state.box) >= 0 else 0
    if groups == 0:
        assign(state.candidate, at.key)
        return SINGLE
    small = len(state.box) <= small_core
    option, out_first = _branching(core, at, state.box, value - cutoff, small)
    if option < 0:
        option = _any_open(core, at, state.box)
    split(state, at, node, option, out_first)
    return PAUSED


@entry
def explore(
    core: Core,
    at: Vertex,
    state: State,
    cutoff: float,
    best: float,
    nodes: int,
    small_core: int,
    often: int,
) -> int:
    """Work through up to `nodes` nodes; return why the search came back.

    Best bound first, and depth first below a node until it is pruned: select, tighten by rows,
    descend to the node's dual vertex from its parent's, round, fix by reduced profits, branch on
    the fractional option whose two sides lose most (`_examine`). A node stores only the K
    hyperplanes of its vertex; its box is rebuilt from the path to the root. Cost per node: that of
    a few steps of `descend`, and options times rows for tightening and rounding.

    Parameters
    ----------
    core, at, state
        The problem, room for a vertex, and the tree; tree and vertex change.
    cutoff
        Bounds up to this are pruned.
    best
        Candidates worth more than this come back.
    nodes
        Nodes to examine at most.
    small_core, often
        See `moe2opt.solvers.tuning.ChoiceTuning`.
    """
    counts = state.counts
    options = len(core.values)
    done = 0
    while True:
        if counts[CURRENT] < 0:
            if counts[QUEUED] == 0:
                return DONE
            counts[CURRENT] = pop(state)
        node = counts[CURRENT]
        if prunes(core, state.node_bound[node], cutoff):
            prune(state, node, DUAL, state.node_prices[node], state.node_bound[node])
            continue
        if done >= nodes:
            return PAUSED
        if (
            counts[FREED] < 3
            or counts[PRICES] + 2 > len(state.prices)
            or counts[POSITIONS] + 2 * options + 8 > len(state.parent)
        ):
            return FULL
        done += 1
        counts[NODES] += 1
        event = _examine(core, at, state, node, cutoff, best, small_core, often)
        if event in (CANDIDATE, SINGLE):
            return event
        counts[REFUSED] = -1
