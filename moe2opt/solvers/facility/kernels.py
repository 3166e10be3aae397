"""Compiled inner loops of the facility engine.

Those that look at values walk each cluster's experts from the best downwards and stop at the
threshold, so that their cost is the number of values above thresholds, not clusters times experts.
They are compiled on first use and cached on disk (numba falls back to a folder of the user where
the package folder is read-only).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.jit import entry, inner, merged, reordered

#: Expert indices in falling order of value, kept small because there are C x N of them.
IndexArray = npt.NDArray[np.int32]


@entry
def excess_above(
    ranked: FloatArray, experts: IndexArray, thresholds: FloatArray, size: int
) -> FloatArray:
    """Return per expert the sum over clusters of its value above the cluster's threshold.

    It is what choosing the expert adds to the Lagrangian value when every cluster pays its
    threshold (Cornuejols, Fisher and Nemhauser 1977). Cost: the values above thresholds.

    Parameters
    ----------
    ranked, experts
        ``(C, M)`` values of each cluster in falling order, and whose they are.
    thresholds
        ``(C,)``.
    size
        Number of experts N.
    """
    total = np.zeros(size)
    depth = ranked.shape[1]
    for c in range(len(thresholds)):
        k = 0
        while k < depth and ranked[c, k] > thresholds[c]:
            total[experts[c, k]] += ranked[c, k] - thresholds[c]
            k += 1
    return total


@entry
def fill_to_one(
    ranked: FloatArray, experts: IndexArray, y: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return per cluster the value at which the experts, best first, reach a total y of one.

    The second array is the cluster's value under y: the y-weighted best values up to that point.
    These values solve a cluster's part of the strong LP for fixed y (a fractional knapsack of one),
    and the thresholds are its duals, hence the coefficients of the deepest cut of Nemhauser and
    Wolsey (1981). Cost: the experts that a cluster's unit of y reaches.
    """
    clusters, depth = ranked.shape
    thresholds = np.zeros(clusters)
    values = np.zeros(clusters)
    for c in range(clusters):
        mass = 0.0
        k = 0
        while k < depth and mass < 1.0 - 1e-9:
            weight = min(y[experts[c, k]], 1.0 - mass)
            if weight > 0.0:
                mass += weight
                values[c] += weight * ranked[c, k]
                thresholds[c] = ranked[c, k]
            k += 1
        if mass < 1.0 - 1e-9:
            thresholds[c] = 0.0
    return thresholds, values


@inner
def _fits(costs: FloatArray, left: FloatArray, come: int, go: int) -> bool:
    for r in range(len(left)):
        back = 0.0 if go < 0 else costs[r, go]
        if costs[r, come] - back > left[r]:
            return False
    return True


@inner
def _survey(
    ranked: FloatArray,
    experts: IndexArray,
    slot: IntArray,
    gain: FloatArray,
    loss: FloatArray,
    saved: FloatArray,
) -> None:
    """Fill what experts gain coming in, lose going out, and save by standing in for another.

    `slot` is the position of a chosen expert, -1 for the others; the rest is zero at first. Cost:
    the values above each cluster's second best choice.
    """
    clusters, depth = ranked.shape
    for c in range(clusters):
        first, second, leader = 0.0, 0.0, -1
        for k in range(depth):
            position = slot[experts[c, k]]
            if position >= 0:
                if leader >= 0:
                    second = ranked[c, k]
                    break
                first, leader = ranked[c, k], position
        if leader >= 0:
            loss[leader] += first - second
        for k in range(depth):
            value = ranked[c, k]
            if value <= second:
                break
            m = experts[c, k]
            if slot[m] < 0:
                gain[m] += max(0.0, value - first)
                if leader >= 0:
                    # If the leader goes, m stands in for it down to the runner-up.
                    saved[m, leader] += min(value, first) - second


