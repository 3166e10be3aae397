"""Exact arithmetic for proofs: floats are rationals, and everything stays an integer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from moe2opt.canonical import BIGGEST_EXACT, is_integral, rounded_budget, rounded_net
from moe2opt.result import Certificate, FloatArray, IntArray, Multipliers

#: Integers up to this size are added in int64 without overflow.
_INT64_SAFE = 2**62


class RejectedError(Exception):
    """The certificate proves nothing; the message says where it breaks."""


@dataclass(frozen=True, slots=True)
class Dyadic:
    """A vector of exact numbers ``numerators / 2**shift``; every float is one."""

    numerators: Any
    shift: int

    @classmethod
    def of(cls, values: Any) -> Dyadic:
        """Return floats without rounding."""
        ratios = [float(v).as_integer_ratio() for v in values]
        shift = max((d.bit_length() - 1 for _, d in ratios), default=0)
        exact = [n << (shift - d.bit_length() + 1) for n, d in ratios]
        return cls(np.array(exact, dtype=object), shift)

    def plus(self, other: Dyadic, factor: int = 1) -> Dyadic:
        """Return ``self + factor * other``."""
        shift = max(self.shift, other.shift)
        own = self.numerators * 2 ** (shift - self.shift)
        return Dyadic(own + other.numerators * (factor * 2 ** (shift - other.shift)), shift)

    def times(self, factor: float) -> Dyadic:
        """Return ``factor * self``."""
        numerator, denominator = float(factor).as_integer_ratio()
        return Dyadic(self.numerators * numerator, self.shift + denominator.bit_length() - 1)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A constant and profits in floating point, and how far their sums may be off.

    Most bounds are far enough below the claim that rounding cannot matter; exact arithmetic is
    needed only for the others.
    """

    constant: float
    profit: Any
    error: float


class Recent:
    """The last things computed for (index, reason): the leaves of a node share multipliers."""

    _KEPT = 64

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], Any] = {}

    def get(self, index: int, reason: str) -> Any:
        """Return what was put, None if it is not known or no longer recent."""
        return self._known.get((index, reason))

    def put(self, index: int, reason: str, value: Any) -> None:
        """Remember a value and forget the oldest one."""
        self._known[index, reason] = value
        if len(self._known) > self._KEPT:
            self._known.pop(next(iter(self._known)))


class Rows:
    """Rows A x ≤ b in exact arithmetic."""

    def __init__(self, matrix: Any, limits: Any) -> None:
        self.matrix, self.limits = matrix, limits
        self._exact: dict[int, Dyadic] = {}

    def priced(self, price: Any) -> tuple[Dyadic, Fraction]:
        """Return the priced cost of each column and the priced limits."""
        cost = Dyadic(np.zeros(self.matrix.shape[1], dtype=object), 0)
        total = Fraction(0)
        for r in map(int, np.flatnonzero(price)):
            if r not in self._exact:
                self._exact[r] = Dyadic.of(self.matrix[r])
            row = self._exact[r]
            cost = cost.plus(row.times(price[r]))
            total += Fraction(float(price[r])) * Fraction(float(self.limits[r]))
        return cost, total


def outward(costs: Any, limits: Any) -> Any:
    """Return limits that no feasible exact sum exceeds: usage is compared after rounding.

    Sums of integers are not rounded as long as they are of exact size.
    """
    exact = np.array([is_integral(row) for row in costs], dtype=bool)
    return np.where(exact & (np.abs(limits) < BIGGEST_EXACT), limits, np.nextafter(limits, np.inf))


def error_of(terms: int, size: Any) -> Any:
    """Return how far a sum of so many products in floating point may be off.

    Parameters
    ----------
    terms
        Number of operations that round.
    size
        Sum of the absolute values. Products below the smallest normal number lose all their
        digits, so the error is never zero.
    """
    return 4e-16 * terms * size + 1e-300


def on_grid(scaled: Any) -> Any:
    """Return whole numbers as int64 where all sums stay exact, else as Python integers."""
    sums = scaled.max(axis=0, initial=0).sum(), scaled.sum(axis=1).max(initial=0)
    if max(sums) < _INT64_SAFE:
        return scaled.astype(np.int64)
    return np.array([[int(v) for v in row] for row in scaled], dtype=object).reshape(scaled.shape)


