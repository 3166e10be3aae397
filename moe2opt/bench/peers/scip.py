"""SCIP: lazy Nemhauser-Wolsey cuts in a constraint handler, with a rounding heuristic.

A facility problem has one variable per expert and one per block of clusters. The handler separates
fractional and integer solutions, and hands integer choices whose value SCIP overestimates to a
heuristic that submits them with their true value. Multiple choice is a plain integer programme,
a monotone problem made of parts a nonlinear one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moe2opt.bench.peers import Answer, Run
from moe2opt.bench.peers.linear import CutFamily, rounded, side_rows
from moe2opt.bench.peers.scip_nonlinear import monotone_model
from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem
from moe2opt.result import FloatArray

_TOLERANCE = 1e-9

#: Rounds of separation at a node other than the root.
_NODE_ROUNDS = 10


def solve(run: Run) -> Answer:
    """Maximise in SCIP's best form for the problem."""
    from pyscipopt import Model

    model = Model()
    model.hideOutput()
    model.setParam("limits/gap", run.rel_gap)
    model.setParam("randomization/randomseedshift", run.seed)
    if run.memory_limit_bytes is not None:
        model.setParam("limits/memory", run.memory_limit_bytes / 2**20)
    if isinstance(run.problem, FacilityProblem):
        variables, read = _facility(model, run.problem)
        scale = read.family.scale
    elif isinstance(run.problem, MultipleChoiceProblem):
        variables, read, scale = *_choice(model, run.problem), 1.0
    else:
        variables, read, scale = *monotone_model(model, run.problem), 1.0
    _listen(model, run, variables, read, scale)
    run.start()
    model.setParam("limits/time", run.time_limit_s)
    model.optimize()
    if model.getNSols():
        run.offer(read(np.array([model.getVal(v) for v in variables])))
    claims: dict[str, Any] = {"optimal": "optimal", "gaplimit": "optimal"}
    claims["infeasible"] = "infeasible"
    claim = claims.get(model.getStatus(), "limit")
    bound = model.getDualbound() / scale
    return Answer(claim, bound if bound < 1e19 else math.inf, int(model.getNTotalNodes()))


def _listen(model: Any, run: Run, variables: Any, read: Any, scale: float) -> None:
    """Report every new incumbent, and the bound with it."""
    from pyscipopt import SCIP_EVENTTYPE, Eventhdlr

    class Listener(Eventhdlr):  # type: ignore[misc]
        def eventinit(self) -> None:
            self.model.catchEvent(SCIP_EVENTTYPE.BESTSOLFOUND, self)
            self.model.catchEvent(SCIP_EVENTTYPE.NODESOLVED, self)

        def eventexec(self, event: Any) -> None:
            bound = self.model.getDualbound() / scale
            run.improve_bound(bound if bound < 1e19 else math.inf)
            if event.getType() == SCIP_EVENTTYPE.BESTSOLFOUND:
                best = self.model.getBestSol()
                run.offer(read(np.array([self.model.getSolVal(best, v) for v in variables])))

    model.includeEventhdlr(Listener(), "listener", "reports incumbents")


class _Reader:
    """Turns values of variables into a solution; carries the cuts."""

    def __init__(self, family: CutFamily) -> None:
        self.family = family

    def __call__(self, values: FloatArray) -> Any:
        return np.rint(values)


@dataclass(slots=True)
class _Form:
    """The model with cuts: variables, cuts, and fractional choices that await rounding."""

    model: Any
    problem: FacilityProblem
    family: CutFamily
    y: list[Any]
    theta: list[Any]
    candidates: list[FloatArray] = field(default_factory=list)

    def point(self, solution: Any) -> tuple[FloatArray, FloatArray]:
        """Return the choice and the block values of a solution; None is that of the relaxation."""
        values = [self.model.getSolVal(solution, v) for v in (*self.y, *self.theta)]
        first, second = np.split(np.array(values), [self.problem.size])
        return np.clip(first, 0.0, 1.0), second

    def separate(self) -> bool:
        """Add the cuts that the relaxation violates; return whether there are any."""
        model = self.model
        at, level = self.point(None)
        cuts = self.family.violated(at, level)
        for cut in cuts:
            row = model.createEmptyRowUnspec("nw", lhs=None, rhs=cut.constant, local=False)
            model.cacheRowExtensions(row)
            model.addVarToRow(row, self.theta[cut.block], 1.0)
            for i in np.flatnonzero(cut.coefficients > _TOLERANCE):
                model.addVarToRow(row, self.y[i], -float(cut.coefficients[i]))
            model.flushRowExtensions(row)
            model.addCut(row, forcecut=True)
            model.addPoolCut(row)
            model.releaseRow(row)
        self.candidates.append(at)
        return bool(cuts)

    def overestimated(self, solution: Any) -> bool:
        """Tell whether a solution claims more than its choice is worth, and note the choice."""
        at, level = self.point(solution)
        worth = self.family.worth(np.rint(at))
        if (level <= worth + 1e-6 * np.maximum(1.0, worth)).all():
            return False
        self.candidates.append(np.rint(at))
        return True

    def submit_rounded(self, heuristic: Any) -> bool:
        """Round the latest candidates and submit them with their true value."""
        found = False
        for at in self.candidates[-3:]:
            x = rounded(self.problem, at).astype(np.float64)
            # In the original space: presolve may have fixed variables that x does not respect.
            solution = self.model.createOrigSol(heuristic)
            values = (*x, *self.family.worth(x))
            for variable, value in zip((*self.y, *self.theta), values, strict=True):
                self.model.setSolVal(solution, variable, float(value))
            found = bool(self.model.trySol(solution)) or found
        self.candidates.clear()
        return found


