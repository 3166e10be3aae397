"""Engine ``enumerate``: every point of a small box, in batches; the oracle of the tests.

Batches are screened with fast, slightly inexact arithmetic; whatever could be as good as the
incumbent is then judged by the problem itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem, Problem
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.solvers.base import Outcome, Search
from moe2opt.solvers.ceiling import ceiling

#: Boxes with more points are refused.
MOST_POINTS = 2**22

#: Entries of the largest temporary array, and points per batch at most.
_ENTRIES = 2_000_000
_BATCH = 4096

#: Points of the first batch, at most, and seconds that one should take.
_FIRST_BATCH, _PAUSE_S = 64, 0.1

#: Experts whose subsets share one table.
_BITS = 8

#: Relative error allowed for when a batch is screened.
_ROUNDING = 1e-11


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some points of the box.

    Attributes
    ----------
    points
        ``(B, n)`` solutions.
    values
        ``(B,)`` objective up to `error`.
    possible
        ``(B,)`` False where a constraint is clearly violated.
    error
        Bound on the error of `values`; 0 where they are exact.
    """

    points: IntArray
    values: FloatArray
    possible: BoolArray
    error: float


def enumerate_all(problem: Problem, search: Search) -> Outcome:
    """Try every point; the bound is the optimum when no limit intervenes.

    Raises
    ------
    InputError
        When the box has more than `MOST_POINTS` points.
    """
    count = point_count(problem)
    if count > MOST_POINTS:
        raise InputError(f"enumerate: {count:.6g} points are more than {MOST_POINTS}")
    search.offer_start()
    search.improve_bound(ceiling(problem))
    for batch in _batches(problem, _Pace(search).allowance):
        limit = search.limit_reached()
        if limit is not None:
            return Outcome(bound=search.bound, limit=limit)
        _examine(batch, search)
        search.nodes += len(batch.points)
        search.tick()
    return Outcome(bound=search.objective)


def point_count(problem: Problem) -> float:
    """Return the number of points of the box: 2**N, the product of option counts, or of levels."""
    if isinstance(problem, MonotoneProblem):
        return float(np.prod((problem.upper - problem.lower + 1).astype(np.float64)))
    if problem.kind == "facility":
        return float(np.exp2(problem.size))
    return float(np.prod(np.diff(problem.offsets).astype(np.float64)))  # type: ignore[union-attr]


