"""Bounds at the upper corner of a box: any monotone or mixed-monotone objective.

Tightening follows Tuy, Al-Khayyal and Thach (2005, sect. 7.6): what lies so low that it cannot beat
the incumbent is cut off from below, what lies so high that it breaks a constraint from above. A
mixed-monotone objective can also fall short because a lower end is too high, so there both halves
of every axis are bounded, which prunes some of them and tells where a split moves the bound most.

An increasing objective is split at maximal feasible points: a point x that no constraint lets rise
settles everything below it at once, for nothing in there is better. What it leaves of a box are the
parts in which some coordinate exceeds x (Tuy 2000; Ha and Kuo 2006); they are split off one axis
after the other, and in each of them the constraints cut back the upper ends of the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from moe2opt.canonical import MonotoneProblem
from moe2opt.result import BoolArray, Certificate, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.monotone.heuristics import offer_climbs
from moe2opt.solvers.monotone.memory import remembering
from moe2opt.solvers.relaxation import Examined, unknown_bound
from moe2opt.solvers.tree import Leaf, SplitTree, Tightening

Values = TypeVar("Values", float, FloatArray)

#: Integer corners (lower, upper) of a box.
Box = tuple[IntArray, IntArray]

#: Corners of a box and a maximal feasible point in it, None while it has none.
PointedBox = tuple[IntArray, IntArray, IntArray | None]

#: Axis and cut of a split; None for a single point.
Branch = tuple[int, int] | None

BOUNDS = ("auto", "corner", "mixed", "marginal")

#: Entries of the points that an oracle gets between two looks at the limits.
_AT_ONCE = 2**21


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
    problem = remembering(problem)
    offer_climbs(problem, search)
    family = MaximalRelaxation if problem.mixed_objective is None else MixedRelaxation
    return family(problem, marginal=name in ("auto", "marginal") and fits["marginal"])


class CornerRelaxation:
    """Objective at the upper corner, optionally improved by the sum of single gains."""

    def __init__(self, problem: MonotoneProblem, *, marginal: bool = False) -> None:
        self.problem, self.marginal = problem, marginal
        self.tree = SplitTree()

    def root(self) -> Any:
        return self.problem.lower, self.problem.upper

    def split(self, box: Any, axis: int, cut: int) -> tuple[Any, Any]:
        below, above = box[1].copy(), box[0].copy()
        below[axis], above[axis] = cut, cut + 1
        return (box[0], below), (above, box[1])

    def certificate(self, claim: float) -> Certificate:
        return self.tree.certificate(self.problem, claim)

    def examine(self, box: Any, search: Search) -> Examined:
        tightenings: list[Tightening] = []
        for rounds in itertools.count(1):
            search.check()
            leaf = infeasible_corner(self.problem, box)
            if leaf is not None:
                return Examined(tightenings, box, leaf)
            before = box[1] - box[0]
            fitting = self._reduce_above(box, search)
            box = tightened(box, fitting)
            bound, proof = self._bound(box)
            tightenings += fitting
            if search.prunes(bound):
                return Examined(tightenings, box, bound=bound, proof=proof)
            meeting = reduce_unmet(self.problem, box, search)
            box = tightened(box, meeting)
            winning, branch = self._reduce_poor(box, search)
            box = tightened(box, winning)
            tightenings += meeting + winning
            if not (fitting or meeting or winning):
                break
            after = box[1] - box[0]
            if (
                rounds >= search.options.tuning.monotone.rounds
                and not (2 * after <= before)[before > 0].any()
            ):
                branch = longest_edge(box)  # a split gets further than ever smaller tightenings
                break
        self._offer_points((box[1], box[0]), search)
        return Examined(tightenings, box, bound=bound, proof=proof, branch=branch)

    def _bound(self, box: Box) -> tuple[float, Leaf]:
        corner = float(self._upper_values(box[1][None, :], box[0][None, :])[0])
        if self.marginal:
            gains = outward(self.problem.marginal_bound(*box), self.problem)
            if gains < corner:
                return gains, ("marginal", 0)
        return corner, ("corner", 0)

    def _upper_values(self, upper: IntArray, lower: IntArray) -> FloatArray:
        return outward(self.problem.upper_values(upper, lower), self.problem)

    def _reduce_above(self, box: Box, search: Search) -> list[Tightening]:
        """Lower each upper end to the largest level that fits on top of the lower corner."""
        lower, upper = box
        axes = np.flatnonzero(upper > lower)

        def too_high(levels: IntArray) -> BoolArray:
            used = asked(self.problem.constraint_values, lower, axes, levels, search)
            return np.asarray((used > 0).any(axis=1))

        first = first_true(too_high, lower[axes] + 1, upper[axes] + 1, search)
        cut = first <= upper[axes]
        used = asked(self.problem.constraint_values, lower, axes[cut], first[cut], search)
        broken = used > 0
        return [
            Tightening(int(axis), int(level) - 1, False, ("budget", int(np.argmax(row))))
            for axis, level, row in zip(axes[cut], first[cut], broken, strict=True)
        ]

    def _reduce_poor(self, box: Box, search: Search) -> tuple[list[Tightening], Branch]:
        """Raise each lower end to the least level that can still win; say where to split next."""
        lower, upper = box
        axes = np.flatnonzero(upper > lower)

        def values(points: IntArray) -> FloatArray:
            return self._upper_values(points, np.broadcast_to(lower, points.shape))

        def winning(levels: IntArray) -> BoolArray:
            return ~search.prunes_each(asked(values, upper, axes, levels, search))

        first = first_true(winning, lower[axes], upper[axes], search)
        cut = first > lower[axes]
        losing = asked(values, upper, axes[cut], first[cut] - 1, search)
        tightenings = [
            Tightening(int(axis), int(level) - 1, True, ("corner", 0), float(value))
            for axis, level, value in zip(axes[cut], first[cut], losing, strict=True)
        ]
        return tightenings, longest_edge(box)

    def _offer_points(self, points: Iterable[IntArray], search: Search) -> None:
        """Offer points that are better and feasible by what is remembered."""
        for point in points:
            if self.problem.evaluate(point) > search.objective and self.problem.is_feasible(point):
                search.offer(point, "B")


class MaximalRelaxation(CornerRelaxation):
    """Bounds at the upper corner; splits at the coordinates of maximal feasible points.

    The part below a split keeps the point. Of the axes the one comes first whose part below has
    the least bound, so that what lies near the point is closed after few splits.
    """

    def root(self) -> PointedBox:
        return (*super().root(), None)

    def split(self, box: PointedBox, axis: int, cut: int) -> tuple[PointedBox, PointedBox]:
        below, above = super().split(box[:2], axis, cut)
        return (*below, box[2]), (*above, None)

    def examine(self, box: PointedBox, search: Search) -> Examined:
        examined = super().examine(box[:2], search)
        if examined.leaf is not None or examined.branch is None or search.prunes(examined.bound):
            return pointed(examined, None)
        lower, upper = examined.box
        if (upper - lower).max() > 2**search.options.tuning.monotone.fine_bits:
            return pointed(examined, None)
        point = box[2]
        if point is None or (point < lower).any() or (point > upper).any():
            point = maximal_feasible(self.problem, lower, upper, search)
            self._offer_points((point,), search)
        axes = np.flatnonzero(point < upper)
        if not len(axes):
            return pointed(examined, None)
        below = raised(upper, axes, point[axes])
        axis = int(axes[np.argmin(self._upper_values(below, np.broadcast_to(lower, below.shape)))])
        return pointed(examined, point, (axis, int(point[axis])))


class MixedRelaxation(CornerRelaxation):
    """Mixed-monotone objective over the box, and over both halves along every axis."""

    def _reduce_poor(self, box: Box, search: Search) -> tuple[list[Tightening], Branch]:
        """Drop the halves that cannot win; split where the better half has the least bound."""
        halves = self._halves(box)
        below, above = search.prunes_each(halves.below), search.prunes_each(halves.above)
        # Where both halves lose, raising the lower end is enough: the next bound prunes the node.
        tightenings = [*halves.tightenings(below, True), *halves.tightenings(above & ~below, False)]
        return tightenings, halves.branch()

    def _halves(self, box: Box) -> _Halves:
        lower, upper = box
        axes = np.flatnonzero(upper > lower)
        cuts = (lower + upper)[axes] // 2
        whole = np.zeros((len(axes), 1), dtype=np.int64)
        bounds = self._upper_values(
            np.vstack([raised(upper, axes, cuts), upper + whole]),
            np.vstack([lower + whole, raised(lower, axes, cuts + 1)]),
        )
        return _Halves(axes, cuts, *np.split(bounds, 2))


@dataclass(frozen=True, slots=True)
class _Halves:
    """Upper bounds over both halves of a box along each of its free axes."""

    axes: IntArray
    cuts: IntArray
    below: FloatArray
    above: FloatArray

    def tightenings(self, pruned: BoolArray, keep_right: bool) -> list[Tightening]:
        bounds = self.below if keep_right else self.above
        return [
            Tightening(
                int(self.axes[k]), int(self.cuts[k]), keep_right, ("corner", 0), float(bounds[k])
            )
            for k in np.flatnonzero(pruned)
        ]

    def branch(self) -> Branch:
        if not len(self.axes):
            return None
        k = int(np.argmin(np.maximum(self.below, self.above)))
        return int(self.axes[k]), int(self.cuts[k])


def pointed(examined: Examined, point: IntArray | None, branch: Branch = None) -> Examined:
    """Return what was found out with a point for the next splits, and one along it if given."""
    return replace(examined, box=(*examined.box, point), branch=branch or examined.branch)


def maximal_feasible(
    problem: MonotoneProblem, lower: IntArray, upper: IntArray, search: Search
) -> IntArray:
    """Return a point of a box above which every step up breaks a constraint or leaves the box.

    Climbs by the largest gain, first in large steps, so that the width of a box costs a logarithm;
    reverse constraints are not looked at. The lower corner must satisfy the constraints.
    """
    point = lower
    for bits in range(int((upper - lower).max()).bit_length() - 1, -1, -1):
        while len(axes := np.flatnonzero(point + 2**bits <= upper)):
            search.check()
            points = raised(point, axes, point[axes] + 2**bits)
            points = points[(problem.constraint_values(points) <= 0).all(axis=1)]
            if not len(points):
                break
            point = points[int(np.argmax(problem.objective_values(points)))]
    return point


def reduce_unmet(problem: MonotoneProblem, box: Box, search: Search) -> list[Tightening]:
    """Raise each lower end to the least level at which the upper corner meets the reverse rows."""
    if not problem.reverse_constraints:
        return []
    lower, upper = box
    axes = np.flatnonzero(upper > lower)

    def met(levels: IntArray) -> BoolArray:
        return np.asarray((asked(problem.reverse_values, upper, axes, levels, search) >= 0).all(1))

    first = first_true(met, lower[axes], upper[axes], search)
    cut = first > lower[axes]
    unmet = asked(problem.reverse_values, upper, axes[cut], first[cut] - 1, search) < 0
    return [
        Tightening(int(axis), int(level) - 1, True, ("cover", int(np.argmax(row))))
        for axis, level, row in zip(axes[cut], first[cut], unmet, strict=True)
    ]


def infeasible_corner(problem: MonotoneProblem, box: Box) -> Leaf | None:
    """Return why a box holds no feasible point, None if its corners do not exclude one."""
    broken = problem.constraint_values(box[0][None, :])[0] > 0
    if broken.any():
        return ("budget", int(np.argmax(broken)))
    unmet = problem.reverse_values(box[1][None, :])[0] < 0
    return ("cover", int(np.argmax(unmet))) if unmet.any() else None


def outward(values: Values, problem: MonotoneProblem) -> Values:
    """Return what oracle values bound, raised by more than another machine's rounding changes."""
    if problem.is_integral:
        whole = problem.bounds_of(np.asarray(values, dtype=np.float64))
        return whole if isinstance(values, np.ndarray) else float(whole)
    return values + 1e-12 * abs(values)


