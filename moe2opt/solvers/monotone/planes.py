"""Bounds from the planes of parts: prices of rows, and good parameters of terms.

The parameters of each term follow what the relaxation chooses: tangents touch where coverage is,
coefficients of pairs move to the variable that takes less of the other one (subgradients). Prices
of the rows are found one after the other, exactly for the planes at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.canonical import MonotoneProblem
from moe2opt.canonical.planes import Planes, planes_of
from moe2opt.canonical.symmetry import Orders
from moe2opt.canonical.terms import Around, Plane, divided
from moe2opt.canonical.wrapped import Quotient
from moe2opt.result import FloatArray, Multipliers
from moe2opt.solvers.base import Search
from moe2opt.solvers.monotone.bases import Weighed, takes_bases, weighed
from moe2opt.solvers.monotone.boxes import Box, outward
from moe2opt.solvers.monotone.heuristics import climbed, improving_monotone
from moe2opt.solvers.monotone.relaxation import CornerRelaxation, MixedRelaxation
from moe2opt.solvers.monotone.steps import Chosen, Line, Step, advance, first_parameters
from moe2opt.solvers.relaxation import Examined
from moe2opt.solvers.tree import Leaf, PriceNumber, Tightening

#: Steps without a clearly better bound before steps are halved, three times at most.
_PATIENCE = 6


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A box and the multipliers that its parent ended with."""

    corners: Box
    start: Multipliers


@dataclass(slots=True, eq=False)
class _Best:
    """The best multipliers so far, the bounds they give, and what is left of each level.

    `raw` bounds the innermost part of the objective, `value` the objective; a box `is_empty` where
    the rows contradict each other under these prices.
    """

    value: float
    raw: float
    multipliers: Multipliers
    table: FloatArray
    means: FloatArray
    is_empty: bool = False


