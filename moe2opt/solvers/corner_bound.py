"""Bounds at the upper corner of a box: any monotone or mixed-monotone objective.

Reductions follow Tuy, Al-Khayyal and Thach (2005, sect. 7.6): what lies so low that it cannot beat
the incumbent is cut off from below, what lies so high that it breaks a constraint from above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from moe2opt.canonical import MonotoneProblem
from moe2opt.result import BoolArray, Certificate, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.relaxation import Examined, unknown_bound
from moe2opt.solvers.tree import Leaf, SplitTree, Step

Values = TypeVar("Values", float, FloatArray)

#: Integer corners (lower, upper) of a box.
Box = tuple[IntArray, IntArray]

BOUNDS = ("auto", "corner", "mixed", "marginal")


def monotone_relaxation(problem: MonotoneProblem, search: Search) -> CornerRelaxation:
    """Return the relaxation for `search.options.bound`."""
    name = search.options.bound
    unit = bool((problem.upper - problem.lower <= 1).all())
    fits = {
        "auto": True,
        "corner": problem.mixed_objective is None,
        "mixed": problem.mixed_objective is not None,
        "marginal": problem.submodular and unit,
    }
    if not fits.get(name, False):
        raise unknown_bound(name, problem, tuple(key for key, value in fits.items() if value))
    return CornerRelaxation(problem, marginal=name in ("auto", "marginal") and fits["marginal"])


class CornerRelaxation:
    """Objective at the upper corner, optionally improved by the sum of single gains."""

    def __init__(self, problem: MonotoneProblem, *, marginal: bool = False) -> None:
        self.problem, self.marginal = problem, marginal
        self.tree = SplitTree()

    def root(self) -> Box:
        return self.problem.lower, self.problem.upper

    def split(self, box: Box, axis: int, cut: int) -> tuple[Box, Box]:
        below, above = box[1].copy(), box[0].copy()
        below[axis], above[axis] = cut, cut + 1
        return (box[0], below), (above, box[1])

    def certificate(self, claim: float) -> Certificate:
        return self.tree.certificate(self.problem, claim)

    def examine(self, box: Box, search: Search) -> Examined:
        steps: list[Step] = []
        while True:
            leaf = infeasible_corner(self.problem, box)
            if leaf is not None:
                return Examined(steps, box, leaf)
            fitting = self._reduce_above(box)
            box = apply_steps(box, fitting)
            bound, proof = self._bound(box)
            steps += fitting
            if search.closes(bound):
                return Examined(steps, box, bound=bound, proof=proof)
            useful = self._reduce_below(box, search)
            box = apply_steps(box, useful)
            steps += useful
            if not (fitting or useful):
                break
        self._offer_corners(box, search)
        return Examined(steps, box, bound=bound, proof=proof, branch=longest_edge(box))

    def _bound(self, box: Box) -> tuple[float, Leaf]:
        corner = float(self.problem.upper_values(box[1][None, :], box[0][None, :])[0])
        corner = outward(corner, self.problem)
        if self.marginal:
            gains = outward(self._all_gains(box), self.problem)
            if gains < corner:
                return gains, ("marginal", 0)
        return corner, ("corner", 0)

    def _all_gains(self, box: Box) -> float:
        lower, upper = box
        steps = np.diag(upper - lower)[upper > lower]
        values = self.problem.objective_values(np.vstack([lower, lower + steps]))
        return math.fsum([values[0], *(values[1:] - values[0])])

    def _reduce_above(self, box: Box) -> list[Step]:
        """Lower each upper end to the largest level that fits on top of the lower corner."""
        lower, upper = box
        axes = np.flatnonzero(upper > lower)

        def too_high(levels: IntArray) -> BoolArray:
            points = raised(lower, axes, levels)
            return np.asarray((self.problem.constraint_values(points) > 0).any(axis=1))

        first = first_true(too_high, lower[axes] + 1, upper[axes] + 1)
        cut = first <= upper[axes]
        broken = self.problem.constraint_values(raised(lower, axes[cut], first[cut])) > 0
        return [
            Step(int(axis), int(level) - 1, False, ("budget", int(np.argmax(row))))
            for axis, level, row in zip(axes[cut], first[cut], broken, strict=True)
        ]

    def _reduce_below(self, box: Box, search: Search) -> list[Step]:
        """Raise each lower end to the least level that can still win and meet the reverse rows."""
        lower, upper = box
        axes = np.flatnonzero(upper > lower)

        def useful(levels: IntArray) -> BoolArray:
            points = raised(upper, axes, levels)
            unmet = (self.problem.reverse_values(points) < 0).any(axis=1)
            return np.asarray(~(unmet | search.closes_each(values(points))))

        def values(points: IntArray) -> FloatArray:
            corners = np.repeat(lower[None, :], len(points), axis=0)
            return outward(self.problem.upper_values(points, corners), self.problem)

        first = first_true(useful, lower[axes], upper[axes])
        cut = first > lower[axes]
        points = raised(upper, axes[cut], first[cut] - 1)
        unmet = self.problem.reverse_values(points) < 0
        return [
            _poor_step(int(axis), int(level) - 1, missing, float(value))
            for axis, level, missing, value in zip(
                axes[cut], first[cut], unmet, values(points), strict=True
            )
        ]

    def _offer_corners(self, box: Box, search: Search) -> None:
        for corner in (box[1], box[0]):
            search.offer(corner, "B")


def infeasible_corner(problem: MonotoneProblem, box: Box) -> Leaf | None:
    """Return why a box holds no feasible point, None if its corners do not exclude one."""
    broken = problem.constraint_values(box[0][None, :])[0] > 0
    if broken.any():
        return ("budget", int(np.argmax(broken)))
    unmet = problem.reverse_values(box[1][None, :])[0] < 0
    return ("cover", int(np.argmax(unmet))) if unmet.any() else None


def outward(values: Values, problem: MonotoneProblem) -> Values:
    """Return `values` raised by more than another machine's rounding could change them."""
    return values if problem.is_integral else values + 1e-12 * abs(values)


