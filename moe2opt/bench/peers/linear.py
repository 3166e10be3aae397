"""What linear peers share: sparse matrices of the strong models, and Nemhauser-Wolsey cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array, hstack, vstack

from moe2opt.bench.peers import TooLargeError, UnsupportedError
from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem, Problem
from moe2opt.result import FloatArray, IntArray

#: Columns above which a strong model is not built: HiGHS needs about a kilobyte for each.
MOST_COLUMNS = 4_000_000

#: Blocks of clusters that share one variable in a model with cuts.
BLOCKS = 50

#: A cut counts as violated above this share of its block's value.
VIOLATION = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Matrices:
    """Maximise ``objective v`` with ``row_lower <= rows v <= row_upper``, v in [0, 1].

    Attributes
    ----------
    objective, rows, row_lower, row_upper
        ``(n,)``, ``(m, n)`` and ``(m,)``.
    binary
        The first `binary` columns are integer; the others may be continuous.
    """

    objective: FloatArray
    rows: csr_array[Any]
    row_lower: FloatArray
    row_upper: FloatArray
    binary: int


def strong_model(problem: Problem) -> Matrices:
    """Return the strong formulation, without a modelling language.

    Raises
    ------
    UnsupportedError
        For a `MonotoneProblem`.
    TooLargeError
        Above `MOST_COLUMNS` columns.
    """
    if isinstance(problem, FacilityProblem):
        return _facility(problem)
    if isinstance(problem, MultipleChoiceProblem):
        return _choice(problem)
    raise UnsupportedError("no linear model of a monotone problem")


def solution_of(problem: Problem, columns: FloatArray) -> IntArray:
    """Return the solution that column values of `strong_model` stand for."""
    if isinstance(problem, FacilityProblem):
        return np.asarray(columns[: problem.size] > 0.5, dtype=np.int64)
    assert isinstance(problem, MultipleChoiceProblem)
    parts = np.split(columns, problem.offsets[1:-1])
    return np.array([int(np.argmax(part)) for part in parts], dtype=np.int64)


def side_rows(problem: FacilityProblem) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return dense rows over the experts and their sides: budgets, groups, covers."""
    n = problem.size
    sets = np.zeros((len(problem.groups) + len(problem.covers), n))
    for row, members in zip(sets, [*problem.groups, *problem.covers], strict=True):
        row[members] = 1.0
    groups, covers = len(problem.groups), len(problem.covers)
    lower = np.concatenate([np.full(len(problem.limits) + groups, -np.inf), np.ones(covers)])
    upper = np.concatenate([problem.limits, np.ones(groups), np.full(covers, np.inf)])
    return np.vstack([problem.costs.reshape(-1, n), sets]), lower, upper


def _facility(problem: FacilityProblem) -> Matrices:
    n, clusters = problem.size, problem.clusters
    cluster, expert = np.nonzero(problem.weighted > 0)
    pairs = len(cluster)
    if n + pairs > MOST_COLUMNS:
        raise TooLargeError(f"the strong model has {n + pairs} columns")
    each, ones = np.arange(pairs), np.ones(pairs)
    link = hstack(
        [
            coo_array((-ones, (each, expert)), shape=(pairs, n)),
            coo_array((ones, (each, each)), shape=(pairs, pairs)),
        ]
    )
    served = coo_array((ones, (cluster, n + each)), shape=(clusters, n + pairs))
    dense, lower, upper = side_rows(problem)
    side = hstack([csr_array(dense), csr_array((len(dense), pairs))])
    return Matrices(
        objective=np.concatenate([-problem.fixed, problem.weighted[cluster, expert]]),
        rows=vstack([link, served, side], format="csr"),
        row_lower=np.concatenate([np.full(pairs + clusters, -np.inf), lower]),
        row_upper=np.concatenate([np.zeros(pairs), np.ones(clusters), upper]),
        binary=n,
    )