@merged
def _best_swap(
    ranked: FloatArray,
    experts: IndexArray,
    original: IntArray,
    chosen: BoolArray,
    fixed: BoolArray,
    opening: FloatArray,
    costs: FloatArray,
    left: FloatArray,
) -> tuple[float, int, int]:
    """Return the best exchange of one chosen expert for another one, addition or removal.

    Fast interchange (Whitaker 1983; with the table of savings Resende and Werneck 2004): one pass
    over the values gives, for every expert coming in, its gain and the loss of every expert going
    out. Copies of an expert share their values, so the pass goes over those of which they are
    copies. Cost: that pass, and then experts times chosen ones times rows.

    Parameters
    ----------
    ranked, experts
        ``(C, M)`` values of each cluster in falling order, and whose they are.
    original
        ``(N,)`` the expert in `experts` of which each one is a copy.
    chosen, fixed
        Current choice, and experts that may neither come nor go.
    opening
        ``(N,)`` opening costs.
    costs, left
        Budget rows and what is left of each limit.

    Returns
    -------
    tuple
        Gain, expert coming in and expert going out, -1 for nobody; gain 0 without a move.
    """
    size = len(chosen)
    members, count = np.zeros(size, np.int64), 0
    slot, gain = np.zeros(size, np.int64), np.zeros(size)
    for i in range(size):
        slot[i] = -1
    for i in range(size):
        if chosen[i]:
            members[count], slot[original[i]] = i, count
            count += 1
    loss, saved = np.zeros(count + 1), np.zeros((size, count + 1))
    _survey(ranked, experts, slot, gain, loss, saved)
    best, come, go = 0.0, -1, -1
    for i in range(size):
        m = original[i]
        if slot[m] >= 0 or fixed[i]:
            continue
        net = gain[m] - opening[i]
        if net > best and _fits(costs, left, i, -1):
            best, come, go = net, i, -1
        for position in range(count):
            j = members[position]
            change = net - loss[position] + saved[m, position] + opening[j]
            if change > best and not fixed[j] and _fits(costs, left, i, j):
                best, come, go = change, i, j
    for position in range(count):
        j = members[position]
        if opening[j] - loss[position] > best and not fixed[j]:
            best, come, go = opening[j] - loss[position], -1, j
    return best, come, go


@entry
def exchange(
    ranked: FloatArray,
    experts: IndexArray,
    original: IntArray,
    chosen: BoolArray,
    fixed: BoolArray,
    opening: FloatArray,
    costs: FloatArray,
    left: FloatArray,
    smallest_gain: float,
    most: int,
) -> int:
    """Make the best move that gains more than `smallest_gain`, and again; return how many.

    Changes `chosen` and `left`; see `_best_swap` for the other parameters, and `most` for how many
    moves at most. Cost: that of `_best_swap` per move, and one more to see that there is none.
    """
    for move in range(most):
        gain, come, go = _best_swap(ranked, experts, original, chosen, fixed, opening, costs, left)
        if gain <= smallest_gain:
            return move
        if come >= 0:
            chosen[come] = True
            for r in range(len(left)):
                left[r] -= costs[r, come]
        if go >= 0:
            chosen[go] = False
            for r in range(len(left)):
                left[r] += costs[r, go]
    return most


@entry
def add_what_fits(order: IntArray, rows: FloatArray, left: FloatArray, chosen: BoolArray) -> None:
    """Add experts in the given order while every row has room; changes `chosen` and `left`."""
    for i in order:
        fits = not chosen[i]
        for r in range(len(left)):
            if rows[r, i] > left[r]:
                fits = False
        if fits:
            chosen[i] = True
            for r in range(len(left)):
                left[r] -= rows[r, i]


@reordered
def _gain_over(values: FloatArray, best: FloatArray) -> float:
    gain = 0.0
    for c in range(len(best)):
        gain += max(values[c] - best[c], 0.0)
    return gain


