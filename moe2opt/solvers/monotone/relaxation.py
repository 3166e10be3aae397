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
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moe2opt.canonical import MonotoneProblem
from moe2opt.canonical.symmetry import Orders, lowered_to_order, raised_to_order
from moe2opt.result import BoolArray, Certificate, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.monotone.boxes import (
    Box,
    Branch,
    asked,
    first_true,
    infeasible_corner,
    longest_edge,
    outward,
    raised,
    towards_rows,
)
from moe2opt.solvers.monotone.heuristics import climbed, offer_climbs, repaired
from moe2opt.solvers.monotone.memory import remembering
from moe2opt.solvers.relaxation import Examined, unknown_bound
from moe2opt.solvers.tree import Leaf, SplitTree, Tightening

#: Corners of a box and a maximal feasible point in it, None while it has none.
PointedBox = tuple[IntArray, IntArray, IntArray | None]

#: While no solution is known, one is looked for near the middle of one box in so many.
_REPAIRED = 4

#: An error of values that is small beside the relative gap that counts as closed.
_NEGLIGIBLE = 1e-11

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
    problem = remembering(problem, search.room_bytes)
    offer_climbs(problem, search)
    family = MaximalRelaxation if problem.mixed_objective is None else MixedRelaxation
    marginal = name in ("auto", "marginal") and fits["marginal"]
    return family(problem, marginal=marginal, orders=usable_orders(problem, search))


def usable_orders(problem: MonotoneProblem, search: Search) -> Orders:
    """Return interchangeable variables, none where their order does more harm than good.

    Proofs of one conflict speak about several problems, in which other variables are alike. And
    what rounding makes of another order must not keep the gap open: without an incumbent there
    must be nothing of it.
    """
    size = 0.0 if search.x is None else abs(search.objective)
    small = problem.swap_error <= _NEGLIGIBLE * size
    return problem.orders if small and not search.first_feasible else ()