class PlaneRelaxation(CornerRelaxation):
    """Corners first, and in what they leave planes: bounds, tightenings and where to split."""

    def __init__(
        self, problem: MonotoneProblem, planes: Planes, *, marginal: bool, orders: Orders
    ) -> None:
        super().__init__(problem, marginal=marginal, orders=orders)
        corners = CornerRelaxation if problem.mixed_objective is None else MixedRelaxation
        self.planes, self._inner = planes, corners(problem, marginal=marginal, orders=orders)
        self._climbs = 0

    def root(self) -> Any:
        planes, problem = self.planes, self.problem
        around = planes.around(problem.lower, problem.upper)
        start = np.concatenate([first_parameters(own.term, around) for own in planes.sums])
        prices = np.zeros(len(planes.above)), np.zeros(len(planes.below))
        return _Node((problem.lower, problem.upper), Multipliers(start, *prices))

    def split(self, box: Any, axis: int, cut: int) -> Any:
        below, above = super().split(box.corners, axis, cut)
        return _Node(below, box.start), _Node(above, box.start)

    def examine(self, box: Any, search: Search) -> Examined:
        found = self._inner.examine(box.corners, search)
        node = _Node(found.box, box.start)
        at = found.tightenings, node
        if found.leaf is not None or search.prunes(found.bound) or found.branch is None:
            return Examined(*at, found.leaf, found.bound, found.proof, found.branch)
        best = self._improved(node, search)
        if best.is_empty:
            return Examined(*at, ("farkas", self._leaf(best.multipliers)[1]))
        bound, proof, leaf = found.bound, found.proof, self._leaf(best.multipliers)
        if (value := outward(best.value, self.problem, self.error)) < bound:
            bound, proof = value, leaf
        if search.prunes(bound):
            return Examined(*at, bound=bound, proof=proof)
        corners, steps = self._reduced(found.box, best, leaf, search)
        self._offer(best.means, corners, search)
        again = self._inner.examine(corners, search) if steps else found
        if again.bound < bound:
            bound, proof = again.bound, again.proof
        cuts = [*found.tightenings, *steps, *(again.tightenings if steps else ())]
        node = _Node(again.box, best.multipliers)
        branch = None if again.branch is None else self._branch(again.box, best)
        return Examined(cuts, node, again.leaf, bound, proof, branch)

    def secured(self, box: _Node, bound: float, proof: Leaf) -> tuple[float, Leaf]:
        """Return what multipliers prove in a box itself, or its corner if that is less.

        Base points of oracles move with the box, so that the same multipliers may say less in a
        part of it than in all of it.
        """
        if not isinstance(proof[1], PriceNumber):
            return bound, proof
        value = self.planes.value(proof[1].vectors, self.planes.around(*box.corners))
        if (value := outward(value, self.problem, self.error)) <= bound:
            return bound, proof
        corner, kind = self._bound(box.corners)
        return (value, proof) if value <= corner else (corner, kind)

    def _leaf(self, found: Multipliers) -> Leaf:
        return "dual", self.tree.price(found.cluster, found.row, found.cover)

    def _improved(self, node: _Node, search: Search) -> _Best:
        """Look for multipliers with a small bound over a box, from those of its parent on."""
        around = self.planes.around(*node.corners)
        given, prices = node.start.cluster.copy(), (node.start.row, node.start.cover)
        if isinstance(self.planes.objective.term, Quotient) and math.isfinite(search.objective):
            given[0] = abs(search.objective)
        tuning, best, since, pace = search.options.tuning.monotone, None, 0, 1.0
        rounds = tuning.plane_steps[search.nodes > 1]
        if search.first_feasible:  # there is no bound to improve: contradictions show soon
            rounds = tuning.plane_steps[1] // 4
        first = 0 if search.nodes <= 1 else tuning.plane_steps[1]
        means = None
        based = self._based(given, around, search, rounds)
        if based is not None:
            given[: len(based.parameters)], rounds = based.parameters, 1
        for k in range(rounds):
            search.check()
            planes = self.planes.planes(given, around)
            row, cover, chosen = self._prices(planes, around, *prices)
            prices = row, cover
            raw = self.planes.bound_of(planes, row, cover, around)
            value = float(self.planes.lifted(np.array([raw]), given, around)[0])
            means = chosen.means if means is None else 0.7 * means + 0.3 * chosen.means
            if best is None or value < best.value:
                clear = best is None or value < best.value - 1e-4 * abs(best.value)
                since = 0 if clear else since + 1
                table = self.planes.priced(planes, row, cover)
                assert table is not None
                found = Multipliers(given.copy(), row, cover)
                best = _Best(value, raw, found, table.table, means)
            else:
                since += 1
            if search.x is None and self._contradict(planes, row, cover, around):
                best.multipliers, best.is_empty = Multipliers(given.copy(), row, cover), True
                return best
            if search.prunes(outward(value, self.problem, self.error)):
                break
            if since >= _PATIENCE:
                pace, since = pace / 2, 0
                given = best.multipliers.cluster.copy()
                if pace < 0.1:
                    break
                continue
            above = pace * self._excess(raw, search)
            sums = divided(self.planes.sums, given)
            for factor, (own, parameters) in zip([1.0, *row, *cover], sums, strict=True):
                reach = above / factor if factor > 0 else 0.0
                advance(parameters, own.term, Step(chosen, around, row, reach, raw, first + k))
        assert best is not None
        best.means = means if means is not None else best.means
        if based is not None:
            best.means = based.means
        return best

    def _based(
        self, given: FloatArray, around: Around, search: Search, rounds: int
    ) -> Weighed | None:
        """Return base points of a submodular objective with good weights, if it is one."""
        if search.first_feasible or not takes_bases(self.planes):
            return None
        own = given[: self.planes.objective.parameters]
        return weighed(self.planes, own, around, search, rounds)

    def _prices(
        self, planes: Sequence[Plane], around: Around, row: FloatArray, cover: FloatArray
    ) -> tuple[FloatArray, FloatArray, Chosen]:
        """Return prices of the rows, each the best one beside the others, and what is taken."""
        grid, side = self.planes.grid, self.planes.side
        pairs = [(p, s.limit) for p, s in zip(planes[1:], self.planes.sums[1:], strict=True)]
        above = len(self.planes.above)
        signs = [1.0] * above + [-1.0] * len(self.planes.below)
        uses = [s * p.table for s, (p, _) in zip(signs, pairs, strict=True)]
        limits = [s * (b - p.constant) for s, (p, b) in zip(signs, pairs, strict=True)]
        table = np.where(around.inside, side * planes[0].table, -np.inf)
        prices = np.concatenate([row, cover])
        chosen = Line(grid.starts, grid.owners)
        shares = None
        for _turn in range(2 if len(uses) > 1 else 1):
            for r, (use, limit) in enumerate(zip(uses, limits, strict=True)):
                if not math.isfinite(limit) or not use.any():
                    prices[r] = 0.0
                    continue
                rest = table - sum(
                    (prices[q] * uses[q] for q in range(len(uses)) if q != r and prices[q]),
                    np.zeros(len(table)),
                )
                prices[r], mixed = chosen.price(rest, use, limit)
                shares = mixed if prices[r] > 0 or shares is None else shares
        if shares is None:
            shares = chosen.takes(table)
        means = np.bincount(grid.owners, shares * grid.levels, len(grid.starts))
        return prices[:above], prices[above:], Chosen(shares, np.asarray(means, dtype=np.float64))

    def _contradict(
        self, planes: Sequence[Plane], row: FloatArray, cover: FloatArray, around: Around
    ) -> bool:
        """Tell whether the rows have no common point; prices then grow without end."""
        return self.planes.bound_of(planes, row, cover, around, farkas=True) < 0

    def _excess(self, value: float, search: Search) -> float:
        """Return by how much a bound is above what it should come down to."""
        if isinstance(self.planes.objective.term, Quotient):
            return max(1e-9, abs(value))
        if self.planes.outers or not math.isfinite(search.objective):
            return max(1e-9, 0.1 * abs(value))
        return max(1e-9, value - search.objective)

    def _reduced(
        self, box: Box, best: _Best, leaf: Leaf, search: Search
    ) -> tuple[Box, list[Tightening]]:
        """Cut off the ends of ranges that cannot win under the multipliers; return what is left."""
        lower, upper, grid = box[0].copy(), box[1].copy(), self.planes.grid
        table = np.where(grid.inside(lower, upper), best.table, -np.inf)
        around = self.planes.around(lower, upper)
        left = best.raw - grid.best(table)[grid.owners] + np.where(table > -np.inf, table, 0.0)
        left = self.planes.lifted(left, best.multipliers.cluster, around)
        losing = search.prunes_each(outward(left, self.problem, self.error))
        steps: list[Tightening] = []
        for i in np.flatnonzero(upper > lower).tolist():
            start = int(grid.starts[i] - grid.box.lower[i])
            loses = losing[start + lower[i] : start + upper[i] + 1]
            if loses.all():
                continue
            first, last = int(np.argmin(loses)), int(np.argmin(loses[::-1]))
            ends = [(int(lower[i]) + first - 1, True)] if first else []
            ends += [(int(upper[i]) - last, False)] if last else []
            for cut, keep_right in ends:
                if not lower[i] <= cut < upper[i]:
                    continue
                below, above = CornerRelaxation.split(self, (lower, upper), i, cut)
                gone, kept = (below, above) if keep_right else (above, below)
                value = self.planes.value(best.multipliers, self.planes.around(*gone))
                bound = outward(value, self.problem, self.error)
                if search.prunes(bound):
                    steps.append(Tightening(i, cut, keep_right, leaf, bound))
                    lower, upper = kept
        return (lower, upper), steps

    def _offer(self, means: FloatArray, box: Box, search: Search) -> None:
        """Offer a climb from what the relaxation takes, in one of eight nodes, and exchanges."""
        self._climbs += 1
        point = np.clip(np.floor(means + 1e-6).astype(np.int64), *box)
        if self._climbs % 8 != 1 or (self.problem.constraint_values(point[None, :]) > 0).any():
            return
        tuning, before = search.options.tuning.monotone, search.objective
        search.offer(climbed(self.problem, point, False, search.pressed, tuning), "H")
        if search.x is not None and search.objective > before:
            better = improving_monotone(self.problem, search.x, search.pressed, tuning)
            for x, _ in zip(better, range(tuning.exchanges), strict=False):
                search.offer(x, "H")

    def _branch(self, box: Box, best: _Best) -> tuple[int, int] | None:
        """Split where the relaxation is furthest from a whole number, else the widest range."""
        lower, upper = box
        free = upper > lower
        if not free.any():
            return None
        means = np.clip(best.means, lower, upper)
        part = means - np.floor(means)
        grid = self.planes.grid
        inside = grid.inside(lower, upper)
        spread = grid.best(np.where(inside, self._weight, -np.inf))
        score = np.where(free, np.minimum(part, 1.0 - part) * spread, -1.0)
        if score.max() <= 1e-6:
            score = np.where(free, spread * (upper - lower), -1.0)
        i = int(np.argmax(score))
        cut = int(np.clip(np.floor(means[i]), lower[i], upper[i] - 1))
        return i, cut

    @property
    def _weight(self) -> FloatArray:
        """Return how much each level adds to the objective when it is taken first."""
        if not hasattr(self, "_gains"):
            grid, problem = self.planes.grid, self.problem
            points = np.repeat(problem.upper[None, :], len(grid.levels), axis=0)
            points[np.arange(len(points)), grid.owners] = problem.lower[grid.owners]
            whole = float(problem.upper_values(problem.upper[None, :], problem.lower[None, :])[0])
            low = np.broadcast_to(problem.lower, points.shape)
            self._gains = np.abs(whole - problem.upper_values(points, low)) + 1e-12
        return self._gains


def with_planes(corners: CornerRelaxation) -> CornerRelaxation:
    """Return a relaxation that adds the bounds of declared parts, where they have any."""
    problem = corners.problem
    planes = planes_of(problem.structure, problem.lower, problem.upper)
    if planes is None:
        return corners
    return PlaneRelaxation(problem, planes, marginal=corners.marginal, orders=corners.orders)
