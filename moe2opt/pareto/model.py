"""Fronts and grids as data: what is known at each budget, and how it is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.content import Content
from moe2opt.errors import DAMAGE
from moe2opt.pareto.indicators import dominated_volume, knee, nondominated
from moe2opt.pareto.points import (
    FORMAT,
    Axis,
    Cell,
    FrontPoint,
    axis_from_dict,
    axis_to_dict,
    frame_of,
    measure_from,
    read,
    require,
    unreadable,
    write,
)
from moe2opt.present import PLAIN, Measure
from moe2opt.result import FloatArray, InputError, IntArray, Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Front(Content):
    """Best objective by the size of one budget.

    Attributes
    ----------
    name
        Name of the instance.
    x
        The budget that varies; its values are those of `points`.
    points
        One per solved budget, ascending.
    plans
        Distinct plans (JSON-ready), which points refer to.
    complete
        Between neighbouring points nothing else exists: the front is exact, not sampled. Budgets
        of a row that is not whole count as one when they differ by less than a relative 1e-6.
    caveats
        What must be known to read the figures (synthetic or estimated data).
    provenance
        Settings, versions, and budgets, fingerprint and digest of every proof.
    results
        What was solved, with certificates; `FrontPoint.proof` counts in it. Not part of the JSON
        file: `save_results` writes one file each.
    measure
        Sense and unit of the objective. Points hold canonical values, which are maximised; files
        and tables the question's own.
    """

    name: str
    x: Axis
    points: tuple[FrontPoint, ...]
    plans: tuple[dict[str, Any], ...] = ()
    complete: bool = False
    caveats: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    results: tuple[Result, ...] = field(default=(), repr=False, compare=False)
    measure: Measure = PLAIN

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[FrontPoint]:
        return iter(self.points)

    @property
    def certified(self) -> bool:
        """Whether every point is certified."""
        return all(point.certified for point in self.points)

    def plan_of(self, point: Cell) -> dict[str, Any] | None:
        """Return the plan of a point, None where there is none."""
        return None if point.plan is None else self.plans[point.plan]

    @property
    def budgets(self) -> FloatArray:
        """``(P,)`` budgets."""
        return np.array([point.budget for point in self.points])

    @property
    def objectives(self) -> FloatArray:
        """``(P,)`` objective values, ``-inf`` where there is no plan."""
        return np.array([point.objective for point in self.points])

    @property
    def bounds(self) -> FloatArray:
        """``(P,)`` proven upper bounds."""
        return np.array([point.bound for point in self.points])

    @property
    def knee(self) -> int | None:
        """Position of the knee; None when fewer than three points differ."""
        return knee(self.cost, self.objectives)

    @property
    def cost(self) -> FloatArray:
        """``(P,)`` use of the budget by each plan; the budget itself for an axis that is a key."""
        return np.array([p.used.get(self.x.name, p.budget) for p in self.points])

    def hypervolume(self, reference: Sequence[float] | None = None) -> float:
        """Return the area between the front and a reference point (cost, objective).

        Parameters
        ----------
        reference
            Worst cost and worst objective; by default the largest budget and the objective of the
            first point with a plan.
        """
        found = np.isfinite(self.objectives)
        if not found.any():
            return 0.0
        worth = self.objectives[found]
        corner = (float(self.budgets.max()), float(worth.min())) if reference is None else reference
        return dominated_volume(self.cost[found, None], worth, corner)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per point."""
        return frame_of([self.x.name], self.points, self.measure)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content; it holds no times, so equal runs give equal bytes."""
        return {
            "format": FORMAT,
            "kind": "front",
            "name": self.name,
            **self.measure.to_dict(),
            "x": axis_to_dict(self.x),
            "points": [point.to_dict(self.measure) for point in self.points],
            "plans": list(self.plans),
            "complete": self.complete,
            "certified": self.certified,
            "knee": self.knee,
            "caveats": list(self.caveats),
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Front:
        """Rebuild from `to_dict`; raise `InputError` when the content is no front."""
        try:
            require(data, "front")
            return cls(
                name=str(data["name"]),
                x=axis_from_dict(data["x"]),
                points=tuple(FrontPoint.from_dict(point) for point in data["points"]),
                plans=tuple(data["plans"]),
                complete=bool(data["complete"]),
                caveats=tuple(data["caveats"]),
                provenance=dict(data["provenance"]),
                measure=measure_from(data),
            )
        except DAMAGE as error:
            raise unreadable(error, "front") from error

    def save(self, path: str | Path) -> None:
        """Write the front as JSON."""
        write(self.to_dict(), path)

    @classmethod
    def load(cls, path: str | Path) -> Front:
        """Read a front written by `save`; raise `InputError` naming the file if it is none."""
        content = read(path)
        try:
            return cls.from_dict(content)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Grid(Content):
    """Best objective at every combination of two or more budgets.

    Attributes
    ----------
    name
        Name of the instance.
    axes
        Budgets that vary.
    cells
        One per combination, the last axis running fastest.
    plans
        Distinct plans (JSON-ready), which cells refer to.
    caveats, provenance, results, measure
        As in `Front`.
    """

    name: str
    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    plans: tuple[dict[str, Any], ...] = ()
    caveats: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    results: tuple[Result, ...] = field(default=(), repr=False, compare=False)
    measure: Measure = PLAIN

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of budgets on each axis."""
        return tuple(len(axis.values) for axis in self.axes)

    @property
    def certified(self) -> bool:
        """Whether every cell is certified."""
        return all(cell.certified for cell in self.cells)

    def __getitem__(self, index: tuple[int, ...]) -> Cell:
        return self.cells[int(np.ravel_multi_index(index, self.shape))]

    def plan_of(self, cell: Cell) -> dict[str, Any] | None:
        """Return the plan of a cell, None where there is none."""
        return None if cell.plan is None else self.plans[cell.plan]

    @property
    def objectives(self) -> FloatArray:
        """Objective values in the shape of the grid, ``-inf`` where there is no plan."""
        return np.array([cell.objective for cell in self.cells]).reshape(self.shape)

    @property
    def plan_numbers(self) -> IntArray:
        """Positions of the plans in the shape of the grid, -1 where there is none."""
        numbers = [-1 if cell.plan is None else cell.plan for cell in self.cells]
        return np.array(numbers, dtype=np.int64).reshape(self.shape)

    @property
    def costs(self) -> FloatArray:
        """``(P, A)`` use of each axis by each cell's plan, the budget where the axis is a key."""
        return np.array(
            [
                [c.used.get(a.name, b) for a, b in zip(self.axes, c.budgets, strict=True)]
                for c in self.cells
            ]
        )

    def front(self) -> tuple[int, ...]:
        """Return the cells whose plans no other one beats in every cost and in the objective."""
        return tuple(nondominated(self.costs, self.objectives.reshape(-1)).tolist())

    def hypervolume(self, reference: Sequence[float] | None = None) -> float:
        """Return the volume between the front and a reference point (costs..., objective).

        By default the reference is the largest budget of each axis and the worst objective.
        """
        found = list(self.front())
        if not found:
            return 0.0
        worth = self.objectives.reshape(-1)[found]
        worst = [axis.values[-1] for axis in self.axes]
        corner = (*worst, float(worth.min())) if reference is None else reference
        return dominated_volume(self.costs[found], worth, corner)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell."""
        return frame_of([axis.name for axis in self.axes], self.cells, self.measure)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content; it holds no times, so equal runs give equal bytes."""
        return {
            "format": FORMAT,
            "kind": "grid",
            "name": self.name,
            **self.measure.to_dict(),
            "axes": [axis_to_dict(axis) for axis in self.axes],
            "cells": [cell.to_dict(self.measure) for cell in self.cells],
            "plans": list(self.plans),
            "certified": self.certified,
            "caveats": list(self.caveats),
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Grid:
        """Rebuild from `to_dict`; raise `InputError` when the content is no grid."""
        try:
            require(data, "grid")
            return cls(
                name=str(data["name"]),
                axes=tuple(axis_from_dict(axis) for axis in data["axes"]),
                cells=tuple(Cell.from_dict(cell) for cell in data["cells"]),
                plans=tuple(data["plans"]),
                caveats=tuple(data["caveats"]),
                provenance=dict(data["provenance"]),
                measure=measure_from(data),
            )
        except DAMAGE as error:
            raise unreadable(error, "grid") from error

    def save(self, path: str | Path) -> None:
        """Write the grid as JSON."""
        write(self.to_dict(), path)

    @classmethod
    def load(cls, path: str | Path) -> Grid:
        """Read a grid written by `save`; raise `InputError` naming the file if it is none."""
        content = read(path)
        try:
            return cls.from_dict(content)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
