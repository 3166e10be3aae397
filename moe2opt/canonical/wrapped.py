"""Planes of functions of parts and of oracles, which build on `moe2opt.canonical.terms`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from moe2opt.canonical.composite import Composed, Extreme, Ratio
from moe2opt.canonical.placed import Function
from moe2opt.canonical.terms import Around, Levels, Plane, Term, divided
from moe2opt.result import FloatArray, IntArray

#: Cells between the ends of the values of a part, at which tangents of a curve touch.
CELLS = 1024

#: Base points of a submodular oracle at a time, and lines through points that are remembered.
BASES, _REMEMBERED = 10, 4096


@dataclass(frozen=True, slots=True)
class _Line:
    """A line through a value at a place; `size` is what roundings are relative to."""

    slope: float
    at: float
    value: float
    size: float


@dataclass(frozen=True, eq=False)
class Curved:
    """A convex or concave rising function of a part: a tangent on one side, a chord on the other.

    A line through neighbouring cells is beyond the curve except between them, where the lines of
    the next cells say how far. Parameters: where the tangent touches, then those of the part.
    """

    grid: Levels
    part: Composed
    inner: Term
    side: int

    @property
    def parameters(self) -> int:
        """One more than the part."""
        return 1 + self.inner.parameters

    @property
    def is_tangent(self) -> bool:
        """Whether the plane is a tangent."""
        return self.side * self.part.curve < 0

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the line of the plane of the part, whose slope is not negative."""
        below = self.inner.plane(given[1:], around)
        line = self._tangent(float(given[0])) if self.is_tangent else self._chord(around)
        size = line.size + line.slope * (abs(line.at) + below.size)
        constant = line.value + line.slope * (below.constant - line.at)
        return Plane(constant, line.slope * below.table, size)

    def _chord(self, around: Around) -> _Line:
        """Return the line between the values at both corners."""
        low, high = self._ends(around.lower, around.upper)
        first, last = self.part.outer_values(np.array([low, high])).tolist()
        slope = max(0.0, (last - first) / (high - low)) if high > low else 0.0
        turned = last - slope * (high - low)
        value = max(first, turned) if self.side > 0 else min(first, turned)
        return _Line(slope, low, value, 4.0 * (abs(first) + abs(last)))

    def _tangent(self, touching: float) -> _Line:
        """Return the line through two neighbouring cells, moved to lie beyond the curve."""
        low, high, _ = self._range
        if high <= low:
            cell = 0.0
        elif self.part.inner.is_integral:
            cell = min(max(math.floor(touching), low), high - 1.0)
        else:
            step = (high - low) / CELLS
            cell = float(min(max(math.floor((touching - low) / step), 1), CELLS - 2))
        if cell not in self._lines:
            self._lines[cell] = self._line(cell)
        return self._lines[cell]

    def _line(self, cell: float) -> _Line:
        """Return the line of a cell, which is the first value itself where all are whole."""
        low, high, far = self._range
        if high <= low:
            return _Line(0.0, low, float(self.part.outer_values(np.array([low]))[0]), far)
        if self.part.inner.is_integral:
            start = cell
            first, second = self.part.outer_values(np.array([start, start + 1.0])).tolist()
            return _Line(max(0.0, second - first), start, first, 4.0 * far * (high - low))
        step = (high - low) / CELLS
        places = np.minimum(low + step * np.arange(cell - 1.0, cell + 3.0), high)
        values = self.part.outer_values(places)
        slopes = np.diff(values) / np.diff(places)
        bends = np.maximum(0.0, self.part.curve * np.diff(slopes))
        beyond = float(bends.prod() / bends.sum()) * step if bends.any() else 0.0
        slope = max(0.0, float(slopes[1]))
        size = 8.0 * CELLS * (far + slope * max(abs(low), abs(high)))
        return _Line(slope, float(places[1]), float(values[1]) + self.side * beyond, size)

    @cached_property
    def _lines(self) -> dict[float, _Line]:
        return {}

    @cached_property
    def _range(self) -> tuple[float, float, float]:
        """Values of the part at the corners of the whole box, and the largest of the curve."""
        low, high = self._ends(self.grid.box.lower, self.grid.box.upper)
        return low, high, float(np.abs(self.part.outer_values(np.array([low, high]))).max())

    def _ends(self, lower: IntArray, upper: IntArray) -> tuple[float, float]:
        """Return the values of the part at two corners."""
        low, high = self.part.inner(np.stack([lower, upper])).tolist()
        return low, high


