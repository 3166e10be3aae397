"""Compiled inner loops of the facility engine.

All of them walk the clusters' experts from the best downwards and stop at the threshold, so that
their cost grows with the experts above it, not with all. They are compiled on first use and cached
on disk (numba falls back to a folder of the user where the package folder is read-only).
"""

from __future__ import annotations

import numba
import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray


@numba.njit(cache=True)
def excess_above(
    ranked: FloatArray, experts: IntArray, clusters: IntArray, thresholds: FloatArray, size: int
) -> FloatArray:
    """Return per expert the sum over `clusters` of its value above the cluster's threshold.

    Parameters
    ----------
    ranked, experts
        ``(C, N)`` values of each cluster in falling order, and whose they are.
    clusters
        Clusters to sum over.
    thresholds
        One threshold per entry of `clusters`.
    size
        Number of experts N.
    """
    total = np.zeros(size)
    depth = ranked.shape[1]
    for position in range(len(clusters)):
        c = clusters[position]
        threshold = thresholds[position]
        k = 0
        while k < depth and ranked[c, k] > threshold:
            total[experts[c, k]] += ranked[c, k] - threshold
            k += 1
    return total


@numba.njit(cache=True)
def fill_to_one(
    ranked: FloatArray, experts: IntArray, y: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return per cluster the value at which the experts, best first, reach a total y of one.

    The second array is the cluster's value under y: the y-weighted best values up to that point.
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


@numba.njit(cache=True)
def _dual_value(
    ranked: FloatArray,
    experts: IntArray,
    allowed: BoolArray,
    forced: BoolArray,
    part_of: IntArray,
    costs: FloatArray,
    limits: FloatArray,
    cluster: FloatArray,
    price: FloatArray,
    profit: FloatArray,
    chosen: BoolArray,
    part_profit: FloatArray,
    part_best: IntArray,
) -> float:
    """Fill `profit` and the maximiser `chosen`; return the Lagrangian value."""
    clusters, depth = ranked.shape
    size = len(allowed)
    profit[:] = 0.0
    chosen[:] = False
    part_profit[:] = 0.0
    part_best[:] = -1
    total = 0.0
    for c in range(clusters):
        threshold = cluster[c]
        total += threshold
        k = 0
        while k < depth and ranked[c, k] > threshold:
            profit[experts[c, k]] += ranked[c, k] - threshold
            k += 1
    for r in range(len(limits)):
        total += price[r] * limits[r]
        if price[r] > 0.0:
            for i in range(size):
                profit[i] -= price[r] * costs[r, i]
    for i in range(size):
        if forced[i]:
            chosen[i] = True
            total += profit[i]
        elif allowed[i] and profit[i] > part_profit[part_of[i]]:
            part_profit[part_of[i]] = profit[i]
            part_best[part_of[i]] = i
    for part in range(len(part_best)):
        if part_best[part] >= 0:
            chosen[part_best[part]] = True
            total += part_profit[part]
    return total


@numba.njit(cache=True)
def descend(
    ranked: FloatArray,
    experts: IntArray,
    allowed: BoolArray,
    forced: BoolArray,
    part_of: IntArray,
    parts: int,
    costs: FloatArray,
    limits: FloatArray,
    row_step: FloatArray,
    base: FloatArray,
    cluster: FloatArray,
    price: FloatArray,
    target: float,
    steps: int,
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """Lower the Lagrangian value of a box by deflected subgradient steps towards `target`.

    Parameters
    ----------
    ranked, experts
        ``(C, N)`` values of each cluster in falling order, and whose they are.
    allowed, forced
        The box. No two forced experts share a part, and no free one shares it with a forced one.
    part_of, parts
        At-most-one part of each expert, and the number of parts.
    costs, limits
        Budget rows.
    row_step
        Relative step length of each row price.
    base
        ``(C,)`` value of the forced experts: the least useful threshold.
    cluster, price
        Multipliers to start from.
    target
        Stop once the value is below it.
    steps
        Number of evaluations.

    Returns
    -------
    tuple
        Best value, its thresholds and row prices, and the average maximiser.
    """
    clusters, depth = ranked.shape
    rows, size = costs.shape
    profit = np.zeros(size)
    chosen = np.zeros(size, dtype=np.bool_)
    part_profit = np.zeros(parts)
    part_best = np.zeros(parts, dtype=np.int64)
    cluster = np.maximum(cluster, base)
    price = price.copy()
    best_cluster, best_price = cluster.copy(), price.copy()
    direction, row_direction = np.zeros(clusters), np.zeros(rows)
    average = np.zeros(size)
    best = np.inf
    length, stalled = 0.6, 0
    for step in range(steps):
        value = _dual_value(
            ranked, experts, allowed, forced, part_of, costs, limits, cluster, price, profit,
            chosen, part_profit, part_best,
        )  # fmt: skip
        if value < best:
            stalled = 0 if value < best - 1e-4 * abs(best - target) else stalled + 1
            best = value
            best_cluster[:] = cluster
            best_price[:] = price
        else:
            stalled += 1
        share = 1.0 if step == 0 else 0.35
        for i in range(size):
            average[i] = (1.0 - share) * average[i] + (share if chosen[i] else 0.0)
        if best < target:
            break
        if stalled >= 4:
            length *= 0.6
            stalled = 0
        norm = 0.0
        for c in range(clusters):
            threshold = cluster[c]
            slope = 1.0
            k = 0
            while k < depth and ranked[c, k] > threshold:
                if chosen[experts[c, k]]:
                    slope -= 1.0
                k += 1
            if slope > 0.0 and threshold <= base[c]:
                slope = 0.0
            direction[c] = share * slope + (1.0 - share) * direction[c]
            norm += direction[c] * direction[c]
        for r in range(rows):
            slope = limits[r]
            for i in range(size):
                if chosen[i]:
                    slope -= costs[r, i]
            slope *= row_step[r]
            if slope > 0.0 and price[r] <= 0.0:
                slope = 0.0
            row_direction[r] = share * slope + (1.0 - share) * row_direction[r]
            norm += row_direction[r] * row_direction[r]
        if norm < 1e-12:
            break
        scale = length * (value - target) / norm
        for c in range(clusters):
            cluster[c] = max(base[c], cluster[c] - scale * direction[c])
        for r in range(rows):
            price[r] = max(0.0, price[r] - scale * row_direction[r] * row_step[r])
    return best, best_cluster, best_price, average


@numba.njit(cache=True)
def best_swap(
    ranked: FloatArray,
    experts: IntArray,
    values: FloatArray,
    chosen: BoolArray,
    fixed: BoolArray,
    costs: FloatArray,
    left: FloatArray,
) -> tuple[float, int, int]:
    """Return the best exchange of one chosen expert for another one, or a plain addition.

    Fast interchange (Whitaker 1983): one pass over the values gives, for every expert coming in,
    its gain and the loss of every expert going out.

    Parameters
    ----------
    ranked, experts, values
        Values per cluster, sorted and unsorted.
    chosen, fixed
        Current choice, and experts that may neither come nor go.
    costs, left
        Budget rows and what is left of each limit.

    Returns
    -------
    tuple
        Gain, expert coming in and expert going out (-1 for an addition); gain 0 without a move.
    """
    clusters, size = values.shape
    rows = len(left)
    first, second, leader = np.zeros(clusters), np.zeros(clusters), np.full(clusters, -1)
    loss = np.zeros(size)
    for c in range(clusters):
        found = 0
        k = 0
        while k < ranked.shape[1] and found < 2:
            if chosen[experts[c, k]]:
                if found == 0:
                    first[c], leader[c] = ranked[c, k], experts[c, k]
                else:
                    second[c] = ranked[c, k]
                found += 1
            k += 1
        if leader[c] >= 0:
            loss[leader[c]] += first[c] - second[c]
    best, come, go = 0.0, -1, -1
    gain = np.zeros(size)
    saved = np.zeros((size, size))
    for c in range(clusters):
        k = 0
        floor = second[c]
        while k < ranked.shape[1] and ranked[c, k] > floor:
            i = experts[c, k]
            if not chosen[i]:
                above = max(0.0, ranked[c, k] - first[c])
                gain[i] += above
                if leader[c] >= 0:
                    # If the leader goes, i replaces it down to the runner-up.
                    saved[i, leader[c]] += min(ranked[c, k], first[c]) - floor
            k += 1
    for i in range(size):
        if chosen[i] or fixed[i]:
            continue
        fits = True
        for r in range(rows):
            if costs[r, i] > left[r]:
                fits = False
        if fits and gain[i] > best:
            best, come, go = gain[i], i, -1
        for j in range(size):
            if not chosen[j] or fixed[j] or gain[i] - loss[j] + saved[i, j] <= best:
                continue
            fits = True
            for r in range(rows):
                if costs[r, i] - costs[r, j] > left[r]:
                    fits = False
            if fits:
                best, come, go = gain[i] - loss[j] + saved[i, j], i, j
    return best, come, go