def _facility(model: Any, problem: FacilityProblem) -> tuple[list[Any], _Reader]:
    from pyscipopt import quicksum

    family = CutFamily(problem)
    y = [model.addVar(vtype="B", name=f"y{i}") for i in range(problem.size)]
    theta = [model.addVar(lb=0.0, ub=float(c), name=f"t{b}") for b, c in enumerate(family.ceilings)]
    for row, lower, upper in zip(*side_rows(problem), strict=True):
        terms = quicksum(float(row[i]) * y[i] for i in np.flatnonzero(row))
        if math.isfinite(upper):
            model.addCons(terms <= float(upper))
        if math.isfinite(lower):
            model.addCons(terms >= float(lower))
    costly = np.flatnonzero(family.opening)
    paid = quicksum(float(family.opening[i]) * y[i] for i in costly)
    model.setObjective(quicksum(theta) - paid, "maximize")
    # SCIP would find symmetries of the rows that it sees, which the cuts to come do not have.
    model.setParam("misc/usesymmetry", 0)
    form = _Form(model, problem, family, y, theta)
    _include_handler(form)
    _include_heuristic(form)
    model.setParam("separating/maxrounds", _NODE_ROUNDS)
    return y, _Reader(family)


def _include_handler(form: _Form) -> None:
    """Add the constraint handler; without constraints of its own it sees the whole model."""
    from pyscipopt import SCIP_RESULT, Conshdlr

    class Handler(Conshdlr):  # type: ignore[misc]
        def conssepalp(self, constraints: Any, nusefulconss: int) -> dict[str, Any]:
            cut = form.separate()
            return {"result": SCIP_RESULT.SEPARATED if cut else SCIP_RESULT.DIDNOTFIND}

        def consenfolp(self, constraints: Any, *ignored: Any) -> dict[str, Any]:
            cut = form.separate()
            return {"result": SCIP_RESULT.SEPARATED if cut else SCIP_RESULT.FEASIBLE}

        def conscheck(self, constraints: Any, solution: Any, *ignored: Any) -> dict[str, Any]:
            bad = form.overestimated(solution)
            return {"result": SCIP_RESULT.INFEASIBLE if bad else SCIP_RESULT.FEASIBLE}

        def consenfops(self, constraints: Any, *ignored: Any) -> dict[str, Any]:
            return {"result": SCIP_RESULT.SOLVELP}

        def conslock(self, constraint: Any, *locks: int) -> None:
            positive, negative = locks[-2:]
            for variable in form.theta:
                form.model.addVarLocks(variable, negative, positive)
            for variable in form.y:
                form.model.addVarLocks(variable, positive, negative)

    priorities = {"sepapriority": 1, "enfopriority": -1, "chckpriority": -1}
    form.model.includeConshdlr(
        Handler(),
        "nw",
        "Nemhauser-Wolsey cuts",
        sepafreq=1,
        eagerfreq=-1,
        needscons=False,
        **priorities,
    )


def _include_heuristic(form: _Form) -> None:
    from pyscipopt import SCIP_HEURTIMING, SCIP_RESULT, Heur

    class Rounding(Heur):  # type: ignore[misc]
        def heurexec(self, timing: Any, infeasible: bool) -> dict[str, Any]:
            found = form.submit_rounded(self)
            return {"result": SCIP_RESULT.FOUNDSOL if found else SCIP_RESULT.DIDNOTFIND}

    timing = SCIP_HEURTIMING.DURINGLPLOOP | SCIP_HEURTIMING.AFTERLPNODE
    about = "rounding with true values"
    form.model.includeHeur(Rounding(), "nwround", about, "Y", freq=1, timingmask=timing)


def _choice(model: Any, problem: MultipleChoiceProblem) -> tuple[list[Any], Any]:
    from pyscipopt import quicksum

    x = [model.addVar(vtype="B", obj=float(v)) for v in problem.flat_values]
    model.setMaximize()
    for first, last in zip(problem.offsets[:-1], problem.offsets[1:], strict=True):
        model.addCons(quicksum(x[first:last]) == 1)
    for row, limit in zip(problem.costs, problem.limits, strict=True):
        model.addCons(quicksum(float(row[j]) * x[j] for j in np.flatnonzero(row)) <= float(limit))

    def read(values: FloatArray) -> Any:
        parts = np.split(values, problem.offsets[1:-1])
        return np.array([int(np.argmax(part)) for part in parts])

    return x, read
