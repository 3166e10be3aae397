r"""Compiled linear relaxation of multiple-choice problems: descent over the vertices of the dual.

The dual of the linear relaxation is :math:`L(\mu) = \mu b + \sum_g \max_o (v_o - \mu u_o)` over
:math:`\mu \ge 0`: convex, piecewise linear, in as few dimensions as there are budgets. A vertex is
the meeting point of K hyperplanes, each one a price that is zero or a tie between two options of a
group. From a vertex the kernel follows an edge downhill, past every kink at which the function
still falls, to the next vertex. At the lowest one the ties give the fractional choice. Any prices
are a valid bound, so that nothing here has to be trusted.
"""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.choice.vertex import (
    Core,
    FlagArray,
    Vertex,
    clear,
    fill_profit,
    is_live,
    locate,
    mark_basics,
    subtract,
    swap_key,
    unmark_basics,
)
from moe2opt.solvers.jit import entry, inner, no_literal

#: How a descent ends.
OPTIMAL, PRUNED, INFEASIBLE = 0, 1, 2

#: Numbers that are no literals for numba: no group, and the top of the heap.
NOBODY, _TOP = no_literal(-1), no_literal(0)

_TOLERANCE = 1e-9

_TINY = 1e-12


@inner
def lagrangian(core: Core, at: Vertex, box: FlagArray) -> float:
    """Fill profits and keys for the prices; return the bound, rounding errors included."""
    rows = len(at.price)
    total, size = core.base, core.size
    for k in range(rows):
        total += at.price[k] * core.limits[k]
        size += at.price[k] * core.sizes[k]
    fill_profit(core, at)
    for g in range(len(core.starts) - 1):
        best = NOBODY
        for o in range(core.starts[g], core.starts[g + 1]):
            if box[o] and (best < 0 or at.profit[o] > at.profit[best]):
                best = o
        key = at.key[g]
        if not box[key]:
            new = best
            for i in range(rows):
                f = at.first[i]
                tied = f >= 0 and at.partner[i] == key and box[f]
                if tied and at.profit[f] >= at.profit[best] - core.tiny:
                    new = f
            swap_key(at, g, new)
        elif at.profit[key] < at.profit[best] - core.tiny:
            at.key[g] = best
        total += at.profit[best]
    return total + core.error * size


@inner
def _weigh(core: Core, at: Vertex) -> None:
    """Fill the weights of the hyperplanes: the fractional choice that the vertex stands for."""
    rows = len(at.price)
    for k in range(rows):
        at.use[k] = core.limits[k]
    for g in range(len(at.key)):
        for k in range(rows):
            at.use[k] -= core.costs[at.key[g], k]
    for i in range(rows):
        weight = 0.0
        for k in range(rows):
            weight += at.inverse[k, i] * at.use[k]
        at.weight[i] = weight


@inner
def _leaving(core: Core, at: Vertex, box: FlagArray) -> tuple[int, float]:
    """Return the hyperplane to leave and the side, (-1, 0) at an optimum; may swap a key."""
    rows = len(at.price)
    for i in range(rows):
        if is_live(core.group_of, at, box, i):
            g = core.group_of[at.first[i]]
            total, largest = 0.0, i
            for j in range(rows):
                if is_live(core.group_of, at, box, j) and core.group_of[at.first[j]] == g:
                    total += at.weight[j]
                    if at.weight[j] > at.weight[largest]:
                        largest = j
            if total > 1.0 + _TOLERANCE:
                swap_key(at, g, at.first[largest])
                return -2, 0.0
    leave, side, steepest = -1, 0.0, 0.0
    for i in range(rows):
        violation, way = -at.weight[i], 1.0
        if at.first[i] >= 0 and not is_live(core.group_of, at, box, i) and at.weight[i] > 0.0:
            violation, way = at.weight[i], -1.0
        if violation > _TOLERANCE:
            norm = 0.0
            for k in range(rows):
                norm += at.inverse[k, i] * at.inverse[k, i]
            if violation * violation > steepest * norm:
                leave, side, steepest = i, way, violation * violation / norm
    return leave, side


@inner
def _next_kink(core: Core, at: Vertex, box: FlagArray, group: int) -> tuple[float, int]:
    """Return when and by which option the key of a group is overtaken along the edge."""
    key = at.key[group]
    soonest, winner = np.inf, -1
    for o in range(core.starts[group], core.starts[group + 1]):
        if box[o] and not at.basic[o]:
            fall = at.rate[key] - at.rate[o]
            if fall > _TINY:
                time = max(0.0, at.profit[key] - at.profit[o]) / fall
                if time < soonest or (
                    time == soonest and winner >= 0 and at.rate[o] < at.rate[winner]
                ):
                    soonest, winner = time, o
    return soonest, winner


@inner
def _sift(times: FloatArray, options: IntArray, place: int, count: int) -> None:
    """Move the entry at `place` of the heap of kinks down to where it belongs."""
    time, option = times[place], options[place]
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        if child + 1 < count and times[child + 1] < times[child]:
            child += 1
        if times[child] >= time:
            break
        times[place], options[place] = times[child], options[child]
        place = child
    times[place], options[place] = time, option