def _poor_step(axis: int, cut: int, unmet: BoolArray, value: float) -> Step:
    if unmet.any():
        return Step(axis, cut, True, ("cover", int(np.argmax(unmet))))
    return Step(axis, cut, True, ("corner", 0), value)


def raised(corner: IntArray, axes: IntArray, levels: IntArray) -> IntArray:
    """Return one copy of `corner` per axis, with that coordinate set to its level."""
    points = np.repeat(corner[None, :], len(axes), axis=0)
    points[np.arange(len(axes)), axes] = levels
    return points


def first_true(test: Callable[[IntArray], BoolArray], start: IntArray, stop: IntArray) -> IntArray:
    """Return per axis the first level in ``start..stop-1`` where `test` holds, `stop` if none.

    `test` must be false below and true above some level of each axis; bisection on all axes at
    once.
    """
    low, high = start.copy(), stop.copy()
    while (low < high).any():
        middle = (low + high) // 2
        found = test(np.minimum(middle, stop - 1)) & (low < high)
        high = np.where(found, middle, high)
        low = np.where(found | (low >= high), low, middle + 1)
    return low


def apply_steps(box: Box, steps: list[Step]) -> Box:
    """Return the box that reductions leave (possibly an empty one)."""
    lower, upper = box[0].copy(), box[1].copy()
    for step in steps:
        assert step.cut is not None
        if step.keep_right:
            lower[step.axis] = step.cut + 1
        else:
            upper[step.axis] = step.cut
    return lower, upper


def longest_edge(box: Box) -> tuple[int, int] | None:
    """Return the longest edge and its middle, None for a single point."""
    lower, upper = box
    axis = int(np.argmax(upper - lower))
    if upper[axis] == lower[axis]:
        return None
    return axis, int((lower[axis] + upper[axis]) // 2)
