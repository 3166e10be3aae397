"""Readers of third-party instances: OR-Library families and MMKP, with their published values.

Formats follow the OR-Library's own descriptions; every reader returns canonical problems.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse.csgraph import floyd_warshall

from moe2opt.bench.cases import Built, data_file
from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem
from moe2opt.files import read_text
from moe2opt.result import FloatArray, InputError


@dataclass(frozen=True, slots=True)
class Known:
    """A published value, in the sense of its source, and whether it is proven optimal."""

    best_known: float
    is_optimum: bool
    file: str = ""


def build_orlib(arguments: dict[str, Any], data: Path | None) -> Built:
    """Follow the recipe ``orlib``: arguments are ``family`` and ``instance``."""
    family, instance = arguments["family"], arguments["instance"]
    if family not in _READERS:
        raise InputError(f"unknown family {family!r}; known are {', '.join(_READERS)}")
    folder = data_file(data, "instances", family)
    values = read_values(folder)
    if instance not in values:
        raise InputError(f"{family}: no instance {instance!r} in values.csv")
    built: Built = _READERS[family](folder, instance, values[instance])
    return built


def read_values(folder: Path) -> dict[str, Known]:
    """Return the published value of every instance in ``folder/values.csv``."""
    return {
        row["instance"]: Known(
            float(row["best_known"]), row["is_optimum"] == "True", row.get("file", "")
        )
        for row in csv.DictReader(read_text(folder / "values.csv").splitlines())
    }


def knapsacks(path: Path) -> Iterator[MultipleChoiceProblem]:
    """Read multi-constraint knapsacks: a count; per problem n, m, optimum, profits, rows, limits.

    Every item becomes a group {skip, take}.
    """
    numbers = _numbers(path)
    for _ in range(int(next(numbers))):
        items, rows, _optimum = (next(numbers) for _ in range(3))
        profits = _take(numbers, int(items))
        weights = _take(numbers, int(rows * items)).reshape(int(rows), int(items))
        yield MultipleChoiceProblem(
            values=[np.array([0.0, profit]) for profit in profits],
            usage=[np.stack([np.zeros(int(rows)), column]) for column in weights.T],
            budgets=_take(numbers, int(rows)),
        )


def assignments(path: Path) -> Iterator[MultipleChoiceProblem]:
    """Read generalised assignments, maximised: a group per job, an option per agent."""
    numbers = _numbers(path)
    for _ in range(int(next(numbers))):
        agents, jobs = int(next(numbers)), int(next(numbers))
        profits = _take(numbers, agents * jobs).reshape(agents, jobs)
        loads = _take(numbers, agents * jobs).reshape(agents, jobs)
        usage = [np.diag(column) for column in loads.T]
        yield MultipleChoiceProblem(list(profits.T), usage, _take(numbers, agents))


def multiple_choice(path: Path) -> MultipleChoiceProblem:
    """Read a multiple-choice multi-dimensional knapsack: one item of every class."""
    numbers = _numbers(path)
    classes, items, resources = (int(next(numbers)) for _ in range(3))
    capacities = _take(numbers, resources)
    values, usage = [], []
    for _ in range(classes):
        next(numbers)  # number of the class
        table = _take(numbers, items * (1 + resources)).reshape(items, 1 + resources)
        values.append(table[:, 0])
        usage.append(table[:, 1:])
    return MultipleChoiceProblem(values, usage, capacities)


def p_median(path: Path) -> tuple[FacilityProblem, float]:
    """Read a p-median problem on a graph; return it and the cost that an objective of 0 has.

    Distances are shortest paths, the last of repeated edges counts. Values are the largest
    distance minus the distance.
    """
    numbers = _numbers(path)
    n, edges, p = (int(next(numbers)) for _ in range(3))
    length = np.full((n, n), np.inf)
    for _ in range(edges):
        i, j, value = int(next(numbers)) - 1, int(next(numbers)) - 1, next(numbers)
        length[i, j] = length[j, i] = value
    np.fill_diagonal(length, 0.0)
    distance = floyd_warshall(length)
    farthest = float(distance.max())
    return FacilityProblem(farthest - distance, np.ones((1, n)), np.array([float(p)])), n * farthest


def warehouses(path: Path, *, capacitated: bool = False) -> tuple[FacilityProblem, float]:
    """Read a warehouse location; return it and the cost of an objective of 0.

    Values are savings against the dearest warehouse, and at least one warehouse opens. Capacities
    are ignored unless asked for.

    Raises
    ------
    InputError
        For `capacitated` where a single warehouse could not serve everybody: which warehouse
        serves whom is then a decision of its own, which a facility problem does not have.
    """
    numbers = _numbers(path)
    count, customers = int(next(numbers)), int(next(numbers))
    capacities, fixed = _take(numbers, 2 * count).reshape(count, 2).T
    table = _take(numbers, customers * (1 + count)).reshape(customers, 1 + count)
    demands, costs = table[:, 0], table[:, 1:]
    if capacitated and capacities.min() < demands.sum():
        raise InputError(
            f"{path.name}: capacities can bind and then divide customers among warehouses, which "
            "no canonical problem does; instances whose names end in -uncap ignore capacities"
        )
    dearest = costs.max(axis=1)
    problem = FacilityProblem(
        values=dearest[:, None] - costs,
        costs=[],
        budgets=[],
        covers=[np.arange(count)],
        opening=fixed,
    )
    return problem, float(dearest.sum())


def _from_many(reader: Any, first: int) -> Any:
    def build(folder: Path, instance: str, known: Known) -> Built:
        stem, number = instance.rsplit("-", 1)
        problems = list(reader(folder / f"{stem}.txt"))
        return Built(problems[int(number) - first], known.best_known, known.is_optimum)

    return build


def _mmkp(folder: Path, instance: str, known: Known) -> Built:
    problem = multiple_choice(folder / f"{instance}.txt")
    return Built(problem, known.best_known, known.is_optimum)


def _pmed(folder: Path, instance: str, known: Known) -> Built:
    problem, constant = p_median(folder / f"{instance}.txt")
    return Built(problem, constant - known.best_known, known.is_optimum)


def _cap(folder: Path, instance: str, known: Known) -> Built:
    name = known.file or f"{instance.removesuffix('-uncap')}.txt"
    capacitated = not instance.endswith("-uncap")
    problem, constant = warehouses(folder / name, capacitated=capacitated)
    note = "capacities never bind" if capacitated else "capacities ignored"
    return Built(problem, constant - known.best_known, known.is_optimum, note)


_READERS: dict[str, Any] = {
    "mknap": _from_many(knapsacks, 1),
    "mknapcb": _from_many(knapsacks, 0),
    "gap": _from_many(assignments, 1),
    "mmkp": _mmkp,
    "pmed": _pmed,
    "cap": _cap,
}


def _numbers(path: Path) -> Iterator[float]:
    """Yield the numbers of a file; words (capa and capc hold one) are read as 0."""
    for word in read_text(path).split():
        yield float(word) if word[0].isdigit() or word[0] in "+-." else 0.0


def _take(numbers: Iterator[float], count: int) -> FloatArray:
    return np.array([next(numbers) for _ in range(count)])