class _Pace:
    """How many points to take at a time: few where an oracle takes long, so that limits are met."""

    def __init__(self, search: Search) -> None:
        self.search, self.count, self.last_s = search, _FIRST_BATCH, search.time_s

    def allowance(self) -> int:
        """Return how many points the next batch may hold."""
        now_s = self.search.time_s
        took_s, self.last_s = now_s - self.last_s, now_s
        if took_s < _PAUSE_S / 2:
            self.count = min(_BATCH, 2 * self.count)
        elif took_s > _PAUSE_S:
            self.count = max(1, self.count // 2)
        limit = self.search.options.node_limit
        left = self.count if limit is None else limit - self.search.nodes
        return max(1, min(self.count, left))


def _examine(batch: Batch, search: Search) -> None:
    """Offer what could beat the incumbent, best first."""
    worth = batch.possible & (batch.values > search.objective - 2 * batch.error)
    if batch.error > 0:
        worth |= batch.possible & (batch.values >= search.objective)
    for b in np.flatnonzero(worth)[np.argsort(-batch.values[worth], kind="stable")]:
        if batch.values[b] + 2 * batch.error < search.objective:
            return
        if batch.error == 0 and batch.values[b] <= search.objective:
            return
        search.offer(batch.points[b], "E")


def _batches(problem: Problem, allowance: Callable[[], int]) -> Iterator[Batch]:
    screen, shape = _screen(problem)
    total, first = math.prod(shape), 0
    strides = np.array([math.prod(shape[d + 1 :]) for d in range(len(shape))])
    while first < total:
        last = min(total, first + allowance())
        yield screen(np.arange(first, last)[:, None] // strides % np.array(shape))
        first = last


def _screen(problem: Problem) -> tuple[Callable[[IntArray], Batch], tuple[int, ...]]:
    """Return the function that turns digits into a batch, and the number of values per digit."""
    if isinstance(problem, FacilityProblem):
        return _facility_screen(problem), (2,) * problem.size
    if isinstance(problem, MultipleChoiceProblem):
        return _choice_screen(problem), tuple(len(options) for options in problem.values)
    assert isinstance(problem, MonotoneProblem)
    levels = (problem.upper - problem.lower + 1).tolist()
    return lambda digits: _monotone_batch(problem, problem.lower + digits), tuple(levels)


def _facility_screen(problem: FacilityProblem) -> Callable[[IntArray], Batch]:
    largest = problem.weighted.max(axis=1).sum() + problem.fixed.sum()
    error = _error(problem, float(largest))
    tables = _subset_tables(problem.weighted)
    step = max(1, _ENTRIES // max(1, problem.clusters))

    def screen(points: IntArray) -> Batch:
        possible = _within(points @ problem.costs.T, problem.limits)
        for group in problem.groups:
            possible &= points[:, group].sum(axis=1) <= 1
        for cover in problem.covers:
            possible &= points[:, cover].any(axis=1)
        values = -(points @ problem.fixed)
        rows = np.flatnonzero(possible)
        for k in range(0, len(rows), step):
            values[rows[k : k + step]] += _served(points[rows[k : k + step]], tables)
        return Batch(points, values, possible, error)

    return screen


def _subset_tables(weighted: FloatArray) -> list[FloatArray]:
    """Return, for every `_BITS` experts, the ``(2**bits, C)`` best values of all their subsets."""
    tables = []
    for first in range(0, weighted.shape[1], _BITS):
        table = np.zeros((1, len(weighted)))
        for column in weighted[:, first : first + _BITS].T:
            table = np.concatenate([table, np.maximum(table, column)])
        tables.append(table)
    return tables


def _served(points: IntArray, tables: list[FloatArray]) -> FloatArray:
    """Return what ``(B, N)`` 0/1 points are worth, opening costs aside."""
    best = np.zeros((len(points), tables[0].shape[1]))
    for t, table in enumerate(tables):
        part = points[:, t * _BITS : (t + 1) * _BITS]
        np.maximum(best, table[part @ (1 << np.arange(part.shape[1]))], out=best)
    return np.asarray(best.sum(axis=1))


def _choice_screen(problem: MultipleChoiceProblem) -> Callable[[IntArray], Batch]:
    largest = sum(float(np.abs(options).max()) for options in problem.values)
    error = _error(problem, largest)

    def screen(points: IntArray) -> Batch:
        picked = problem.offsets[:-1] + points
        used = problem.costs[:, picked].sum(axis=2).T
        values = np.asarray(problem.flat_values[picked].sum(axis=1))
        return Batch(points, values, _within(used, problem.limits), error)

    return screen


def _monotone_batch(problem: MonotoneProblem, points: IntArray) -> Batch:
    values = problem.objective_values(points)
    above, below = problem.constraint_values(points), -problem.reverse_values(points)
    possible = (above <= _noise(above)).all(axis=1) & (below <= _noise(below)).all(axis=1)
    finite = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    return Batch(points, values, np.asarray(possible), _ROUNDING * float(finite))


def _error(problem: FacilityProblem | MultipleChoiceProblem, magnitude: float) -> float:
    exact = problem.is_integral and magnitude < 2.0**53
    return 0.0 if exact else _ROUNDING * magnitude


def _within(used: FloatArray, limits: FloatArray) -> BoolArray:
    return np.asarray((used <= limits + _ROUNDING * np.maximum(1.0, np.abs(limits))).all(axis=1))


def _noise(values: FloatArray) -> FloatArray:
    """Return the rounding error to expect in each column of oracle values."""
    finite = np.where(np.isfinite(values), np.abs(values), 0.0)
    return np.asarray(_ROUNDING * finite.max(axis=0, initial=0.0))
