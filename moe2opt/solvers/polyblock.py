"""Discrete polyblock outer approximation with minimal-infeasible-point cuts.

The feasible points are covered by boxes whose upper corners are the vertices of a polyblock (Tuy
2000). On a grid the best vertex is cut not along a ray but by a minimal infeasible point y below
it: every x ≥ y is infeasible too, so the box splits along the coordinates in which y exceeds the
lower corner (Tuy, Minoux and Hoai-Phuong 2006 call this a redundancy cut; on 0/1 problems y is a
minimal cover). The pieces are disjoint, so that no vertex is redundant, and each is reduced to what
can still beat the incumbent, which makes the polyblock a split tree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem, Problem
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.solvers.base import Outcome, Search
from moe2opt.solvers.baselines import moves
from moe2opt.solvers.brb import explore
from moe2opt.solvers.ceiling import ceiling
from moe2opt.solvers.monotone.boxes import asked, first_true, raised, towards_rows
from moe2opt.solvers.monotone.memory import remembering
from moe2opt.solvers.monotone.relaxation import (
    CornerRelaxation,
    MixedRelaxation,
    PointedBox,
    pointed,
    usable_orders,
)
from moe2opt.solvers.relaxation import Examined

#: The greedy plan and what better ones exchanges make of it, at most.
_MOVES = 20

#: Points that an oracle gets between two looks at the limits; those of views are slow.
_AT_ONCE = 256


def solve(problem: Problem, search: Search) -> Outcome:
    """Maximise exactly over the monotone view of any problem; see `moe2opt.solve`.

    Returns
    -------
    Outcome
        With a split-tree certificate over the monotone view, also when a limit stopped the run.
    """
    search.offer_start()
    # No run ends without a plan where greedy has one.
    if search.limit_reached() is None:
        for x, _ in zip(moves(problem, search), range(_MOVES), strict=False):
            if x is not None:
                search.offer(x, "H")
            if search.limit_reached() is not None:
                break
    mixed = problem.as_monotone().mixed_objective is not None
    polyblock = (_MixedPolyblock if mixed else Polyblock)(problem, search)
    explored = explore(polyblock, search)
    bound = max(explored.bound, search.objective)
    if bound == math.inf:  # stopped before the first vertex
        bound = ceiling(problem)
    sets = polyblock.sets
    certificate = polyblock.tree.certificate(problem, bound, kind="monotone", types=sets)
    stats = {"cuts": polyblock.cuts, "leaves": certificate.leaves}
    return Outcome(bound, explored.limit, certificate, stats)


class Polyblock(CornerRelaxation):
    """Vertices are upper corners of boxes; splits avoid minimal infeasible points.

    The part above a split keeps the point; the last one holds nothing but points above it.
    """

    def __init__(self, problem: Problem, search: Search) -> None:
        asked = remembering(problem.as_monotone(), search.room_bytes)
        super().__init__(asked, orders=usable_orders(asked, search))
        self.original, self.search = problem, search
        self.is_view = problem.as_monotone() is not problem
        self.pool: list[IntArray] = []
        self.cuts = 0
        self._examined, self._at_root = 0, math.inf

    def root(self) -> PointedBox:
        return (*super().root(), None)

    def split(self, box: PointedBox, axis: int, cut: int) -> tuple[PointedBox, PointedBox]:
        below, above = super().split(box[:2], axis, cut)
        return (*below, None), (*above, box[2])

    def wants_restart(self) -> bool:
        """Tell, once, to begin again from a smaller root: the incumbent reduces more of it."""
        patience = self.search.options.tuning.polyblock.pool
        wanted = self._examined >= patience and self.search.objective > self._at_root
        if wanted:
            self._at_root = math.inf
        return wanted

    def examine(self, box: PointedBox, search: Search) -> Examined:
        examined = super().examine(box[:2], search)
        self._examined += 1
        if self._examined == 1:
            self._at_root = search.objective
        lower, upper = examined.box
        closed = examined.leaf is not None or search.prunes(examined.bound)
        # The value of a feasible vertex closes its box, unless the objective is a mixed one.
        if closed or examined.branch is None or not self._is_infeasible(upper[None, :])[0]:
            return pointed(examined, None)
        if (branch := towards_rows(self.problem, (lower, upper), search)) is not None:
            return pointed(examined, None, branch)
        point = box[2]
        if point is None or (point > upper).any():
            point = self._infeasible_point(lower, upper)
        axes = self._by_weight(lower, point)
        if not len(axes):
            raise InputError(
                f"constraints: one does not increase: positive at x = {point.tolist()}, but not at "
                f"{lower.tolist()}, which is nowhere smaller"
            )
        return pointed(examined, point, (int(axes[0]), int(point[axes[0]]) - 1))

    def _is_infeasible(self, points: IntArray) -> BoolArray:
        return np.asarray((self.problem.constraint_values(points) > 0).any(axis=1))

    def _upper_values(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return bounds, a few at a time; values of a view are the same on every machine."""
        if len(upper) > _AT_ONCE:
            parts = range(0, len(upper), _AT_ONCE)
            ends = [(upper[k : k + _AT_ONCE], lower[k : k + _AT_ONCE]) for k in parts]
            return np.concatenate([self._upper_values(*end) for end in ends])
        self.search.check()
        if self.is_view:
            return self.problem.upper_values(upper, lower)
        return super()._upper_values(upper, lower)

    def _offer_points(self, points: Iterable[IntArray], search: Search) -> None:
        """Offer vertices that are better and feasible, in the problem's own variables."""
        for point in points:
            if self.problem.evaluate(point) > search.objective and self.problem.is_feasible(point):
                search.offer(_own_variables(self.original, point), "P")

    def _infeasible_point(self, lower: IntArray, upper: IntArray) -> IntArray:
        """Return a minimal infeasible point of the box: a pooled one if any is below the vertex."""
        fitting = [y for y in self.pool if (y <= upper).all()]
        if fitting:
            return min(fitting, key=lambda y: int(np.count_nonzero(y > lower)))
        self.cuts += 1
        point = self._minimal_infeasible(lower, upper)
        self.pool.append(point)
        del self.pool[: -self.search.options.tuning.polyblock.pool]
        return point

    def _minimal_infeasible(self, lower: IntArray, upper: IntArray) -> IntArray:
        """Lower the coordinates of an infeasible corner, the lightest first, while it stays so."""
        point = upper.copy()
        for axis in self._by_weight(lower, upper)[::-1]:

            def infeasible(levels: IntArray, axis: int = int(axis)) -> BoolArray:
                return self._is_infeasible(raised(point, np.array([axis]), levels))

            point[axis] = first_true(infeasible, lower[[axis]], point[[axis]], self.search)[0]
        return point

    def _by_weight(self, lower: IntArray, point: IntArray) -> IntArray:
        """Return the axes on which `point` exceeds `lower`, heaviest in the constraints first."""
        axes = np.flatnonzero(point > lower)
        alone = asked(self.problem.constraint_values, lower, axes, point[axes], self.search)
        base = self.problem.constraint_values(lower[None, :])
        return axes[np.argsort(-(alone - base).max(axis=1, initial=0.0), kind="stable")]


class _MixedPolyblock(Polyblock, MixedRelaxation):
    """The same with reductions and halves of a mixed-monotone objective."""


def _own_variables(problem: Problem, point: IntArray) -> IntArray:
    """Translate a feasible point of the monotone view back to the problem's own variables."""
    if isinstance(problem, MultipleChoiceProblem):
        return np.asarray(np.flatnonzero(point) - problem.offsets[:-1])
    return point