def thresholds(cluster: Any, clusters: int, bits: int, largest: int) -> tuple[Any, int]:
    """Return cluster multipliers in units of the grid, and their sum.

    What lies above the largest value is lowered to it, after it was added up: there is no excess.
    """
    scaled = np.ldexp(cluster, bits)
    whole = np.isfinite(scaled) & (scaled >= 0) & (scaled == np.floor(scaled))
    if cluster.shape != (clusters,) or not whole.all():
        raise RejectedError("cluster multipliers must be non-negative multiples of the grid")
    if len(scaled) * scaled.max(initial=0.0) < _INT64_SAFE:
        found = scaled.astype(np.int64)
        return (np.minimum(found, largest) if largest < _INT64_SAFE else found), int(found.sum())
    exact = [int(v) for v in scaled]
    lowered = [min(v, largest) for v in exact]
    return np.array(lowered, dtype=np.int64 if largest < _INT64_SAFE else object), sum(exact)


def checked_prices(certificate: Certificate, index: int, rows: Rows, covers: Any) -> Multipliers:
    """Return multipliers `index` after checking shapes, signs and, if infeasible, the covers."""
    if not 0 <= index < len(certificate.multipliers):
        raise RejectedError(f"multipliers {index} do not exist")
    price = certificate.multipliers[index]
    vectors = (price.cluster, price.row, price.cover)
    if any(not isinstance(v, np.ndarray) or v.dtype != np.float64 for v in vectors):
        raise RejectedError(f"multipliers {index} are not vectors of float64")
    if price.row.shape != rows.limits.shape or price.cover.shape != (len(covers),):
        raise RejectedError(f"multipliers {index} have the wrong shape")
    for part in (price.row, price.cover):
        # A NaN fails every comparison, and so is refused too.
        if len(part) and not 0.0 <= part.min() <= part.max() < math.inf:
            raise RejectedError(f"multipliers {index} are negative or not finite")
    if certificate.conflict is not None:
        for h in np.flatnonzero(price.cover):
            require_cover(int(h), certificate, len(covers))
    return price


def require_row(index: int, count: int) -> None:
    """Raise unless the row exists."""
    if not 0 <= index < count:
        raise RejectedError(f"row {index} does not exist")


def rounded_rows(
    certificate: Certificate,
    costs: FloatArray,
    limits: FloatArray,
    starts: IntArray,
    sizes: IntArray,
) -> list[tuple[FloatArray, float]]:
    """Return the rounded rows that a certificate names, each with its limit.

    Parameters
    ----------
    certificate
        Names each by the budget, or by the budget beyond the least of each class, and its parts.
    costs, limits
        ``(K, M)`` and ``(K,)`` budgets.
    starts, sizes
        First option of each class and the end; number of groups of each class.
    """
    found = []
    for row, parts in certificate.rounded:
        require_row(row, 2 * len(limits))
        budget = row % len(limits)
        used, limit = costs[budget], float(limits[budget])
        try:
            if row == budget:
                found.append(rounded_budget(used, limit, parts))
            else:
                found.append(rounded_net(used, starts, sizes, limit, parts))
        except ValueError as error:
            raise RejectedError(str(error)) from error
    return found


def require_group(index: int, count: int) -> None:
    """Raise unless the group exists: Python would count a negative index from the end."""
    if not 0 <= index < count:
        raise RejectedError(f"group {index} does not exist")


def require_cover(index: int, certificate: Certificate, count: int) -> None:
    """Raise unless the cover exists and, in a proof of infeasibility, is named in the conflict."""
    if not 0 <= index < count:
        raise RejectedError(f"cover {index} does not exist")
    conflict = certificate.conflict
    if conflict is not None and index not in conflict.covers:
        raise RejectedError(f"the proof uses cover {index}, which the conflict leaves out")


def clearly_supports(value: Any, error: Any, claim: float, reason: str, integral: bool) -> Any:
    """Tell (elementwise) whether values support the claim even if off by `error`."""
    if reason == "farkas":
        return value + error < 0
    if claim == -math.inf:
        return np.zeros(np.shape(value), dtype=bool)
    return value + error < math.floor(claim) + 1.0 if integral else value + error <= claim


def supports(value: Fraction, claim: float, reason: str, integral: bool) -> bool:
    """Tell whether a leaf's value supports the claim."""
    if reason == "farkas":
        return value < 0
    if claim == -math.inf:
        return False
    return claim == math.inf or (math.floor(value) if integral else value) <= Fraction(claim)