@dataclass(frozen=True, eq=False)
class Mean:
    """The least of parts from above, the greatest from below: a mean of the planes of all.

    Parameters: the weight of each part but the last, then those of the parts.
    """

    grid: Levels
    part: Extreme
    inner: tuple[Term, ...]
    parameters: int = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.inner) - 1 + sum(term.parameters for term in self.inner)
        object.__setattr__(self, "parameters", count)

    def weights(self, given: FloatArray) -> FloatArray:
        """Return the weights of all parts."""
        first = given[: len(self.inner) - 1]
        last = 1.0 - float(first.sum())
        if first.min(initial=0.0) < 0 or last < 0:
            raise ValueError("weights of parts are none of a mean")
        return np.append(first, last)

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the mean of the planes."""
        inner = divided(self.inner, given[len(self.inner) - 1 :])
        total = Plane(0.0, np.zeros(len(self.grid.levels)), 0.0)
        for weight, (term, parameters) in zip(self.weights(given), inner, strict=True):
            own = term.plane(parameters, around)
            # The last weight is rounded, which counts as what it is a share of.
            total = total.plus(own, float(weight))
            total = Plane(total.constant, total.table, total.size + own.size)
        return total


@dataclass(frozen=True, eq=False)
class Together:
    """A sum of parts inside of another part; parameters are those of the parts."""

    grid: Levels
    inner: tuple[Term, ...]

    @property
    def parameters(self) -> int:
        """Those of all parts."""
        return sum(term.parameters for term in self.inner)

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the sum of the planes."""
        total = Plane(0.0, np.zeros(len(self.grid.levels)), 0.0)
        for term, own in divided(self.inner, given):
            total = total.plus(term.plane(own, around))
        return total


