"""What a benchmark instance is: a name and a recipe that every process can follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from moe2opt.canonical import Problem
from moe2opt.config import load
from moe2opt.result import InputError, MoeOptError
from moe2opt.source import source_of


class MissingDataError(MoeOptError):
    """The data of an instance are not here."""


@dataclass(frozen=True, slots=True)
class Case:
    """An instance of a suite.

    Attributes
    ----------
    suite, name
        Where it belongs and what it is called.
    recipe
        Which builder makes it.
    arguments
        JSON-ready arguments of the builder.
    size
        ``(variables, clusters or options)``, as far as known before it is built.
    """

    suite: str
    name: str
    recipe: str
    arguments: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Built:
    """A case made real.

    Attributes
    ----------
    problem
        The canonical problem.
    known
        Published objective in the terms of `problem`, None without one.
    is_optimum
        Whether `known` is proven; otherwise it is only the best known value.
    note
        What a reader of the figures must know.
    """

    problem: Problem
    known: float | None = None
    is_optimum: bool = False
    note: str = ""


Builder = Callable[[dict[str, Any], Path | None], Built]

#: Recipe -> module and function of its builder.
BUILDERS: dict[str, tuple[str, str]] = {
    "structured": ("moe2opt.bench.generated", "build_structured"),
    "uniform": ("moe2opt.bench.generated", "build_uniform"),
    "catalogue": ("moe2opt.bench.catalogue", "build_catalogue_case"),
    "placement": ("moe2opt.bench.placement", "build_placement"),
    "orlib": ("moe2opt.bench.orlib", "build_orlib"),
    "monotone": ("moe2opt.bench.monotone", "build_monotone"),
    "file": ("moe2opt.bench.cases", "build_file"),
}


def build_case(recipe: str, arguments: dict[str, Any], data: Path | None) -> Built:
    """Follow a recipe.

    Parameters
    ----------
    recipe, arguments
        As in `Case`.
    data
        Folder of third-party data, None without one.

    Raises
    ------
    MissingDataError
        When the recipe needs data that are not in `data`.
    InputError
        For an unknown recipe or a file that does not hold what it should.
    """
    if recipe not in BUILDERS:
        raise InputError(f"unknown recipe {recipe!r}; known are {', '.join(BUILDERS)}")
    module, function = BUILDERS[recipe]
    builder: Builder = getattr(import_module(module), function)
    return builder(arguments, data)


def build_file(arguments: dict[str, Any], data: Path | None) -> Built:
    """Read a problem file, a configuration, or a built-in problem."""
    target: Any = load(arguments["path"], arguments.get("scenario"))
    return Built(target if source_of(target) is None else target.problem())


def data_file(data: Path | None, *parts: str) -> Path:
    """Return a file of the data folder.

    Raises
    ------
    MissingDataError
        Without a data folder, or without that file in it.
    """
    name = "/".join(parts)
    if data is None:
        raise MissingDataError(f"{name}: no data folder (--data DIR names one)")
    path = data.joinpath(*parts)
    if not path.exists():
        raise MissingDataError(f"{name}: not in the data folder")
    return path


def default_data() -> Path | None:
    """Return the folder ``shared/data`` beside the checkout, None where there is none."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return folder if folder.is_dir() else None
