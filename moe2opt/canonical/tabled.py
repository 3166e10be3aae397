"""Declarations made of numbers: tables, probabilities and coefficients, checked in full."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.canonical.declared import Box, increasing_table
from moe2opt.canonical.placed import Block, Blocks, Coverage, Quadratic
from moe2opt.canonical.reading import read
from moe2opt.canonical.validate import (
    BIGGEST_EXACT,
    LARGEST_SUM,
    frozen,
    integer_vector,
    is_integral,
    real_array,
    too_large,
)
from moe2opt.result import FloatArray, InputError, IntArray

#: The table of a function has at most so many entries.
LARGEST_TABLE = 2**20

#: Positive values of a product stay between this and its inverse, where nothing underflows.
SMALLEST_PRODUCT = 1e-280


@dataclass(frozen=True, eq=False)
class Tabled:
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
            return summed(placed, name)
        _require_product(placed, name)
        return Blocks(placed, is_product=True)


def _numbered(part: Tabled, box: Box, name: str) -> Iterable[tuple[IntArray, Any]]:
    """Return variables and function of each block, after a check that blocks are disjoint."""
    functions, blocks = part.functions, part.blocks
    if isinstance(functions, Mapping):
        blocks, functions = list(functions.keys()), list(functions.values())
    functions = _listed(f"{name}: functions", functions)
    blocks = range(len(box.lower)) if blocks is None else _listed(f"{name}: blocks", blocks)
    sets = [
        integer_vector(f"{name}: blocks[{k}]", block if np.iterable(block) else [block])
        for k, block in enumerate(blocks)
    ]
    if not all(map(len, sets)):
        k = [len(variables) for variables in sets].index(0)
        raise InputError(f"{name}: blocks[{k}] holds no variable")
    if len(sets) != len(functions):
        raise InputError(f"{name}: {len(functions)} functions for {len(sets)} blocks of variables")
    seen = np.concatenate([*sets, np.zeros(0, dtype=np.int64)])
    if len(seen) and (seen.min() < 0 or seen.max() >= len(box.lower)):
        raise InputError(f"{name}: a block names variable {seen.max()}, outside the box")
    if len(np.unique(seen)) != len(seen):
        raise InputError(f"{name}: a variable appears in two blocks, or twice in one")
    return zip(sets, functions, strict=True)


def _listed(name: str, several: Any) -> list[Any]:
    if not np.iterable(several) or isinstance(several, str):
        raise InputError(f"{name}: expected one per variable, got {several!r:.60}")
    return list(several)


def _block(function: Any, variables: IntArray, box: Box, name: str) -> Block:
    widths = (box.upper - box.lower)[variables] + 1
    if math.prod(widths.tolist()) > LARGEST_TABLE:
        raise InputError(f"{name}: a table of {widths.tolist()} levels is too large")
    levels = np.indices(widths.tolist()).reshape(len(widths), -1).T + box.lower[variables]
    single = len(variables) == 1
    called = callable(function)
    given = function(levels[:, 0] if single else levels) if called else function
    given = read(name, given).array
    if single and given.ndim == 0 and not called:
        given = levels[:, 0] * given
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


def summed(blocks: tuple[Block, ...], name: str) -> Blocks:
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
class CoverageOf:
    """Chances and weights of an expected coverage."""

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
class QuadraticOf:
    """Coefficients of quadratic terms."""

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
