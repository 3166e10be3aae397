"""The solvers of moe2opt, run as a user would run them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from moe2opt.bench.peers import Answer, Run, UnsupportedError
from moe2opt.canonical import (
    FacilityProblem,
    MonotoneProblem,
    MultipleChoiceProblem,
    Problem,
    choice_view,
)
from moe2opt.result import InputError, ProgressEvent
from moe2opt.solve import solve as run_solver
from moe2opt.solvers.facility.warm import compile_trees


def solve(run: Run, solver: str = "brb") -> Answer:
    """Solve by `solver`; the result is handed on, so that its certificate can be checked."""

    def listen(event: ProgressEvent) -> None:
        run.note_point(event.time_s, event.objective, event.bound)

    run.start()
    try:
        result = run_solver(
            run.problem,
            solver,
            time_limit_s=run.time_limit_s,
            memory_limit_bytes=run.memory_limit_bytes,
            rel_gap=run.rel_gap,
            seed=run.seed,
            threads=1,
            on_progress=listen,
        )
    except InputError as error:  # the solver refuses what is no fault of the problem
        raise UnsupportedError(str(error)) from error
    if result.x is not None:
        run.objective = -np.inf
        run.offer(result.x)
    claim: Any = {"OPTIMAL": "optimal", "INFEASIBLE": "infeasible"}.get(result.status, "limit")
    return Answer(claim, result.bound, int(result.stats.get("nodes", 0)), result)


def warm_up(problem: Problem, solver: str) -> float:
    """Compile the kernels on small problems of the same family; return the seconds it took."""
    start = time.perf_counter()
    if isinstance(problem, FacilityProblem) and solver == "brb":
        compile_trees()
    for small in _small(problem):
        for bound in ("auto", "lagrangian", "core") if solver == "brb" else ("auto",):
            try:
                run_solver(small, solver, bound=bound, time_limit_s=30.0, node_limit=50)
            except InputError:
                continue  # a bound that does not exist for this family
    return time.perf_counter() - start


def _small(problem: Problem) -> list[Problem]:
    """Return small problems that take the same paths, with and without integer data."""
    rng = np.random.default_rng(0)
    if isinstance(problem, MonotoneProblem):
        view = choice_view(problem)
        return [] if view is None else _small(view.problem)
    if isinstance(problem, MultipleChoiceProblem):
        rows = len(problem.budgets)
        worth = [rng.integers(0, 50, 4).astype(float) for _ in range(12)]
        usage = [rng.integers(0, 50, (4, rows)).astype(float) for _ in range(12)]
        return [MultipleChoiceProblem(worth, usage, np.full(rows, 250.0))]
    values = rng.integers(0, 1000, (40, 14)).astype(float)
    costs = rng.integers(1, 100, (max(1, len(problem.budgets)), 14)).astype(float)
    budgets = 0.4 * costs.sum(axis=1)
    groups = (np.array([0, 1, 2]), np.array([3, 4])) if problem.groups else ()
    plain = FacilityProblem(values, costs, np.floor(budgets), groups=groups)
    return [plain, FacilityProblem(values / 7.0, costs / 3.0, budgets / 3.0, groups=groups)]
