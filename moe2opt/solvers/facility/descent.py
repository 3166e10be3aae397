"""The compiled descent of a facility box: subgradient steps on its Lagrangian value.

Steps touch every cluster, so what they read must lie close together. With few free experts they
stream through whole columns, one per expert, without a branch; with many, through a copy of the
entries around the thresholds. Which of the two is cheaper was measured: see `FacilityTuning.few`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.facility.kernels import IndexArray
from moe2opt.solvers.jit import entry, inner, merged, released, reordered
from moe2opt.solvers.tuning import FacilityTuning


class Pace(NamedTuple):
    """What of `FacilityTuning` the compiled descent needs, under the same names."""

    few: int
    below: int
    beyond: float
    shorter: float
    shortest: float
    share: float

    @classmethod
    def of(cls, tuning: FacilityTuning) -> Pace:
        """Return the pace of a tuning."""
        return cls(*(getattr(tuning, name) for name in cls._fields))


@reordered
def _raise_to(values: FloatArray, floor: FloatArray) -> None:
    for c in range(len(values)):
        values[c] = max(values[c], floor[c])


@reordered
def _copy_to(target: FloatArray, source: FloatArray) -> None:
    for c in range(len(source)):
        target[c] = source[c]


@inner
def _blend(average: FloatArray, part_best: IntArray, share: float) -> None:
    """Move the average choice towards the latest maximiser, by this share of the way."""
    for n in range(len(average)):
        average[n] *= 1.0 - share
    for i in part_best:
        if i >= 0:
            average[i] += share


@reordered
def _step(
    values: FloatArray, floor: FloatArray, scale: float, direction: FloatArray, length: FloatArray
) -> None:
    """Move multipliers against a direction, not below their floor."""
    for c in range(len(values)):
        moved = values[c] - scale * direction[c] * length[c]
        values[c] = moved if moved > floor[c] else floor[c]


@reordered
def _sum(values: FloatArray) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


@merged
def _near(
    ranked: FloatArray,
    experts: IndexArray,
    last: FloatArray,
    free: BoolArray,
    floor: FloatArray,
    cluster: FloatArray,
    most_below: int,
) -> tuple[IntArray, FloatArray, IndexArray]:
    """Copy the entries around the thresholds into three dense arrays; raise `floor` to the last.

    Per cluster these are the free experts above the threshold and the next few below it.
    """
    clusters, depth = ranked.shape
    start = np.zeros(clusters + 1, dtype=np.int64)
    room = 16 * clusters + depth
    values, whose = np.empty(room), np.empty(room, dtype=np.int32)
    count = 0
    for c in range(clusters):
        floor[c] = max(floor[c], last[c])
        below = 0
        if count + depth > room:
            room *= 2
            more, whose_more = np.empty(room), np.empty(room, dtype=np.int32)
            for k in range(count):
                more[k], whose_more[k] = values[k], whose[k]
            values, whose = more, whose_more
        for k in range(depth):
            value = ranked[c, k]
            if value <= floor[c]:
                break
            if not free[experts[c, k]]:
                continue
            if value <= cluster[c]:
                below += 1
                if below > most_below:
                    floor[c] = value
                    break
            values[count], whose[count] = value, experts[c, k]
            count += 1
        start[c + 1] = count
    return start, values, whose


@merged
def _add_near(
    start: IntArray,
    values: FloatArray,
    whose: IndexArray,
    cluster: FloatArray,
    profit: FloatArray,
) -> None:
    """Add to each profit the expert's total excess over the thresholds, by copied entries."""
    for c in range(len(cluster)):
        threshold = cluster[c]
        for k in range(start[c], start[c + 1]):
            if values[k] <= threshold:
                break
            profit[whose[k]] += values[k] - threshold


@reordered
def _column_excess(column: FloatArray, cluster: FloatArray) -> float:
    total = 0.0
    for c in range(len(cluster)):
        total += max(0.0, column[c] - cluster[c])
    return total


@entry
def column_excess(
    columns: FloatArray, wanted: IntArray, cluster: FloatArray, size: int
) -> FloatArray:
    """Return the total excess over the thresholds of the wanted experts, 0 for the others.

    Parameters
    ----------
    columns
        ``(N, C)`` values.
    wanted
        Indices of experts.
    cluster
        ``(C,)`` thresholds.
    size
        Number of experts N.
    """
    profit = np.zeros(size)
    for i in wanted:
        profit[i] = _column_excess(columns[i], cluster)
    return profit


@merged
def _maximise(
    free: IntArray,
    fixed: IntArray,
    part_of: IntArray,
    costs: FloatArray,
    limits: FloatArray,
    price: FloatArray,
    profit: FloatArray,
    part_profit: FloatArray,
    part_best: IntArray,
) -> float:
    """Pay the row prices; return the best total profit, its maximiser in `part_best`."""
    total = 0.0
    for r in range(len(limits)):
        total += price[r] * limits[r]
        if price[r] > 0.0:
            for i in free:
                profit[i] -= price[r] * costs[r, i]
            for i in fixed:
                profit[i] -= price[r] * costs[r, i]
    for i in fixed:
        total += profit[i]
    for empty in range(len(part_best)):
        part_profit[empty] = 0.0
        part_best[empty] = -1
    for i in free:
        own = part_of[i]
        if profit[i] > part_profit[own]:
            total += profit[i] - part_profit[own]
            part_profit[own] = profit[i]
            part_best[own] = i
    return total