class CornerRelaxation:
    """Objective at the upper corner, optionally improved by the sum of single gains.

    Boxes are those of points whose interchangeable variables are in order: they fall from the first
    to the last of each set. Both corners are kept so, and whatever is asked on the way.
    """

    def __init__(
        self, problem: MonotoneProblem, *, marginal: bool = False, orders: Orders = ()
    ) -> None:
        self.problem, self.marginal, self.orders = problem, marginal, orders
        self.error = problem.swap_error if orders else 0.0
        self.tree = SplitTree()

    def root(self) -> Any:
        return self.problem.lower, self.problem.upper

    def split(self, box: Any, axis: int, cut: int) -> tuple[Any, Any]:
        below, above = box[1].copy(), box[0].copy()
        below[axis], above[axis] = cut, cut + 1
        lowered_to_order(below[None, :], self.orders)
        raised_to_order(above[None, :], self.orders)
        return (box[0], below), (above, box[1])

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """Interchangeable variables as certificates list them, none while the root is whole."""
        is_whole = len(self.tree.records) == 1
        return () if is_whole else tuple(map(tuple, self.orders))

    def certificate(self, claim: float) -> Certificate:
        return self.tree.certificate(self.problem, claim, types=self.sets)

    def _tightened(self, box: Box, tightenings: list[Tightening]) -> tuple[Box, list[Tightening]]:
        """Return the box that tightenings leave, and those that were needed.

        Where one shrinks the ranges of interchangeable variables, others may come too late.
        """
        needed = []
        lower, upper = box[0].copy(), box[1].copy()
        for step in tightenings:
            axis, cut = step.axis, step.cut or 0  # None stands for the only cut of a 0/1 axis
            if not lower[axis] <= cut < upper[axis]:
                continue
            needed.append(step)
            if step.keep_right:
                lower[axis] = cut + 1
                raised_to_order(lower[None, :], self.orders)
            else:
                upper[axis] = cut
                lowered_to_order(upper[None, :], self.orders)
        return (lower, upper), needed

    def _uses(self, points: IntArray) -> FloatArray:
        """Return the least use of every constraint above points, which are put in order."""
        return self.problem.constraint_values(raised_to_order(points, self.orders))

    def _reaches(self, points: IntArray) -> FloatArray:
        """Return the most of every reverse constraint below points, which are put in order."""
        return self.problem.reverse_values(lowered_to_order(points, self.orders))

    def examine(self, box: Any, search: Search) -> Examined:
        tightenings: list[Tightening] = []
        for rounds in itertools.count(1):
            search.check()
            leaf = infeasible_corner(self.problem, box)
            if leaf is not None:
                return Examined(tightenings, box, leaf)
            before = box[1] - box[0]
            box, fitting = self._tightened(box, self._reduce_above(box, search))
            bound, proof = self._bound(box)
            tightenings += fitting
            if search.prunes(bound):
                return Examined(tightenings, box, bound=bound, proof=proof)
            box, meeting = self._tightened(box, self._reduce_unmet(box, search))
            winning, branch = self._reduce_poor(box, search)
            box, winning = self._tightened(box, winning)
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
        if search.x is None and search.nodes % _REPAIRED == 0:
            self._repair((box[0] + box[1]) // 2, search)
        return Examined(tightenings, box, bound=bound, proof=proof, branch=branch)

    def _repair(self, point: IntArray, search: Search) -> None:
        """Offer a climb from a feasible point near one, where there is such a point."""
        tuning = search.options.tuning.monotone
        near = repaired(self.problem, point, search.pressed, tuning)
        if near is not None:
            best = climbed(self.problem, near, False, search.pressed, tuning)
            self._offer_points((best,), search)

    def _bound(self, box: Box) -> tuple[float, Leaf]:
        corner = float(self._upper_values(box[1][None, :], box[0][None, :])[0])
        if self.marginal:
            gains = outward(self.problem.marginal_bound(*box), self.problem, self.error)
            if gains < corner:
                return gains, ("marginal", 0)
        return corner, ("corner", 0)

    def _upper_values(self, upper: IntArray, lower: IntArray) -> FloatArray:
        return outward(self.problem.upper_values(upper, lower), self.problem, self.error)

    def _reduce_above(self, box: Box, search: Search) -> list[Tightening]:
        """Lower each upper end to the largest level that fits on top of the lower corner."""
        lower, upper = box
        axes = np.flatnonzero(upper > lower)

        def too_high(levels: IntArray) -> BoolArray:
            used = asked(self._uses, lower, axes, levels, search)
            return np.asarray((used > 0).any(axis=1))

        first = first_true(too_high, lower[axes] + 1, upper[axes] + 1, search)
        cut = first <= upper[axes]
        used = asked(self._uses, lower, axes[cut], first[cut], search)
        broken = used > 0
        return [
            Tightening(int(axis), int(level) - 1, False, ("budget", int(np.argmax(row))))
            for axis, level, row in zip(axes[cut], first[cut], broken, strict=True)
        ]

    def _reduce_unmet(self, box: Box, search: Search) -> list[Tightening]:
        """Raise each lower end to the least level at which the upper corner meets the rows."""
        if not self.problem.reverse_constraints:
            return []
        lower, upper = box
        axes = np.flatnonzero(upper > lower)

        def met(levels: IntArray) -> BoolArray:
            return np.asarray((asked(self._reaches, upper, axes, levels, search) >= 0).all(axis=1))

        first = first_true(met, lower[axes], upper[axes], search)
        cut = first > lower[axes]
        unmet = asked(self._reaches, upper, axes[cut], first[cut] - 1, search) < 0
        return [
            Tightening(int(axis), int(level) - 1, True, ("cover", int(np.argmax(row))))
            for axis, level, row in zip(axes[cut], first[cut], unmet, strict=True)
        ]

    def _reduce_poor(self, box: Box, search: Search) -> tuple[list[Tightening], Branch]:
        """Raise each lower end to the least level that can still win; say where to split next."""
        lower, upper = box
        axes = np.flatnonzero(upper > lower)

        def values(points: IntArray) -> FloatArray:
            below = lowered_to_order(points, self.orders)
            return self._upper_values(below, np.broadcast_to(lower, points.shape))

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
        if (branch := towards_rows(self.problem, (lower, upper), search)) is not None:
            return pointed(examined, None, branch)
        point = box[2]
        if point is None or (point < lower).any() or (point > upper).any():
            point = maximal_feasible(self.problem, lower, upper, search)
            self._offer_points((point,), search)
        axes = np.flatnonzero(point < upper)
        if not len(axes):
            return pointed(examined, None)
        below = lowered_to_order(raised(upper, axes, point[axes]), self.orders)
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
        (lower, upper), orders = box, self.orders
        axes = np.flatnonzero(upper > lower)
        cuts = (lower + upper)[axes] // 2
        whole = np.zeros((len(axes), 1), dtype=np.int64)
        bounds = self._upper_values(
            np.vstack([lowered_to_order(raised(upper, axes, cuts), orders), upper + whole]),
            np.vstack([lower + whole, raised_to_order(raised(lower, axes, cuts + 1), orders)]),
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
