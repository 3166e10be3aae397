"""Indicators of fronts: what dominates, where the knee is, and the hypervolume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError, IntArray


def is_nondominated(points: FloatArray) -> BoolArray:
    """Return which rows of an ``(n, d)`` table of costs no other row beats; of equals the first."""
    keep = np.ones(len(points), dtype=bool)
    for k, point in enumerate(points):
        no_worse = (points <= point).all(axis=1)
        better = no_worse & (points < point).any(axis=1)
        same = no_worse & ~better
        keep[k] = not better.any() and not same[:k].any()
    return keep


def nondominated(costs: FloatArray, objectives: FloatArray) -> IntArray:
    """Return the rows that no other one beats in all costs and in the objective.

    Parameters
    ----------
    costs
        ``(n, d)`` figures that should be small.
    objectives
        ``(n,)`` values that should be large, ``-inf`` for what has none and is no candidate.
    """
    found = np.flatnonzero(np.isfinite(objectives))
    table = np.column_stack([costs[found], -objectives[found]])
    return found[is_nondominated(table)]


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


def dominated_volume(
    costs: FloatArray, objectives: FloatArray, reference: Sequence[float]
) -> float:
    """Return the volume between points and a reference (costs..., objective).

    Parameters
    ----------
    costs
        ``(n, d)`` figures that should be small.
    objectives
        ``(n,)`` values that should be large.
    reference
        Worst cost of each kind, and the worst objective.
    """
    *worst, objective = reference
    return hypervolume(np.column_stack([costs, -objectives]), (*worst, -objective))
