"""What the scripts of the page draw: curves, maps and the explorer, as small JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from moe2opt.pareto import Axis, Cell, Front, Grid
from moe2opt.present import Measure, label_of
from moe2opt.report.reading import Evidence
from moe2opt.report.replays import Replay
from moe2opt.result import ProgressEvent
from moe2opt.view import Map, Table, View

#: Digits that the scripts get; more is not seen on any screen.
_DIGITS = 8


def payload_of(evidence: Evidence, view: View) -> dict[str, Any]:
    """Return everything that is drawn; a part that does not exist is None.

    Raises
    ------
    InputError
        When a plan is none.
    """
    parts: dict[str, Any] = dict.fromkeys(("convergence", "front", "explorer", "map", "replay"))
    parts |= {"label": evidence.measure.label, "unit": evidence.measure.suffix}
    if evidence.log:
        parts["convergence"] = _convergence(evidence.log, evidence.measure)
    if evidence.front is not None:
        parts["front"] = _front(evidence.front)
    if evidence.grid is not None:
        parts["explorer"] = explorer(evidence.grid, evidence.view_of)
    if view.map is not None:
        parts["map"] = _map(view.map)
    if evidence.replay is not None and evidence.replay.curves:
        parts["replay"] = _replay(evidence.replay)
    return parts


def _replay(replay: Replay) -> list[dict[str, Any]]:
    return [
        {
            "name": policy,
            "time": times,
            "value": [None if v is None else _number(v) for v in values],
        }
        for policy, (times, values) in replay.curves.items()
    ]


def _convergence(log: tuple[ProgressEvent, ...], measure: Measure) -> dict[str, Any]:
    return {
        "time": [_number(event.time_s) for event in log],
        "value": [_number(measure.own(event.objective)) for event in log],
        "bound": [_number(measure.own(event.bound)) for event in log],
    }


def _front(front: Front) -> dict[str, Any]:
    measure = front.measure
    return {
        "axis": _axis(front.x),
        "label": measure.label,
        "x": [_number(budget) for budget in front.budgets],
        "value": [_number(measure.own(point.objective)) for point in front],
        "bound": [_number(measure.own(point.bound)) for point in front],
        "certified": [point.certified for point in front],
        "knee": front.knee,
        "exact": front.complete,
    }


def explorer(grid: Grid, view_of: Callable[[Any], View]) -> dict[str, Any]:
    """Return a grid over two budgets for the explorer of the page."""
    measure = grid.measure
    return {
        "axes": [_axis(axis) for axis in grid.axes],
        "label": measure.label,
        "unit": measure.suffix,
        "lessIsBetter": measure.minimizes,
        "cells": [_cell(cell, grid, measure) for cell in grid.cells],
        "plans": [_plan(view_of(plan)) for plan in grid.plans],
        "certified": sum(cell.certified for cell in grid),
    }


def _axis(axis: Axis) -> dict[str, Any]:
    return {"label": label_of(axis.name), "values": [_number(value) for value in axis.values]}


def _cell(cell: Cell, grid: Grid, measure: Measure) -> dict[str, Any]:
    used = [cell.used.get(axis.name) for axis in grid.axes]
    return {
        "u": [None if value is None else _number(value) for value in used],
        "s": cell.status,
        "v": _number(measure.own(cell.objective)),
        "b": _number(measure.own(cell.bound)),
        "g": _gap(cell),
        "c": cell.certified,
        "p": cell.plan,
    }


def _gap(cell: Cell) -> str:
    """Return the gap of a cell in percent, a dash where there is none."""
    return "-" if not math.isfinite(cell.gap) else f"{100 * cell.gap:.2g} %"


def _plan(view: View) -> dict[str, Any]:
    """Return the table of a plan that the explorer shows, the first one."""
    first = view.tables[0] if view.tables else Table("", (), (), ())
    return {"header": first.header, "rows": first.rows, "numeric": first.numeric}


def _map(found: Map) -> dict[str, Any]:
    """Return a map for the script: the cells of each row as runs of one place."""
    return {
        "places": found.places,
        "names": found.names,
        "axis": found.axis,
        "cells": len(found.rows[0]) if found.rows else 0,
        "rows": [_runs(row) for row in found.rows],
    }


def _runs(values: Iterable[int]) -> list[list[int]]:
    """Return ``[value, length]`` of the runs of equal values."""
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return runs


def _number(value: float) -> float | None:
    """Return a figure that JSON can hold, None for what does not exist."""
    value = float(value)
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
