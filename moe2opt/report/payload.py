"""What the scripts of the page draw: curves, maps and the explorer, as small JSON."""

from __future__ import annotations

import math
from typing import Any

from moe2opt.errors import DAMAGE
from moe2opt.pareto import Axis, Cell, Front, Grid
from moe2opt.plotting.style import label_of
from moe2opt.present import Measure
from moe2opt.report.reading import Evidence
from moe2opt.report.replays import Replay
from moe2opt.report.views import Table, View, expert_table, tier_table
from moe2opt.result import InputError, ProgressEvent

#: Digits that the scripts get; more is not seen on any screen.
_DIGITS = 8


def payload_of(evidence: Evidence, view: View) -> dict[str, Any]:
    """Return everything that is drawn; a part that does not exist is None.

    Raises
    ------
    InputError
        When the plan is none.
    """
    try:
        return _parts(evidence, view)
    except DAMAGE as error:
        raise InputError(f"plan: not understood: {type(error).__name__}: {error}") from error


def _parts(evidence: Evidence, view: View) -> dict[str, Any]:
    parts: dict[str, Any] = dict.fromkeys(("convergence", "front", "explorer", "map", "replay"))
    parts |= {"label": evidence.measure.label, "unit": evidence.measure.suffix}
    if evidence.log:
        parts["convergence"] = _convergence(evidence.log, evidence.measure)
    if evidence.front is not None:
        parts["front"] = _front(evidence.front)
    if evidence.grid is not None:
        parts["explorer"] = explorer(evidence.grid)
    if evidence.result is not None and view.kind == "placement" and view.tables:
        parts["map"] = placement_runs(evidence.result.plan)
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


def explorer(grid: Grid) -> dict[str, Any]:
    """Return a grid over two budgets for the explorer of the page."""
    measure = grid.measure
    return {
        "axes": [_axis(axis) for axis in grid.axes],
        "label": measure.label,
        "unit": measure.suffix,
        "lessIsBetter": measure.minimizes,
        "cells": [_cell(cell, grid, measure) for cell in grid.cells],
        "plans": [_plan(plan) for plan in grid.plans],
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


def _plan(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a plan that the explorer shows."""
    found = _first_table(plan)
    if found is None:
        return {"header": [], "rows": [], "numeric": []}
    return {
        "header": list(found.header),
        "rows": [list(row) for row in found.rows],
        "numeric": list(found.numeric),
    }


def _first_table(plan: dict[str, Any]) -> Table | None:
    if "assignment" in plan:
        return tier_table(plan)
    return expert_table(plan) if "experts" in plan else None


def placement_runs(plan: Any) -> dict[str, Any]:
    """Return the map of a placement: for each layer, runs of experts of one tier, by use.

    The first part of an expert stands for all of them.
    """
    tiers = [tier["name"] for tier in plan["tiers"]]
    rows = []
    for uses, tier in zip(plan["uses"], plan["assignment"]["tier"], strict=True):
        order = sorted(range(len(uses)), key=lambda e: (-uses[e], e))
        rows.append(_runs([tier[e][0] for e in order]))
    return {"tiers": tiers, "layers": list(plan["layers"]), "rows": rows,
            "experts": len(plan["uses"][0]) if plan["uses"] else 0}  # fmt: skip


def _runs(values: list[int]) -> list[list[int]]:
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
