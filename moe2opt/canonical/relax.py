"""Problems with other limits: what infeasibility proofs speak about."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from moe2opt.canonical.composite import Structure
from moe2opt.canonical.monotone import MonotoneProblem, Oracle
from moe2opt.canonical.storage import Problem
from moe2opt.canonical.validate import exact_sum, is_integral
from moe2opt.result import IntArray

#: A least relaxation is least up to this relative amount (integer rows: up to one unit).
RELAXATION_TOLERANCE = 1e-6


def row_count(problem: Problem) -> int:
    """Return the number of budget rows (constraints of a monotone problem)."""
    return len(problem.constraints if isinstance(problem, MonotoneProblem) else problem.budgets)


def row_usage(problem: Problem, row: int, x: IntArray) -> float:
    """Return how much of one budget `x` uses (the constraint value of a monotone problem)."""
    if isinstance(problem, MonotoneProblem):
        return float(problem.constraint_values(x[None, :])[0, row])
    return float(problem.usage_of(x)[row])


def row_limit(problem: Problem, row: int) -> float:
    """Return the limit of one budget; zero for the constraints of a monotone problem."""
    return 0.0 if isinstance(problem, MonotoneProblem) else float(problem.budgets[row])


def relaxed(problem: Problem, row: int, limit: float) -> Problem:
    """Return `problem` with another limit for one budget row."""
    if isinstance(problem, MonotoneProblem):
        if (made := problem.structure) is not None:
            made = made.with_relief(row, limit)
            return _made(problem, made)
        constraints = list(problem.constraints)
        constraints[row] = _shifted(constraints[row], limit)
        return replace(problem, constraints=constraints)
    budgets = problem.budgets.copy()
    budgets[row] = limit
    return problem.with_budgets(budgets)


def without_rows(problem: Problem, kept: Collection[int]) -> Problem:
    """Return `problem` with every budget row outside `kept` made unlimited; indices stay."""
    dropped = [k for k in range(row_count(problem)) if k not in kept]
    if isinstance(problem, MonotoneProblem):
        if (made := problem.structure) is not None:
            made = made.without(dropped)
            return _made(problem, made)
        free = [_never if k in dropped else g for k, g in enumerate(problem.constraints)]
        return replace(problem, constraints=free)
    budgets = problem.budgets.copy()
    budgets[dropped] = [exact_sum(problem.costs[k]) for k in dropped]
    return problem.with_budgets(budgets)


def just_below(problem: Problem, row: int, limit: float) -> float:
    """Return a limit slightly smaller: by a unit on integer rows, else by a relative 1e-6."""
    if not isinstance(problem, MonotoneProblem) and is_integral(problem.costs[row]):
        # Beyond 2**53 a unit less is the same float.
        return min(math.ceil(limit) - 1.0, math.nextafter(limit, -math.inf))
    return limit - RELAXATION_TOLERANCE * max(1.0, abs(limit))


def _made(problem: MonotoneProblem, made: Structure) -> MonotoneProblem:
    """Return a problem of other parts on the same box, with the same variables alike."""
    alike = problem.interchangeable
    return MonotoneProblem.of_structure(problem.lower, problem.upper, made, alike)


def _never(points: IntArray) -> np.ndarray:
    return np.full(points.shape[:-1], -1.0)  # of one point, too, where oracles are not batched


def _shifted(oracle: Oracle, limit: float) -> Oracle:
    return lambda points: np.asarray(oracle(points)) - limit
