"""Gurobi with lazy Nemhauser-Wolsey cuts, under the size-limited licence of its pip package.

That licence caps the model before cuts are added, not the lazy rows, so the form with one variable
per expert and per block of clusters fits where the strong model does not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from moe2opt.bench.peers import Answer, Run, UnsupportedError
from moe2opt.bench.peers.linear import (
    Cut,
    CutFamily,
    rounded,
    side_rows,
    solution_of,
    strong_model,
)
from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray

_TOLERANCE = 1e-9

#: Cuts at fractional solutions are separated up to this many nodes; integer ones always.
_FRACTIONAL_NODES = 200


def solve(run: Run) -> Answer:
    """Maximise with lazy cuts (facility) or as a plain integer programme (multiple choice)."""
    import gurobipy as gp

    try:
        with gp.Env(params={"OutputFlag": 0}) as environment, gp.Model(env=environment) as model:
            model.Params.Threads = 1
            model.Params.Seed = run.seed
            model.Params.MIPGap = run.rel_gap
            model.Params.TimeLimit = run.time_limit_s
            if isinstance(run.problem, FacilityProblem):
                return _with_cuts(model, run, run.problem)
            return _plain(model, run)
    except gp.GurobiError as error:
        if error.errno == gp.GRB.Error.SIZE_LIMIT_EXCEEDED:
            raise UnsupportedError(f"licence: {error}") from error
        raise


def _plain(model: Any, run: Run) -> Answer:
    import gurobipy as gp

    matrices = strong_model(run.problem)
    x = model.addMVar(len(matrices.objective), vtype="B")
    model.setObjective(matrices.objective @ x, gp.GRB.MAXIMIZE)
    for part, sense, side in (
        (np.isfinite(matrices.row_upper), "<", matrices.row_upper),
        (np.isfinite(matrices.row_lower), ">", matrices.row_lower),
    ):
        if part.any():
            model.addMConstr(matrices.rows[np.flatnonzero(part)], x, sense, side[part])

    def callback(model: Any, where: int) -> None:
        if where == gp.GRB.Callback.MIPSOL:
            run.offer(solution_of(run.problem, np.array(model.cbGetSolution(x.tolist()))))
        elif where == gp.GRB.Callback.MIP:
            run.improve_bound(model.cbGet(gp.GRB.Callback.MIP_OBJBND))

    run.start()
    model.optimize(callback)
    if model.SolCount:
        run.offer(solution_of(run.problem, np.asarray(x.X)))
    return _answer(model, 1.0)


def _with_cuts(model: Any, run: Run, problem: FacilityProblem) -> Answer:
    import gurobipy as gp

    family = CutFamily(problem)
    y = model.addMVar(problem.size, vtype="B")
    theta = model.addMVar(family.blocks, ub=family.ceilings)
    model.setObjective(theta.sum() - family.opening @ y, gp.GRB.MAXIMIZE)
    for row, lower, upper in zip(*side_rows(problem), strict=True):
        if math.isfinite(upper):
            model.addConstr(row @ y <= upper)
        if math.isfinite(lower):
            model.addConstr(row @ y >= lower)
    model.Params.LazyConstraints = 1
    ys, thetas = y.tolist(), theta.tolist()
    variables = ys + thetas

    def expression(cut: Cut) -> Any:
        used = np.flatnonzero(cut.coefficients > _TOLERANCE)
        terms = gp.LinExpr(cut.coefficients[used].tolist(), [ys[i] for i in used])
        return thetas[cut.block] <= terms + cut.constant

    def suggest(model: Any, at: FloatArray) -> None:
        x = rounded(problem, at)
        if run.offer(x) >= run.objective:
            model.cbSetSolution(variables, [*x.tolist(), *family.worth(x).tolist()])

    def callback(model: Any, where: int) -> None:
        codes = gp.GRB.Callback
        if where == codes.MIPSOL:
            at, level = np.split(np.array(model.cbGetSolution(variables)), [problem.size])
            at = np.rint(at)
            run.offer(at)
            for cut in family.violated(at, level):
                model.cbLazy(expression(cut))
        elif where == codes.MIPNODE and model.cbGet(codes.MIPNODE_STATUS) == gp.GRB.OPTIMAL:
            at, level = np.split(np.array(model.cbGetNodeRel(variables)), [problem.size])
            if model.cbGet(codes.MIPNODE_NODCNT) < _FRACTIONAL_NODES:
                for cut in family.violated(np.clip(at, 0.0, 1.0), level):
                    model.cbLazy(expression(cut))
            suggest(model, at)
        elif where == codes.MIP:
            run.improve_bound(model.cbGet(codes.MIP_OBJBND) / family.scale)

    run.start()
    model.optimize(callback)
    if model.SolCount:
        run.offer(np.rint(np.asarray(y.X)))
    return _answer(model, family.scale)


def _answer(model: Any, scale: float) -> Answer:
    import gurobipy as gp

    claims: dict[int, Any] = {gp.GRB.OPTIMAL: "optimal", gp.GRB.INFEASIBLE: "infeasible"}
    claim = claims.get(model.Status, "limit")
    bound = model.ObjBound / scale if claim != "infeasible" else -math.inf
    return Answer(claim, bound, int(model.NodeCount))
