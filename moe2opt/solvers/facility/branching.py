"""Branching in the compiled tree: experience, the choice of an expert, and the two halves.

The scores are those of `PseudoCosts`, in the arrays of `flat.py`.
"""

from __future__ import annotations

from moe2opt.result import FloatArray
from moe2opt.solvers.facility.flat import (
    ABOVE,
    ALLOWED,
    BONUS,
    BRANCHED,
    DEPTH,
    DUAL,
    FALLEN,
    FORCED,
    HERE,
    LENGTH,
    PLACE,
    PROOF,
    PROVEN,
    RECORDS,
    SECOND,
    SHARE,
    SPLIT,
    START,
    TARGET,
    TIMES,
    USERS,
    ZERO,
    Flat,
    new_node,
    push,
    write,
)
from moe2opt.solvers.facility.rounding import Rules
from moe2opt.solvers.jit import inner


@inner
def _way(y: float, side: int) -> float:
    """Return the square of how far a fraction moves to one side."""
    way = 1.0 - y if side else y
    return way * way


@inner
def learn(f: Flat, slot: int, value: float) -> None:
    """Take in what the branching that made a node achieved, see `PseudoCosts`."""
    axis = f.node[slot, BRANCHED]
    if axis < 0:
        return
    side, fall = 1 if f.flag[FORCED, axis] else 0, max(0.0, f.measure[slot, ABOVE] - value)
    f.by_expert[FALLEN + side, axis] += fall / _way(f.measure[slot, SHARE], side)
    f.by_expert[TIMES + side, axis] += 1.0


@inner
def _first_length(f: Flat, rules: Rules, slot: int, side: int) -> float:
    """Return the first length of the descent of a half, see `PseudoCosts.first_length`."""
    axis, away = f.node[slot, BRANCHED], f.measure[slot, ABOVE] - f.level[TARGET]
    times = f.by_expert[TIMES + side, axis]
    if times == 0.0 or away <= 0.0:
        return rules.length
    fall = f.by_expert[FALLEN + side, axis] / times * _way(f.measure[slot, SHARE], side)
    return float(min(rules.length, max(rules.gentlest, rules.trust * fall / away)))


@inner
def axis_of(f: Flat, fractional: FloatArray) -> int:
    """Return the free expert of the best product score, see `PseudoCosts`."""
    size, best, axis = len(fractional), -1.0, -1
    for i in range(size):
        if f.flag[ALLOWED, i] and not f.flag[FORCED, i]:
            f.by_expert[BONUS, i] = 1.0
    for side in range(2):
        fallen, times = 0.0, 0.0
        for i in range(size):
            fallen += f.by_expert[FALLEN + side, i]
            times += f.by_expert[TIMES + side, i]
        average = max(fallen / max(times, 1.0), 1e-6)
        for i in range(size):
            y, known = min(max(fractional[i], 0.02), 0.98), f.by_expert[TIMES + side, i]
            estimate = f.by_expert[FALLEN + side, i] / known if known > 0.0 else average
            f.by_expert[BONUS, i] *= max(estimate * _way(y, side), 1e-9)
    for i in range(size):
        if f.flag[ALLOWED, i] and not f.flag[FORCED, i] and f.by_expert[BONUS, i] > best:
            best, axis = f.by_expert[BONUS, i], i
    return axis


@inner
def branch(f: Flat, rules: Rules, slot: int, price: int) -> None:
    """Open both halves of a node, which start from its prices and have its bound and proof.

    The node says already what was branched on.
    """
    below = f.whole[RECORDS]
    f.whole[RECORDS] += 2
    write(f.records, f.whole[HERE], SPLIT, f.node[slot, BRANCHED], ZERO, below)
    f.records[f.whole[HERE], SECOND] = below + 1
    for side in range(2):
        child = new_node(f.node, f.whole)
        for i in range(f.flag.shape[1]):
            f.state[child, i] = 2 if f.flag[FORCED, i] else 1 if f.flag[ALLOWED, i] else 0
        f.state[child, f.node[slot, BRANCHED]] = 2 * side
        for field in range(3):
            f.measure[child, field] = f.measure[slot, field]
        f.measure[child, LENGTH] = _first_length(f, rules, slot, side)
        f.node[child, DEPTH] = f.node[slot, DEPTH] + 1
        f.node[child, PLACE] = below + side
        f.node[child, PROOF] = f.node[slot, PROOF]
        f.node[child, PROVEN] = f.node[slot, PROVEN]
        f.node[child, START] = price
        f.node[child, BRANCHED] = f.node[slot, BRANCHED]
        f.use[price, USERS] += 1
        if f.node[slot, PROOF] == DUAL:
            f.use[f.node[slot, PROVEN], USERS] += 1
        push(f.node, f.measure, f.whole, child)
