"""Parts that other packages add, found by entry points; nothing is imported before it is asked for.

A package names its parts in groups: ``moe2opt.solvers`` (a `moe2opt.solvers.SolverInfo`),
``moe2opt.questions`` (a `moe2opt.questions.Question`) and ``moe2opt.backends`` (a function of the
number of workers and the address of a scheduler that returns an Executor). A built-in part goes
before one of the same name.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from moe2opt.errors import InputError

T = TypeVar("T")


def names(group: str) -> list[str]:
    """Return the names of the parts that other packages add to a group, sorted."""
    return sorted(_found(group))


def load(group: str, name: str, kind: type[T]) -> T | None:
    """Return the part that another package adds under a name, None when none does.

    Raises
    ------
    InputError
        In one line that names package and part, when it cannot be loaded or is no `kind`.
    """
    entry = _found(group).get(name)
    if entry is None:
        return None
    package = "" if entry.dist is None else f" of the package {entry.dist.name}"
    part = f"moe2opt.{group}: '{name}' ({entry.value}){package}"
    try:
        value = entry.load()
    except (Exception, SystemExit) as error:
        raise InputError(f"{part} cannot be loaded: {told(error)}") from error
    if not isinstance(value, kind):
        raise InputError(f"{part} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def imported(what: str, module: str, name: str) -> Any:
    """Return a name of a module; raise an `InputError` about `what` where that fails."""
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise InputError(f"{what} needs {error.name}, which is missing") from error
    except (AttributeError, ImportError) as error:
        raise InputError(f"{what} cannot be loaded: {told(error)}") from error


def told(error: BaseException) -> str:
    """Return an error as one line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _found(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"moe2opt.{group}"):
        found.setdefault(entry.name, entry)
    return found
