"""Bounds of problems made of parts: planes of all terms, and prices of the rows.

With an upper plane of the objective, lower planes of what is limited from above, upper ones of what
is limited from below, and non-negative prices of these rows, a sum over the variables of the best
level of each bounds the problem (Lagrange). The engine looks for good parameters and prices, the
checker puts them in. Values are computed in floating point, and what rounding can change is added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical.declared import Box
from moe2opt.canonical.placed import (
    Added,
    Blocks,
    Coverage,
    Placed,
    Quadratic,
    Row,
    Structure,
    rounding_error,
)
from moe2opt.canonical.terms import (
    Around,
    Cornered,
    Coupled,
    Gaining,
    Levels,
    Plane,
    Rising,
    Tabled,
    Term,
)
from moe2opt.result import FloatArray, IntArray, Multipliers

#: Levels of all variables together at most; wider boxes have no planes.
MOST_LEVELS = 2**14

#: Pairs of a target or variable and a level that one term has at most.
_MOST_PAIRS = 2**20

#: What a sum of numbers whose absolute values add up to 1 may be off, per number added.
_UNIT = 2.0**-52


def _parts(part: Placed) -> Sequence[Placed]:
    return part.parts if isinstance(part, Added) else (part,)


def _term(grid: Levels, part: Placed, side: int, rows: int) -> Term:
    """Return the term of a part that is no sum of parts, from above (1) or from below (-1)."""
    if isinstance(part, Blocks) and not part.is_product:
        return Tabled(grid, part, side)
    small = _MOST_PAIRS // len(grid.levels)
    if isinstance(part, Coverage) and side > 0 and len(part.weights) <= small:
        return Rising.of(grid, part)
    if isinstance(part, Quadratic) and side > 0 and len(grid.starts) <= small:
        return Coupled.of(grid, part, rows)
    if isinstance(part, Quadratic) and side < 0:
        return Gaining(grid, part)
    return Cornered(grid, part, side)


@dataclass(frozen=True, eq=False)
class _Sum:
    """Terms that are added up, with the limit that they have as a row."""

    terms: tuple[Term, ...]
    limit: float
    error: float

    @classmethod
    def of(cls, grid: Levels, part: Placed, side: int, rows: int, limit: float) -> _Sum:
        terms = tuple(_term(grid, p, side, rows) for p in _parts(part))
        return cls(terms, limit, rounding_error(part, grid.box))

    @classmethod
    def of_row(cls, grid: Levels, row: Row, side: int, rows: int) -> _Sum:
        return cls.of(grid, row.part, side, rows, row.limit + row.relief)

    @property
    def parameters(self) -> int:
        return sum(term.parameters for term in self.terms)

    def plane(self, given: FloatArray, around: Around, levels: int) -> Plane:
        total, start = Plane(0.0, np.zeros(levels), 0.0), 0
        for term in self.terms:
            stop = start + term.parameters
            total = total.plus(term.plane(given[start:stop], around))
            start = stop
        return total


class Planes:
    """The planes of everything that a problem is made of.

    Parameters
    ----------
    made
        What the problem was built from.
    lower, upper
        ``(n,)`` corners of its box.
    """

    def __init__(self, made: Structure, lower: IntArray, upper: IntArray) -> None:
        self.grid = Levels.of(Box(lower, upper))
        self.made, count = made, len(made.at_most)
        side = -1 if made.minimises else 1
        self.objective = _Sum.of(self.grid, made.objective, side, count, 0.0)
        self.side = side
        self.above = [_Sum.of_row(self.grid, row, -1, count) for row in made.at_most]
        self.below = [_Sum.of_row(self.grid, row, 1, count) for row in made.at_least]
        self.sums = [self.objective, *self.above, *self.below]
        targets = sum(getattr(t, "parameters", 0) for s in self.sums for t in s.terms)
        self._count = 8 * (len(lower) + len(self.grid.levels) + targets + len(self.sums) + 16)

    @property
    def parameters(self) -> int:
        """Number of parameters of all terms."""
        return sum(total.parameters for total in self.sums)

    def around(self, lower: IntArray, upper: IntArray) -> Around:
        """Return what terms ask of a box; rows without a limit take and leave nothing."""
        inside = self.grid.inside(lower, upper)
        size = len(self.grid.levels)
        bare = Around(lower, upper, inside, np.zeros((0, size)), np.zeros(0))
        uses, limits = np.zeros((len(self.above), size)), np.zeros(len(self.above))
        for k, row in enumerate(self.above):
            if math.isfinite(row.limit) and not row.parameters:
                plane = row.plane(np.zeros(0), bare, size)
                uses[k], limits[k] = plane.table, row.limit - plane.constant
                limits[k] += self._count * _UNIT * (plane.size + abs(row.limit)) + row.error
        return Around(lower, upper, inside, uses, limits)

    def split(self, given: FloatArray) -> Iterator[tuple[_Sum, FloatArray]]:
        """Yield each sum with its parameters."""
        start = 0
        for total in self.sums:
            yield total, given[start : start + total.parameters]
            start += total.parameters

    def planes(self, given: FloatArray, around: Around) -> list[Plane]:
        """Return the planes of the objective, the rows from above and those from below."""
        size = len(self.grid.levels)
        return [total.plane(own, around, size) for total, own in self.split(given)]

    def value(self, prices: Multipliers, around: Around, *, farkas: bool = False) -> float:
        """Return an upper bound of the objective over a box, ``inf`` where prices are none.

        With `farkas` of 0 instead of the objective: below 0 the rows contradict each other.
        """
        row, cover, given = prices.row, prices.cover, prices.cluster
        if len(row) != len(self.above) or len(cover) != len(self.below):
            raise ValueError("there must be one price per row")
        finite = np.isfinite(np.concatenate([row, cover, given])).all()
        if len(given) != self.parameters or not finite:
            raise ValueError("parameters must be finite numbers, as many as terms have")
        if min(row.min(initial=0.0), cover.min(initial=0.0)) < 0:
            raise ValueError("a price is negative")
        return self.bound_of(self.planes(given, around), row, cover, around, farkas=farkas)

    def bound_of(
        self,
        planes: Sequence[Plane],
        row: FloatArray,
        cover: FloatArray,
        around: Around,
        *,
        farkas: bool = False,
    ) -> float:
        """Return the bound for known planes; see `value`."""
        total = self.priced(planes, row, cover, farkas=farkas)
        if total is None:
            return math.inf
        best = self.grid.best(np.where(around.inside, total.table, -np.inf))
        value = total.constant + float(best.sum())
        error = 0.0 if farkas else self.objective.error
        priced = zip([*row.tolist(), *cover.tolist()], self.sums[1:], strict=True)
        error += sum(price * own.error for price, own in priced)
        size = total.size + float(np.abs(best).sum())
        return float(value + self._count * _UNIT * size + 2.0 * error)

    def priced(
        self, planes: Sequence[Plane], row: FloatArray, cover: FloatArray, *, farkas: bool = False
    ) -> Plane | None:
        """Return the objective with what prices make of the rows, None for a limit that is none."""
        total = Plane(0.0, np.zeros(len(self.grid.levels)), 0.0)
        if not farkas:
            total = total.plus(planes[0], self.side)
        signed = [*((-u, s) for u, s in zip(row, self.above, strict=True))]
        signed += [*((u, s) for u, s in zip(cover, self.below, strict=True))]
        for (price, own), plane in zip(signed, planes[1:], strict=True):
            if price == 0:
                continue
            if not math.isfinite(own.limit):
                return None
            total = total.plus(plane, price)
            limit = Plane(own.limit, np.zeros_like(total.table), abs(own.limit))
            total = total.plus(limit, -price)
        return total


def planes_of(made: Structure | None, lower: IntArray, upper: IntArray) -> Planes | None:
    """Return the planes of a problem; None where they would say nothing that corners do not."""
    if made is None or float((upper - lower + 1.0).sum()) > MOST_LEVELS:
        return None
    planes = Planes(made, lower, upper)
    corners = all(isinstance(term, Cornered) for term in planes.objective.terms)
    return None if corners else planes
