"""The compiled tree of cheap facility nodes: best bound first, without a call of Python per node.

One call of `grow` examines many nodes: propagate, descend (`descent.py`), price, round, fix,
propagate again, branch. It does what `FacilityRelaxation.resume` and `moe2opt.solvers.brb.explore`
do for one node, on flat arrays; the caller looks at limits between two calls and offers what was
found. Cost: a node is a descent, a sweep over the clusters, and some over experts times rows.
"""

from __future__ import annotations

import math

import numpy as np

from moe2opt.result import FloatArray
from moe2opt.solvers.facility.branching import axis_of, branch, learn
from moe2opt.solvers.facility.descent import Pace, column_excess, descend
from moe2opt.solvers.facility.flat import (
    ABOVE,
    ALLOWED,
    BONUS,
    BOUND,
    BOUNDED,
    BRANCHED,
    BUDGET,
    CORNER,
    COUNT,
    CUTOFF,
    DUAL,
    EXAMINED,
    FIXED,
    FORCED,
    FORCED_SUM,
    FOUND,
    FREE_BEST,
    GRID,
    GROUP,
    HERE,
    IN_DUAL,
    KEPT,
    LAST,
    LENGTH,
    LIMIT,
    NODE_TOP,
    NONE,
    OBJECTIVE,
    OPENED,
    OUT_BUDGET,
    OUT_DUAL,
    OUT_GROUP,
    PART_OF,
    PLACE,
    PRICE,
    PRICE_TOP,
    PROFIT,
    PROOF,
    PROVEN,
    PRUNED,
    RECORDS,
    ROW_OF,
    ROW_STEP,
    SHARE,
    START,
    STEP,
    TARGET,
    USERS,
    ZERO,
    Flat,
    drop,
    give_up,
    leaf,
    narrow,
    new_price,
    pop,
)
from moe2opt.solvers.facility.kernels import best_of_parts, excess_above, find_excluded
from moe2opt.solvers.facility.rounding import Rules, finds, worth
from moe2opt.solvers.jit import inner, merged, no_literal, released

#: Why a call of `grow` ends: nothing is open; a number of nodes is done; an array must grow first;
#: rounding gave a better incumbent; a leaf is a single point that may be one. A node that does both
#: ends as a point, since the caller has yet to look whether that is a solution.
DONE, PAUSED, FULL, ROUNDED, POINT = map(no_literal, range(5))


@inner
def _whole(rules: Rules, bound: float) -> float:
    return math.floor(bound) if rules.integral else bound


@inner
def _propagated(f: Flat, rules: Rules) -> int:
    """Exclude what no longer fits until nothing changes; return a broken row or -1."""
    size = f.flag.shape[1]
    while True:
        for i in range(size):
            f.number[ROW_OF, i] = -1
        broken = find_excluded(
            f.rows[: rules.sure],
            f.by_row[LIMIT][: rules.sure],
            rules.margin,
            f.flag[FORCED],
            f.flag[ALLOWED],
            f.number[ROW_OF],
        )
        if broken >= 0:
            return int(broken)
        more = False
        for i in range(size):
            row = f.number[ROW_OF, i]
            if row >= 0:
                budget = row < rules.budgets
                kind = OUT_BUDGET if budget else OUT_GROUP
                narrow(f.records, f.whole, kind, i, row if budget else row - rules.budgets)
                f.flag[ALLOWED, i] = False
                more = True
        if not more:
            return -1


@inner
def _any_free(f: Flat) -> bool:
    for i in range(f.flag.shape[1]):  # noqa: SIM110  (kernels know no generators)
        if f.flag[ALLOWED, i] and not f.flag[FORCED, i]:
            return True
    return False


@inner
def _single_point(f: Flat, rules: Rules) -> int:
    """Make a leaf of a node with one point; end the call if it may be better than the incumbent.

    The caller then looks at its budgets, too, which are only met up to the margin.
    """
    leaf(f.records, f.use, f.whole, CORNER, ZERO)
    value = worth(f, FORCED)
    size = abs(value)
    for i in range(f.flag.shape[1]):
        size += 2.0 * f.by_expert[FIXED, i] if f.flag[FORCED, i] else 0.0
    if value + rules.error * size <= f.level[OBJECTIVE]:
        return NONE
    for i in range(f.flag.shape[1]):
        f.flag[FOUND, i] = f.flag[FORCED, i]
    return POINT


# ---------------------------------------------------------------------- bounds


