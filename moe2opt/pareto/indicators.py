"""Indicators of fronts: what dominates, where the knee is, and the hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError

if TYPE_CHECKING:
    from moe2opt.pareto.model import Front, Grid


def is_nondominated(points: FloatArray) -> BoolArray:
    """Return which rows of an ``(n, d)`` table of costs no other row beats; of equals the first."""
    keep = np.ones(len(points), dtype=bool)
    for k, point in enumerate(points):
        no_worse = (points <= point).all(axis=1)
        better = no_worse & (points < point).any(axis=1)
        same = no_worse & ~better
        keep[k] = not better.any() and not same[:k].any()
    return keep


def nondominated(grid: Grid) -> tuple[int, ...]:
    """Return the cells with a plan that no other one beats in all costs and in the objective."""
    found = np.array([k for k, cell in enumerate(grid.cells) if cell.has_plan], dtype=np.int64)
    if not len(found):
        return ()
    worth = np.array([grid.cells[k].objective for k in found])
    table = np.column_stack([grid.costs[found], -worth])
    return tuple(found[is_nondominated(table)].tolist())


def knee(costs: FloatArray, objectives: FloatArray) -> int | None:
    """Return the point farthest above the chord from the cheapest to the best point.

    Both axes are scaled to [0, 1] first. None when the points span no area.
    """
    found = np.flatnonzero(np.isfinite(objectives))
    if len(found) < 3:
        return None
    x, y = costs[found], objectives[found]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    first, last = int(np.lexsort((-y, x))[0]), int(np.lexsort((x, -y))[0])
    if x[last] <= x[first] or y[last] <= y[first]:
        return None
    u = (x - x[first]) / (x[last] - x[first])
    v = (y - y[first]) / (y[last] - y[first])
    best = int(np.argmax(v - u))
    return int(found[best]) if v[best] - u[best] > 1e-12 else None


def hypervolume(costs: FloatArray, reference: Sequence[float]) -> float:
    """Return the volume that rows of costs (all to be small) dominate up to a reference point.

    Sweeps the last axis: between two of its levels the volume is that of the points up to the
    lower one, in one dimension less.

    Raises
    ------
    InputError
        When the reference has another number of entries than a row.
    """
    corner = np.asarray(reference, dtype=np.float64)
    points = np.atleast_2d(np.asarray(costs, dtype=np.float64))
    if corner.shape != (points.shape[1],):
        raise InputError(
            f"reference: expected {points.shape[1]} numbers, one per objective, got {len(corner)}"
        )
    points = points[(points < corner).all(axis=1)]
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(corner[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    levels = np.append(points[:, -1], corner[-1])
    slabs = [
        (levels[k + 1] - levels[k]) * hypervolume(points[: k + 1, :-1], corner[:-1].tolist())
        for k in range(len(points))
        if levels[k + 1] > levels[k]
    ]
    return float(sum(slabs))


def front_hypervolume(front: Front, reference: Sequence[float] | None) -> float:
    """Return the area of a front; see `Front.hypervolume`."""
    found = np.isfinite(front.objectives)
    if not found.any():
        return 0.0
    cost, worth = front.cost[found], front.objectives[found]
    corner = (float(front.budgets.max()), float(worth.min())) if reference is None else reference
    return _area(np.column_stack([cost, -worth]), corner)


def grid_hypervolume(grid: Grid, reference: Sequence[float] | None) -> float:
    """Return the volume of a grid's front; see `Grid.hypervolume`."""
    found = list(nondominated(grid))
    if not found:
        return 0.0
    worth = np.array([grid.cells[k].objective for k in found])
    worst = [axis.values[-1] for axis in grid.axes]
    corner = (*worst, float(worth.min())) if reference is None else reference
    return _area(np.column_stack([grid.costs[found], -worth]), corner)


def _area(costs: FloatArray, reference: Sequence[float]) -> float:
    """Return the hypervolume for a reference whose last entry is an objective to be large."""
    *worst, objective = reference
    return hypervolume(costs, (*worst, -objective))
