"""What single parts are worth in a box: planes from above and from below, with free parameters.

A *plane* on a box is a constant and one number per level of each variable; an upper one is nowhere
below the part, a lower one nowhere above it. Any parameters give a true plane.

Sources: coverage by tangents of :math:`1 - e^{-s}`; quadratic terms by one knapsack per variable
(Caprara, Pisinger, Toth, Exact solution of the quadratic knapsack problem, 1999).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol, TypeVar

import numpy as np

from moe2opt.canonical.declared import Box
from moe2opt.canonical.logarithm import log_bounds
from moe2opt.canonical.placed import Block, Blocks, Coverage, Placed, Quadratic
from moe2opt.result import BoolArray, FloatArray, IntArray

#: Binary digits of logarithms; tangents of coverage touch at multiples of one over so many, and up
#: to the last place, from which on they say nothing.
_LOG_BITS, _TOUCHING, LAST_TOUCHING = 60, 512, 40.0


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """The levels of all variables of a box, variable after variable.

    Attributes
    ----------
    box
        The box.
    levels, owners
        ``(L,)`` level, and variable that it belongs to.
    starts
        ``(n,)`` where the levels of each variable begin.
    """

    box: Box
    levels: IntArray
    owners: IntArray
    starts: IntArray

    @classmethod
    def of(cls, box: Box) -> Levels:
        """Return the levels of a box."""
        widths = box.upper - box.lower + 1
        starts = np.cumsum(widths) - widths
        owners = np.repeat(np.arange(len(widths)), widths)
        return cls(box, np.arange(widths.sum()) - (starts - box.lower)[owners], owners, starts)

    def inside(self, lower: IntArray, upper: IntArray) -> BoolArray:
        """Return which levels lie in a box."""
        return (self.levels >= lower[self.owners]) & (self.levels <= upper[self.owners])

    def at(self, point: IntArray) -> IntArray:
        """Return the ``(n,)`` places of the levels of a point."""
        return np.asarray(self.starts + point - self.box.lower)

    def best(self, table: FloatArray) -> FloatArray:
        """Return the largest entry of each variable, of ``(..., L)`` tables."""
        return np.asarray(np.maximum.reduceat(table, self.starts, axis=-1))


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """A constant and a table over all levels; `size` is what roundings are relative to."""

    constant: float
    table: FloatArray
    size: float

    def plus(self, other: Plane, factor: float = 1.0) -> Plane:
        """Return the sum with a multiple of another plane."""
        return Plane(
            self.constant + factor * other.constant,
            self.table + factor * other.table,
            self.size + abs(factor) * other.size,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Around:
    """A box and what terms ask of it: corners, which levels lie in it, and rows that are tables.

    Attributes
    ----------
    lower, upper
        ``(n,)`` corners.
    inside
        ``(L,)`` which levels lie between them.
    uses, limits
        ``(K, L)`` lower planes of the rows from above, and what they leave.
    """

    lower: IntArray
    upper: IntArray
    inside: BoolArray
    uses: FloatArray
    limits: FloatArray

    def corner(self, side: int) -> IntArray:
        """Return the corner where increasing functions are largest (1) or least (-1)."""
        return self.upper if side > 0 else self.lower


class Parametric(Protocol):
    """Something that has parameters."""

    @property
    def parameters(self) -> int:
        """Number of parameters."""


Owner = TypeVar("Owner", bound=Parametric)


def divided(owners: Sequence[Owner], given: FloatArray) -> Iterator[tuple[Owner, FloatArray]]:
    """Yield each owner with its parameters, which are a view of `given`."""
    start = 0
    for owner in owners:
        stop = start + owner.parameters
        yield owner, given[start:stop]
        start = stop


class Term(Parametric, Protocol):
    """A part whose plane on a box has parameters."""

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the plane on a box; raise `ValueError` for parameters that are none."""


@dataclass(frozen=True, eq=False)
class Tabled:
    """Sums of tables: exact for functions of one variable, corners for blocks of several."""

    grid: Levels
    part: Blocks
    side: int
    parameters: int = 0

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the tables themselves."""
        corner = around.corner(self.side)
        constant = math.fsum(float(block(corner[None, :])[0]) for block in self._coupled)
        return Plane(constant, self._table, self._size)

    @cached_property
    def _coupled(self) -> list[Block]:
        return [block for block in self.part.blocks if len(block.variables) > 1]

    @cached_property
    def _table(self) -> FloatArray:
        table, grid = np.zeros(len(self.grid.levels)), self.grid
        for block in self.part.blocks:
            if len(block.variables) == 1:
                i = int(block.variables[0])
                start, low = int(grid.starts[i]), int(grid.box.lower[i] - block.lower[0])
                width = int(grid.box.upper[i] - grid.box.lower[i]) + 1
                table[start : start + width] += block.table[low : low + width]
        return table

    @cached_property
    def _size(self) -> float:
        return math.fsum(float(np.abs(block.table).max()) for block in self.part.blocks)


@dataclass(frozen=True, eq=False)
class Cornered:
    """Anything increasing: its value at a corner."""

    grid: Levels
    part: Placed
    side: int
    parameters: int = 0

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the value at the upper corner, or at the lower one."""
        value = float(self.part(around.corner(self.side)[None, :])[0])
        return Plane(value, np.zeros(len(self.grid.levels)), abs(value))