@inner
def _priced(
    f: Flat, rules: Rules, slot: int, cluster: FloatArray, row: FloatArray, start: int
) -> float:
    """Store multipliers on the grid; return their Lagrangian value, its errors included.

    This is `FacilityModel.price`. Prices beyond the budgets are those of the slot `start`.
    """
    total, limited, size = 0.0, 0.0, f.flag.shape[1]
    for c in range(len(cluster)):
        times = f.by_cluster[COUNT, c]
        threshold = np.rint(max(cluster[c], 0.0) / times * rules.scale) / rules.scale
        f.threshold[slot, c] = threshold
        f.by_cluster[GRID, c] = threshold * times
        total += threshold * times
    for r in range(rules.rows):
        price = row[r] if r < rules.budgets else f.row_price[start, r]
        f.row_price[slot, r] = price
        limited += price * f.by_row[LIMIT, r]
    terms = total + abs(limited)
    wanted = np.flatnonzero(f.flag[ALLOWED])
    if len(wanted) <= rules.few:
        excess = column_excess(f.columns, wanted, f.by_cluster[GRID], size)
    else:
        excess = excess_above(f.ranked, f.experts, f.by_cluster[GRID], size)
    for i in range(size):
        paid = f.by_expert[FIXED, i]
        for r in range(rules.rows):
            if f.row_price[slot, r] > 0.0:
                paid += f.row_price[slot, r] * f.rows[r, i]
        f.by_expert[PROFIT, i] = excess[i] - paid
        if f.flag[ALLOWED, i]:
            terms += excess[i] + abs(paid)
    for p in range(f.by_part.shape[1]):
        f.by_part[FREE_BEST, p] = -np.inf
        f.by_part[FORCED_SUM, p] = np.nan
    best_of_parts(
        f.by_expert[PROFIT],
        f.flag[FORCED],
        f.flag[ALLOWED],
        f.number[PART_OF],
        f.by_part[FREE_BEST],
        f.by_part[FORCED_SUM],
    )
    for p in range(f.by_part.shape[1]):
        forced = f.by_part[FORCED_SUM, p]
        limited += forced if forced == forced else max(f.by_part[FREE_BEST, p], 0.0)
    return float(total + limited + rules.error * terms)


@merged
def _bounded(
    f: Flat, rules: Rules, pace: Pace, start: int, slot: int, length: float
) -> tuple[float, FloatArray]:
    """Descend from the prices in `start`; return the value of those in `slot`, and a choice."""
    constant, size = 0.0, f.flag.shape[1]
    for i in range(size):
        f.by_expert[BONUS, i] = -f.by_expert[FIXED, i]
    for r in range(rules.rows):
        paid = f.row_price[start, r]
        if r < rules.budgets:
            f.by_row[PRICE, r] = paid
        elif paid > 0.0:
            constant += paid * f.by_row[LIMIT, r]
            for i in range(size):
                f.by_expert[BONUS, i] -= paid * f.rows[r, i]
    for c in range(f.by_cluster.shape[1]):
        f.by_cluster[GRID, c] = f.threshold[start, c] * f.by_cluster[COUNT, c]
    _, cluster, row, fractional = descend(
        f.columns,
        f.near,
        f.nearest,
        f.by_cluster[LAST],
        f.flag[ALLOWED],
        f.flag[FORCED],
        f.number[PART_OF],
        f.by_part.shape[1],
        f.rows[: rules.budgets],
        f.by_row[LIMIT][: rules.budgets],
        f.by_expert[BONUS],
        f.by_cluster[STEP],
        f.by_row[ROW_STEP][: rules.budgets],
        f.by_cluster[GRID],
        f.by_row[PRICE][: rules.budgets],
        f.level[TARGET] - constant,
        rules.steps,
        length,
        pace,
    )
    return _priced(f, rules, slot, cluster, row, start), fractional


@inner
def _shut(f: Flat, rules: Rules, without: float, kind: int, i: int, slot: int) -> bool:
    """Close one side of an expert if the bound over it is small enough; tell whether it was."""
    bound = _whole(rules, without)
    if bound > f.level[CUTOFF]:
        return False
    f.level[PRUNED] = max(f.level[PRUNED], bound)
    f.use[slot, KEPT] = 1
    narrow(f.records, f.whole, kind, i, slot)
    return True


@inner
def _fix(f: Flat, rules: Rules, value: float, slot: int) -> None:
    """Exclude and force experts whose other side the prices already rule out.

    On the way FREE_BEST becomes what the best free expert of a part gains, and FORCED_SUM what its
    next best gains.
    """
    size, parts = f.flag.shape[1], f.by_part.shape[1]
    for p in range(parts):
        forced = f.by_part[FORCED_SUM, p]
        f.by_part[FREE_BEST, p] = 0.0 if forced == forced else max(f.by_part[FREE_BEST, p], 0.0)
    for i in range(size):
        p = f.number[PART_OF, i]
        forced = f.by_part[FORCED_SUM, p]
        if f.flag[ALLOWED, i] and not f.flag[FORCED, i] and forced != forced:
            without = value - f.by_part[FREE_BEST, p] + f.by_expert[PROFIT, i]
            if _shut(f, rules, without, OUT_DUAL, i, slot):
                f.flag[ALLOWED, i] = False
    for p in range(parts):
        f.by_part[FORCED_SUM, p] = 0.0
        f.number[ROW_OF, p] = -1
    for i in range(size):
        p = f.number[PART_OF, i]
        if not f.flag[ALLOWED, i] or f.flag[FORCED, i] or not f.by_part[FREE_BEST, p] > 0.0:
            continue
        first, profit = f.number[ROW_OF, p], f.by_expert[PROFIT, i]
        if first < 0:
            f.number[ROW_OF, p] = i
            continue
        if profit > f.by_expert[PROFIT, first]:
            f.number[ROW_OF, p] = i
            profit = f.by_expert[PROFIT, first]
        f.by_part[FORCED_SUM, p] = max(f.by_part[FORCED_SUM, p], profit)
    for p in range(parts):
        # Without its best expert a part can at most be left empty or filled by the next best.
        i, best = f.number[ROW_OF, p], f.by_part[FREE_BEST, p]
        if best > 0.0 and i >= 0:
            without = value - best + f.by_part[FORCED_SUM, p]
            if _shut(f, rules, without, IN_DUAL, i, slot):
                f.flag[FORCED, i] = True


