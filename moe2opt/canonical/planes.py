"""Bounds of problems made of parts: planes of all terms, and prices of the rows.

With an upper plane of the objective, lower planes of what is limited from above, upper ones of what
is limited from below, and non-negative prices of these rows, a sum over the variables of the best
level of each bounds the problem (Lagrange). The engine looks for good parameters and prices, the
checker puts them in. Values are computed in floating point, and what rounding can change is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical.composite import (
    Added,
    Composed,
    Extreme,
    Ratio,
    Row,
    Structure,
    rounding_error,
)
from moe2opt.canonical.declared import Box
from moe2opt.canonical.placed import Blocks, Coverage, Function, Placed, Quadratic
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
    divided,
)
from moe2opt.canonical.wrapped import (
    Curved,
    Mean,
    Quotient,
    Submodular,
    Supermodular,
    Together,
)
from moe2opt.result import FloatArray, IntArray, Multipliers

#: Levels of all variables together at most; wider boxes have no planes.
MOST_LEVELS = 2**14

#: Levels up to which oracles are asked for all of them, at the corners of every box.
MOST_ORACLE_LEVELS = 2**11

#: Pairs of a target or variable and a level that one term has at most.
_MOST_PAIRS = 2**20

#: What a sum of numbers whose absolute values add up to 1 may be off, per number added.
_UNIT = 2.0**-52


def term_of(
    grid: Levels, part: Placed, side: int, rows: int, *, is_objective: bool = False
) -> Term:
    """Return the term of a part from above (1) or from below (-1), for so many rows from above."""
    small = _MOST_PAIRS // len(grid.levels)
    if isinstance(part, Blocks) and not part.is_product:
        return Tabled(grid, part, side)
    if isinstance(part, Coverage) and side > 0 and len(part.weights) <= small:
        return Rising.of(grid, part)
    if isinstance(part, Quadratic) and side > 0 and len(grid.starts) <= small:
        return Coupled.of(grid, part, rows)
    if isinstance(part, Quadratic) and side < 0:
        return Gaining(grid, part)
    if isinstance(part, Composed) and part.curve:
        return Curved(grid, part, term_of(grid, part.inner, side, rows), side)
    if isinstance(part, Extreme) and part.is_least == (side > 0):
        return Mean(grid, part, tuple(term_of(grid, p, side, rows) for p in part.parts))
    if isinstance(part, Added):
        return Together(grid, tuple(term_of(grid, p, side, rows) for p in part.parts))
    if isinstance(part, Function) and len(grid.levels) <= MOST_ORACLE_LEVELS:
        if part.is_submodular and side > 0:
            return Submodular(grid, part)
        if part.is_supermodular:
            return Supermodular(grid, part, side)
    if isinstance(part, Ratio) and is_objective:
        # The divisor is bounded from the other side, unless it is what `under` leaves.
        other = -side if part.whole is None else side
        top = term_of(grid, part.top, side, rows)
        return Quotient(grid, part, top, term_of(grid, part.under, other, rows), side)
    return Cornered(grid, part, side)


@dataclass(frozen=True, eq=False)
class Side:
    """The objective or a row: its term, its limit, and how far its own values may be off."""

    term: Term
    limit: float
    error: float

    @classmethod
    def of_row(cls, grid: Levels, row: Row, side: int, rows: int) -> Side:
        """Return a row from above (-1: what it is at least) or from below (1)."""
        term, limit = term_of(grid, row.part, side, rows), row.limit + row.relief
        return cls(term, limit, rounding_error(row.part, grid.box))

    @property
    def parameters(self) -> int:
        """Number of parameters of the term."""
        return self.term.parameters


class Planes:
    """The planes of everything that a problem is made of.

    Compositions around the objective are looked through: what is inside is bounded.

    Parameters
    ----------
    made
        What the problem was built from.
    lower, upper
        ``(n,)`` corners of its box.
    """

    def __init__(self, made: Structure, lower: IntArray, upper: IntArray) -> None:
        self.grid = grid = Levels.of(Box(lower, upper))
        self.side = -1 if made.minimises else 1
        part, count = made.objective, len(made.at_most)
        self.outers: list[Composed] = []
        while isinstance(part, Composed):
            self.outers.insert(0, part)
            part = part.inner
        term = term_of(grid, part, self.side, count, is_objective=True)
        self.objective = Side(term, 0.0, rounding_error(part, grid.box))
        self.above = [Side.of_row(grid, row, -1, count) for row in made.at_most]
        self.below = [Side.of_row(grid, row, 1, count) for row in made.at_least]
        self.sums = [self.objective, *self.above, *self.below]
        terms = len(lower) + len(grid.levels) + self.parameters + len(self.sums)
        self._count = 8 * (terms + 16)

    @property
    def parameters(self) -> int:
        """Number of parameters of all terms."""
        return sum(total.parameters for total in self.sums)

    def around(self, lower: IntArray, upper: IntArray) -> Around:
        """Return what terms ask of a box; rows without a finite limit say nothing."""
        inside = self.grid.inside(lower, upper)
        size = len(self.grid.levels)
        bare = Around(lower, upper, inside, np.zeros((0, size)), np.zeros(0))
        uses, limits = np.zeros((len(self.above), size)), np.zeros(len(self.above))
        for k, row in enumerate(self.above):
            if math.isfinite(row.limit) and not row.parameters:
                plane = row.term.plane(np.zeros(0), bare)
                if not math.isfinite(plane.constant):
                    continue
                uses[k], limits[k] = plane.table, row.limit - plane.constant
                limits[k] += self._count * _UNIT * (plane.size + abs(row.limit)) + row.error
        return Around(lower, upper, inside, uses, limits)

    def planes(self, given: FloatArray, around: Around) -> list[Plane]:
        """Return the planes of the objective, the rows from above and those from below."""
        return [total.term.plane(own, around) for total, own in divided(self.sums, given)]

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
        planes = self.planes(given, around)
        value = self.bound_of(planes, row, cover, around, farkas=farkas)
        return value if farkas else float(self.lifted(np.array([value]), given, around)[0])

    def lifted(self, values: FloatArray, given: FloatArray, around: Around) -> FloatArray:
        """Return what ``(B,)`` bounds of the innermost part say of the objective."""
        if isinstance(self.objective.term, Quotient):
            values = self.objective.term.lifted(values, float(given[0]), around)
        corner = around.corner(self.side)
        for outer in self.outers:
            end = self.side * float(outer.inner(corner[None, :])[0])
            values = np.minimum(values, end)
            whole = np.floor(values) if outer.inner.is_integral else values
            values = self.side * outer.outer_values(self.side * whole)
        return values

    def bound_of(
        self,
        planes: Sequence[Plane],
        row: FloatArray,
        cover: FloatArray,
        around: Around,
        *,
        farkas: bool = False,
    ) -> float:
        """Return the bound of the innermost part for known planes; see `value`."""
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
    return None if isinstance(planes.objective.term, Cornered) else planes