@entry
def add_by_gain(
    gains: FloatArray,
    opening: FloatArray,
    per_gain: FloatArray,
    costs: FloatArray,
    left: FloatArray,
    groups: FloatArray,
    smallest_gain: float,
    best: FloatArray,
    fits: BoolArray,
    chosen: BoolArray,
    rank: FloatArray,
) -> None:
    """Add experts by falling score while they fit and gain: lazily, since gains only ever shrink.

    The lazy greedy algorithm (Minoux 1978): a gain from before is an upper bound now, so only the
    expert on top is computed anew, at the cost of one pass over the clusters; finding the top is a
    scan of all experts.

    Parameters
    ----------
    gains
        ``(N, C)`` values.
    opening
        ``(N,)`` opening costs, which gains are reduced by.
    per_gain
        ``(N,)`` score of a gain of one.
    costs, left
        ``(K, N)`` rows and ``(K,)`` what is left of them, changed.
    groups
        ``(G, N)`` indicators of cliques.
    smallest_gain
        Smaller gains count as none.
    best
        ``(C,)`` value that each cluster has already, changed.
    fits, chosen
        Experts that can be added on their own, and that are chosen, changed.
    rank
        ``(N,)`` working memory.
    """
    size = len(chosen)
    for i in range(size):
        if fits[i]:
            rank[i] = (_gain_over(gains[i], best) - opening[i]) * per_gain[i]
    while True:
        i = -1
        for j in range(size):
            if fits[j] and rank[j] > 0.0 and (i < 0 or rank[j] > rank[i]):
                i = j
        if i < 0:
            return
        gain = _gain_over(gains[i], best) - opening[i]
        if gain <= smallest_gain:
            fits[i] = False
        elif gain * per_gain[i] < rank[i]:
            rank[i] = gain * per_gain[i]
        else:
            chosen[i] = True
            fits[i] = False
            for c in range(len(best)):
                best[c] = max(best[c], gains[i, c])
            for r in range(len(left)):
                left[r] -= costs[r, i]
            for j in range(size):
                for r in range(len(left)):
                    if costs[r, j] > left[r]:
                        fits[j] = False
                for g in range(len(groups)):
                    if groups[g, i] > 0.0 and groups[g, j] > 0.0:
                        fits[j] = False


@entry
def find_excluded(
    rows: FloatArray,
    limits: FloatArray,
    margin: float,
    forced: BoolArray,
    allowed: BoolArray,
    row_of: IntArray,
) -> int:
    """Return the first row that the forced experts break, -1 if none, and why others must stay out.

    Propagation of linear rows: what is left of a row after the forced experts fixes to zero whoever
    needs more. Cost: rows times experts.

    Parameters
    ----------
    rows, limits
        ``(K, N)`` and ``(K,)``.
    margin
        Relative excess of a limit that counts as none.
    forced, allowed
        ``(N,)`` flags.
    row_of
        ``(N,)`` minus one, filled with the first row that an allowed expert breaks beside the
        forced ones.
    """
    size = len(forced)
    for r in range(len(limits)):
        left = limits[r]
        for i in range(size):
            if forced[i]:
                left -= rows[r, i]
        slack = margin * abs(limits[r])
        if left < -slack:
            return r
        for i in range(size):
            if allowed[i] and not forced[i] and row_of[i] < 0 and rows[r, i] > left + slack:
                row_of[i] = r
    return -1


@entry
def best_of_parts(
    profit: FloatArray,
    forced: BoolArray,
    allowed: BoolArray,
    part_of: IntArray,
    free_best: FloatArray,
    forced_sum: FloatArray,
) -> None:
    """Fill the best free profit of each part and the sum of its forced ones.

    Parts are disjoint cliques (at most one of each), so the Lagrangian value is their sum. Cost:
    the experts.

    Parameters
    ----------
    profit, forced, allowed, part_of
        ``(N,)``.
    free_best, forced_sum
        ``(P,)`` minus infinity and NaN, filled where a part has free or forced experts.
    """
    for i in range(len(profit)):
        part = part_of[i]
        if forced[i]:
            if forced_sum[part] == forced_sum[part]:
                forced_sum[part] += profit[i]
            else:
                forced_sum[part] = profit[i]
        elif allowed[i]:
            free_best[part] = max(free_best[part], profit[i])
