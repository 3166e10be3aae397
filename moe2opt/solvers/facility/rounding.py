"""Rounding in the compiled tree: a fractional choice becomes a solution, exchanges improve it.

It does what `Polisher.round` does, in the arrays of `flat.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from moe2opt.result import FloatArray
from moe2opt.solvers.facility.flat import (
    ALLOWED,
    BEST,
    CHOSEN,
    EVERYBODY,
    FIXED,
    FORCED,
    FOUND,
    LEFT,
    LIMIT,
    NOBODY,
    OBJECTIVE,
    ORDER,
    OWN_LEFT,
    OWN_LIMIT,
    ROUNDS,
    Flat,
)
from moe2opt.solvers.facility.kernels import exchange
from moe2opt.solvers.jit import inner, merged, no_literal

#: Moves of one improvement at most; more are left to the caller, who looks at the limits.
MOST_MOVES = no_literal(100)


class Rules(NamedTuple):
    """Numbers of the model, its tuning and the search; `sure` rows are budgets and cliques."""

    budgets: int
    sure: int
    rows: int
    own: int
    few: int
    steps: int
    first_nodes: int
    round_first: int
    round_every: int
    integral: bool
    opening: bool
    scale: float
    error: float
    margin: float
    length: float
    gentlest: float
    trust: float
    smallest_gain: float


@inner
def worth(f: Flat, which: int) -> float:
    """Return the value of a choice, in the values of the model; fills BEST."""
    clusters, total = f.by_cluster.shape[1], 0.0
    for c in range(clusters):
        f.by_cluster[BEST, c] = 0.0
    for i in range(f.flag.shape[1]):
        if f.flag[which, i]:
            total -= f.by_expert[FIXED, i]
            for c in range(clusters):
                f.by_cluster[BEST, c] = max(f.by_cluster[BEST, c], f.columns[i, c])
    for c in range(clusters):
        total += f.by_cluster[BEST, c]
    return total


@inner
def _sort_falling(f: Flat, count: int, keys: FloatArray) -> None:
    """Sort the first of ORDER by falling keys, equal ones by number (Shell 1959)."""
    gap = count // 2
    while gap > 0:
        for k in range(gap, count):
            i, at = f.number[ORDER, k], k
            while at >= gap:
                j = f.number[ORDER, at - gap]
                if keys[j] > keys[i] or (keys[j] == keys[i] and j < i):
                    break
                f.number[ORDER, at] = j
                at -= gap
            f.number[ORDER, at] = i
        gap //= 2


@inner
def _take(f: Flat, rules: Rules, i: int) -> bool:
    """Add an expert to CHOSEN if it fits, and pays for its opening; tell whether it was added."""
    for r in range(rules.rows):
        if f.rows[r, i] > f.by_row[LEFT, r]:
            return False
    if rules.opening:
        gain = -f.by_expert[FIXED, i]
        for c in range(f.by_cluster.shape[1]):
            gain += max(f.columns[i, c] - f.by_cluster[BEST, c], 0.0)
        if gain <= 0.0:
            return False
        for c in range(f.by_cluster.shape[1]):
            f.by_cluster[BEST, c] = max(f.by_cluster[BEST, c], f.columns[i, c])
    f.flag[CHOSEN, i] = True
    for r in range(rules.rows):
        f.by_row[LEFT, r] -= f.rows[r, i]
    return True


@inner
def _fill(f: Flat, rules: Rules, wanted: FloatArray) -> None:
    """Fill up the forced experts with the most wanted ones."""
    count = 0
    for r in range(rules.rows):
        f.by_row[LEFT, r] = f.by_row[LIMIT, r]
    for i in range(len(wanted)):
        f.flag[CHOSEN, i] = f.flag[FORCED, i]
        if f.flag[FORCED, i]:
            for r in range(rules.rows):
                f.by_row[LEFT, r] -= f.rows[r, i]
        elif f.flag[ALLOWED, i] and (wanted[i] > 0.0 or not rules.opening):
            f.number[ORDER, count] = i
            count += 1
    _sort_falling(f, count, wanted)
    if rules.opening:
        worth(f, CHOSEN)
    for k in range(count):
        _take(f, rules, f.number[ORDER, k])


@merged
def _improve(f: Flat, rules: Rules) -> None:
    """Improve CHOSEN by additions, exchanges and removals of one until none does."""
    for r in range(rules.own):
        f.by_row[OWN_LEFT, r] = f.by_row[OWN_LIMIT, r]
        for i in range(f.flag.shape[1]):
            if f.flag[CHOSEN, i]:
                f.by_row[OWN_LEFT, r] -= f.own_rows[r, i]
    exchange(
        f.ranked,
        f.experts,
        f.number[EVERYBODY],
        f.flag[CHOSEN],
        f.flag[NOBODY],
        f.by_expert[FIXED],
        f.own_rows,
        f.by_row[OWN_LEFT][: rules.own],
        rules.smallest_gain,
        MOST_MOVES,
    )


@merged
def finds(f: Flat, rules: Rules, wanted: FloatArray) -> bool:
    """Round a fractional choice now and then; tell whether that gave a better incumbent."""
    early = f.whole[ROUNDS] < rules.first_nodes
    f.whole[ROUNDS] += 1
    if f.whole[ROUNDS] % (rules.round_first if early else rules.round_every):
        return False
    _fill(f, rules, wanted)
    beyond = f.level[OBJECTIVE] + rules.smallest_gain
    _improve(f, rules)
    if worth(f, CHOSEN) <= beyond:
        return False
    for i in range(len(wanted)):
        f.flag[FOUND, i] = f.flag[CHOSEN, i]
    return True
