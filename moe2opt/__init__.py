"""moe2opt: certified optimal deployment of LLM experts on small machines.

The public names below are imported on first use, so that ``import moe2opt`` and the command line
start at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe2opt.canonical import FacilityProblem as FacilityProblem
    from moe2opt.canonical import Instance as Instance
    from moe2opt.canonical import MonotoneProblem as MonotoneProblem
    from moe2opt.canonical import MultipleChoiceProblem as MultipleChoiceProblem
    from moe2opt.canonical import Plan as Plan
    from moe2opt.canonical import Problem as Problem
    from moe2opt.canonical import find_counterexample as find_counterexample
    from moe2opt.canonical import load_problem as load_problem
    from moe2opt.canonical import parts as parts
    from moe2opt.canonical import save_problem as save_problem
    from moe2opt.certify import Verdict as Verdict
    from moe2opt.certify import certify as certify
    from moe2opt.config import LoadedInstance as LoadedInstance
    from moe2opt.config import load as load
    from moe2opt.fleet import load_fleet as load_fleet
    from moe2opt.fleet import solve_fleet as solve_fleet
    from moe2opt.pareto import Front as Front
    from moe2opt.pareto import Grid as Grid
    from moe2opt.pareto import pareto as pareto
    from moe2opt.result import Certificate as Certificate
    from moe2opt.result import CertificationError as CertificationError
    from moe2opt.result import InputError as InputError
    from moe2opt.result import Limit as Limit
    from moe2opt.result import MoeOptError as MoeOptError
    from moe2opt.result import ProgressEvent as ProgressEvent
    from moe2opt.result import Result as Result
    from moe2opt.result import Status as Status
    from moe2opt.solve import SolverMismatchError as SolverMismatchError
    from moe2opt.solve import solve as solve
    from moe2opt.sweep import Sweep as Sweep
    from moe2opt.sweep import sweep as sweep

    __version__: str

#: Where each public name lives.
_HOME = {
    "FacilityProblem": "canonical",
    "Instance": "canonical",
    "MonotoneProblem": "canonical",
    "MultipleChoiceProblem": "canonical",
    "Plan": "canonical",
    "Problem": "canonical",
    "find_counterexample": "canonical",
    "load_problem": "canonical",
    "parts": "canonical",
    "save_problem": "canonical",
    "Verdict": "certify",
    "certify": "certify",
    "LoadedInstance": "config",
    "load": "config",
    "load_fleet": "fleet",
    "solve_fleet": "fleet",
    "Front": "pareto",
    "Grid": "pareto",
    "pareto": "pareto",
    "Certificate": "result",
    "CertificationError": "result",
    "InputError": "result",
    "Limit": "result",
    "MoeOptError": "result",
    "ProgressEvent": "result",
    "Result": "result",
    "Status": "result",
    "SolverMismatchError": "solve",
    "solve": "solve",
    "Sweep": "sweep",
    "sweep": "sweep",
}

__all__ = sorted([*_HOME, "__version__"])


class _Package(ModuleType):
    """The package, in which ``solve`` and ``certify`` stay functions.

    Modules of these names exist. Importing a submodule binds it in its package, which would turn
    ``moe2opt.solve(...)`` into a call of a module; here the function of that name is bound instead.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # Travels by name, as any module does: pickles know only the class of ordinary modules.
        return import_module, (self.__name__,)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("moe2opt")
    elif name in _HOME:
        value = getattr(import_module(f"moe2opt.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'moe2opt' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


sys.modules[__name__].__class__ = _Package