@dataclass(frozen=True, eq=False)
class Quotient:
    r"""A ratio as an objective, by a difference (Dinkelbach 1967).

    For any :math:`t \ge 0`, :math:`f / g = t + (f - t g) / g`, and what bounds :math:`f - t g`
    bounds the ratio by what g is at least and at most. Parameters: t, those of f, those of g.
    """

    grid: Levels
    part: Ratio
    top: Term
    under: Term
    side: int

    @property
    def parameters(self) -> int:
        """One more than both parts."""
        return 1 + self.top.parameters + self.under.parameters

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the plane of f - t g from above, or from below."""
        rate, stop = float(given[0]), 1 + self.top.parameters
        if rate < 0:
            raise ValueError("the parameter of a ratio is negative")
        top = self.top.plane(given[1:stop], around)
        under = self.under.plane(given[stop:], around)
        if self.part.whole is None:
            return top.plus(under, -rate)
        whole = Plane(self.part.whole, np.zeros_like(top.table), abs(self.part.whole))
        return top.plus(whole, -rate).plus(under, rate)

    def lifted(self, values: FloatArray, rate: float, around: Around) -> FloatArray:
        """Return what bounds of the difference, times the side, say of the ratio."""
        ends = self.part.below(np.stack([around.lower, around.upper]))
        by = np.where(values > 0, ends.min(), ends.max())
        ratios = self.side * rate + values / by
        return np.asarray(ratios + 2.0**-50 * (rate + np.abs(values) / by))


@dataclass(frozen=True, eq=False)
class Submodular:
    r"""A submodular oracle from above, by gains and losses at points (Nemhauser, Wolsey 1981).

    For any point a of a box :math:`l \le u`, raising variables above a gains no more than one by
    one at a (or at l), and what lowering them loses is no less than one by one at u (or at a).
    Parameters: for each of some base points its weight with gains at a, its weight with gains at
    l, and the point. What weights leave of 1 is that of a = l.
    """

    grid: Levels
    part: Function
    lines: dict[bytes, tuple[float, FloatArray]] = field(default_factory=dict)
    asked: list[tuple[Around, dict[bytes, tuple[Plane, Plane]]]] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """Two and a point for each base."""
        return BASES * (2 + len(self.grid.starts))

    def line(self, point: IntArray) -> tuple[float, FloatArray]:
        """Return the value at a point, and where one variable is set to each of its levels."""
        key = point.astype(np.int64).tobytes()
        if key not in self.lines:
            if len(self.lines) >= _REMEMBERED:
                self.lines.clear()
            grid = self.grid
            table = np.empty(len(grid.levels))
            moved = grid.levels != point[grid.owners]
            value = float(self.part(point[None, :])[0])
            if self.part.marginals is not None:
                above = moved & (grid.levels == point[grid.owners] + 1)
                gains = np.asarray(self.part.marginals(point[None, :]), dtype=np.float64)[0]
                table[above] = value + gains[grid.owners[above]]
                moved &= ~above
            places = np.flatnonzero(moved)
            points = np.repeat(point[None, :], len(places), axis=0)
            points[np.arange(len(places)), grid.owners[places]] = grid.levels[places]
            if len(places):
                table[places] = self.part(points)
            table[grid.levels == point[grid.owners]] = value
            self.lines[key] = value, table
        return self.lines[key]

    def bases(self, given: FloatArray, around: Around) -> list[tuple[float, float, IntArray]]:
        """Return the two weights of each base, and the point, moved into the box."""
        rows = given.reshape(BASES, -1)
        if rows[:, :2].min() < 0:
            raise ValueError("weights of base points are none of a mean")
        weights = rows[:, :2] / max(1.0, float(rows[:, :2].sum()))
        points = np.clip(np.rint(rows[:, 2:]), around.lower, around.upper).astype(np.int64)
        return [(float(a), float(b), p) for (a, b), p in zip(weights, points, strict=True)]

    def planes_at(self, base: IntArray, around: Around) -> tuple[Plane, Plane]:
        """Return the two planes of a base point, which are found once as long as a box is asked."""
        if not self.asked or self.asked[0][0] is not around:
            self.asked[:] = [(around, {})]
        known, key = self.asked[0][1], base.tobytes()
        if key not in known:
            known[key] = self._planes_at(base, around)
        return known[key]

    def _planes_at(self, base: IntArray, around: Around) -> tuple[Plane, Plane]:
        grid = self.grid
        value, at = self.line(base)
        low_value, low = self.line(around.lower)
        high_value, high = self.line(around.upper)
        place = grid.at(base)
        above = grid.levels >= base[grid.owners]
        first = np.where(above, at - value, high - high[place][grid.owners])
        second = np.where(above, low - low[place][grid.owners], at - value)
        size = 8.0 * len(grid.starts) * max(map(abs, (value, low_value, high_value)))
        return Plane(value, first, size), Plane(value, second, size)

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the mean of the planes of all base points."""
        total, left = Plane(0.0, np.zeros(len(self.grid.levels)), 0.0), 1.0
        for first, second, base in self.bases(given, around):
            if first or second:
                planes = self.planes_at(base, around)
                total = total.plus(planes[0], first).plus(planes[1], second)
            left -= first + second
        rest = self.planes_at(around.lower, around)[0]
        total = total.plus(rest, max(0.0, left))
        return Plane(total.constant, total.table, total.size + rest.size)


@dataclass(frozen=True, eq=False)
class Supermodular:
    """A supermodular oracle: gains along a chain from above, gains at the lower corner from below.

    Gains only grow, so that each variable gains at most what it does when all before it in some
    order are at their upper ends. Parameters (from above): a number per variable, largest first.
    """

    grid: Levels
    part: Function
    side: int

    @property
    def parameters(self) -> int:
        """One per variable from above, none from below."""
        return len(self.grid.starts) if self.side > 0 else 0

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the value at the lower corner and gains along the chain."""
        grid, n = self.grid, len(self.grid.starts)
        rank = np.zeros(n, dtype=np.int64)
        if self.side > 0:
            rank[np.argsort(-given, kind="stable")] = np.arange(n)
        before = rank[None, :] < rank[:, None]
        bases = np.where(before, around.upper, around.lower)
        points = bases[grid.owners]
        points[np.arange(len(points)), grid.owners] = grid.levels
        points = np.clip(points, around.lower, around.upper)
        values, at = self.part(points), self.part(bases)
        value = float(self.part(around.lower[None, :])[0])
        size = abs(value) + 2.0 * float(np.abs(values).max()) * n
        return Plane(value, values - at[grid.owners], size)
