"""Hypothesis strategies: tiny instances of the three canonical problems, awkward on purpose.

Integer and real data, ties, duplicate columns, zero and negative budgets, overlapping groups,
covers that clash, boxes away from the origin. Everything is small enough to enumerate, and every
oracle is a dataclass, so that a failing example prints its data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem

#: Factors that turn small integers into data: exact, decimal, periodic, tiny and large.
SCALES = (1.0, 1.0, 1.0, 0.5, 0.1, 1 / 7, 1e-4, 1e5)


@st.composite
def matrices(draw: Any, rows: int, columns: int, low: int = 0, high: int = 9) -> Any:
    """Integer matrices times a scale; half of them repeat some of their columns."""
    base = [
        draw(st.lists(st.integers(low, high), min_size=rows, max_size=rows)) for _ in range(columns)
    ]
    if columns > 1 and draw(st.booleans()):
        picks = draw(st.lists(st.integers(0, columns - 1), min_size=columns, max_size=columns))
        base = [base[k] for k in picks]
    scale = draw(st.sampled_from(SCALES))
    return np.array(base, dtype=np.float64).reshape(columns, rows).T * scale


@st.composite
def budgets_for(draw: Any, largest_use: Any) -> Any:
    """Limits between -1 and a little more than the largest possible use, at tenths of it."""
    tenth = st.sampled_from((-1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 11))
    tenths = draw(st.lists(tenth, min_size=len(largest_use), max_size=len(largest_use)))
    shares = np.array(tenths, dtype=np.float64) / 10
    limits = np.where(shares < 0, -1.0, shares * largest_use)
    return np.floor(limits) if draw(st.booleans()) else limits


def index_sets(size: int, most: int) -> Any:
    """Up to `most` non-empty, possibly overlapping sets of indices."""
    one = st.lists(st.integers(0, size - 1), min_size=1, max_size=size, unique=True)
    return st.lists(one, max_size=most)


@st.composite
def facility_problems(draw: Any, experts: int = 6, clusters: int = 5) -> FacilityProblem:
    """Facility problems with up to `experts` experts."""
    n = draw(st.integers(1, experts))
    c = draw(st.integers(1, clusters))
    rows = draw(st.integers(0, 3))
    costs = draw(matrices(rows, n, 0, 6))
    weights = st.lists(st.integers(0, 4), min_size=c, max_size=c)
    labels = st.lists(st.integers(-1, 2), min_size=n, max_size=n)
    opening = draw(st.booleans()) and draw(matrices(1, n, 0, 12))[0]
    return FacilityProblem(
        values=draw(matrices(c, n)),
        costs=costs,
        budgets=draw(budgets_for(costs.sum(axis=1))),
        weights=draw(st.none() | weights),
        groups=draw(st.none() | labels | index_sets(n, 3)),
        covers=draw(st.just([]) | st.just([]) | index_sets(n, 2)),
        opening=None if opening is False else opening,
    )


@st.composite
def choice_problems(draw: Any, groups: int = 4, options: int = 4) -> MultipleChoiceProblem:
    """Multiple-choice problems with values of both signs."""
    sizes = draw(st.lists(st.integers(1, options), min_size=1, max_size=groups))
    rows = draw(st.integers(0, 3))
    splits = np.cumsum(sizes)[:-1]
    values = draw(matrices(1, sum(sizes), -5, 9))[0]
    usage = draw(matrices(rows, sum(sizes), 0, 6)).T
    tables = np.split(usage, splits)
    largest = np.sum([table.max(axis=0, initial=0.0) for table in tables], axis=0)
    return MultipleChoiceProblem(
        values=np.split(values, splits), usage=tables, budgets=draw(budgets_for(largest))
    )


def weighted_sum(rows: Any, weights: Any) -> Any:
    """Return one sum per row, added in a fixed order whatever the number of rows."""
    terms = (np.asarray(rows) * np.asarray(weights)).reshape(len(rows), -1)
    total = np.zeros(len(terms))
    for column in terms.T:
        total = total + column
    return total


@dataclass(frozen=True)
class Polynomial:
    """``constant + linear·d + dᵀ quadratic d`` in the distance d from `origin`: increasing."""

    origin: tuple[int, ...]
    linear: tuple[float, ...]
    quadratic: tuple[tuple[float, ...], ...]
    constant: float = 0.0

    def __call__(self, points: Any) -> Any:
        """Return one value per row, bit for bit the same alone and in a batch."""
        d = np.asarray(points, dtype=np.float64) - np.array(self.origin)
        curved = weighted_sum(d[:, :, None] * d[:, None, :], self.quadratic)
        return weighted_sum(d, self.linear) + curved + self.constant

    def shifted(self, constant: float) -> Polynomial:
        """Return the same polynomial with another constant."""
        return Polynomial(self.origin, self.linear, self.quadratic, constant)


@dataclass(frozen=True)
class LargestOf:
    """The largest of several increasing functions: increasing, neither convex nor concave."""

    parts: tuple[Polynomial, ...]

    def __call__(self, points: Any) -> Any:
        """Return one value per row."""
        return np.max([part(points) for part in self.parts], axis=0)


@dataclass(frozen=True)
class Difference:
    """F(x, y) = gain(x) - price(y), both increasing: the difference-monotone case."""

    gain: Polynomial
    price: Polynomial

    def __call__(self, upper: Any, lower: Any) -> Any:
        """Return one value per row."""
        return self.gain(upper) - self.price(lower)


@dataclass(frozen=True)
class SoftmaxRatio:
    """Expected quality of a masked softmax, F(x, y) = Σ_c A_c(x) / Z_c(y).

    A_c(x) = Σ e_ci q_ci x_i and Z_c(y) = max(Σ e_ci y_i, min_i e_ci): the floor is exact for every
    non-empty choice and keeps the ratio finite at the empty one, whose value is 0.
    """

    quality: tuple[tuple[float, ...], ...]
    affinity: tuple[tuple[float, ...], ...]

    def __call__(self, upper: Any, lower: Any) -> Any:
        """Return one value per row."""
        total = np.zeros(len(upper))
        for q, e in zip(np.array(self.quality), np.array(self.affinity), strict=True):
            mass = np.maximum(weighted_sum(lower, e), e.min())
            total = total + weighted_sum(upper, e * q) / mass
        return total


@st.composite
def polynomials(draw: Any, origin: tuple[int, ...], scale: float = 1.0) -> Polynomial:
    """Increasing polynomials of degree one or two."""
    n = len(origin)
    row = st.lists(st.sampled_from((1, 2, 0, 3, 4)), min_size=n, max_size=n)
    linear = np.array(draw(row)) * scale
    quadratic = np.array([draw(row) for _ in range(n)]) * scale * draw(st.integers(0, 1))
    return Polynomial(origin, tuple(linear.tolist()), tuple(map(tuple, quadratic.tolist())))


@st.composite
def limits_on(draw: Any, lower: Any, upper: Any, most: int, sign: int) -> list[Polynomial]:
    """Polynomials shifted so that ``<= 0`` (sign 1) or ``>= 0`` (sign -1) cuts the box."""
    functions = []
    for _ in range(draw(st.integers(0, most))):
        function = draw(polynomials(tuple(lower), draw(st.sampled_from(SCALES))))
        top = float(function(np.array([upper]))[0])
        share = draw(st.integers(-1, 9)) / 10 if sign > 0 else draw(st.integers(0, 10)) / 10
        functions.append(function.shifted(-top * share if share >= 0 else 1.0))
    return functions


@st.composite
def monotone_problems(draw: Any, variables: int = 3, levels: int = 4) -> MonotoneProblem:
    """General integer boxes: polynomial, largest-of, difference and softmax objectives."""
    kind = draw(st.sampled_from(["polynomial", "largest", "difference", "softmax"]))
    n = draw(st.sampled_from((variables, 2, 1))) + 2 * (kind == "softmax")
    if kind == "softmax":
        lower, upper = [0] * n, [1] * n
    else:
        lower = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
        spans = draw(st.lists(st.integers(0, levels - 1), min_size=n, max_size=n))
        upper = [a + b for a, b in zip(lower, spans, strict=True)]
    scale = draw(st.sampled_from(SCALES))
    terms = polynomials(tuple(lower), scale)
    data: dict[str, Any] = {}
    if kind == "polynomial":
        data = {"objective": draw(terms), "integral": scale in (1.0, 1e5)}
    elif kind == "largest":
        parts = draw(st.lists(terms, min_size=1, max_size=3))
        data = {"objective": LargestOf(tuple(parts)), "integral": scale in (1.0, 1e5)}
    elif kind == "difference":
        data = {"mixed_objective": Difference(draw(terms), draw(terms))}
    else:
        c = draw(st.integers(1, 3))
        quality = draw(matrices(c, n)) / 10
        affinity = np.exp(draw(matrices(c, n, -3, 3)).clip(-3, 3))
        pair = [tuple(map(tuple, table.tolist())) for table in (quality, affinity)]
        data = {"mixed_objective": SoftmaxRatio(*pair)}
    return MonotoneProblem(
        lower=lower,
        upper=upper,
        constraints=draw(limits_on(lower, upper, 2, 1)),
        reverse_constraints=draw(st.just([]) | limits_on(lower, upper, 1, -1)),
        **data,
    )


def problems() -> Any:
    """Any of the three families, with the monotone views of the first two."""
    return (
        facility_problems()
        | choice_problems()
        | monotone_problems()
        | facility_problems(4, 3).map(lambda problem: problem.as_monotone())
        | choice_problems(3, 3).map(lambda problem: problem.as_monotone())
    )


def all_points(problem: Any) -> Any:
    """Return every point of the box of `problem`, one per row."""
    if isinstance(problem, MonotoneProblem):
        ranges = [range(a, b + 1) for a, b in zip(problem.lower, problem.upper, strict=True)]
    elif isinstance(problem, FacilityProblem):
        ranges = [range(2)] * problem.size
    else:
        ranges = [range(len(options)) for options in problem.values]
    return np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, len(ranges))


def brute_force(problem: Any) -> float:
    """Return the optimum by trying every point, ``-inf`` when none is feasible."""
    values = [problem.evaluate(x) for x in all_points(problem) if problem.is_feasible(x)]
    return max(values, default=-np.inf)
