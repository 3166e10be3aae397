"""How the tests run a solver: below `moe2opt.solve`, so that nothing but the solver is tested."""

from __future__ import annotations

import math
from typing import Any

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem
from moe2opt.result import Result
from moe2opt.solvers import SOLVERS, Interrupt, Options, Search, choose
from moe2opt.solvers.infeasibility import explained

EXACT = tuple(name for name, info in SOLVERS.items() if info.exact)
CERTIFIED = tuple(name for name, info in SOLVERS.items() if info.certified)
HEURISTIC = tuple(name for name, info in SOLVERS.items() if not info.exact)

#: Relative difference allowed between an exact solver and enumeration on data with fractions.
CLOSE = {"milp": 1e-6}
CLOSE_BY_DEFAULT = 2e-9


def run(problem: Any, solver: str, interrupt: Interrupt | None = None, **options: Any) -> Result:
    """Solve `problem` and return the result, uncertified."""
    info = choose(solver, problem)
    search = Search(problem, Options(**options), interrupt=interrupt)
    outcome = explained(info.load()(problem, search), search)
    return search.result(outcome, solver)


def handles(solver: str, problem: Any) -> bool:
    """Tell whether the solver is meant for the family of `problem`."""
    return isinstance(problem, SOLVERS[solver].families)


def same(problem: Any, value: float, expected: float, solver: str = "") -> bool:
    """Tell whether two optima agree: exactly on integer objectives, else closely."""
    if value == expected:
        return True
    if problem.is_integral or not (math.isfinite(value) and math.isfinite(expected)):
        return False
    return math.isclose(value, expected, rel_tol=CLOSE.get(solver, CLOSE_BY_DEFAULT))


def slack(problem: Any, value: float, solver: str = "") -> float:
    """Return how far a bound may lie below the optimum by rounding: not at all on integers."""
    if problem.is_integral or not math.isfinite(value):
        return 0.0
    return CLOSE.get(solver, 1e-12) * max(1e-9, abs(value))


def bounds_of(problem: Any) -> tuple[str, ...]:
    """Return the names of the bounds of `brb` that fit the problem, besides ``auto``."""
    if isinstance(problem, FacilityProblem):
        return ("cuts", "lagrangian", "submodular", "corner")
    if isinstance(problem, MultipleChoiceProblem):
        return ("core", "lagrangian", "corner")
    if problem.mixed_objective is not None:
        return ("mixed",)
    unit = bool((problem.upper - problem.lower <= 1).all())
    return ("corner", "marginal") if problem.submodular and unit else ("corner",)