@reordered
def _turn(
    columns: FloatArray,
    part_best: IntArray,
    floor: FloatArray,
    cluster: FloatArray,
    cluster_step: FloatArray,
    share: float,
    slope: FloatArray,
    direction: FloatArray,
) -> float:
    """Blend the subgradient in the thresholds into `direction`; return its squared length."""
    for c in range(len(cluster)):
        slope[c] = 1.0
    for i in part_best:
        if i >= 0:
            column = columns[i]
            for c in range(len(cluster)):
                slope[c] -= 1.0 if column[c] > cluster[c] else 0.0
    norm = 0.0
    for c in range(len(cluster)):
        stuck = slope[c] > 0.0 and cluster[c] <= floor[c]
        pull = 0.0 if stuck else share * slope[c] * cluster_step[c]
        direction[c] = pull + (1.0 - share) * direction[c]
        norm += direction[c] * direction[c]
    return norm


@merged
def _turn_rows(
    costs: FloatArray,
    limits: FloatArray,
    fixed: IntArray,
    part_best: IntArray,
    price: FloatArray,
    row_step: FloatArray,
    share: float,
    direction: FloatArray,
) -> float:
    """Blend the subgradient in the row prices into `direction`; return its squared length."""
    norm = 0.0
    for r in range(len(limits)):
        slope = limits[r]
        for i in fixed:
            slope -= costs[r, i]
        for i in part_best:
            if i >= 0:
                slope -= costs[r, i]
        if slope > 0.0 and price[r] <= 0.0:
            slope = 0.0
        direction[r] = share * slope * row_step[r] + (1.0 - share) * direction[r]
        norm += direction[r] * direction[r]
    return norm


@released
def descend(
    columns: FloatArray,
    ranked: FloatArray,
    experts: IndexArray,
    last: FloatArray,
    allowed: BoolArray,
    forced: BoolArray,
    part_of: IntArray,
    parts: int,
    costs: FloatArray,
    limits: FloatArray,
    bonus: FloatArray,
    cluster_step: FloatArray,
    row_step: FloatArray,
    cluster: FloatArray,
    price: FloatArray,
    target: float,
    steps: int,
    length: float,
    pace: Pace,
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """Lower the Lagrangian value of a box by deflected subgradient steps towards `target`.

    The dual is convex and piecewise linear in thresholds and row prices; a step evaluates it, finds
    the choice that attains it (the best free expert of each part), and moves against a blend of
    this choice's slack and the last direction (Camerini, Fratta and Maffioli 1975), as far as
    Polyak's rule says on the way to the target. Any multipliers are a valid bound, so that nothing
    here has to converge. Cost per step: with few free experts clusters times these, else the
    entries copied around the thresholds; and clusters times the experts of the attained choice.

    Thresholds never fall below the value of the forced experts, whose profit is then their bonus.

    Parameters
    ----------
    columns
        ``(N, C)`` values.
    ranked, experts, last
        ``(C, K)`` best values of each cluster in falling order, whose they are, and a value that
        every allowed expert beyond them is at most, per cluster.
    allowed, forced
        The box. No two forced experts share a part, and no free one shares it with a forced one.
    part_of, parts
        At-most-one part of each expert, and the number of parts.
    costs, limits
        Budget rows.
    bonus
        Constant profit of each expert, from rows and covers whose prices stay.
    cluster_step, row_step
        Relative step length of each threshold and each row price.
    cluster, price
        Multipliers to start from.
    target
        Stop once the value is below it.
    steps
        Number of evaluations.
    length
        First length of a step, as a share of the way to the target that the subgradient promises.
    pace
        How steps go on.

    Returns
    -------
    tuple
        Best value, its thresholds and row prices, and the average maximiser.
    """
    clusters, (rows, size) = len(cluster), costs.shape
    open_ = allowed.copy()
    for n in range(size):
        open_[n] = allowed[n] and not forced[n]
    free, fixed = np.flatnonzero(open_), np.flatnonzero(forced)
    floor = np.zeros(clusters)
    for i in fixed:
        _raise_to(floor, columns[i])
    cluster, price = cluster.copy(), price.copy()
    _raise_to(cluster, floor)
    few = len(free) <= pace.few
    start, values, whose = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int32)
    if not few:
        start, values, whose = _near(ranked, experts, last, open_, floor, cluster, pace.below)
        _raise_to(cluster, floor)
    profit, part_profit = np.zeros(size), np.zeros(parts)
    part_best = np.zeros(parts, dtype=np.int64)
    best_cluster, best_price = cluster.copy(), price.copy()
    slope, direction, row_direction = np.zeros(clusters), np.zeros(clusters), np.zeros(rows)
    average, none = np.zeros(size), np.zeros(rows)
    best, aim, shortest = np.inf, target, pace.shortest * length
    for step in range(steps):
        _copy_to(profit, bonus)
        if few:
            for i in free:
                profit[i] += _column_excess(columns[i], cluster)
        else:
            _add_near(start, values, whose, cluster, profit)
        value = _sum(cluster) + _maximise(
            free, fixed, part_of, costs, limits, price, profit, part_profit, part_best
        )
        if step == 0:
            aim = target - pace.beyond * abs(value - target) - 1e-7 * abs(target)
        if step > 0 and value > best - 1e-4 * (best - aim):
            length *= pace.shorter
        if value < best:
            best = value
            _copy_to(best_cluster, cluster)
            _copy_to(best_price, price)
        share = 1.0 if step == 0 else pace.share
        _blend(average, part_best, 1.0 / (step + 1.0))
        if best < target or length < shortest:
            break
        norm = _turn(
            columns, part_best, floor, cluster, cluster_step, share, slope, direction
        ) + _turn_rows(costs, limits, fixed, part_best, price, row_step, share, row_direction)
        if norm < 1e-12:
            break
        scale = length * (value - aim) / norm
        _step(cluster, floor, scale, direction, cluster_step)
        _step(price, none, scale, row_direction, row_step)
    for i in fixed:
        average[i] = 1.0
    return best, best_cluster, best_price, average
