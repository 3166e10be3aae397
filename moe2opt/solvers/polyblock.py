"""Discrete polyblock outer approximation with minimal-infeasible-point cuts.

The feasible points are covered by boxes whose upper corners are the vertices of a polyblock (Tuy
2000). On a grid the best vertex is cut not along a ray but by a minimal infeasible point y below
it: every x ≥ y is infeasible too, so the box splits along the coordinates in which y exceeds the
lower corner (Tuy, Minoux and Hoai-Phuong 2006 call this a redundancy cut; on 0/1 problems y is a
minimal cover). The children are made disjoint, which turns the polyblock into a split tree.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import numpy as np

from moe2opt.canonical import MonotoneProblem, MultipleChoiceProblem, Problem
from moe2opt.result import BoolArray, InputError, IntArray, Limit
from moe2opt.solvers.base import LimitReachedError, Outcome, Search
from moe2opt.solvers.baselines import constructed
from moe2opt.solvers.monotone.relaxation import (
    Box,
    first_true,
    infeasible_corner,
    longest_edge,
    outward,
    raised,
)
from moe2opt.solvers.tree import SplitTree


@dataclass(order=True, slots=True)
class _Vertex:
    """A vertex of the polyblock, the box below it and its place in the tree."""

    key: tuple[float, int]
    bound: float = field(compare=False)
    position: int = field(compare=False)
    box: Box = field(compare=False)


def solve(problem: Problem, search: Search) -> Outcome:
    """Maximise exactly over the monotone view of any problem; see `moe2opt.solve`.

    Returns
    -------
    Outcome
        With a split-tree certificate over the monotone view, also when a limit stopped the run.
    """
    search.offer_start()
    # No run ends without a plan where greedy has one.
    if search.limit_reached() is None and (start := constructed(problem, search)) is not None:
        search.offer(start, "H")
    polyblock = _Polyblock(problem, search)
    heap, pruned_bound, limit = polyblock.run()
    bound = max([pruned_bound, search.objective, *(vertex.bound for vertex in heap)])
    for vertex in heap:
        polyblock.tree.prune(vertex.position, ("corner", 0))
    certificate = polyblock.tree.certificate(problem, bound, kind="monotone")
    stats = {"cuts": polyblock.cuts, "leaves": certificate.leaves}
    return Outcome(bound=bound, limit=limit, certificate=certificate, stats=stats)


class _Polyblock:
    """State of one run."""

    def __init__(self, problem: Problem, search: Search) -> None:
        self.original, self.search = problem, search
        self.problem: MonotoneProblem = problem.as_monotone()
        self.tree = SplitTree()
        self.pool: list[IntArray] = []
        self.cuts = 0
        self.pruned_bound = -math.inf
        self.heap: list[_Vertex] = []

    def run(self) -> tuple[list[_Vertex], float, Limit | None]:
        """Select the best vertex and prune or cut it, until none is open or a limit is hit."""
        search = self.search
        root = self.problem.lower, self.problem.upper
        self._push(0, root, self._bound(root))
        while self.heap:
            search.open_nodes = len(self.heap)
            search.reserve(len(self.tree.records))
            search.improve_bound(max(self.heap[0].bound, self.pruned_bound))
            search.tick()
            limit = search.limit_reached()
            if limit is not None:
                return self.heap, self.pruned_bound, limit
            vertex = heapq.heappop(self.heap)
            search.nodes += 1
            if vertex.bound <= search.cutoff:
                self._prune(vertex.position, vertex.bound)
                continue
            try:
                if self._fits(vertex.box[1]):
                    # Its value did not prune it although it is feasible: a mixed objective.
                    self._halve(vertex)
                else:
                    self._cut(vertex)  # new boxes are bounded, pruned or kept by `_push`
            except LimitReachedError:  # before anything changed: the vertex stays as it was
                search.nodes -= 1
                heapq.heappush(self.heap, vertex)
        return [], self.pruned_bound, None

    def _push(self, position: int, box: Box, above: float) -> None:
        """Prune a new box if it is hopeless, offer its vertex if feasible, else keep it.

        Once a limit is hit it is kept unseen, with the bound `above` of a box that holds it.
        """
        if self.search.pressed():
            heapq.heappush(self.heap, _Vertex((-above, position), above, position, box))
            return
        leaf = infeasible_corner(self.problem, box)
        if leaf is not None:
            self.tree.prune(position, leaf)
            return
        if self._fits(box[1]):
            self.search.offer(_own_variables(self.original, box[1]), "P")
        bound = self._bound(box)
        if bound <= self.search.cutoff:
            self._prune(position, bound)
        else:
            heapq.heappush(self.heap, _Vertex((-bound, position), bound, position, box))

    def _prune(self, position: int, bound: float) -> None:
        self.pruned_bound = max(self.pruned_bound, bound)
        self.tree.prune(position, ("corner", 0))

    def _bound(self, box: Box) -> float:
        """Return the value at the upper corner; that of a view is the same on every machine."""
        value = float(self.problem.upper_values(box[1][None, :], box[0][None, :])[0])
        return value if self.problem is not self.original else outward(value, self.problem)

    def _fits(self, point: IntArray) -> bool:
        return bool((self.problem.constraint_values(point[None, :]) <= 0).all())

    def _cut(self, vertex: _Vertex) -> None:
        """Replace a vertex by the disjoint boxes that avoid a minimal infeasible point."""
        self.cuts += 1
        point = self._infeasible_point(vertex.box)
        position, (lower, upper) = vertex.position, vertex.box
        for axis in self._by_weight(lower, point):
            left, position = self.tree.split(position, int(axis), int(point[axis]) - 1)
            below, above = upper.copy(), lower.copy()
            below[axis], above[axis] = point[axis] - 1, point[axis]
            self._push(left, (lower, below), vertex.bound)
            lower = above
            leaf = infeasible_corner(self.problem, (lower, upper))
            if leaf is not None:
                self.tree.prune(position, leaf)
                return
        raise InputError(
            f"constraints: one does not increase: positive at x = {point.tolist()}, but not at "
            f"{lower.tolist()}, which is nowhere smaller"
        )

    def _halve(self, vertex: _Vertex) -> None:
        branch = longest_edge(vertex.box)
        if branch is None:
            self._prune(vertex.position, vertex.bound)
            return
        lower, upper = vertex.box
        axis, cut = branch
        below, above = upper.copy(), lower.copy()
        below[axis], above[axis] = cut, cut + 1
        left, right = self.tree.split(vertex.position, axis, cut)
        self._push(left, (lower, below), vertex.bound)
        self._push(right, (above, upper), vertex.bound)

    def _infeasible_point(self, box: Box) -> IntArray:
        """Return a minimal infeasible point of the box: a pooled one if any is below the vertex."""
        lower, upper = box
        fitting = [y for y in self.pool if (y <= upper).all()]
        if fitting:
            return min(fitting, key=lambda y: int(np.count_nonzero(y > lower)))
        point = self._minimal_infeasible(lower, upper)
        self.pool.append(point)
        del self.pool[: -self.search.options.tuning.polyblock.pool]
        return point

    def _minimal_infeasible(self, lower: IntArray, upper: IntArray) -> IntArray:
        """Lower the coordinates of an infeasible corner, the lightest first, while it stays so."""
        point = upper.copy()
        for axis in self._by_weight(lower, upper)[::-1]:

            def infeasible(levels: IntArray, axis: int = int(axis)) -> BoolArray:
                trial = raised(point, np.array([axis]), levels)
                return np.asarray((self.problem.constraint_values(trial) > 0).any(axis=1))

            point[axis] = first_true(infeasible, lower[[axis]], point[[axis]], self.search)[0]
        return point

    def _by_weight(self, lower: IntArray, point: IntArray) -> IntArray:
        """Return the axes on which `point` exceeds `lower`, heaviest in the constraints first."""
        axes = np.flatnonzero(point > lower)
        alone = self.problem.constraint_values(raised(lower, axes, point[axes]))
        base = self.problem.constraint_values(lower[None, :])
        return axes[np.argsort(-(alone - base).max(axis=1, initial=0.0), kind="stable")]


def _own_variables(problem: Problem, point: IntArray) -> IntArray:
    """Translate a feasible point of the monotone view back to the problem's own variables."""
    if isinstance(problem, MultipleChoiceProblem):
        return np.asarray(np.flatnonzero(point) - problem.offsets[:-1])
    return point
