"""Instances of the three problems with hostile numbers, and what is true of them.

An instance knows its data, its `moe2opt` problem and, by trying every point in exact rational
arithmetic, its truth. The truth shares no arithmetic with the package: numbers are Python
integers over a common power of two, rounded once at the end as `docs/reference/problems.md` says.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
from campaign.hostile import budget, palette, rounded_sum

import moe2opt as mo

Point = tuple[int, ...]


class ExactRow:
    """Floats as integers over one power of two, whose sums are exact and rounded once."""

    def __init__(self, terms: Sequence[float]) -> None:
        ratios = [float(term).as_integer_ratio() for term in terms]
        self.one = max((d for _, d in ratios), default=1)
        self.terms = [n * (self.one // d) for n, d in ratios]

    def total(self, picks: Sequence[int]) -> float:
        """Return the correctly rounded sum of the picked terms."""
        return quotient(sum(self.terms[i] for i in picks), self.one)


def quotient(numerator: int, denominator: int) -> float:
    """Return the correctly rounded quotient, infinite where it overflows."""
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def limit_of(row: Sequence[float], bound: float) -> float:
    """Return what usage is compared with: whole rows are exact, others have their slack."""
    whole = all(a == math.floor(a) and abs(a) <= 2.0**53 for a in row)
    if math.isinf(bound) or (whole and bound == math.floor(bound)):
        return bound
    return bound + 1e-9 * max(1.0, abs(bound))


class Instance:
    """Data, problem and truth."""

    family = ""

    def problem(self) -> Any:
        """Return the problem; may raise `InputError` for numbers that are refused."""
        raise NotImplementedError

    def points(self) -> Iterator[Point]:
        """Yield points among which is every point that could be best."""
        raise NotImplementedError

    def value(self, x: Point) -> float:
        """Return the objective as it is defined."""
        raise NotImplementedError

    def feasible(self, x: Point) -> bool:
        """Tell whether a point keeps all limits."""
        raise NotImplementedError

    def without(self, rows: Sequence[int], covers: Sequence[int]) -> Instance:
        """Return the instance in which only these budget rows and covers hold (and the groups)."""
        raise NotImplementedError

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of budget rows and covers (constraints and reverse constraints)."""
        raise NotImplementedError

    @cached_property
    def best(self) -> float:
        """The optimum, ``-inf`` where no point is feasible."""
        return max((self.value(x) for x in self.points() if self.feasible(x)), default=-math.inf)

    @cached_property
    def overflows(self) -> bool:
        """Whether some sum of the data is near or beyond the largest float: may be refused."""
        return False


