"""polyblocks, a continuous monotonic solver, on a step function that expresses a 0/1 problem.

An expert counts as chosen from 0.9 on. Its cost grows from 0 at 0.5 to the full cost at 0.9, so
the best 0/1 choice has a whole neighbourhood of feasible points of the same value: it is not lost
although the package optimises over an eroded feasible set only.
"""

from __future__ import annotations

import math

import numpy as np

from moe2opt.bench.peers import Answer, Run, UnsupportedError
from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray

_CHOSEN, _FREE = 0.9, 0.5

_MOST_VARIABLES = 30


def solve(run: Run) -> Answer:
    """Maximise by TreePOA at the relative gap of the run."""
    from polyblocks import TreePOA
    from polyblocks.abstract import Status

    problem = run.problem
    plain = isinstance(problem, FacilityProblem) and problem.opening is None
    if not isinstance(problem, FacilityProblem) or problem.covers or not plain:
        raise UnsupportedError("only facility problems without covers and opening costs")
    if problem.size > _MOST_VARIABLES:
        raise UnsupportedError(f"{problem.size} variables; continuous, {_MOST_VARIABLES} at most")
    values, slack = problem.weighted, 1e-9 * np.maximum(1.0, problem.limits)

    def objective(points: FloatArray) -> FloatArray:
        chosen = points >= _CHOSEN
        worth = np.where(chosen[:, None, :], values[None], 0.0).max(axis=2).sum(axis=1)
        return np.asarray(worth)

    def fits(points: FloatArray) -> FloatArray:
        share = np.clip((points - _FREE) / (_CHOSEN - _FREE), 0.0, 1.0)
        ok = (share @ problem.costs.T <= problem.limits + slack).all(axis=1)
        for group in problem.groups:
            ok &= share[:, group].sum(axis=1) <= 1.0 + 1e-9
        return np.asarray(ok)

    run.start()
    solution = TreePOA.solve(
        obj=objective,
        ub_oracle=fits,
        x_l=np.zeros(problem.size),
        x_u=np.ones(problem.size),
        eps_obj_rel=run.rel_gap,
        time_limit=max(1, math.ceil(run.time_limit_s)),
    )
    if solution.x is not None:
        run.offer(solution.x >= _CHOSEN)
    if solution.status is Status.OPTIMAL:
        return Answer("optimal", run.objective * (1 + run.rel_gap), solution.n_iter)
    bound = solution.best_bound
    return Answer("limit", bound if bound > 0 else math.inf, solution.n_iter)
