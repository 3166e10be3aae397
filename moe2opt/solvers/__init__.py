"""Solvers: a canonical problem in, incumbent, bound and certificate out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from moe2opt import plugins
from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem, Problem
from moe2opt.result import InputError
from moe2opt.schema.source import did_you_mean
from moe2opt.solvers.base import Interrupt as Interrupt
from moe2opt.solvers.base import Options as Options
from moe2opt.solvers.base import Outcome as Outcome
from moe2opt.solvers.base import ProgressCallback as ProgressCallback
from moe2opt.solvers.base import Search as Search

#: Every solver is a function of the problem and the search that controls the run.
SolverFunction = Callable[[Problem, Search], Outcome]


@dataclass(frozen=True, slots=True)
class SolverInfo:
    """What a solver is and can do.

    Attributes
    ----------
    name
        Name for `moe2opt.solve` and ``--solver``.
    module, function
        Where it lives; imported on first use.
    families
        Kinds of problems it handles.
    exact
        Whether it proves a bound.
    certified
        Whether the bound comes with a certificate.
    about
        One line for the user.
    """

    name: str
    module: str
    function: str
    families: tuple[type, ...]
    exact: bool
    certified: bool
    about: str

    def load(self) -> SolverFunction:
        """Import the solver and return its function."""
        function: SolverFunction = plugins.imported(
            f"solver '{self.name}'", self.module, self.function
        )
        return function


_ALL = (FacilityProblem, MultipleChoiceProblem, MonotoneProblem)
_LINEAR = (FacilityProblem, MultipleChoiceProblem)

SOLVERS: dict[str, SolverInfo] = {
    info.name: info
    for info in (
        SolverInfo(
            "brb",
            "moe2opt.solvers.brb",
            "solve",
            _ALL,
            True,
            True,
            "branch-reduce-and-bound with pluggable bounds",
        ),
        SolverInfo(
            "polyblock",
            "moe2opt.solvers.polyblock",
            "solve",
            _ALL,
            True,
            True,
            "discrete polyblock outer approximation with minimal-infeasible-point cuts",
        ),
        SolverInfo(
            "milp",
            "moe2opt.solvers.linear.milp",
            "solve",
            _LINEAR,
            True,
            False,
            "strong mixed-integer formulation in Pyomo, solved by HiGHS",
        ),
        SolverInfo(
            "enumerate",
            "moe2opt.solvers.baselines",
            "enumerate_all",
            _ALL,
            True,
            False,
            "all points of the box, up to 2**22 of them",
        ),
        SolverInfo(
            "greedy",
            "moe2opt.solvers.baselines",
            "greedy",
            _ALL,
            False,
            False,
            "best gain and best gain per cost, the better of the two",
        ),
        SolverInfo(
            "local_search",
            "moe2opt.solvers.baselines",
            "local_search",
            _ALL,
            False,
            False,
            "greedy, then swaps until no swap improves",
        ),
        SolverInfo(
            "random",
            "moe2opt.solvers.baselines",
            "random_search",
            _ALL,
            False,
            False,
            "random feasible points",
        ),
    )
}


#: `brb` with a turn of HiGHS: what is proven is its own, so that results carry its name.
_AUTO = replace(SOLVERS["brb"], module="moe2opt.solvers.beside")


def choose(name: str, problem: Problem) -> SolverInfo:
    """Return the solver called `name`; ``auto`` picks by the problem's declared structure.

    Other packages add solvers by entry points of the group ``moe2opt.solvers``.

    Raises
    ------
    InputError
        For an unknown name or a family that the solver does not handle.
    """
    info = _AUTO if name == "auto" else SOLVERS.get(name)
    info = info or plugins.load("solvers", name, SolverInfo)
    if info is None:
        known = list(dict.fromkeys(["auto", *SOLVERS, *plugins.names("solvers")]))
        hint = did_you_mean(name, known)
        raise InputError(f"unknown solver {name!r}; choose from {', '.join(known)}{hint}")
    if not isinstance(problem, info.families):
        kind = problem.kind.replace("_", "-")
        raise InputError(f"solver {name!r} does not handle {kind} problems")
    return replace(info, name="brb" if name == "auto" else name)