@dataclass(frozen=True)
class Facility(Instance):
    """Data of a facility problem."""

    values: list[list[float]]
    costs: list[list[float]]
    budgets: list[float]
    weights: list[float] | None
    groups: list[list[int]]
    covers: list[list[int]]
    size: int
    opening: list[float] | None = None
    family: str = field(default="facility", init=False)

    def problem(self) -> Any:
        return mo.FacilityProblem(
            values=np.array(self.values, dtype=float).reshape(-1, self.size),
            costs=np.array(self.costs, dtype=float).reshape(-1, self.size),
            budgets=self.budgets,
            weights=self.weights,
            groups=self.groups,
            covers=self.covers,
            opening=self.opening,
        )

    def points(self) -> Iterator[Point]:
        return itertools.product((0, 1), repeat=self.size)

    @cached_property
    def _weighted(self) -> list[list[float]]:
        weights = self.weights or [1.0] * len(self.values)
        return [[v * w for v in row] for row, w in zip(self.values, weights, strict=True)]

    @cached_property
    def _rows(self) -> list[tuple[ExactRow, float]]:
        pairs = zip(self.costs, self.budgets, strict=True)
        return [(ExactRow(row), limit_of(row, bound)) for row, bound in pairs]

    @cached_property
    def _terms(self) -> ExactRow:
        opening = self.opening or [0.0] * self.size
        return ExactRow([*(v for row in self._weighted for v in row), *opening])

    def picks(self, x: Point) -> list[int]:
        """Return the places of the chosen experts in a row."""
        return [i for i, taken in enumerate(x) if taken]

    def value(self, x: Point) -> float:
        chosen = self.picks(x)
        if not chosen:
            return 0.0
        starts = range(0, len(self._terms.terms), self.size)
        *rows, opening = (self._terms.terms[start : start + self.size] for start in starts)
        best = (max(row[i] for i in chosen) for row in rows)
        return quotient(sum(best) - sum(opening[i] for i in chosen), self._terms.one)

    def feasible(self, x: Point) -> bool:
        chosen = self.picks(x)
        return (
            all(sum(x[i] for i in group) <= 1 for group in self.groups)
            and all(any(x[i] for i in cover) for cover in self.covers)
            and all(row.total(chosen) <= limit for row, limit in self._rows)
        )

    def row(self, k: int) -> list[float]:
        """Return the terms of a budget row."""
        return self.costs[k]

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.budgets), len(self.covers)

    def without(self, rows: Sequence[int], covers: Sequence[int]) -> Facility:
        return replace(
            self,
            costs=[row for k, row in enumerate(self.costs) if k in rows],
            budgets=[limit for k, limit in enumerate(self.budgets) if k in rows],
            covers=[cover for k, cover in enumerate(self.covers) if k in covers],
        )

    def with_budget(self, k: int, limit: float) -> Facility:
        """Return the instance with another limit of one row."""
        return replace(self, budgets=[*self.budgets[:k], limit, *self.budgets[k + 1 :]])

    @cached_property
    def overflows(self) -> bool:
        flat = [v for row in self._weighted for v in row]
        worst = [flat, *self.costs, self.opening or []]
        return any(rounded_or_inf(terms) > 9e279 for terms in worst)


@dataclass(frozen=True)
class Choice(Instance):
    """Data of a multiple-choice problem."""

    values: list[list[float]]
    usage: list[list[list[float]]]
    budgets: list[float]
    family: str = field(default="choice", init=False)

    def problem(self) -> Any:
        tables = [
            np.array(table, dtype=float).reshape(len(group), len(self.budgets))
            for table, group in zip(self.usage, self.values, strict=True)
        ]
        return mo.MultipleChoiceProblem(values=self.values, usage=tables, budgets=self.budgets)

    def points(self) -> Iterator[Point]:
        return itertools.product(*(range(len(group)) for group in self.values))

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *itertools.accumulate(len(group) for group in self.values)]

    @cached_property
    def _terms(self) -> ExactRow:
        return ExactRow([v for group in self.values for v in group])

    @cached_property
    def _costs(self) -> list[list[float]]:
        tables = [option for table in self.usage for option in table]
        return [[option[k] for option in tables] for k in range(len(self.budgets))]

    @cached_property
    def _rows(self) -> list[tuple[ExactRow, float]]:
        pairs = zip(self._costs, self.budgets, strict=True)
        return [(ExactRow(row), limit_of(row, bound)) for row, bound in pairs]

    def picks(self, x: Point) -> list[int]:
        """Return the places of the chosen options in a row."""
        return [start + o for start, o in zip(self._starts, x, strict=False)]

    def value(self, x: Point) -> float:
        return self._terms.total(self.picks(x))

    def feasible(self, x: Point) -> bool:
        picks = self.picks(x)
        return all(row.total(picks) <= limit for row, limit in self._rows)

    def row(self, k: int) -> list[float]:
        """Return the terms of a budget row."""
        return self._costs[k]

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.budgets), 0

    def without(self, rows: Sequence[int], covers: Sequence[int]) -> Choice:
        return replace(
            self,
            usage=[[[option[k] for k in rows] for option in table] for table in self.usage],
            budgets=[self.budgets[k] for k in rows],
        )

    def with_budget(self, k: int, limit: float) -> Choice:
        """Return the instance with another limit of one row."""
        return replace(self, budgets=[*self.budgets[:k], limit, *self.budgets[k + 1 :]])

    @cached_property
    def overflows(self) -> bool:
        worst = [[v for group in self.values for v in group], *self._costs]
        return any(rounded_or_inf(terms) > 9e279 for terms in worst)


