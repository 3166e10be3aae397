"""Integer boxes of monotone problems, and what oracles are asked about their corners."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from moe2opt.canonical import MonotoneProblem
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.tree import Leaf

Values = TypeVar("Values", float, FloatArray)

#: Integer corners (lower, upper) of a box.
Box = tuple[IntArray, IntArray]

#: Axis and cut of a split; None for a single point.
Branch = tuple[int, int] | None

#: Entries of the points that an oracle gets between two looks at the limits.
_AT_ONCE = 2**21


def infeasible_corner(problem: MonotoneProblem, box: Box) -> Leaf | None:
    """Return why a box holds no feasible point, None if its corners do not exclude one."""
    broken = problem.constraint_values(box[0][None, :])[0] > 0
    if broken.any():
        return ("budget", int(np.argmax(broken)))
    unmet = problem.reverse_values(box[1][None, :])[0] < 0
    return ("cover", int(np.argmax(unmet))) if unmet.any() else None


def outward(values: Values, problem: MonotoneProblem, error: float = 0.0) -> Values:
    """Return what oracle values bound, raised by more than another machine's rounding changes.

    And by an error of values that are no whole numbers.
    """
    if problem.is_integral:
        whole = problem.bounds_of(np.asarray(values, dtype=np.float64))
        return whole if isinstance(values, np.ndarray) else float(whole)
    return values + 1e-12 * abs(values) + error


def raised(corner: IntArray, axes: IntArray, levels: IntArray) -> IntArray:
    """Return one copy of `corner` per axis, with that coordinate set to its level."""
    points = np.repeat(corner[None, :], len(axes), axis=0)
    points[np.arange(len(axes)), axes] = levels
    return points


def asked(
    oracle: Callable[[IntArray], FloatArray],
    corner: IntArray,
    axes: IntArray,
    levels: IntArray,
    search: Search,
) -> FloatArray:
    """Return what an oracle says of `raised` points.

    Where they are many and wide they are made a few at a time, and limits are looked at in between.
    """
    step = max(1, _AT_ONCE // max(1, len(corner)))
    if len(axes) <= step:
        return oracle(raised(corner, axes, levels))
    told = []
    for k in range(0, len(axes), step):
        search.check()
        told.append(oracle(raised(corner, axes[k : k + step], levels[k : k + step])))
    return np.concatenate(told)


def first_true(
    test: Callable[[IntArray], BoolArray], start: IntArray, stop: IntArray, search: Search
) -> IntArray:
    """Return per axis the first level in ``start..stop-1`` where `test` holds, `stop` if none.

    `test` must be false below and true above some level of each axis; bisection on all axes at
    once. Limits are looked at before every call.
    """
    low, high = start.copy(), stop.copy()
    while (low < high).any():
        search.check()
        middle = (low + high) // 2
        found = test(np.minimum(middle, stop - 1)) & (low < high)
        high = np.where(found, middle, high)
        low = np.where(found | (low >= high), low, middle + 1)
    return low


def longest_edge(box: Box) -> Branch:
    """Return the longest edge and its middle, None for a single point."""
    lower, upper = box
    axis = int(np.argmax(upper - lower))
    if upper[axis] == lower[axis]:
        return None
    return axis, int((lower[axis] + upper[axis]) // 2)


def towards_rows(problem: MonotoneProblem, box: Box, search: Search) -> Branch:
    """Say where to split so that a reverse row holds at the lower corner, None where all do.

    A maximal point that breaks a row leaves the parts in which some coordinate exceeds it, as
    in "one of two components is there"; the row with the fewest parts comes first. Until it
    holds, a lower corner uses too little of the constraints, and little is cut off above it.
    """
    (lower, upper), ask = box, problem.reverse_values
    unmet = np.flatnonzero(ask(lower[None, :])[0] < 0)
    if not len(unmet):
        return None
    free = np.flatnonzero(upper > lower)
    alone = asked(ask, lower, free, upper[free], search)
    least, branch = search.options.tuning.monotone.parts + 1, None
    for row in unmet.tolist():
        # What says least of the row is raised first, all of it that leaves the row broken.
        order = free[np.argsort(alone[:, row], kind="stable")]
        rising = np.where(np.tri(len(order), dtype=bool), upper[order], lower[order])
        points = np.repeat(lower[None, :], len(order), axis=0)
        points[:, order] = rising
        count = int(np.count_nonzero(ask(points)[:, row] < 0))
        if not len(order) - least < count < len(order):
            continue
        point = points[count - 1] if count else lower.copy()
        for axis in order[count:].tolist():
            point[axis] = _last_broken(problem, point, axis, upper[axis], row, search)
        parts = np.flatnonzero(point < upper)
        if len(parts):  # none where the row does not increase
            least, branch = len(parts), (int(parts[0]), int(point[parts[0]]))
    return branch


def _last_broken(
    problem: MonotoneProblem, point: IntArray, axis: int, top: int, row: int, search: Search
) -> int:
    """Return the highest level of an axis at which a point still breaks a reverse row."""

    def met(levels: IntArray) -> BoolArray:
        return np.asarray(problem.reverse_values(raised(point, axes, levels))[:, row] >= 0)

    axes = np.array([axis])
    return int(first_true(met, point[axes] + 1, np.array([top + 1]), search)[0]) - 1
