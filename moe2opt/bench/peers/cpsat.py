"""CP-SAT on the strong 0/1 model; values that are not integers are scaled and rounded up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from moe2opt.bench.peers import Answer, Run, TooLargeError, UnsupportedError
from moe2opt.bench.peers.linear import Matrices
from moe2opt.bench.peers.reformulated import linear_form
from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem
from moe2opt.canonical.validate import is_integral
from moe2opt.result import FloatArray, IntArray

#: Literals above which the model is not built.
_MOST_LITERALS = 1_000_000

#: Sums of scaled numbers stay below this.
_LARGEST_SUM = 2.0**50


def solve(run: Run) -> Answer:
    """Maximise with one worker."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    above: Callable[[float], float] = _same
    if isinstance(run.problem, FacilityProblem):
        variables, factor, note = _facility(model, run.problem)
    elif isinstance(run.problem, MultipleChoiceProblem):
        variables, factor, note = _choice(model, run.problem)
    else:
        form = linear_form(run.problem)
        variables, factor, note = _linear(model, form.matrices)
        above = form.above

    def read(value: Any) -> IntArray:
        values = np.array([value(v) for v in variables], dtype=np.int64)
        if isinstance(run.problem, MonotoneProblem):
            return form.read(values.astype(np.float64))
        if isinstance(run.problem, FacilityProblem):
            return values
        parts = np.split(values, run.problem.offsets[1:-1])
        return np.array([int(np.argmax(part)) for part in parts])

    class Listener(cp_model.CpSolverSolutionCallback):  # type: ignore[misc]
        def on_solution_callback(self) -> None:
            run.improve_bound(above(self.BestObjectiveBound() / factor))
            run.offer(read(self.Value))

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = run.seed
    solver.parameters.relative_gap_limit = run.rel_gap
    run.start()
    solver.best_bound_callback = lambda bound: run.improve_bound(above(bound / factor))
    solver.parameters.max_time_in_seconds = run.time_limit_s
    status = solver.Solve(model, Listener())
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        run.offer(read(solver.Value))
    claims: dict[Any, Any] = {cp_model.OPTIMAL: "optimal", cp_model.INFEASIBLE: "infeasible"}
    claim = claims.get(status, "limit")
    bound = -math.inf if claim == "infeasible" else above(solver.BestObjectiveBound() / factor)
    return Answer(claim, bound, int(solver.NumBranches()), note=note)


def _same(bound: float) -> float:
    return bound


def _linear(model: Any, matrices: Matrices) -> tuple[list[Any], float, str]:
    """Add a model whose columns are all 0/1."""
    columns = len(matrices.objective)
    if matrices.binary < columns:
        raise UnsupportedError("a model with continuous variables")
    value, factor, note = _integers(matrices.objective, is_integral(matrices.objective))
    x = [model.NewBoolVar("") for _ in range(columns)]
    rows = matrices.rows.toarray()
    for part, sign, sides in ((rows, 1, matrices.row_upper), (-rows, -1, matrices.row_lower)):
        finite = np.isfinite(sides)
        _add_budgets(model, x, part[finite], sign * sides[finite])
    model.Maximize(sum(int(v) * literal for v, literal in zip(value, x, strict=True)))
    return x, factor, note


def _facility(model: Any, problem: FacilityProblem) -> tuple[list[Any], float, str]:
    value, factor, note = _integers(problem.weighted, problem.is_integral)
    if np.count_nonzero(value) > _MOST_LITERALS:
        raise TooLargeError(f"the model has {np.count_nonzero(value)} literals")
    y = [model.NewBoolVar("") for _ in range(problem.size)]
    terms, weights = [], []
    for row in value:
        served = []
        for i in np.flatnonzero(row):
            z = model.NewBoolVar("")
            model.AddImplication(z, y[i])
            served.append(z)
            weights.append(int(row[i]))
        model.AddAtMostOne(served)
        terms += served
    _add_budgets(model, y, problem.costs, problem.limits)
    for group in problem.groups:
        model.AddAtMostOne([y[i] for i in group])
    for cover in problem.covers:
        model.AddBoolOr([y[i] for i in cover])
    # Opening costs are rounded down, as values are rounded up: nothing may look worse than it is.
    paid = [(int(cost * factor), y[i]) for i, cost in enumerate(problem.fixed.tolist()) if cost]
    worth = sum(w * z for w, z in zip(weights, terms, strict=True))
    model.Maximize(worth - sum(cost * chosen for cost, chosen in paid))
    return y, factor, note


def _choice(model: Any, problem: MultipleChoiceProblem) -> tuple[list[Any], float, str]:
    value, factor, note = _integers(problem.flat_values, problem.is_integral)
    x = [model.NewBoolVar("") for _ in value]
    for first, last in zip(problem.offsets[:-1], problem.offsets[1:], strict=True):
        model.AddExactlyOne(x[first:last])
    _add_budgets(model, x, problem.costs, problem.limits)
    model.Maximize(sum(int(v) * literal for v, literal in zip(value, x, strict=True)))
    return x, factor, note


def _add_budgets(model: Any, x: list[Any], costs: FloatArray, limits: FloatArray) -> None:
    """Add rows in integers: costs rounded down, limits up, so that nothing feasible is lost."""
    for row, limit in zip(costs, limits, strict=True):
        whole = np.array_equal(row, np.floor(row))
        factor = 1.0 if whole else _LARGEST_SUM / max(1.0, float(np.abs(row).sum()))
        scaled = np.floor(row * factor).astype(np.int64)
        side = math.floor(limit) if whole else math.ceil(limit * factor)
        model.Add(sum(int(c) * v for c, v in zip(scaled, x, strict=True) if c) <= side)


def _integers(values: FloatArray, integral: bool) -> tuple[IntArray, float, str]:
    if integral:
        return values.astype(np.int64), 1.0, ""
    largest = np.abs(values).max(axis=-1).sum() if values.ndim == 2 else np.abs(values).sum()
    factor = 2.0 ** math.floor(math.log2(_LARGEST_SUM / max(1e-300, float(largest))))
    return np.ceil(values * factor).astype(np.int64), factor, "values scaled to integers"
