"""Increasing functions on a box with a known structure, and the rows that limit them.

Their values are those of the problem: solver and checker ask nothing else. Every one increases in
its rounded values, too, because it adds and multiplies what is not negative in one order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

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

    @cached_property
    def is_integral(self) -> bool:
        """Sums of whole numbers whose largest possible total is of exact size."""
        largest = math.fsum(float(np.abs(b.table).max()) for b in self.blocks)
        whole = all(is_integral(b.table) for b in self.blocks)
        return whole and not self.is_product and largest <= BIGGEST_EXACT

    def __call__(self, points: IntArray) -> FloatArray:
        """Return correctly rounded sums, or products multiplied in the order of the blocks."""
        if self.is_integral and (slopes := self._slopes(points.shape[1])) is not None:
            return np.asarray(points @ slopes)
        columns = self._columns(points)
        if self.is_product:
            value = np.ones(len(points))
            for column in columns:
                value = value * column
            return value
        if self.is_integral:
            return np.asarray(columns.sum(axis=0))  # exact, in any order
        return np.array([exact_sum(row) for row in columns.T.tolist()])

    def _columns(self, points: IntArray) -> FloatArray:
        """Return the ``(blocks, B)`` entries of all tables that are not zero."""
        if self._table is None:
            columns = [block(points) for block in self.blocks]
            return np.array(columns).reshape(len(columns), len(points))
        table, variables, shifts = self._table
        return np.asarray(table[points.T[variables] + shifts[:, None]])

    @cached_property
    def _table(self) -> tuple[FloatArray, IntArray, IntArray] | None:
        """The tables of single variables in one, its variables, and the way to their entries."""
        # A zero changes no sum.
        blocks = [block for block in self.blocks if self.is_product or block.table.any()]
        if not blocks or any(len(block.variables) > 1 for block in blocks):
            return None
        tables = [block.table for block in blocks]
        ends = np.cumsum([0, *map(len, tables[:-1])])
        lower = np.concatenate([block.lower for block in blocks])
        variables = np.concatenate([block.variables for block in blocks])
        return np.concatenate(tables), variables, ends - lower

    def _slopes(self, n: int) -> FloatArray | None:
        """Return what sums of multiples of all variables multiply them with, None for others."""
        if "slopes" not in self._known:
            self._known["slopes"] = _multiples(self.blocks, n)
        return self._known["slopes"]

    @cached_property
    def _known(self) -> dict[str, FloatArray | None]:
        return {}

    def arrays(self) -> list[FloatArray]:
        """Return tables and variables."""
        kind = np.array([float(self.is_product)])
        pairs = ((b.variables.astype(np.float64), b.table) for b in self.blocks)
        return [kind, *(array for pair in pairs for array in pair)]


def _multiples(blocks: tuple[Block, ...], n: int) -> FloatArray | None:
    """Return the ``(n,)`` slopes of blocks that are whole multiples of one variable each."""
    slopes = np.zeros(n)
    for block in blocks:
        levels = block.lower[0] + np.arange(len(block.table))
        if len(block.variables) > 1 or not len(block.table) > 1:
            return None
        slope = block.table[1] - block.table[0]
        if not np.array_equal(block.table, slope * levels):
            return None
        slopes[block.variables[0]] += slope
    return slopes


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
    is_submodular: bool = field(default=True, init=False)

    @cached_property
    def is_integral(self) -> bool:
        """Whole weights of targets that are hit or missed for certain."""
        certain = all(((table == 0) | (table == 1)).all() for table in self.misses)
        return certain and is_integral(self.weights) and self.weights.sum() <= BIGGEST_EXACT

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
    """A batched oracle with declared properties.

    Attributes
    ----------
    function
        ``(B, n)`` points to ``(B,)`` values.
    is_submodular, is_supermodular
        Whether gains shrink, or grow, as the other coordinates rise.
    marginals
        ``(B, n)`` points to ``(B, n)`` gains of one more unit of each variable; None where only
        values are known.
    """

    function: Callable[[IntArray], Any]
    is_submodular: bool
    is_integral: bool
    is_supermodular: bool = False
    marginals: Callable[[IntArray], Any] | None = None

    def __call__(self, points: IntArray) -> FloatArray:
        """Return what the function returns."""
        return np.asarray(self.function(points), dtype=np.float64)

    def arrays(self) -> list[FloatArray]:
        """Return nothing: code has no numbers."""
        return []
