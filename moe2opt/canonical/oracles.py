"""Oracles of the other two problems seen as monotone: how the engines are tested on each other.

They add the problem's own numbers, each sum rounded once, as `evaluate` and `is_feasible` do.
Rounding keeps order, so what an oracle returns at the upper corner of a box is no less than the
value of any solution in it, whatever the sizes of the numbers.
"""

from __future__ import annotations

import numpy as np

from moe2opt.canonical.monotone import Oracle
from moe2opt.canonical.validate import BIGGEST_EXACT, exact_sum, is_integral
from moe2opt.result import FloatArray, IntArray


def best_of_chosen(weighted: FloatArray) -> Oracle:
    """Return the objective of a facility problem with ``(C, N)`` weighted values."""

    def objective(points: IntArray) -> FloatArray:
        best = [weighted[:, row > 0].max(axis=1, initial=0.0) for row in points]
        return np.array([exact_sum(row) for row in best])

    return objective


def best_of_groups(values: FloatArray, offsets: IntArray) -> Oracle:
    """Return the objective of a multiple-choice problem: best chosen, else worst, of each group."""
    starts = offsets[:-1]
    worst = np.repeat(np.minimum.reduceat(values, starts), np.diff(offsets))

    def objective(points: IntArray) -> FloatArray:
        best = np.maximum.reduceat(np.where(points > 0, values, worst), starts, axis=1)
        return np.array([exact_sum(row) for row in best])

    return objective


def budget_oracles(costs: FloatArray, limits: FloatArray) -> list[Oracle]:
    """Return usage minus limit of each row."""
    return [_budget_oracle(row, float(limit)) for row, limit in zip(costs, limits, strict=True)]


def _budget_oracle(row: FloatArray, limit: float) -> Oracle:
    """Return usage minus limit, with the same rounding as the problem's own feasibility test."""
    if is_integral(row) and row.sum() < BIGGEST_EXACT:
        return lambda points: points @ row - limit
    return lambda points: np.array([exact_sum(row[p > 0]) - limit for p in points])


def count_of(members: IntArray) -> Oracle:
    """Return how many of the members are chosen, less one."""
    # The members only: a flag for every option, group by group, would fill the memory.
    return lambda points: points[:, members].sum(axis=1) - 1.0
