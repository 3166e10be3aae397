"""How many cache slots each layer gets by simple rules."""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray, IntArray


def greedy_slots(table: FloatArray, total: int, least: int = 0) -> IntArray:
    """Return the slots by largest marginal gain; optimal exactly when every row is convex.

    Parameters
    ----------
    table
        ``(L, S + 1)`` loads by slots.
    total
        Slots to give out.
    least
        Slots that every layer has from the start.
    """
    slots = np.full(len(table), least, dtype=np.int64)
    gains = -np.diff(table, axis=1)
    layer = np.arange(len(table))
    for _ in range(total - int(slots.sum())):
        open_ = slots < gains.shape[1]
        gain = np.where(open_, gains[layer, np.minimum(slots, gains.shape[1] - 1)], -np.inf)
        best = int(np.argmax(gain))
        if not open_.any() or gain[best] <= 0:
            break
        slots[best] += 1
    return slots


def is_convex(table: FloatArray) -> bool:
    """Tell whether marginal gains never grow, so that `greedy_slots` is exact."""
    return bool((np.diff(table, 2, axis=1) >= -1e-12).all())


def released_slots(table: FloatArray, total: int) -> IntArray:
    """Return the allocation of AdapMoE's released dynamic programme (PKU-SEC-Lab/AdapMoE, 2cfe8df).

    A layer that is reached with slots left must take at least one; only when none are left do the
    earlier layers get nothing. That restriction is what makes it worse than the optimum.
    """
    layers, most = table.shape[0], table.shape[1] - 1
    best = np.full((layers + 1, total + 1), np.inf)
    taken = np.zeros((layers + 1, total + 1), dtype=np.int64)
    best[0, 0] = 0.0
    for row in range(1, layers + 1):
        best[row, 0] = best[row - 1, 0] + table[row - 1, 0]
        for held in range(1, total + 1):
            for k in range(1, min(most, held) + 1):
                value = best[row - 1, held - k] + table[row - 1, k]
                if value < best[row, held]:
                    best[row, held], taken[row, held] = value, k
    slots, held = np.zeros(layers, dtype=np.int64), total
    for row in range(layers, 0, -1):
        slots[row - 1] = taken[row, held]
        held -= int(slots[row - 1])
    return slots
