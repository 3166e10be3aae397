"""Checks of what is declared of a function: increasing, submodular; lies raise with an example."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.canonical.reading import Axis
from moe2opt.canonical.validate import integer_vector, shaped
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray

#: Boxes of up to this many points are checked at every point, others at so many random ones.
_ALL_POINTS, _SAMPLES = 2048, 400

#: Points at which variables swap when a problem is made.
_SWAPS = 64

#: Relative rounding allowed for where gains are compared.
_ROUNDING = 1e-9

#: The same for tables, relative to their largest entry.
_TABLE_ROUNDING = 1e-14

Oracle = Callable[[IntArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Box:
    """The ``(n,)`` corners of an integer box."""

    lower: IntArray
    upper: IntArray

    def excludes(self, lower: IntArray, upper: IntArray) -> bool:
        """Tell whether another box has a point outside of this one."""
        if lower.shape != self.lower.shape:
            return True
        return bool((lower < self.lower).any() or (upper > self.upper).any())

    def points(self) -> IntArray:
        """Return all points of a small box, random ones of a large one."""
        widths = (self.upper - self.lower + 1).tolist()
        if math.prod(widths) <= _ALL_POINTS:
            return np.indices(widths).reshape(len(widths), -1).T + self.lower
        rng = np.random.default_rng(0)
        return rng.integers(self.lower, self.upper + 1, size=(_SAMPLES, len(self.lower)))


def listed_oracles(name: str, oracles: Any) -> tuple[Oracle, ...]:
    """Return a sequence of functions as a tuple; raise `InputError` for anything else."""
    if callable(oracles):
        raise InputError(f"{name}: expected a sequence of oracles, got one callable")
    if not isinstance(oracles, Sequence):
        raise InputError(f"{name}: expected a sequence of oracles, got {oracles!r:.60}")
    for k, oracle in enumerate(oracles):
        if not callable(oracle):
            raise InputError(f"{name}[{k}]: {type(oracle).__name__} is not callable")
    return tuple(oracles)


def corners(lower: Any, upper: Any) -> tuple[IntArray, IntArray]:
    """Return the checked corners of a box; raise `InputError` for none."""
    axis = Axis("variables")
    low = integer_vector("lower", lower, axis)
    high = integer_vector("upper", upper, axis)
    if not len(low):
        raise InputError("lower: the box has no dimension")
    shaped("upper", high, low.shape, "the shape of lower")
    if (low > high).any():
        i = int(np.argmax(low > high))
        raise InputError(f"lower[{i}] = {low[i]} exceeds upper[{i}] = {high[i]}")
    return low, high


def increasing_table(name: str, table: FloatArray, variables: IntArray, box: Box) -> FloatArray:
    """Return a table over the levels of some variables; raise unless it increases along each.

    Where it falls by rounding errors only, it is raised to what came before.
    """
    for axis in range(table.ndim):
        size = np.abs(table).max(initial=0.0)
        falls = np.diff(table, axis=axis) < -_TABLE_ROUNDING * size
        if falls.any():
            place = np.array(np.unravel_index(int(np.argmax(falls)), falls.shape))
            above = place.copy()
            above[axis] += 1
            x = box.lower.copy()
            x[variables] += place
            values = table[tuple(place)], table[tuple(above)]
            raise InputError(_not_monotone(name, x, int(variables[axis]), *values))
        table = np.maximum.accumulate(table, axis=axis)
    return table


def require_increasing(name: str, function: Oracle, box: Box) -> None:
    """Raise with two neighbouring points at which a function falls, if there are."""
    points = box.points()
    before = _values(name, function, points)
    for i in range(len(box.lower)):
        rows = np.flatnonzero(points[:, i] < box.upper[i])
        after = _values(name, function, _raised(points[rows], i))
        falls = after < before[rows] - _rounding(np.abs(before))[rows]
        if falls.any():
            k = int(np.argmax(falls))
            raise InputError(_not_monotone(name, points[rows[k]], i, before[rows[k]], after[k]))


def require_submodular(name: str, function: Oracle, box: Box, sign: int = 1) -> None:
    """Raise with four points at which a gain grows when another coordinate rises.

    With a `sign` of -1 where a gain shrinks: the function is said to be supermodular.
    """
    points = box.points()
    rng = np.random.default_rng(1)
    n = len(box.lower)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    if len(pairs) * len(points) > 2**17:
        pairs = [pairs[k] for k in rng.choice(len(pairs), size=min(64, len(pairs)), replace=False)]
    for i, j in pairs:
        low = points[(points[:, i] < box.upper[i]) & (points[:, j] < box.upper[j])]
        if not len(low):
            continue
        here, up_i, up_j = low, _raised(low, i), _raised(low, j)
        values = [_values(name, function, p) for p in (here, up_i, up_j, _raised(up_i, j))]
        early, late = values[1] - values[0], values[3] - values[2]
        grows = sign * (late - early) > _rounding(np.abs(values).max(axis=0))
        if grows.any():
            k = int(np.argmax(grows))
            kind = "submodular" if sign > 0 else "supermodular"
            raise InputError(
                f"{name} is not {kind}: raising coordinate {i} gains {early[k]:.12g} at "
                f"x = {low[k].tolist()}, but {late[k]:.12g} after coordinate {j} rose"
            )


def require_marginals(name: str, function: Oracle, marginals: Oracle, box: Box) -> None:
    """Raise with a point at which the gain of one more unit is not what it is said to be."""
    points = box.points()
    gains = np.asarray(marginals(points), dtype=np.float64)
    if gains.shape != points.shape:
        raise InputError(f"{name}: marginals returned {gains.shape} for points {points.shape}")
    before = _values(name, function, points)
    for i in range(len(box.lower)):
        rows = np.flatnonzero(points[:, i] < box.upper[i])
        after = _values(name, function, _raised(points[rows], i))
        stated, true = gains[rows, i], after - before[rows]
        off = ~(np.abs(stated - true) <= _rounding(np.maximum(np.abs(before[rows]), np.abs(after))))
        if off.any():
            k = int(np.argmax(off))
            raise InputError(
                f"{name}: marginals say that raising coordinate {i} of x = "
                f"{points[rows[k]].tolist()} gains {stated[k]:.12g}, but it gains {true[k]:.12g}"
            )


def swapped_points(
    sets: Sequence[Sequence[int]], box: Box, samples: int, seed: int
) -> tuple[IntArray, IntArray]:
    """Return random points, and the same with the levels of sets of variables shuffled."""
    rng = np.random.default_rng(seed)
    points = rng.integers(box.lower, box.upper + 1, size=(samples, len(box.lower)))
    swapped = points.copy()
    for members in sets:
        swapped[:, list(members)] = rng.permuted(points[:, list(members)], axis=1)
    return points, swapped


def require_interchangeable(
    name: str, function: Oracle, sets: Sequence[Sequence[int]], box: Box
) -> None:
    """Raise with two points that differ by the order of some levels, but not in value alone."""
    points, swapped = swapped_points(sets, box, _SWAPS, 2)
    before, after = _values(name, function, points), _values(name, function, swapped)
    if (differs := values_differ(before, after)).any():
        k = int(np.argmax(differs))
        raise InputError(
            not_interchangeable(name, points[k], swapped[k], float(before[k]), float(after[k]))
        )


def values_differ(before: FloatArray, after: FloatArray) -> BoolArray:
    """Return which values differ by more than roundings."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(after - before) > _rounding(np.abs(before))
    return np.asarray(apart | (np.isinf(before) != np.isinf(after)))