def raised(corner: IntArray, axes: IntArray, levels: IntArray) -> IntArray:
    """Return one copy of `corner` per axis, with that coordinate set to its level."""
    points = np.repeat(corner[None, :], len(axes), axis=0)
    points[np.arange(len(axes)), axes] = levels
    return points


def asked(
    oracle: Callable[[IntArray], FloatArray],
    corner: IntArray,
    axes: IntArray,
    levels: IntArray,
    search: Search,
) -> FloatArray:
    """Return what an oracle says of `raised` points.

    Where they are many and wide they are made a few at a time, and limits are looked at in between.
    """
    step = max(1, _AT_ONCE // max(1, len(corner)))
    if len(axes) <= step:
        return oracle(raised(corner, axes, levels))
    told = []
    for k in range(0, len(axes), step):
        search.check()
        told.append(oracle(raised(corner, axes[k : k + step], levels[k : k + step])))
    return np.concatenate(told)


def first_true(
    test: Callable[[IntArray], BoolArray], start: IntArray, stop: IntArray, search: Search
) -> IntArray:
    """Return per axis the first level in ``start..stop-1`` where `test` holds, `stop` if none.

    `test` must be false below and true above some level of each axis; bisection on all axes at
    once. Limits are looked at before every call.
    """
    low, high = start.copy(), stop.copy()
    while (low < high).any():
        search.check()
        middle = (low + high) // 2
        found = test(np.minimum(middle, stop - 1)) & (low < high)
        high = np.where(found, middle, high)
        low = np.where(found | (low >= high), low, middle + 1)
    return low


def tightened(box: Box, tightenings: list[Tightening]) -> Box:
    """Return the box that tightenings leave (possibly an empty one)."""
    lower, upper = box[0].copy(), box[1].copy()
    for tightening in tightenings:
        cut = tightening.cut or 0  # None stands for the only cut of a 0/1 axis
        if tightening.keep_right:
            lower[tightening.axis] = cut + 1
        else:
            upper[tightening.axis] = cut
    return lower, upper


def longest_edge(box: Box) -> Branch:
    """Return the longest edge and its middle, None for a single point."""
    lower, upper = box
    axis = int(np.argmax(upper - lower))
    if upper[axis] == lower[axis]:
        return None
    return axis, int((lower[axis] + upper[axis]) // 2)
