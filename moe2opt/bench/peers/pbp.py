"""pbp-pmedian with its HiGHS backend: exact p-median by reduced models or two-phase Benders."""

from __future__ import annotations

import numpy as np

from moe2opt.bench.peers import Answer, Run, UnsupportedError
from moe2opt.canonical import FacilityProblem


def solve(run: Run) -> Answer:
    """Minimise the distances that the facility problem stands for."""
    from pbp_pmedian import set_backend
    from pbp_pmedian import solve as solve_p_median

    problem = run.problem
    if not isinstance(problem, FacilityProblem) or not _is_p_median(problem):
        raise UnsupportedError("not a p-median problem")
    farthest = float(problem.weighted.max())
    distance = np.ascontiguousarray((farthest - problem.weighted).T)
    medians = int(problem.limits[0])
    set_backend("highs")
    run.start()
    value, chosen, _, status, engine = solve_p_median(
        distance, medians, time_limit=run.time_limit_s, backend="highs"
    )
    if status != 0 or value is None:
        return Answer("limit", note=f"engine {engine}, status {status}")
    x = np.zeros(problem.size, dtype=np.int64)
    x[list(chosen)] = 1
    run.offer(x)
    return Answer("optimal", problem.clusters * farthest - float(value), note=f"engine {engine}")


def _is_p_median(problem: FacilityProblem) -> bool:
    one_row = problem.costs.shape[0] == 1 and bool((problem.costs == 1.0).all())
    return one_row and not problem.groups and not problem.covers and problem.opening is None