def not_interchangeable(
    name: str, x: IntArray, swapped: IntArray, before: float, after: float
) -> str:
    """Return what is wrong in words."""
    return (
        f"{name} tells variables apart that are declared interchangeable: it is {before:.12g} at "
        f"x = {x.tolist()}, but {after:.12g} at {swapped.tolist()}"
    )


def require_curve(name: str, grid: FloatArray, values: FloatArray, curve: int) -> None:
    """Raise with values between which an outer function falls, or bends the other way.

    `curve` is 1 for a convex function, -1 for a concave one, 0 for any that increases.
    """
    falls = np.diff(values) < 0
    if falls.any():
        k = int(np.argmax(falls))
        raise InputError(
            f"{name}: the outer function is not increasing: it changes from {values[k]:.12g} "
            f"at {grid[k]:.12g} to {values[k + 1]:.12g} at {grid[k + 1]:.12g}"
        )
    if not curve or len(grid) < 3:
        return
    steps = np.diff(grid)
    slopes = np.diff(values) / steps
    slack = _ROUNDING * (np.abs(slopes).max() + np.abs(values).max() / steps.min() * 1e-5)
    bends = curve * np.diff(slopes) < -slack
    if bends.any():
        k = int(np.argmax(bends))
        raise InputError(
            f"{name}: the outer function is not {'convex' if curve > 0 else 'concave'}: its slope "
            f"changes from {slopes[k]:.12g} to {slopes[k + 1]:.12g} at {grid[k + 1]:.12g}"
        )


def _rounding(sizes: FloatArray) -> FloatArray:
    """Return the rounding allowed for, no less than for 1 unless nothing is as large as that."""
    largest = sizes[np.isfinite(sizes)].max(initial=0.0)
    return _ROUNDING * np.maximum(min(1.0, float(largest)), sizes)


def _raised(points: IntArray, axis: int) -> IntArray:
    higher = points.copy()
    higher[:, axis] += 1
    return higher


def _values(name: str, function: Oracle, points: IntArray) -> FloatArray:
    values = np.asarray(function(points) if len(points) else [], dtype=np.float64)
    if values.shape != (len(points),):
        raise InputError(f"{name} returned shape {values.shape} for {len(points)} points")
    return values


def _not_monotone(name: str, x: IntArray, axis: int, before: float, after: float) -> str:
    return (
        f"{name} is not monotone: raising coordinate {axis} of x = {x.tolist()} changes it "
        f"from {before:.12g} to {after:.12g}"
    )
