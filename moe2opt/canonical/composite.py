"""Functions of parts: compositions, extremes, quotients, sums; and what a problem is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from moe2opt.canonical.declared import Box
from moe2opt.canonical.placed import Blocks, Coverage, Placed
from moe2opt.result import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Composed:
    """An increasing function of the value of a part.

    Attributes
    ----------
    curve
        1 for a convex function, -1 for a concave one, 0 where it is not known to be either.
    """

    outer: Callable[[FloatArray], Any]
    inner: Placed
    curve: int = 0
    is_integral: bool = field(default=False, init=False)

    @property
    def is_submodular(self) -> bool:
        """Concave functions of submodular parts are."""
        return self.curve < 0 and self.inner.is_submodular

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
class Extreme:
    """The least or the greatest of several parts."""

    parts: tuple[Placed, ...]
    is_least: bool
    is_submodular: bool = field(default=False, init=False)

    @property
    def is_integral(self) -> bool:
        """Whole where all parts are."""
        return all(part.is_integral for part in self.parts)

    def __call__(self, points: IntArray) -> FloatArray:
        """Return the least or greatest values."""
        values = np.stack([part(points) for part in self.parts])
        return np.asarray(values.min(axis=0) if self.is_least else values.max(axis=0))

    def arrays(self) -> list[FloatArray]:
        """Return those of all parts."""
        kind = np.array([float(self.is_least), len(self.parts)])
        return [kind, *(array for part in self.parts for array in part.arrays())]


@dataclass(frozen=True, eq=False)
class Ratio:
    """A part divided by a positive one, or by what a part leaves of a number.

    Attributes
    ----------
    top, under
        Both increase; `top` is at least 0.
    whole
        The quotient is by ``whole - under``, so that it increases, too; None for `under` itself.
    """

    top: Placed
    under: Placed
    whole: float | None = None
    is_submodular: bool = field(default=False, init=False)
    is_integral: bool = field(default=False, init=False)

    def below(self, points: IntArray) -> FloatArray:
        """Return what is divided by."""
        under = self.under(points)
        return under if self.whole is None else self.whole - under

    def between(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return a quotient that rises with `upper` and falls with `lower`."""
        return np.asarray(self.top(upper) / self.below(lower if self.whole is None else upper))

    def __call__(self, points: IntArray) -> FloatArray:
        """Return the quotients."""
        return self.between(points, points)

    def arrays(self) -> list[FloatArray]:
        """Return those of both parts."""
        whole = np.array([math.inf if self.whole is None else self.whole])
        return [whole, *self.top.arrays(), *self.under.arrays()]


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

    @property
    def is_mixed(self) -> bool:
        """Whether the objective is no increasing function, but a mixed-monotone one."""
        ratio = isinstance(self.objective, Ratio) and self.objective.whole is None
        return self.minimises or ratio

    def mixed(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return the mixed-monotone objective: rising with `upper`, falling with `lower`."""
        if isinstance(self.objective, Ratio):
            between = self.objective.between
            return -between(lower, upper) if self.minimises else between(upper, lower)
        return -self.objective(lower)

    def arrays(self) -> list[FloatArray]:
        """Return the numbers that define it, for fingerprints."""
        rows = [*self.at_most, *self.at_least]
        limits = [number for row in rows for number in (row.limit, row.relief)]
        kinds = np.array([self.minimises, len(self.at_most), *limits])
        found = [a for part in (self.objective, *(r.part for r in rows)) for a in part.arrays()]
        return [kinds.astype(np.float64), *found]