@dataclass(frozen=True, eq=False)
class Rising:
    r"""Coverage from above: a tangent of :math:`1 - e^{-s}`, and gains at the lower corner.

    A target is missed with chance :math:`P = e^{-s}`, s being the sum of :math:`-\ln q` over the
    variables. A tangent says :math:`P \ge m (1 + t - s)` with :math:`m = e^{-t}`; what one variable
    adds to s need not count beyond the point where the tangent falls below P at the upper corner.
    Weierstrass says :math:`P \ge P_l (1 - \sum_i (1 - q_i / q_{il}))`. Parameters: t of each
    target, then the share of the second plane in a mean of both.
    """

    grid: Levels
    part: Coverage
    chances: FloatArray
    logs: FloatArray

    @classmethod
    def of(cls, grid: Levels, part: Coverage) -> Rising:
        """Return the term with ``(C, L)`` chances and upper bounds of their logarithms."""
        pairs = zip(grid.box.lower - part.lower, grid.box.upper - part.lower, strict=True)
        tables = zip(part.misses, pairs, strict=True)
        chances = np.concatenate([table[a : b + 1] for table, (a, b) in tables]).T
        known, places = np.unique(chances, return_inverse=True)
        logs = np.array([_minus_log(float(q)) for q in known])[places.reshape(chances.shape)]
        return cls(grid, part, chances, logs)

    @property
    def parameters(self) -> int:
        """Two per target."""
        return 2 * len(self.part.weights)

    def rises(self, low: IntArray) -> tuple[BoolArray, FloatArray, FloatArray]:
        """Return which targets may be missed at a corner, their s there, and how levels add to it.

        Of a target that is not missed, s counts as 0.
        """
        logs = self.logs[:, low]
        open_ = np.isfinite(logs.sum(axis=1))
        with np.errstate(invalid="ignore"):
            rise = self.logs - np.where(open_[:, None], logs[:, self.grid.owners], 0.0)
        return open_, np.where(open_, logs.sum(axis=1), 0.0), rise

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the mean of both planes, target by target, added up."""
        touching, share = np.split(given, 2)
        if not ((touching >= 0) & (touching <= LAST_TOUCHING) & (share >= 0) & (share <= 1)).all():
            raise ValueError("parameters of a coverage lie outside their range")
        weights, grid = self.part.weights, self.grid
        low, high = grid.at(around.lower), grid.at(around.upper)
        missed = np.prod(self.chances[:, low], axis=1)
        least = np.prod(self.chances[:, high], axis=1)
        slopes, at = _tangents(np.rint(touching * _TOUCHING).astype(np.int64))
        open_, base, rise = self.rises(low)
        reach = np.maximum(0.0, 1.0 + at - base - least / slopes)
        tangent = weights * (1.0 - share) * slopes * open_
        gains = weights * share * missed
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = self.chances / self.chances[:, low][:, grid.owners]
        ratio = np.where(missed[:, None] > 0, ratio, 1.0)
        inside = around.inside
        table = np.zeros(len(grid.levels))
        table[inside] = tangent @ np.minimum(rise, reach[:, None])[:, inside]
        table[inside] += gains @ (1.0 - ratio[:, inside])
        flat = np.where(open_, 1.0 - slopes * (1.0 + at - base), 1.0)
        constant = float(weights @ ((1.0 - share) * flat + share * (1.0 - missed)))
        size = float(weights @ (4.0 + slopes * (1.0 + at + base))) + float(grid.best(table).sum())
        return Plane(constant, table, size)


@lru_cache(maxsize=2**16)
def _minus_log(value: float) -> float:
    """Return ``-ln(value)``, rounded up but for the last digit; infinite for 0."""
    return math.inf if value == 0 else -log_bounds(value, _LOG_BITS)[0] / 2.0**_LOG_BITS


#: Slopes of tangents and minus their logarithms, wherever they may touch; 0 until used.
_KNOWN = np.zeros((2, int(LAST_TOUCHING * _TOUCHING) + 1))


def _tangents(steps: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return slopes at places, and upper bounds of minus their logarithms."""
    for step in np.unique(steps[_KNOWN[0, steps] == 0]).tolist():
        slope = math.exp(-step / _TOUCHING)
        _KNOWN[:, step] = slope, _minus_log(slope)
    slopes, logs = _KNOWN[:, steps]
    return slopes, logs


