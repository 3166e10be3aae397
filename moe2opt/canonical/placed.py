"""Increasing functions on a box with a known structure, and the rows that limit them.

Their values are those of the problem: solver and checker ask nothing else. Every one increases in
its rounded values, too, because it adds and multiplies what is not negative in one order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from moe2opt.canonical.declared import Box
from moe2opt.canonical.validate import BIGGEST_EXACT, exact_sum, is_integral
from moe2opt.result import FloatArray, IntArray


class Placed(Protocol):
    """An increasing function on a box, with what is known of its structure."""

    @property
    def is_submodular(self) -> bool:
        """Whether gains shrink as the other coordinates rise."""

    @property
    def is_integral(self) -> bool:
        """Whether all values are whole numbers of exact size."""

    def __call__(self, points: IntArray) -> FloatArray:
        """Return the values at ``(B, n)`` points."""

    def arrays(self) -> list[FloatArray]:
        """Return the numbers that define it, for fingerprints."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A table over all points of a few variables.

    Attributes
    ----------
    variables
        ``(k,)`` the variables.
    table
        ``(M,)`` values, the last variable moving fastest.
    lower, strides
        ``(k,)`` least levels, and steps in the table.
    """

    variables: IntArray
    table: FloatArray
    lower: IntArray
    strides: IntArray

    def __call__(self, points: IntArray) -> FloatArray:
        """Return the entries for ``(B, n)`` points."""
        places = (points[:, self.variables] - self.lower) @ self.strides
        return np.asarray(self.table[places])


@dataclass(frozen=True, eq=False)
class Blocks:
    """A sum of tables over blocks of variables, or a product of ones over disjoint blocks."""

    blocks: tuple[Block, ...]
    is_product: bool = False

    @property
    def is_submodular(self) -> bool:
        """Sums of functions of one variable are modular."""
        return not self.is_product and all(len(b.variables) == 1 for b in self.blocks)

    @property
    def is_integral(self) -> bool:
        """Sums of whole numbers whose largest possible total is of exact size."""
        largest = math.fsum(float(np.abs(b.table).max()) for b in self.blocks)
        whole = all(is_integral(b.table) for b in self.blocks)
        return whole and not self.is_product and largest <= BIGGEST_EXACT

    def __call__(self, points: IntArray) -> FloatArray:
        """Return correctly rounded sums, or products multiplied in the order of the blocks."""
        columns = [block(points) for block in self.blocks]
        if self.is_product:
            value = np.ones(len(points))
            for column in columns:
                value = value * column
            return value
        if self.is_integral:
            return sum(columns, np.zeros(len(points)))
        return np.array([exact_sum(row) for row in zip(*columns, strict=True)])

    def arrays(self) -> list[FloatArray]:
        """Return tables and variables."""
        kind = np.array([float(self.is_product)])
        pairs = ((b.variables.astype(np.float64), b.table) for b in self.blocks)
        return [kind, *(array for pair in pairs for array in pair)]


@dataclass(frozen=True, eq=False)
class Coverage:
    r"""Expected coverage :math:`\sum_c w_c (1 - \prod_i q_{ci}(x_i))` with falling q.

    Attributes
    ----------
    weights
        ``(C,)`` what each target is worth.
    misses
        One ``(M_i, C)`` table per variable: chance that level of it misses each target.
    lower
        ``(n,)`` least levels.
    """

    weights: FloatArray
    misses: tuple[FloatArray, ...]
    lower: IntArray
    is_integral: bool = field(default=False, init=False)
    is_submodular: bool = field(default=True, init=False)

    def __call__(self, points: IntArray) -> FloatArray:
        """Return the values, multiplied and added in one order."""
        missed = np.ones((len(points), len(self.weights)))
        for i, table in enumerate(self.misses):
            missed *= table[points[:, i] - self.lower[i]]
        total = np.zeros(len(points))
        for c, weight in enumerate(self.weights):
            total = total + weight * (1.0 - missed[:, c])
        return total

    def arrays(self) -> list[FloatArray]:
        """Return weights and tables."""
        return [self.weights, *self.misses]


@dataclass(frozen=True, eq=False)
class Quadratic:
    r""":math:`\sum_i c_i x_i + \sum_{i<j} Q_{ij} x_i x_j + \sum_i Q_{ii} x_i^2`, all at least 0.

    Attributes
    ----------
    linear
        ``(n,)`` c.
    pairs
        ``(n, n)`` upper triangle of Q with its diagonal.
    """

    linear: FloatArray
    pairs: FloatArray
    is_integral: bool
    is_submodular: bool = field(default=False, init=False)

    def __call__(self, points: IntArray) -> FloatArray:
        """Return the values; sums that may be rounded are added in one order."""
        x = points.astype(np.float64)
        if self.is_integral:
            return np.asarray(x @ self.linear + ((x @ self.pairs) * x).sum(axis=1))
        total = np.zeros(len(x))
        for i, coefficient in enumerate(self.linear):
            total = total + coefficient * x[:, i]
        for i, j in zip(*np.nonzero(self.pairs), strict=True):
            total = total + self.pairs[i, j] * (x[:, i] * x[:, j])
        return total

    def arrays(self) -> list[FloatArray]:
        """Return both coefficient arrays."""
        return [self.linear, self.pairs]


@dataclass(frozen=True, eq=False)
class Function:
    """A batched oracle with declared properties."""

    function: Callable[[IntArray], Any]
    is_submodular: bool
    is_integral: bool

    def __call__(self, points: IntArray) -> FloatArray:
        """Return what the function returns."""
        return np.asarray(self.function(points), dtype=np.float64)

    def arrays(self) -> list[FloatArray]:
        """Return nothing: code has no numbers."""
        return []


@dataclass(frozen=True, eq=False)
class Composed:
    """An increasing function of the value of a part."""

    outer: Callable[[FloatArray], Any]
    inner: Placed
    is_integral: bool = field(default=False, init=False)
    is_submodular: bool = field(default=False, init=False)

    def outer_values(self, values: FloatArray) -> FloatArray:
        """Return the outer function of ``(B,)`` inner values."""
        return np.asarray(self.outer(values), dtype=np.float64)

    def __call__(self, points: IntArray) -> FloatArray:
        """Return outer values of inner values."""
        return self.outer_values(self.inner(points))

    def arrays(self) -> list[FloatArray]:
        """Return those of the inner part; the outer function is code."""
        return self.inner.arrays()


@dataclass(frozen=True, eq=False)
class Added:
    """A sum of parts of different kinds, added in their order."""

    parts: tuple[Placed, ...]

    @property
    def is_submodular(self) -> bool:
        """Sums of submodular parts are."""
        return all(part.is_submodular for part in self.parts)

    @property
    def is_integral(self) -> bool:
        """Sums of whole numbers; what the total may grow to is left to the parts."""
        return all(part.is_integral for part in self.parts)

    def __call__(self, points: IntArray) -> FloatArray:
        """Return the sums."""
        total = np.zeros(len(points))
        for part in self.parts:
            total = total + part(points)
        return total

    def arrays(self) -> list[FloatArray]:
        """Return those of all parts."""
        return [array for part in self.parts for array in part.arrays()]


def rounding_error(part: Placed, box: Box) -> float:
    """Return how far values in a box may be off where coverages are added up, or sums of parts.

    Anything else is rounded once, or taken as it is: 0.
    """
    parts = part.parts if isinstance(part, Added) else (part,)
    covers = [p for p in parts if isinstance(p, Coverage)]
    if not covers and len(parts) == 1:
        return 0.0
    terms = len(parts) + sum(len(p.weights) + len(p.misses) + 2 for p in covers)
    # Misses near 1 are subtracted from 1, so that what a target is worth counts, not its coverage.
    size = sum(float(p.weights.sum()) for p in covers)
    ends = np.stack([box.lower, box.upper])
    size += sum(float(np.abs(p(ends)).max()) for p in parts if p not in covers)
    return terms * 2.0**-52 * size


@dataclass(frozen=True, eq=False)
class Row:
    """A limit of a part; called, it returns how far points are above it.

    Attributes
    ----------
    part
        What is limited.
    limit
        With the numerical slack of data that are not all integers; infinite for none.
    relief
        By how much the limit may be exceeded.
    """

    part: Placed
    limit: float
    relief: float = 0.0

    def __call__(self, points: IntArray) -> FloatArray:
        """Return the value less the limit, less the relief; ``-inf`` without a limit."""
        if self.limit == math.inf:  # of an infinite value, too
            return np.full(len(points), -math.inf)
        return self.part(points) - self.limit - self.relief


@dataclass(frozen=True, eq=False)
class Structure:
    """What a problem was built from.

    Attributes
    ----------
    box
        What the parts were placed on; they know nothing outside of it.
    objective
        What is maximised, or minimised.
    minimises
        Whether it is minimised.
    at_most, at_least
        Rows from above and from below.
    """

    box: Box
    objective: Placed
    minimises: bool
    at_most: tuple[Row, ...]
    at_least: tuple[Row, ...]

    def with_relief(self, row: int, relief: float) -> Structure:
        """Return the same with a row from above that may be exceeded."""
        rows = list(self.at_most)
        rows[row] = replace(rows[row], relief=relief)
        return replace(self, at_most=tuple(rows))

    def without(self, dropped: Collection[int]) -> Structure:
        """Return the same without the limits of some rows from above, which keep their places."""
        pairs = enumerate(self.at_most)
        rows = [replace(row, limit=math.inf) if k in dropped else row for k, row in pairs]
        return replace(self, at_most=tuple(rows))

    def without_objective(self) -> Structure:
        """Return the question of feasibility."""
        return replace(self, objective=Blocks(()), minimises=False)

    def negated(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return the mixed-monotone objective of a minimisation, which falls with `lower`."""
        return -self.objective(lower)

    def arrays(self) -> list[FloatArray]:
        """Return the numbers that define it, for fingerprints."""
        rows = [*self.at_most, *self.at_least]
        limits = [number for row in rows for number in (row.limit, row.relief)]
        kinds = np.array([self.minimises, len(self.at_most), *limits])
        found = [a for part in (self.objective, *(r.part for r in rows)) for a in part.arrays()]
        return [kinds.astype(np.float64), *found]
