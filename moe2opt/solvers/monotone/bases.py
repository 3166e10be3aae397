"""Base points of a submodular oracle: the linear relaxation with its planes as cuts.

Steps towards a smaller bound move weights between base points too slowly: on 40 variables they
ended above the bound of the corner. Here the weights are duals of an LP over shares of levels, in
which the planes of a base point (Nemhauser and Wolsey 1981) bound the objective. Its solution,
rounded in several ways, gives the next base points. Whatever the LP says, weights prove what they
prove.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical.planes import Planes
from moe2opt.canonical.terms import Around, Plane
from moe2opt.canonical.wrapped import BASES, Submodular
from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.lp import LinearProgram

#: What is added to a mean level before it is cut down to a whole one.
_ROUNDINGS = (0.5, 0.25, 0.75, 0.99)

#: Rounds end once one closes less than this fraction of the gap.
_PROGRESS = 0.02

#: A plane is added where it is below the bound by this fraction of it.
_VIOLATION = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Parameters of a submodular term, and the mean level of each variable."""

    parameters: FloatArray
    means: FloatArray


def takes_bases(planes: Planes) -> bool:
    """Tell whether the objective is a submodular oracle, and all rows are tables."""
    rows = [*planes.above, *planes.below]
    return isinstance(planes.objective.term, Submodular) and not any(r.parameters for r in rows)


class _Relaxation:
    """The LP over shares of the levels above the lower ends, and the bound of the objective."""

    def __init__(self, planes: Planes, around: Around) -> None:
        grid = planes.grid
        self.low = grid.at(around.lower)
        open_ = around.inside.copy()
        open_[self.low] = False
        self.columns = np.flatnonzero(open_)
        self.owners = grid.owners[self.columns]
        self.rises = (grid.levels[self.columns] - around.lower[self.owners]).astype(np.float64)
        count = len(self.columns)
        self.lp = LinearProgram(
            np.append(np.zeros(count), 1.0),
            np.append(np.zeros(count), -np.inf),
            np.append(np.ones(count), np.inf),
        )
        several = np.flatnonzero(np.bincount(self.owners, minlength=len(self.low)) > 1)
        self.lp.add_rows(
            np.pad((self.owners == several[:, None]).astype(np.float64), ((0, 0), (0, 1))),
            np.ones(len(several)),
        )
        for use, limit in zip(around.uses, around.limits, strict=True):
            self._add(Plane(-limit, use, 0.0), 1.0, 0.0)
        for row in planes.below:
            plane = row.term.plane(np.zeros(0), around)
            self._add(Plane(plane.constant - row.limit, plane.table, 0.0), -1.0, 0.0)
        self.first = self.lp.rows

    def _add(self, plane: Plane, sign: float, bound: float) -> bool:
        """Add ``sign * plane + bound * objective <= 0`` where its numbers are finite."""
        constant = sign * (plane.constant + float(plane.table[self.low].sum()))
        rises = sign * (plane.table[self.columns] - plane.table[self.low][self.owners])
        finite = bool(np.isfinite(constant) and np.isfinite(rises).all())
        if finite:
            self.lp.add_rows(np.append(rises, bound)[None, :], np.array([-constant]))
        return finite

    def cut(self, plane: Plane) -> bool:
        """Let a plane bound the objective; return whether it can."""
        return self._add(plane, -1.0, 1.0)


class _Pool:
    """Base points whose planes bound the objective in an LP, and the weights that it gives them."""

    def __init__(self, planes: Planes, around: Around) -> None:
        assert isinstance(planes.objective.term, Submodular)
        self.term, self.around = planes.objective.term, around
        self.relaxation = _Relaxation(planes, around)
        self.cuts: list[tuple[bytes, int]] = []
        self.points: dict[bytes, IntArray] = {}

    def add(self, points: Iterable[IntArray], shares: FloatArray, bound: float) -> bool:
        """Add planes of new points that shares of levels break; return whether there were any."""
        before = len(self.cuts)
        for point in points:
            key = point.tobytes()
            if key in self.points:
                continue
            for k, plane in enumerate(self.term.planes_at(point, self.around)):
                worth = plane.constant + float(plane.table @ shares)
                if bound - worth > _VIOLATION * abs(worth) and self.relaxation.cut(plane):
                    self.cuts.append((key, k))
                    self.points[key] = point
        return len(self.cuts) > before

    def solve(self, search: Search) -> _Solved | None:
        """Return what the LP says, None where it does not solve."""
        search.check()
        found, relaxed = self.relaxation.lp.solve(search.time_left_s), self.relaxation
        if found.x is None or found.price is None:
            return None
        weights: dict[bytes, FloatArray] = {}
        for (key, k), price in zip(self.cuts, found.price[relaxed.first :], strict=True):
            weights.setdefault(key, np.zeros(2))[k] = price
        taken, n = found.x[:-1], len(self.around.lower)
        rises = np.bincount(relaxed.owners, taken * relaxed.rises, n)
        shares = np.zeros(len(self.around.inside))
        shares[relaxed.columns] = taken
        shares[relaxed.low] = 1.0 - np.bincount(relaxed.owners, taken, n)
        means = np.asarray(self.around.lower + rises, dtype=np.float64)
        return _Solved(float(found.x[-1]), shares, means, weights)


@dataclass(frozen=True, slots=True, eq=False)
class _Solved:
    """Bound of the objective, shares of levels, mean levels, and weights by base point."""

    bound: float
    shares: FloatArray
    means: FloatArray
    weights: dict[bytes, FloatArray]

    @property
    def heaviest(self) -> list[bytes]:
        """The base points that parameters have room for, by weight."""
        used = [key for key, pair in self.weights.items() if pair.any()]
        return sorted(used, key=lambda key: -float(self.weights[key].sum()))[:BASES]


def weighed(
    planes: Planes, given: FloatArray, around: Around, search: Search, rounds: int
) -> Weighed | None:
    """Return the weights of base points that the LP ends with, None where it does not solve.

    Parameters
    ----------
    given
        Parameters of the parent, whose base points come first.
    rounds
        Rounds of cuts at most.
    """
    lower, upper = around.lower, around.upper
    pool, everything = _Pool(planes, around), np.zeros(len(around.inside))
    starts = [lower.copy(), *(p for a, b, p in pool.term.bases(given, around) if a + b > 0)]
    if search.x is not None:
        starts.append(np.clip(search.x, lower, upper))
    pool.add(starts, everything, np.inf)
    last, solved = np.inf, pool.solve(search)
    for _ in range(rounds):
        if solved is None:
            return None
        open_ = abs(solved.bound) if search.x is None else solved.bound - search.objective
        if search.prunes(solved.bound) or last - solved.bound < _PROGRESS * open_:
            break
        last = solved.bound
        near = [np.floor(solved.means + share).astype(np.int64) for share in _ROUNDINGS]
        if not pool.add([np.clip(p, lower, upper) for p in near], solved.shares, solved.bound):
            break
        solved = pool.solve(search)
    if solved is None:
        return None
    best: _Solved | None = solved
    if sum(pair.any() for pair in solved.weights.values()) > BASES:
        few = _Pool(planes, around)
        few.add((pool.points[key] for key in solved.heaviest), everything, np.inf)
        best = few.solve(search)
    if best is None:
        return None
    rows = np.zeros((BASES, 2 + len(lower)))
    for place, key in zip(rows, best.heaviest, strict=False):
        place[:2], place[2:] = best.weights[key], pool.points[key]
    return Weighed(rows.ravel(), solved.means)