@dataclass(frozen=True, eq=False)
class Coupled:
    r"""Quadratic terms from above: one knapsack per variable.

    The coefficient of a pair is split between its two variables. What variable i gets is worth
    :math:`x_i \sum_j s_{ij} x_j`, where the sum is at most what the rows leave beside i, under
    prices of i's own. Parameters: the share of the first variable of each pair, then ``(n, K)``
    prices.
    """

    grid: Levels
    part: Quadratic
    first: IntArray
    second: IntArray
    rows: int

    @classmethod
    def of(cls, grid: Levels, part: Quadratic, rows: int) -> Coupled:
        """Return the term for so many rows from above."""
        first, second = np.nonzero(np.triu(part.pairs, 1))
        return cls(grid, part, first, second, rows)

    @property
    def parameters(self) -> int:
        """One per pair, and one per variable and row."""
        return len(self.first) + len(self.grid.starts) * self.rows

    def shares(self, given: FloatArray) -> FloatArray:
        """Return the ``(n, n)`` coefficients that each variable gets."""
        n = len(self.grid.starts)
        shares = np.zeros((n, n))
        part = given[: len(self.first)]
        shares[self.first, self.second] = part
        shares[self.second, self.first] = self.part.pairs[self.first, self.second] - part
        return shares

    def allowed(self, around: Around) -> BoolArray:
        """Return which levels fit beside the least non-zero level of each variable, ``(n, L)``."""
        grid = self.grid
        fits = np.broadcast_to(around.inside, (len(grid.starts), len(grid.levels))).copy()
        low = grid.at(around.lower)
        one = grid.at(np.minimum(np.maximum(around.lower, 1), grid.box.upper))
        for uses, limit in zip(around.uses, around.limits, strict=True):
            more = uses[one] - uses[low]
            rise = uses - uses[low][grid.owners]
            room = limit - uses[low].sum()
            slack = 1e-9 * (abs(limit) + np.abs(uses[low]).sum() + np.abs(uses).max())
            fits &= more[:, None] + rise[None, :] <= room + slack
        own = grid.owners[None, :] == np.arange(len(grid.starts))[:, None]
        fits[own & (grid.levels == around.lower[grid.owners])[None, :]] = True
        fits[:, low] = True
        return fits

    def inner(self, given: FloatArray, around: Around) -> tuple[FloatArray, FloatArray]:
        """Return, for each variable, ``(n, L)`` worths of what stands beside it, and prices."""
        n = len(self.grid.starts)
        prices = given[len(self.first) :].reshape(n, self.rows)
        if not (prices >= 0).all():
            raise ValueError("a price is negative")
        shares = self.shares(given)
        worth = shares[:, self.grid.owners] * self.grid.levels - prices @ around.uses
        return np.where(self.allowed(around), worth, -np.inf), prices

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return what each level is worth with the best that fits beside it."""
        grid, x = self.grid, self.grid.levels.astype(np.float64)
        worth, prices = self.inner(given, around)
        best = grid.best(worth)
        np.fill_diagonal(best, 0.0)
        beside = best.sum(axis=1)
        own = self.part.linear[grid.owners] * x
        own += np.diag(self.part.pairs)[grid.owners] * x * x
        left = around.limits[:, None] - around.uses
        table = own + x * (beside[grid.owners] + (prices[grid.owners].T * left).sum(axis=0))
        top = np.abs(around.uses).max(axis=1, initial=0.0) * len(best) + np.abs(around.limits)
        sizes = np.abs(best).sum(axis=1) + 2.0 * (prices @ top) + np.abs(self.part.pairs).sum()
        size = float((sizes * around.upper).sum() + grid.best(np.abs(own)).sum())
        return Plane(0.0, table, size)


@dataclass(frozen=True, eq=False)
class Gaining:
    """Quadratic terms from below: gains at the lower corner, which only grow."""

    grid: Levels
    part: Quadratic
    parameters: int = 0

    def plane(self, given: FloatArray, around: Around) -> Plane:
        """Return the value at the lower corner and all single gains."""
        grid, low, x = self.grid, around.lower.astype(np.float64), self.grid.levels.astype(float)
        pairs = np.triu(self.part.pairs, 1)
        beside = ((pairs + pairs.T) @ low)[grid.owners]
        slopes, squares = self.part.linear[grid.owners], np.diag(self.part.pairs)[grid.owners]
        own = (slopes + beside) * x + squares * x * x
        at = grid.at(around.lower)
        value = float(self.part(around.lower[None, :])[0])
        size = value + 2.0 * float(grid.best(np.abs(own)).sum())
        return Plane(value, own - own[at][grid.owners], size)
