"""The bound that costs nothing: the value of a point that has the best of everything."""

from __future__ import annotations

import math

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem, Problem


def ceiling(problem: Problem) -> float:
    """Return a trivial upper bound on the objective, valid whatever the budgets say.

    Sums are correctly rounded, and rounding is monotone, so the bound also holds for the objective
    as the problem computes it.
    """
    if isinstance(problem, FacilityProblem):
        return math.fsum(problem.weighted.max(axis=1))
    if isinstance(problem, MultipleChoiceProblem):
        return math.fsum(float(options.max()) for options in problem.values)
    assert isinstance(problem, MonotoneProblem)
    return float(problem.upper_values(problem.upper[None, :], problem.lower[None, :])[0])