# ---------------------------------------------------------------------- the loop


@inner
def _end(f: Flat, slot: int) -> None:
    """Close a node by the proof of its bound."""
    f.level[PRUNED] = max(f.level[PRUNED], f.measure[slot, BOUND])
    leaf(f.records, f.use, f.whole, f.node[slot, PROOF], f.node[slot, PROVEN])


@inner
def _is_closed(f: Flat, rules: Rules) -> bool:
    """Propagate the node at hand, and make a leaf of it where a row is broken."""
    row = _propagated(f, rules)
    if row < 0:
        return False
    budget = row < rules.budgets
    kind = BUDGET if budget else GROUP
    leaf(f.records, f.use, f.whole, kind, row if budget else row - rules.budgets)
    return True


@merged
def _examined(f: Flat, rules: Rules, pace: Pace, slot: int) -> int:
    """Put a node through all that is done with it; return why the call must end, or -1."""
    for i in range(f.flag.shape[1]):
        f.flag[ALLOWED, i] = f.state[slot, i] > 0
        f.flag[FORCED, i] = f.state[slot, i] > 1
    if _is_closed(f, rules):
        return NONE
    if not _any_free(f):
        return _single_point(f, rules)
    price = new_price(f.use, f.whole)
    start, length = f.node[slot, START], f.measure[slot, LENGTH]
    value, fractional = _bounded(f, rules, pace, start, price, length)
    f.whole[BOUNDED] += 1
    learn(f, slot, value)
    event, bound = NONE, _whole(rules, value)
    if bound < f.measure[slot, BOUND]:
        if f.node[slot, PROOF] == DUAL:
            give_up(f.use, f.whole, f.node[slot, PROVEN])
        f.measure[slot, BOUND], f.node[slot, PROOF], f.node[slot, PROVEN] = bound, DUAL, price
        f.use[price, USERS] += 1
    if bound <= f.level[CUTOFF]:
        _end(f, slot)
        give_up(f.use, f.whole, price)
        return NONE
    if finds(f, rules, fractional):
        event = ROUNDED
    _fix(f, rules, value, price)
    if not _is_closed(f, rules):
        if not _any_free(f):
            event = max(event, _single_point(f, rules))
        elif f.measure[slot, BOUND] <= f.level[CUTOFF]:
            _end(f, slot)
        else:
            axis = axis_of(f, fractional)
            f.node[slot, BRANCHED], f.measure[slot, ABOVE] = axis, value
            f.measure[slot, SHARE] = min(max(fractional[axis], 0.05), 0.95)
            branch(f, rules, slot, price)
    give_up(f.use, f.whole, price)
    return event


@released
def grow(f: Flat, rules: Rules, pace: Pace, most_examined: int, most_bounded: int) -> int:
    """Examine nodes until none is open, so many are done, or the caller is needed.

    Parameters
    ----------
    f
        The problem and the tree, changed; FOUND holds a choice after POINT and ROUNDED.
    rules, pace
        How to go about it.
    most_examined, most_bounded
        Totals of nodes to stop at.

    Returns
    -------
    int
        DONE, PAUSED, FULL, ROUNDED or POINT.
    """
    step = 3 * f.flag.shape[1] + 8
    while f.whole[OPENED] > 0:
        if f.whole[EXAMINED] >= most_examined or f.whole[BOUNDED] >= most_bounded:
            return PAUSED
        if (
            f.whole[RECORDS] + step > len(f.records)
            or f.whole[NODE_TOP] + 2 > len(f.node)
            or f.whole[PRICE_TOP] + 1 > len(f.use)
        ):
            return FULL
        slot = pop(f.node, f.measure, f.whole)
        f.whole[HERE], event = f.node[slot, PLACE], NONE
        if f.measure[slot, BOUND] <= f.level[CUTOFF]:
            _end(f, slot)
        else:
            f.whole[EXAMINED] += 1
            event = _examined(f, rules, pace, slot)
        drop(f.node, f.use, f.whole, slot)
        if event >= 0:
            return event
    return DONE
