"""Everything that a plan is decided by: who can serve whom how well, costs, budgets and rivals."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moe2opt.beside import NOISY
from moe2opt.content import Content
from moe2opt.errors import InputError
from moe2opt.portfolio.sections import Classes, ClassValue, PortfolioConfig
from moe2opt.present import Measure
from moe2opt.schema import inside, rivals_of
from moe2opt.schema.csv import (
    AMOUNT,
    NAME,
    NUMBER,
    Row,
    read_columns,
    read_numbers,
    same_names,
    value_columns,
)
from moe2opt.text import shown


@dataclass(frozen=True, slots=True)
class Cell:
    """What a candidate is worth to a class, and the standard error of that (None for none)."""

    value: float
    standard_error: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Case(Content):
    """Classes, candidates and what each pair is worth.

    Attributes
    ----------
    name
        Short name.
    column
        What the table calls candidates.
    weights
        Share of each class; they sum to 1.
    candidates
        Names, in the order of the table.
    cells
        Per class, the candidates that can serve it within its limits.
    costs, limits
        Per cost: that of each candidate, and the budget.
    base
        Candidates that are always there, at no cost.
    every
        Whether every class has to be served.
    measure
        Unit and name of the mean value.
    rivals
        Baselines to compare with: their names, and the candidates of choices of others.
    caveats
        What must be known to read any figure.
    """

    name: str
    column: str
    weights: dict[str, float]
    candidates: tuple[str, ...]
    cells: dict[str, dict[str, Cell]]
    costs: dict[str, dict[str, float]]
    limits: dict[str, float]
    base: tuple[str, ...]
    every: bool
    measure: Measure
    rivals: dict[str, tuple[str, ...] | None]
    caveats: tuple[str, ...] = ()

    @property
    def noisy(self) -> bool:
        """Whether the table has standard errors."""
        cells = (cell for row in self.cells.values() for cell in row.values())
        return any(cell.standard_error is not None for cell in cells)


@dataclass(frozen=True, slots=True)
class _Folder:
    """Files beside a configuration."""

    folder: Path
    allow_outside: bool

    def path(self, name: str, key: str) -> Path:
        """Return the file that a key names."""
        return inside(self.folder, name, key, allow_outside=self.allow_outside)

    def numbers(
        self, given: Any, key: str, by: str, name: str, known: list[str]
    ) -> dict[str, float]:
        """Return a figure for each name: from a file, a mapping, or the same for all."""
        if isinstance(given, str):
            content = NUMBER if key.startswith("where") else AMOUNT
            given = read_numbers(self.path(given, key), by, name, content, key)
        if not isinstance(given, dict):
            return dict.fromkeys(known, float(given))
        same_names(key, given, known)
        return {one: given[one] for one in known}


def case_of(config: PortfolioConfig, folder: Path, *, allow_outside: bool = False) -> Case:
    """Read the tables that a configuration names.

    Raises
    ------
    InputError
        Naming the key, or file and line, at fault.
    """
    files = _Folder(folder, allow_outside)
    own = config.classes if isinstance(config.classes, Classes) else Classes(column=config.classes)
    value = (
        config.value if isinstance(config.value, ClassValue) else ClassValue(column=config.value)
    )
    rows = _rows(config, own, value, files.path(config.table, "table"))
    classes = list(dict.fromkeys(row["class"] for row in rows))
    candidates = list(dict.fromkeys(row["candidate"] for row in rows))
    given = 1.0 if own.weights is None else own.weights
    weights = files.numbers(given, "class.weights", own.column, "weight", classes)
    whole = math.fsum(weights.values())
    if not whole > 0:
        raise InputError("class.weights: no class has any weight")
    most = {
        name: files.numbers(limit, f"where.{name}", own.column, name, classes)
        for name, limit in config.where.items()
    }
    cells: dict[str, dict[str, Cell]] = {name: {} for name in classes}
    for row in rows:
        if all(row[f"where.{name}"] <= limits[row["class"]] for name, limits in most.items()):
            cell = Cell(row["value.column"], row.get("value.se"))
            cells[row["class"]][row["candidate"]] = cell
    nobody = [name for name in classes if not cells[name]]
    if nobody and config.every_class_served:
        raise InputError(f"every_class_served: no candidate can serve {', '.join(nobody[:5])}")
    case = Case(
        name=config.name,
        column=config.candidate,
        weights={name: weight / whole for name, weight in weights.items()},
        candidates=tuple(candidates),
        cells=cells,
        costs=_costs(config, files, candidates),
        limits={name: config.budgets[name] for name in config.costs},
        base=config.base,
        every=config.every_class_served,
        measure=Measure("maximize", value.unit, value.column),
        rivals={},
    )
    unserved = [f"nothing within the limits serves {name}: it counts 0" for name in nobody]
    if len(nobody) == len(classes):
        unserved = ["no row is within the limits, so that all counts 0: do their units agree?"]
    caveats = (*config.notes, *unserved, *([NOISY] if case.noisy else []))
    plans = rivals_of(config.baselines, lambda name, key: _choice(case, files.path(name, key)))
    return replace(case, rivals=plans, caveats=caveats)


def _costs(
    config: PortfolioConfig, files: _Folder, candidates: list[str]
) -> dict[str, dict[str, float]]:
    for name in config.costs.keys() ^ config.budgets.keys():
        key, other = ("costs", "budgets") if name in config.costs else ("budgets", "costs")
        raise InputError(f"{key}.{name}: {other} say nothing of it")
    for k, name in enumerate(config.base):
        if name not in candidates:
            raise InputError(f"base.{k}: '{shown(name)}' is no candidate of the table")
    free = dict.fromkeys(config.base, 0.0)
    return {
        name: files.numbers(cost, f"costs.{name}", config.candidate, name, candidates) | free
        for name, cost in config.costs.items()
    }


def _rows(config: PortfolioConfig, own: Classes, value: ClassValue, file: Path) -> list[Row]:
    if own.column == config.candidate:
        raise InputError(f"candidate: '{config.candidate}' is the column of the classes")
    wanted = {"class": (own.column, NAME), "candidate": (config.candidate, NAME)}
    wanted |= value_columns(file, value.column, value.se, AMOUNT)
    wanted |= {f"where.{name}": (name, NUMBER) for name in config.where}
    rows = read_columns(file, wanted, unique=("class", "candidate"))
    if not rows:
        raise InputError(f"table: {file.name} has no rows")
    return rows


def _choice(case: Case, file: Path) -> tuple[str, ...]:
    rows = read_columns(file, {"candidate": (case.column, NAME)}, unique=("candidate",))
    for row in rows:
        if row["candidate"] not in case.candidates:
            raise InputError(f"{file}: '{row['candidate']}' is no candidate of the table")
    return tuple(row["candidate"] for row in rows)