@inner
def _kinks(core: Core, at: Vertex, box: FlagArray, frozen: int) -> int:
    """Collect the first kink of every group along the edge in a heap; return how many."""
    count = _TOP
    clear(at.rate)
    subtract(core.rows, at.direction, -1.0, at.rate)
    for g in range(len(at.key)):
        if g == frozen:
            continue
        time, winner = _next_kink(core, at, box, g)
        if winner >= 0:
            at.heap_time[count], at.heap_option[count] = time, winner
            count += 1
    for place in range(count // 2 - 1, -1, -1):
        _sift(at.heap_time, at.heap_option, place, count)
    return count


@inner
def follow(
    core: Core, at: Vertex, box: FlagArray, slope: float, frozen: int
) -> tuple[float, int, float]:
    """Follow `direction` while the dual falls, starting with `slope`; changes keys on the way.

    Returns
    -------
    tuple
        How far, the entering hyperplane (an option that ties with its key, ``-1 - row`` for a
        price that becomes zero) and the decrease. How far is ``inf`` on a ray without end.
    """
    end, wall = np.inf, 0
    for k in range(len(at.price)):
        if at.direction[k] < -_TINY:
            time = at.price[k] / -at.direction[k]
            if time < end:
                end, wall = time, -1 - k
    count = _kinks(core, at, box, frozen)
    now, fallen = 0.0, 0.0
    while count:
        time, option = at.heap_time[0], at.heap_option[0]
        if time >= end:
            break
        fallen -= slope * (max(time, now) - now)
        now = max(time, now)
        g = core.group_of[option]
        slope += at.rate[at.key[g]] - at.rate[option]
        if slope >= -_TINY:
            return now, option, fallen
        at.key[g] = option
        at.heap_time[0], at.heap_option[0] = _next_kink(core, at, box, g)
        if at.heap_option[0] < 0:
            count -= 1
            at.heap_time[0], at.heap_option[0] = at.heap_time[count], at.heap_option[count]
        _sift(at.heap_time, at.heap_option, _TOP, count)
    if end == np.inf:
        return np.inf, 0, np.inf
    return end, wall, fallen - slope * (end - now)


@inner
def prunes(core: Core, bound: float, cutoff: float) -> bool:
    """Tell whether a bound leaves no room for a better solution than the cutoff."""
    if core.integral and abs(bound) < np.inf:
        return bool(np.floor(bound) <= cutoff)
    return bound <= cutoff


@inner
def _contradicts(core: Core, at: Vertex, box: FlagArray) -> bool:
    """Tell whether the direction, as prices, proves that the rows cannot hold together."""
    total, size = 0.0, 0.0
    clear(at.rate)
    for k in range(len(at.price)):
        at.direction[k] = max(at.direction[k], 0.0)
        total += at.direction[k] * core.limits[k]
        size += at.direction[k] * core.sizes[k]
    subtract(core.rows, at.direction, 1.0, at.rate)
    for g in range(len(at.key)):
        best = -np.inf
        for o in range(core.starts[g], core.starts[g + 1]):
            if box[o]:
                best = max(best, at.rate[o])
        total += best
    return total + core.error * size < 0.0


@entry
def descend(core: Core, at: Vertex, box: FlagArray, cutoff: float, steps: int) -> tuple[int, float]:
    """Walk downhill from a vertex until the bound prunes, cannot fall, or falls without end.

    The dual simplex of the multiple-choice LP in the space of its K row prices (for one row,
    the problem of Dyer 1984 and Zemel 1984). Each step inverts the K x K matrix
    of the hyperplanes that meet, takes the one whose weight is most negative per unit of its edge,
    and follows that edge past every kink at which the function still falls, which a heap of the
    groups' next kinks hands out in order. Cost per step: K cubed, K times the options for profits
    and rates, and a logarithm of the groups per kink.
    """
    value = np.inf
    for _ in range(steps):
        locate(core, at)
        value = lagrangian(core, at, box)
        if core.aimless:
            value = core.base
        if prunes(core, value, cutoff):
            return PRUNED, value
        leave, side, moved = -2, 0.0, False
        for _ in range(len(at.price) + 2):
            _weigh(core, at)
            leave, side = _leaving(core, at, box)
            if leave != -2:
                break
            locate(core, at)
            moved = True
        if leave < 0:
            if moved and not core.aimless:
                # Hyperplanes that no longer meet start over at other prices.
                value = lagrangian(core, at, box)
            return OPTIMAL, value
        for k in range(len(at.price)):
            at.direction[k] = side * at.inverse[k, leave]
        mark_basics(core, at, box)
        if at.first[leave] >= 0:
            at.basic[at.first[leave]] = 0
        time, entering, _ = follow(core, at, box, side * at.weight[leave], NOBODY)
        unmark_basics(at)
        if time == np.inf:
            if _contradicts(core, at, box):
                return INFEASIBLE, value
            if moved and not core.aimless:
                value = lagrangian(core, at, box)
            return OPTIMAL, value
        at.first[leave] = entering
        at.partner[leave] = at.key[core.group_of[entering]] if entering >= 0 else -1
    locate(core, at)
    value = core.base if core.aimless else lagrangian(core, at, box)
    _weigh(core, at)
    return (PRUNED if prunes(core, value, cutoff) else OPTIMAL), value
