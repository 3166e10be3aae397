"""How values of a choice view and of its monotone problem correspond, rounded outward."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from moe2opt.canonical.composite import Composed
from moe2opt.canonical.logarithm import log_bounds
from moe2opt.canonical.monotone import MonotoneProblem
from moe2opt.canonical.validate import BIGGEST_EXACT
from moe2opt.result import FloatArray, IntArray

#: All logarithms of a product together are known this well; below so many digits there is no view.
_LOG_ERROR, _FEWEST_BITS = 2e-10, 30

#: What no value of a view exceeds.
BEYOND_ALL = 1e300

#: Logarithm of about the largest float.
_LARGEST_LOG = 700.0

#: Binary digits of the logarithms of a row.
ROW_BITS = 40


class Scale(Protocol):
    """How values of the view and of the problem correspond."""

    def within(self, claim: float) -> float:
        """Return a value of the view such that what attains no more is at most `claim`."""

    def above(self, value: float) -> float:
        """Return a small claim whose `within` is at least `value`."""


def value_at(outer: Composed, value: float) -> float:
    """Return the outer function at one inner value."""
    return float(outer.outer_values(np.array([value]))[0])


def last_true(outer: Composed, test: Callable[[float], bool], low: float, high: float) -> float:
    """Return the last inner value up to `high` of whose outer one `test`, false once, is true.

    The float before `low` where it is true of none. An outer function of whole numbers is asked for
    nothing else: it may be a table.
    """
    between = _whole_between if outer.inner.is_integral else _between
    if test(value_at(outer, high)):
        return high
    if not test(value_at(outer, low)):
        return math.nextafter(low, -math.inf)
    while True:
        middle = between(low, high)
        if middle in (low, high):
            return low
        if test(value_at(outer, middle)):
            low = middle
        else:
            high = middle


def _whole_between(low: float, high: float) -> float:
    return (low + high) // 2


def _between(low: float, high: float) -> float:
    """Return the float in the middle of all floats between two: bisection ends after 64 steps."""
    first, last = (_rank(value) for value in (low, high))
    middle = (first + last) // 2
    bits = middle if middle >= 0 else -middle | 1 << 63
    return float(np.array(bits, dtype=np.uint64).view(np.float64))


def _rank(value: float) -> int:
    """Return the place of a float in the order of all floats, 0.0 being number 0."""
    bits = int(np.float64(value).view(np.int64))
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)


class Worth:
    """Values of the options of each group, and the scale that they are on."""

    scale: Scale

    def __init__(self, compared: list[FloatArray]) -> None:
        self.compared, self.scale = compared, Same()

    def of(self, g: int, options: IntArray) -> FloatArray:
        """Return the values of some options of a group."""
        return self.compared[g][options]


class Same:
    """Values of the view are those of the problem."""

    def within(self, claim: float) -> float:
        """See `Scale`."""
        return claim

    def above(self, value: float) -> float:
        """See `Scale`."""
        return value


class Through:
    """Values of the problem are an increasing function of another scale."""

    def __init__(self, outer: Composed, problem: MonotoneProblem, inner: Scale) -> None:
        self.outer, self.problem, self.inner = outer, problem, inner
        ends = outer.inner(np.stack([problem.lower, problem.upper]))
        self.low, self.high = float(ends[0]), float(ends[1])

    def within(self, claim: float) -> float:
        """See `Scale`."""
        last = last_true(self.outer, lambda value: value <= claim, self.low, self.high)
        if last < self.low:
            return -math.inf
        return BEYOND_ALL if last == self.high else self.inner.within(last)

    def above(self, value: float) -> float:
        """See `Scale`."""
        if value == -math.inf:
            return value
        above = min(self.high, max(self.low, self.inner.above(value)))
        return value_at(self.outer, math.ceil(above) if self.outer.inner.is_integral else above)


class _Logarithms(Worth):
    """Whole numbers above ``2**bits`` times logarithms, counted from the best of each group.

    A zero is worth less than all other options of all groups together.
    """

    def __init__(self, terms: list[list[FloatArray]], sizes: list[int], bits: int) -> None:
        self.bits, self.factors = bits, sum(map(len, terms))
        self.terms = [t or [np.ones(size)] for t, size in zip(terms, sizes, strict=True)]
        tops = [
            sum(log_bounds(float(t.max()), bits)[1] for t in g if t.max() > 0) for g in self.terms
        ]
        lows = [
            sum(log_bounds(float(t[t > 0].min()), bits)[0] for t in g if t.max() > 0)
            for g in self.terms
        ]
        self.tops, self.top = tops, sum(tops)
        self.range = sum(tops) - sum(lows)
        self.zero = -(self.range + 10 * self.factors + 10)
        self.scale = self
        self.compared = [
            t[0] if len(t) == 1 else self._logs(g, np.arange(len(t[0])))
            for g, t in enumerate(self.terms)
        ]

    @property
    def is_exact(self) -> bool:
        """Whether all sums of the view are whole numbers of exact size."""
        return -self.zero * len(self.terms) < BIGGEST_EXACT and self.bits < 50

    def of(self, g: int, options: IntArray) -> FloatArray:
        return self._logs(g, options)

    def _logs(self, g: int, options: IntArray) -> FloatArray:
        total, zero = np.zeros(len(options)), np.zeros(len(options), dtype=bool)
        for table in self.terms[g]:
            distinct, places = np.unique(table[options], return_inverse=True)
            logs = [log_bounds(float(v), self.bits)[1] if v > 0 else 0 for v in distinct]
            total += np.array(logs, dtype=np.float64)[places]
            zero |= table[options] == 0
        return np.where(zero, float(self.zero), total - float(self.tops[g]))

    def within(self, claim: float) -> float:
        if claim < 0:
            return -math.inf
        if math.isinf(claim):
            return BEYOND_ALL
        nothing = -self.range - 1
        if claim == 0:
            return float(nothing)
        slack = rounding_units(self.factors, self.bits)
        return float(max(nothing, log_bounds(claim, self.bits)[0] - self.top - slack))

    def above(self, value: float) -> float:
        if value <= -self.range - 1:
            return 0.0 if value > -math.inf else value
        logarithm = (value + self.top) / 2.0**self.bits
        if logarithm > _LARGEST_LOG:
            return math.inf
        claim, step = math.exp(logarithm), 2.0**-52
        while self.within(claim) < value:
            claim, step = claim * (1 + step), 2 * step
        return claim


def logarithmic(terms: list[list[FloatArray]], sizes: list[int]) -> Worth | None:
    """Return the logarithms of a product with as many digits as leave all sums exact."""
    bits = math.ceil(math.log2(max(1, sum(map(len, terms))) / _LOG_ERROR))
    for fewer in range(max(1, bits - _FEWEST_BITS)):
        worth = _Logarithms(terms, sizes, bits - fewer)
        if worth.is_exact:
            return worth
    return None


def rounding_units(factors: int, bits: int) -> int:
    """Return more than what roundings of a product add to ``2**bits`` times its logarithm."""
    return 1 + (factors << bits >> 52)


def outward_logs(table: FloatArray, side: int) -> FloatArray:
    """Return whole logarithms, rounded down for limits from above, else up; 0 of a zero."""
    distinct, places = np.unique(table, return_inverse=True)
    end = 0 if side > 0 else 1
    logs = [log_bounds(float(v), ROW_BITS)[end] if v > 0 else 0 for v in distinct]
    return np.array(logs, dtype=np.float64)[places]
