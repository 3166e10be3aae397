"""Increasing functions declared by their structure: what a monotone problem can be built from.

A part is declared without a box (`linear`, `total`, `product`, `coverage`, `quadratic`,
`submodular`, `supermodular`, `increasing`, `composed`, `concave`, `convex`, `minimum`, `maximum`,
`ratio`), and `MonotoneProblem.from_parts` places it on one: tables
are written down and everything that was declared is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from moe2opt.canonical.composite import Added, Composed, Extreme, Ratio, Row, Structure
from moe2opt.canonical.declared import (
    Box,
    require_curve,
    require_increasing,
    require_marginals,
    require_submodular,
)
from moe2opt.canonical.placed import Blocks, Function, Placed
from moe2opt.canonical.tabled import CoverageOf, QuadraticOf, Tabled, summed
from moe2opt.canonical.validate import BUDGET_TOLERANCE, real_array
from moe2opt.result import FloatArray, InputError, IntArray


class Part(Protocol):
    """A declaration that can be placed on a box."""

    def on(self, box: Box, name: str) -> Placed:
        """Return the function on the box; raise `InputError` where it is not what it claims."""


@dataclass(frozen=True, eq=False)
class _FunctionOf:
    function: Callable[[IntArray], Any]
    is_submodular: bool = False
    is_integral: bool = False
    is_supermodular: bool = False
    marginals: Callable[[IntArray], Any] | None = None

    def on(self, box: Box, name: str) -> Function:
        """Return the function after a search for a counter-example to what it claims."""
        _require_code(name, self.function)
        if self.marginals is not None:
            _require_code(f"{name}: marginals", self.marginals)
        placed = Function(
            self.function,
            self.is_submodular,
            self.is_integral,
            self.is_supermodular,
            self.marginals,
        )
        require_increasing(name, placed, box)
        if self.is_submodular:
            require_submodular(name, placed, box)
        if self.is_supermodular:
            require_submodular(name, placed, box, sign=-1)
        if self.marginals is not None:
            require_marginals(name, placed, self.marginals, box)
        return placed


@dataclass(frozen=True, eq=False)
class _ComposedOf:
    outer: Callable[[FloatArray], Any]
    inner: Any
    curve: int = 0

    def on(self, box: Box, name: str) -> Composed:
        """Return the composition, the outer function checked between the corners of the box."""
        _require_code(f"{name}: outer", self.outer)
        placed = Composed(self.outer, placed_on(self.inner, box, f"{name}: inner part"), self.curve)
        ends = placed.inner(np.stack([box.lower, box.upper]))
        grid = np.linspace(float(ends[0]), float(ends[1]), 257)
        grid = np.unique(np.floor(grid) if placed.inner.is_integral else grid)
        values = placed.outer_values(grid)
        if values.shape != grid.shape or np.isnan(values).any():
            raise InputError(f"{name}: the outer function must return one number per value")
        if self.curve and np.isinf(values).any():
            k = int(np.argmax(np.isinf(values)))
            raise InputError(
                f"{name}: the outer function is {values[k]} at {grid[k]:.12g}; let the box "
                f"begin higher, or the function be bounded"
            )
        require_curve(name, grid, values, self.curve)
        require_increasing(name, placed, box)
        return placed


@dataclass(frozen=True, eq=False)
class _ExtremeOf:
    parts: Sequence[Part]
    is_least: bool

    def on(self, box: Box, name: str) -> Extreme:
        """Return the least or greatest of the parts on the box."""
        if not self.parts:
            raise InputError(f"{name}: the least or greatest of no parts")
        placed = (placed_on(part, box, f"{name}: part {k}") for k, part in enumerate(self.parts))
        return Extreme(tuple(placed), self.is_least)


@dataclass(frozen=True, eq=False)
class _RatioOf:
    top: Any
    under: Any
    whole: float | None

    def on(self, box: Box, name: str) -> Ratio:
        """Return the quotient after a look at the signs of both parts."""
        top = placed_on(self.top, box, f"{name}: top")
        whole = self.whole
        if whole is not None:
            whole = float(real_array(f"{name}: whole", [whole], 1)[0])
        placed = Ratio(top, placed_on(self.under, box, f"{name}: under"), whole)
        corner = box.lower if whole is None else box.upper
        least = float(top(box.lower[None, :])[0]), float(placed.below(corner[None, :])[0])
        if not (least[0] >= 0 and least[1] > 0):
            raise InputError(
                f"{name}: a quotient needs a top of at least 0 and a divisor above 0; they are at "
                f"least {least[0]:.12g} (x = {box.lower.tolist()}) and {least[1]:.12g} "
                f"(x = {corner.tolist()})"
            )
        return placed


def _require_code(name: str, function: Any) -> None:
    if not callable(function):
        raise InputError(f"{name}: {function!r:.60} is no function of arrays")


def placed_on(parts: Any, box: Box, name: str, *, alone: bool = False) -> Placed:
    """Return a part, or the sum of several, on a box.

    What divides by a part that rises is allowed only where it stands `alone`.
    """
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
    for part in placed:
        if isinstance(part, Ratio) and part.whole is None and not (alone and len(placed) == 1):
            raise InputError(
                f"{name}: a ratio by a rising part does not rise; it is an objective by itself"
            )
    return placed[0] if len(placed) == 1 else _added(placed, name)


def _added(placed: Sequence[Placed], name: str) -> Placed:
    """Return a sum, all sums of tables in it being one."""
    tables = [part for part in placed if isinstance(part, Blocks) and not part.is_product]
    others = [part for part in placed if part not in tables]
    if tables or not others:
        others.insert(0, summed(tuple(block for part in tables for block in part.blocks), name))
    return others[0] if len(others) == 1 else Added(tuple(others))


def linear(coefficients: Any) -> Part:
    """Return :math:`a x` with non-negative coefficients, one per variable (or a mapping)."""
    return Tabled(coefficients, None, is_product=False)


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
    return Tabled(functions, blocks, is_product=False)


def product(functions: Any, blocks: Any = None) -> Part:
    """Return a product of non-negative functions of one variable each; see `total`."""
    return Tabled(functions, blocks, is_product=True)


def coverage(chances: Any, weights: Any = None) -> Part:
    r"""Return :math:`\sum_c w_c (1 - \prod_i (1 - p_{ci})^{x_i})`, the expected coverage.

    Parameters
    ----------
    chances
        ``(C, n)`` probability that one unit of a variable reaches each target.
    weights
        ``(C,)`` worth of the targets; 1 each by default.
    """
    return CoverageOf(chances, weights)


def quadratic(pairs: Any, linear: Any = None) -> Part:
    """Return :math:`c x + x Q x` with non-negative coefficients, for a box from 0 on.

    Parameters
    ----------
    pairs
        ``(n, n)`` matrix Q; entries (i, j) and (j, i) add up.
    linear
        ``(n,)`` coefficients c; 0 by default.
    """
    return QuadraticOf(pairs, linear)


def submodular(
    function: Callable[[IntArray], Any],
    integral: bool = False,
    marginals: Callable[[IntArray], Any] | None = None,
) -> Part:
    """Return a batched oracle that increases with gains that shrink as other variables rise.

    Parameters
    ----------
    function
        ``(B, n)`` points to ``(B,)`` values.
    integral
        Whether all values are whole numbers.
    marginals
        ``(B, n)`` points to ``(B, n)`` gains of one more unit of each variable, where these are
        cheaper than n values; what is returned for a variable at its upper end is not looked at.
    """
    return _FunctionOf(function, True, integral, marginals=marginals)


def supermodular(function: Callable[[IntArray], Any], integral: bool = False) -> Part:
    """Return a batched oracle that increases with gains that grow as other variables rise."""
    return _FunctionOf(function, is_integral=integral, is_supermodular=True)


def increasing(function: Callable[[IntArray], Any], integral: bool = False) -> Part:
    """Return a batched oracle of which nothing is known but that it increases."""
    return _FunctionOf(function, is_integral=integral)


def composed(outer: Callable[[FloatArray], Any], inner: Part) -> Part:
    """Return an increasing function of the value of a part.

    `outer` takes arrays; where the part's values are whole numbers, it is asked for those only.
    """
    return _ComposedOf(outer, inner)


def concave(outer: Callable[[FloatArray], Any], inner: Part) -> Part:
    """Return a concave increasing function of the value of a part, which tangents bound."""
    return _ComposedOf(outer, inner, -1)


def convex(outer: Callable[[FloatArray], Any], inner: Part) -> Part:
    """Return a convex increasing function of the value of a part, such as a convex row."""
    return _ComposedOf(outer, inner, 1)


def minimum(*parts: Part) -> Part:
    """Return the least of several parts (or lists of parts to be added)."""
    return _ExtremeOf(parts, is_least=True)


def maximum(*parts: Part) -> Part:
    """Return the greatest of several parts (or lists of parts to be added)."""
    return _ExtremeOf(parts, is_least=False)


def ratio(top: Part, under: Part, whole: float | None = None) -> Part:
    """Return a part divided by another one, as an objective; or by what that leaves of `whole`.

    Parameters
    ----------
    top
        At least 0.
    under
        Above 0. Where it divides, the quotient does not increase: it can only be maximised or
        minimised as a whole, by itself.
    whole
        With it the quotient is ``top / (whole - under)``, which increases and may stand anywhere.
    """
    return _RatioOf(top, under, whole)


def structure(box: Box, objective: Any, minimise: Any, at_most: Any, at_least: Any) -> Structure:
    """Place everything on a box; see `MonotoneProblem.from_parts`."""
    if (objective is None) == (minimise is None):
        raise InputError("objective: give exactly one of objective and minimise")
    named = ("objective", objective) if minimise is None else ("minimise", minimise)
    placed = placed_on(named[1], box, named[0], alone=True)
    return Structure(
        box,
        objective=placed,
        minimises=minimise is not None,
        at_most=_rows("at_most", at_most, box, 1),
        at_least=_rows("at_least", at_least, box, -1),
    )


def _rows(name: str, pairs: Any, box: Box, side: int) -> tuple[Row, ...]:
    if not isinstance(pairs, Sequence):
        raise InputError(f"{name}: expected a list of pairs of a part and its limit")
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
