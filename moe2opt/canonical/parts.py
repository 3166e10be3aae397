"""Increasing functions declared by their structure: what a monotone problem can be built from.

A part is declared without a box (`linear`, `total`, `product`, `coverage`, `quadratic`,
`submodular`, `increasing`, `composed`), and `MonotoneProblem.from_parts` places it on one: tables
are written down and everything that was declared is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from moe2opt.canonical.declared import Box, increasing_table, require_increasing, require_submodular
from moe2opt.canonical.placed import (
    Added,
    Block,
    Blocks,
    Composed,
    Coverage,
    Function,
    Placed,
    Quadratic,
    Row,
    Structure,
)
from moe2opt.canonical.validate import (
    BIGGEST_EXACT,
    BUDGET_TOLERANCE,
    LARGEST_SUM,
    frozen,
    is_integral,
    real_array,
    too_large,
)
from moe2opt.result import FloatArray, InputError, IntArray

#: The table of a function has at most so many entries.
LARGEST_TABLE = 2**20

#: Positive values of a product stay between this and its inverse, where nothing underflows.
SMALLEST_PRODUCT = 1e-280


class Part(Protocol):
    """A declaration that can be placed on a box."""

    def on(self, box: Box, name: str) -> Placed:
        """Return the function on the box; raise `InputError` where it is not what it claims."""


@dataclass(frozen=True, eq=False)
class _Tabled:
    """Functions of one variable, or of blocks of them, that are summed or multiplied."""

    functions: Any
    blocks: Any
    is_product: bool

    def on(self, box: Box, name: str) -> Blocks:
        """Return the tables on the box."""
        placed = tuple(
            _block(function, variables, box, f"{name}: function {k}")
            for k, (variables, function) in enumerate(_numbered(self, box, name))
        )
        if not self.is_product:
            return _sum(placed, name)
        _require_product(placed, name)
        return Blocks(placed, is_product=True)


def _numbered(part: _Tabled, box: Box, name: str) -> Iterable[tuple[IntArray, Any]]:
    """Return variables and function of each block, after a check that blocks are disjoint."""
    functions, blocks = part.functions, part.blocks
    if isinstance(functions, Mapping):
        blocks, functions = list(functions.keys()), list(functions.values())
    functions = list(functions)
    blocks = range(len(box.lower)) if blocks is None else blocks
    sets = [np.atleast_1d(np.asarray(block, dtype=np.int64)) for block in blocks]
    if len(sets) != len(functions):
        raise InputError(f"{name}: {len(functions)} functions for {len(sets)} blocks of variables")
    seen = np.concatenate([*sets, np.zeros(0, dtype=np.int64)])
    if len(seen) and (seen.min() < 0 or seen.max() >= len(box.lower)):
        raise InputError(f"{name}: a block names variable {seen.max()}, outside the box")
    if len(np.unique(seen)) != len(seen):
        raise InputError(f"{name}: a variable appears in two blocks, or twice in one")
    return zip(sets, functions, strict=True)


def _block(function: Any, variables: IntArray, box: Box, name: str) -> Block:
    widths = (box.upper - box.lower)[variables] + 1
    if math.prod(widths.tolist()) > LARGEST_TABLE:
        raise InputError(f"{name}: a table of {widths.tolist()} levels is too large")
    levels = np.indices(widths.tolist()).reshape(len(widths), -1).T + box.lower[variables]
    single = len(variables) == 1
    if callable(function):
        function = function(levels[:, 0] if single else levels)
    elif single and np.ndim(function) == 0:
        function = levels[:, 0] * float(function)
    given = np.asarray(function)
    if given.ndim == len(widths) and given.ndim > 1:
        given = given.reshape(-1) if given.shape == tuple(widths) else given
    table = real_array(name, given, 1)
    if table.shape != (len(levels),):
        raise InputError(
            f"{name} has {len(table)} values for {len(levels)} levels of variables "
            f"{variables.tolist()}"
        )
    table = frozen(increasing_table(name, table.reshape(widths), variables, box).reshape(-1).copy())
    strides = np.append(np.cumprod(widths[:0:-1])[::-1], 1).astype(np.int64)
    return Block(frozen(variables), table, box.lower[variables], strides)


def _sum(blocks: tuple[Block, ...], name: str) -> Blocks:
    """Return a sum of tables; raise where it, or what views add to it, might overflow."""
    largest = np.array([np.abs(block.table).max() for block in blocks])
    if (k := too_large(4.0 * np.minimum(largest, LARGEST_SUM))) is not None:
        raise InputError(f"{name}: function {k} reaches {largest[k]:g}; sums go to 1e279 at most")
    return Blocks(blocks)


def _require_product(blocks: Sequence[Block], name: str) -> None:
    """Raise unless all factors are at least 0 and no product of positive ones underflows."""
    logs = np.zeros((2, len(blocks)))
    for k, block in enumerate(blocks):
        if block.table[0] < 0:
            raise InputError(f"{name}: function {k} is {block.table[0]:g}; a factor is at least 0")
        positive = np.log10(block.table[block.table > 0])
        logs[:, k] = min(0, positive.min(initial=0)), max(0, positive.max(initial=0))
    if np.abs(logs.sum(axis=1)).max() > -math.log10(SMALLEST_PRODUCT):
        raise InputError(f"{name}: products of its factors go beyond 1e-280 or 1e280")


@dataclass(frozen=True, eq=False)
class _CoverageOf:
    chances: Any
    weights: Any

    def on(self, box: Box, name: str) -> Coverage:
        """Return the tables on the box."""
        chances = real_array(f"{name}: chances", self.chances, 2, nonnegative=True)
        if chances.shape[1] != len(box.lower) or (chances > 1).any():
            raise InputError(
                f"{name}: chances: expected a (C, {len(box.lower)}) table of probabilities"
            )
        if (box.lower < 0).any():
            raise InputError(f"{name}: coverage counts from 0; the box begins below")
        given = np.ones(len(chances)) if self.weights is None else self.weights
        weights = real_array(f"{name}: weights", given, 1, nonnegative=True)
        if weights.shape != (len(chances),):
            raise InputError(f"{name}: {len(weights)} weights for {len(chances)} targets")
        misses = tuple(
            _powers(1.0 - column, int(low), int(high))
            for column, low, high in zip(chances.T, box.lower, box.upper, strict=True)
        )
        return Coverage(weights, misses, box.lower)


def _powers(base: FloatArray, low: int, high: int) -> FloatArray:
    """Return ``base ** level`` for the levels of a variable, falling in rounded values, too."""
    if high - low >= LARGEST_TABLE:
        raise InputError(f"coverage: a range of {high - low + 1} levels is too large")
    table = np.empty((high - low + 1, len(base)))
    table[0] = base**low
    for k in range(1, len(table)):
        table[k] = table[k - 1] * base
    return frozen(table)


@dataclass(frozen=True, eq=False)
class _QuadraticOf:
    pairs: Any
    linear: Any

    def on(self, box: Box, name: str) -> Quadratic:
        """Return the coefficients, pairs summed into the upper triangle."""
        n = len(box.lower)
        pairs = real_array(f"{name}: pairs", self.pairs, 2, nonnegative=True)
        given = np.zeros(n) if self.linear is None else self.linear
        slopes = real_array(f"{name}: linear", given, 1, nonnegative=True)
        if pairs.shape != (n, n) or slopes.shape != (n,):
            raise InputError(f"{name}: expected ({n}, {n}) pairs and ({n},) linear coefficients")
        if (box.lower < 0).any():
            raise InputError(f"{name}: a quadratic term rises from 0 on; the box begins below")
        upper = frozen(np.triu(pairs) + np.tril(pairs, -1).T)
        top = box.upper.astype(np.float64)
        largest = float(top @ slopes + top @ upper @ top)
        whole = is_integral(slopes) and is_integral(upper) and largest <= BIGGEST_EXACT
        return Quadratic(slopes, upper, whole)


@dataclass(frozen=True, eq=False)
class _FunctionOf:
    function: Callable[[IntArray], Any]
    is_submodular: bool
    is_integral: bool

    def on(self, box: Box, name: str) -> Function:
        """Return the function after a search for a counter-example to what it claims."""
        placed = Function(self.function, self.is_submodular, self.is_integral)
        require_increasing(name, placed, box)
        if self.is_submodular:
            require_submodular(name, placed, box)
        return placed


@dataclass(frozen=True, eq=False)
class _ComposedOf:
    outer: Callable[[FloatArray], Any]
    inner: Any

    def on(self, box: Box, name: str) -> Composed:
        """Return the composition, the outer function checked between the corners of the box."""
        placed = Composed(self.outer, self.inner.on(box, f"{name}: inner part"))
        ends = placed.inner(np.stack([box.lower, box.upper]))
        grid = np.linspace(float(ends[0]), float(ends[1]), 257)
        grid = np.unique(np.floor(grid) if placed.inner.is_integral else grid)
        values = placed.outer_values(grid)
        if values.shape != grid.shape or np.isnan(values).any():
            raise InputError(f"{name}: the outer function must return one number per value")
        if (np.diff(values) < 0).any():
            k = int(np.argmax(np.diff(values) < 0))
            raise InputError(
                f"{name}: the outer function is not increasing: it changes from {values[k]:.12g} "
                f"at {grid[k]:.12g} to {values[k + 1]:.12g} at {grid[k + 1]:.12g}"
            )
        require_increasing(name, placed, box)
        return placed


def placed_on(parts: Any, box: Box, name: str) -> Placed:
    """Return a part, or the sum of several, on a box."""
    several = list(parts) if isinstance(parts, list | tuple) else [parts]
    for k, part in enumerate(several):
        if not hasattr(part, "on"):
            raise InputError(
                f"{name}: part {k} is a {type(part).__name__}; parts come from mo.parts"
            )
    placed = [
        part.on(box, name if len(several) == 1 else f"{name}[{k}]")
        for k, part in enumerate(several)
    ]
    return placed[0] if len(placed) == 1 else _added(placed, name)


def _added(placed: Sequence[Placed], name: str) -> Placed:
    """Return a sum, all sums of tables in it being one."""
    tables = [part for part in placed if isinstance(part, Blocks) and not part.is_product]
    others = [part for part in placed if part not in tables]
    if tables:
        others.insert(0, _sum(tuple(block for part in tables for block in part.blocks), name))
    return others[0] if len(others) == 1 else Added(tuple(others))


def linear(coefficients: Any) -> Part:
    """Return :math:`a x` with non-negative coefficients, one per variable (or a mapping)."""
    return _Tabled(coefficients, None, is_product=False)


def total(functions: Any, blocks: Any = None) -> Part:
    """Return a sum of functions of one variable each.

    Parameters
    ----------
    functions
        One per variable, or a mapping from variables to functions: a table of the values at the
        levels from the lower to the upper end, a coefficient, or a callable of an ``(M,)`` array of
        levels.
    blocks
        Sets of variables, one per function, for functions of several variables: callables of
        ``(M, k)`` points, or tables over the levels of all k.
    """
    return _Tabled(functions, blocks, is_product=False)


def product(functions: Any, blocks: Any = None) -> Part:
    """Return a product of non-negative functions of one variable each; see `total`."""
    return _Tabled(functions, blocks, is_product=True)


def coverage(chances: Any, weights: Any = None) -> Part:
    r"""Return :math:`\sum_c w_c (1 - \prod_i (1 - p_{ci})^{x_i})`, the expected coverage.

    Parameters
    ----------
    chances
        ``(C, n)`` probability that one unit of a variable reaches each target.
    weights
        ``(C,)`` worth of the targets; 1 each by default.
    """
    return _CoverageOf(chances, weights)


def quadratic(pairs: Any, linear: Any = None) -> Part:
    """Return :math:`c x + x Q x` with non-negative coefficients, for a box from 0 on.

    Parameters
    ----------
    pairs
        ``(n, n)`` matrix Q; entries (i, j) and (j, i) add up.
    linear
        ``(n,)`` coefficients c; 0 by default.
    """
    return _QuadraticOf(pairs, linear)


def submodular(function: Callable[[IntArray], Any], integral: bool = False) -> Part:
    """Return a batched oracle that increases with gains that shrink as other variables rise."""
    return _FunctionOf(function, is_submodular=True, is_integral=integral)


def increasing(function: Callable[[IntArray], Any], integral: bool = False) -> Part:
    """Return a batched oracle of which nothing is known but that it increases."""
    return _FunctionOf(function, is_submodular=False, is_integral=integral)


def composed(outer: Callable[[FloatArray], Any], inner: Part) -> Part:
    """Return an increasing function of the value of a part.

    `outer` takes arrays; where the part's values are whole numbers, it is asked for those only.
    """
    return _ComposedOf(outer, inner)


def structure(box: Box, objective: Any, minimise: Any, at_most: Any, at_least: Any) -> Structure:
    """Place everything on a box; see `MonotoneProblem.from_parts`."""
    if (objective is None) == (minimise is None):
        raise InputError("objective: give exactly one of objective and minimise")
    placed = placed_on(objective, box, "objective") if minimise is None else None
    return Structure(
        box,
        objective=placed or placed_on(minimise, box, "minimise"),
        minimises=placed is None,
        at_most=_rows("at_most", at_most, box, 1),
        at_least=_rows("at_least", at_least, box, -1),
    )


def _rows(name: str, pairs: Any, box: Box, side: int) -> tuple[Row, ...]:
    rows = []
    for k, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InputError(f"{name}[{k}]: expected a part and its limit")
        limit = float(real_array(f"{name}[{k}]: limit", [pair[1]], 1)[0])
        part = placed_on(pair[0], box, f"{name}[{k}]")
        if not (part.is_integral and limit == math.floor(limit)):
            limit += side * BUDGET_TOLERANCE * max(1.0, abs(limit))
        rows.append(Row(part, limit))
    return tuple(rows)
