"""The other two problems seen as monotone problems: how the engines are tested on each other.

The oracles add the problem's own numbers, each sum rounded once, as `evaluate` and `is_feasible`
do. Rounding keeps order, so what an oracle returns at the upper corner of a box is no less than
the value of any solution in it, whatever the sizes of the numbers.
"""

from __future__ import annotations

import numpy as np

from moe2opt.canonical.choice import MultipleChoiceProblem
from moe2opt.canonical.facility import FacilityProblem
from moe2opt.canonical.monotone import MonotoneProblem, Oracle
from moe2opt.canonical.validate import BIGGEST_EXACT, exact_sum, is_integral
from moe2opt.result import FloatArray, IntArray


def facility_as_monotone(problem: FacilityProblem) -> MonotoneProblem:
    """Return `problem` over the unit box: groups become constraints, covers reverse constraints."""
    groups = [_count(group) for group in problem.groups]
    return MonotoneProblem(
        lower=np.zeros(problem.size, dtype=np.int64),
        upper=np.ones(problem.size, dtype=np.int64),
        objective=_best_of_chosen(problem.weighted),
        constraints=[*_budget_oracles(problem.costs, problem.limits), *groups],
        reverse_constraints=[_count(cover) for cover in problem.covers],
        submodular=True,
        integral=problem.is_integral,
    )


def choice_as_monotone(problem: MultipleChoiceProblem) -> MonotoneProblem:
    """Return `problem` with one 0/1 variable per option.

    "Exactly one option per group" is "at most one" (a constraint) and "at least one" (a reverse
    constraint). A group counts its best chosen option, and its worst one while none is chosen, so
    that the objective increases.
    """
    offsets = problem.offsets
    options = int(offsets[-1])
    members = [np.arange(offsets[g], offsets[g + 1]) for g in range(problem.size)]
    return MonotoneProblem(
        lower=np.zeros(options, dtype=np.int64),
        upper=np.ones(options, dtype=np.int64),
        objective=_best_of_groups(problem.flat_values, offsets),
        constraints=[
            *_budget_oracles(problem.costs, problem.limits),
            *(_count(group) for group in members),
        ],
        reverse_constraints=[_count(group) for group in members],
        submodular=True,
        integral=problem.is_integral,
    )


def _best_of_chosen(weighted: FloatArray) -> Oracle:
    def objective(points: IntArray) -> FloatArray:
        best = [weighted[:, row > 0].max(axis=1, initial=0.0) for row in points]
        return np.array([exact_sum(row) for row in best])

    return objective


def _best_of_groups(values: FloatArray, offsets: IntArray) -> Oracle:
    starts = offsets[:-1]
    worst = np.repeat(np.minimum.reduceat(values, starts), np.diff(offsets))

    def objective(points: IntArray) -> FloatArray:
        best = np.maximum.reduceat(np.where(points > 0, values, worst), starts, axis=1)
        return np.array([exact_sum(row) for row in best])

    return objective


def _budget_oracles(costs: FloatArray, limits: FloatArray) -> list[Oracle]:
    return [_budget_oracle(row, float(limit)) for row, limit in zip(costs, limits, strict=True)]


def _budget_oracle(row: FloatArray, limit: float) -> Oracle:
    """Return usage minus limit, with the same rounding as the problem's own feasibility test."""
    if is_integral(row) and row.sum() < BIGGEST_EXACT:
        return lambda points: points @ row - limit
    return lambda points: np.array([exact_sum(row[p > 0]) - limit for p in points])


def _count(members: IntArray) -> Oracle:
    # The members only: a flag for every option, group by group, would fill the memory.
    return lambda points: points[:, members].sum(axis=1) - 1.0