def rounded_or_inf(terms: Sequence[float]) -> float:
    """Return the sum of the sizes, infinite where it (or a term) overflows."""
    return rounded_sum([abs(t) for t in terms]) if all(map(math.isfinite, terms)) else math.inf


@dataclass(frozen=True)
class Terms:
    """A separable increasing function: one table of values or one slope per coordinate.

    A coordinate x counts its table's entry (or its slope times x, capped) above the lower corner.
    The sum is rounded once, so the function increases also in floating point.
    """

    lower: Point
    tables: tuple[Any, ...]
    constant: float = 0.0

    def parts(self, x: Sequence[int]) -> list[float]:
        """Return the terms of the sum."""
        found = [self.constant]
        for low, table, place in zip(self.lower, self.tables, x, strict=True):
            step = int(place) - low
            if isinstance(table, tuple):
                found.append(table[step])
            else:
                slope, every, cap = table
                found.append(slope * float(min(step // every, cap)))
        return found

    def at(self, x: Sequence[int]) -> float:
        """Return the value at a point."""
        return math.fsum(self.parts(x))

    def __call__(self, points: Any) -> Any:
        """Return one value per row."""
        return np.array([self.at(point) for point in points.tolist()])


@dataclass(frozen=True)
class Largest:
    """The largest of several increasing functions."""

    pieces: tuple[Terms, ...]

    def at(self, x: Sequence[int]) -> float:
        """Return the value at a point."""
        return max(piece.at(x) for piece in self.pieces)

    def __call__(self, points: Any) -> Any:
        """Return one value per row."""
        return np.array([self.at(point) for point in points.tolist()])


@dataclass(frozen=True)
class Gap:
    """F(x, y) = gain(x) - price(y), rounded once."""

    gain: Terms
    price: Terms

    def of(self, x: Sequence[int], y: Sequence[int]) -> float:
        """Return the value at a pair of points."""
        return math.fsum([*self.gain.parts(x), *(-p for p in self.price.parts(y))])

    def at(self, x: Sequence[int]) -> float:
        """Return the value at a point."""
        return self.of(x, x)

    def __call__(self, upper: Any, lower: Any) -> Any:
        """Return one value per pair of rows."""
        pairs = zip(upper.tolist(), lower.tolist(), strict=True)
        return np.array([self.of(x, y) for x, y in pairs])


@dataclass(frozen=True)
class Monotone(Instance):
    """Data of a monotone problem; its first coordinate may be wide."""

    lower: Point
    upper: Point
    objective: Any
    constraints: tuple[Terms, ...]
    reverse: tuple[Terms, ...]
    integral: bool
    wide: bool
    family: str = field(default="monotone", init=False)

    def problem(self) -> Any:
        mixed = isinstance(self.objective, Gap)
        return mo.MonotoneProblem(
            lower=self.lower,
            upper=self.upper,
            constraints=self.constraints,
            reverse_constraints=self.reverse,
            integral=self.integral,
            **{"mixed_objective" if mixed else "objective": self.objective},
        )

    def points(self) -> Iterator[Point]:
        ranges = [range(a, b + 1) for a, b in zip(self.lower, self.upper, strict=True)]
        if not self.wide:
            yield from itertools.product(*ranges)
            return
        # The objective increases, so of all points that differ in the first coordinate only, the
        # last one that keeps the constraints is best, and meets the reverse ones if any does.
        for rest in itertools.product(*ranges[1:]):
            low, high = self.lower[0] - 1, self.upper[0]
            while low < high:
                middle = (low + high + 1) // 2
                kept = all(g.at((middle, *rest)) <= 0 for g in self.constraints)
                low, high = (middle, high) if kept else (low, middle - 1)
            if low >= self.lower[0]:
                yield (low, *rest)

    def value(self, x: Point) -> float:
        return float(self.objective.at(x))

    def feasible(self, x: Point) -> bool:
        kept = all(g.at(x) <= 0 for g in self.constraints)
        return kept and all(h.at(x) >= 0 for h in self.reverse)

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.constraints), len(self.reverse)

    def without(self, rows: Sequence[int], covers: Sequence[int]) -> Monotone:
        return replace(
            self,
            constraints=tuple(self.constraints[k] for k in rows),
            reverse=tuple(self.reverse[k] for k in covers),
        )


def draw(seed: int) -> Instance:
    """Return the instance of a seed."""
    rng = Random(f"campaign {seed}")
    makers: tuple[Callable[[Random], Instance], ...] = (_facility, _facility, _choice, _monotone)
    return makers[seed % len(makers)](rng)


def _facility(rng: Random) -> Facility:
    servers = rng.choice((1, 1, 1, 2, 3))
    each = rng.randrange(1, 8 // servers + 1)
    size = servers * each
    value, cost = palette(rng), palette(rng)
    clusters = rng.choice((0, 1, 1, 2, 3, 4))
    values = [[value() for _ in range(each)] * servers for _ in range(clusters)]
    plain = rng.choice((0, 1, 1, 2, 3))
    costs = [[cost() for _ in range(size)] for _ in range(plain)]
    if rng.random() < 0.5:  # the same expert costs the same on every server
        costs = [row[:each] * servers for row in costs]
    budgets = [_row_budget(rng, row) for row in costs]
    if servers > 1:  # one row per server, all alike
        memory = [cost() for _ in range(each)]
        limit = _row_budget(rng, memory)
        for s in range(servers):
            costs.append([0.0] * (s * each) + memory + [0.0] * ((servers - s - 1) * each))
            budgets.append(limit if rng.random() < 0.9 else limit + 1.0)
    if servers == 1 and rng.random() < 0.4:
        _repeat(rng, values, costs, size)
    if costs and rng.random() < 0.2:
        costs.append(costs[0])
        budgets.append(rng.choice((budgets[0], _row_budget(rng, costs[0]))))
    weight, cost = palette(rng), rng.choice((value, palette(rng)))
    opening = [cost() for _ in range(each)] * servers if rng.random() < 0.4 else None
    return Facility(
        values,
        costs,
        budgets,
        [weight() for _ in range(clusters)] if rng.random() < 0.4 else None,
        _sets(rng, size, 3) if rng.random() < 0.4 else [],
        _sets(rng, size, 2) if rng.random() < 0.25 else [],
        size,
        opening,
    )


def _row_budget(rng: Random, row: Sequence[float]) -> float:
    some = rng.sample(row, rng.randrange(len(row) + 1))
    return budget(rng, some, rounded_sum(row))


def _repeat(rng: Random, values: list[list[float]], costs: list[list[float]], size: int) -> None:
    """Let one expert equal another, in value or also in cost, or cost nothing."""
    a, b = rng.randrange(size), rng.randrange(size)
    for row in values:
        row[a] = row[b]
    if rng.random() < 0.6:
        for row in costs:
            row[a] = row[b]
    if rng.random() < 0.3:
        for row in costs:
            row[b] = 0.0


def _sets(rng: Random, size: int, most: int) -> list[list[int]]:
    number = rng.randrange(1, most + 1)
    return [sorted(rng.sample(range(size), rng.randrange(1, size + 1))) for _ in range(number)]


def _choice(rng: Random) -> Choice:
    value, cost = palette(rng), palette(rng)
    sign = rng.choice(((1,), (-1,), (-1, 1), (1,)))
    forbidden = rng.choice((None, None, None, -1e9, -1e12, -1e16))
    rows = rng.choice((0, 1, 1, 2, 3))
    values, usage = [], []
    for _ in range(rng.randrange(1, 5)):
        options = rng.randrange(1, 5)
        worth = [value() * rng.choice(sign) for _ in range(options)]
        table = [[cost() for _ in range(rows)] for _ in range(options)]
        if forbidden is not None and rng.random() < 0.7:
            worth[0], table[0] = forbidden, [0.0] * rows
        if rng.random() < 0.15:
            worth = [worth[0]] * options
        if rng.random() < 0.15:
            table = [table[0]] * options
        if values and rng.random() < 0.2:
            worth, table = values[0], usage[0]
        values.append(worth)
        usage.append(table)
    budgets = []
    for k in range(rows):
        use = [rng.choice(table)[k] for table in usage]
        largest = rounded_sum([max(option[k] for option in table) for table in usage])
        budgets.append(budget(rng, use, largest))
    return Choice(values, usage, budgets)


def _monotone(rng: Random) -> Monotone:
    size = rng.choice((1, 2, 2, 3, 4))
    wide = rng.random() < 0.2
    origin = rng.choice((0, 0, -3, 7, 2**31, -(2**40), 2**52))
    lower = tuple(origin + rng.randrange(3) for _ in range(size))
    spans = [rng.randrange(5 if size < 4 else 3) for _ in range(size)]
    if wide:
        spans = [2 ** rng.randrange(8, 34) + rng.randrange(3), *spans[1:3]]
        lower = lower[: len(spans)]
    upper = tuple(a + s for a, s in zip(lower, spans, strict=True))
    kind = rng.choice(("terms", "terms", "largest", "gap"))
    objective: Any = _terms(rng, lower, spans, wide)
    if kind == "largest":
        objective = Largest((objective, _terms(rng, lower, spans, wide)))
    if kind == "gap" and not wide:
        objective = Gap(objective, _terms(rng, lower, spans, wide))
    constraints = tuple(
        _cut(rng, lower, upper, spans, wide) for _ in range(rng.choice((0, 1, 1, 2)))
    )
    reverse = tuple(_cut(rng, lower, upper, spans, wide) for _ in range(rng.choice((0, 0, 1))))
    drawn = Monotone(lower, upper, objective, constraints, reverse, False, wide)
    corners = (lower, upper)
    whole = not wide and all(
        Fraction(v).denominator == 1 and abs(v) <= 2**53
        for piece in _pieces(objective)
        for x in corners
        for v in piece.parts(x)
    )
    if whole and _all_whole(objective):
        return Monotone(lower, upper, objective, constraints, reverse, rng.random() < 0.7, wide)
    return drawn


def _pieces(objective: Any) -> tuple[Terms, ...]:
    if isinstance(objective, Largest):
        return objective.pieces
    return (objective.gain, objective.price) if isinstance(objective, Gap) else (objective,)


def _all_whole(objective: Any) -> bool:
    tables = [table for piece in _pieces(objective) for table in piece.tables]
    return all(isinstance(table, tuple) and all(v == int(v) for v in table) for table in tables)


def _terms(rng: Random, lower: Point, spans: Sequence[int], wide: bool) -> Terms:
    """Return an increasing function; a wide first coordinate has a slope, the others tables."""
    drawn = palette(rng)

    def draw_one() -> float:
        return min(drawn(), 1e200)

    tables: list[Any] = []
    for axis, span in enumerate(spans):
        if wide and axis == 0:
            slope = draw_one()
            tables.append([slope, rng.choice((1, 1, 3, 1000)), rng.choice((span, span // 2, 2))])
        else:
            tables.append(tuple(sorted(draw_one() for _ in range(span + 1))))
    return Terms(lower, tuple(tables), -draw_one() if rng.random() < 0.2 else 0.0)


def _cut(rng: Random, lower: Point, upper: Point, spans: Sequence[int], wide: bool) -> Terms:
    """Return an increasing function that is zero, or nearly so, somewhere in the box."""
    whole = _terms(rng, lower, spans, wide)
    place = tuple(rng.randint(a, b) for a, b in zip(lower, upper, strict=True))
    limit = budget(rng, whole.parts(place), whole.at(upper))
    return Terms(lower, whole.tables, max(-1e300, whole.constant - limit))