def _choice(problem: MultipleChoiceProblem) -> Matrices:
    options = len(problem.flat_values)
    group = np.repeat(np.arange(problem.size), np.diff(problem.offsets))
    shape = (problem.size, options)
    one = coo_array((np.ones(options), (group, np.arange(options))), shape=shape)
    rows = len(problem.limits)
    return Matrices(
        objective=problem.flat_values,
        rows=vstack([one, csr_array(problem.costs.reshape(rows, options))], format="csr"),
        row_lower=np.concatenate([np.ones(problem.size), np.full(rows, -np.inf)]),
        row_upper=np.concatenate([np.ones(problem.size), problem.limits]),
        binary=options,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """``theta[block] <= constant + coefficients y``."""

    block: int
    coefficients: FloatArray
    constant: float


class CutFamily:
    """Closed-form Nemhauser-Wolsey cuts of a facility problem, aggregated over blocks of clusters.

    Attributes
    ----------
    ceilings
        ``(B,)`` largest value of each block.
    scale
        What values are multiplied by, so that the objective is of the order of a thousand.
    opening
        ``(N,)`` opening costs, multiplied likewise.
    """

    def __init__(self, problem: FacilityProblem, blocks: int = BLOCKS) -> None:
        values = problem.weighted
        order = np.argsort(values.argmax(axis=1), kind="stable")
        total = float(values.max(axis=1).sum())
        self.scale = 1000.0 / total if total > 0 else 1.0
        self.opening = problem.fixed * self.scale
        self.values = values[order] * self.scale
        self.starts = np.unique(np.linspace(0, len(order), blocks + 1).astype(np.int64)[:-1])
        self.ranking = np.argsort(-self.values, axis=1, kind="stable").astype(np.int32)
        self.ranked = np.take_along_axis(self.values, self.ranking, axis=1)
        self.ceilings = np.add.reduceat(self.values.max(axis=1), self.starts)

    @property
    def blocks(self) -> int:
        """Number of blocks B."""
        return len(self.starts)

    def worth(self, y: FloatArray | IntArray) -> FloatArray:
        """Return the ``(B,)`` value of each block at a 0/1 or fractional `y`."""
        thresholds = self._thresholds(y)
        excess = np.maximum(self.values - thresholds[:, None], 0.0) @ y
        return np.asarray(np.add.reduceat(thresholds + excess, self.starts))

    def violated(self, y: FloatArray, theta: FloatArray) -> list[Cut]:
        """Return the cut of every block whose `theta` exceeds its value at `y`."""
        thresholds = self._thresholds(y)
        excess = np.maximum(self.values - thresholds[:, None], 0.0)
        worth = np.add.reduceat(thresholds + excess @ y, self.starts)
        wanted = np.flatnonzero(theta > worth + VIOLATION * np.maximum(1.0, worth))
        if not len(wanted):
            return []
        coefficients = np.add.reduceat(excess, self.starts, axis=0)
        constants = np.add.reduceat(thresholds, self.starts)
        return [Cut(int(b), coefficients[b], float(constants[b])) for b in wanted]

    def _thresholds(self, y: FloatArray | IntArray) -> FloatArray:
        """Return the value at which each cluster, filled from its best expert, reaches mass 1."""
        mass = np.cumsum(y[self.ranking], axis=1)
        reached = mass >= 1.0 - 1e-9
        position = reached.argmax(axis=1)
        level = self.ranked[np.arange(len(position)), position]
        return np.where(reached.any(axis=1), level, 0.0)


def rounded(problem: FacilityProblem, y: FloatArray) -> IntArray:
    """Return a solution by taking experts in decreasing `y` while budgets and groups allow it.

    Where opening costs, only those that are mostly taken.
    """
    least = 0.0 if problem.opening is None else 0.5
    x = np.zeros(problem.size, dtype=np.int64)
    left = problem.limits.copy()
    group = np.full(problem.size, -1)
    for g, members in enumerate(problem.groups):
        group[members] = g
    taken: set[int] = set()
    for i in np.argsort(-y, kind="stable"):
        if y[i] <= least or (problem.costs[:, i] > left).any() or group[i] in taken:
            continue
        x[i] = 1
        left = left - problem.costs[:, i]
        if group[i] >= 0:
            taken.add(int(group[i]))
    return x
