r"""Bounds for facility problems: Lagrangian values over a box of forced and allowed experts.

For thresholds :math:`\lambda`, row prices :math:`\mu` and cover prices :math:`\nu` the bound is the
inequality in `moe2opt.certify`, maximised over the box in closed form. The bounds differ in where
the multipliers come from:

* ``cuts``: projected cutting planes. The strong linear relaxation depends only on which experts
  are in; for a fractional choice its value per cluster is closed form, and gives the
  Nemhauser-Wolsey cut :math:`\theta_c \le \lambda_c + \sum_i (W_{ci}-\lambda_c)^+ y_i`. Cuts are
  added per block of clusters until the linear programme stands still. Its duals are the multipliers.
* ``submodular``: thresholds at the value of the forced experts, the best single budget priced at
  its critical ratio (the fractional knapsack over marginal gains).
* ``corner``: the value of everything allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from moe2opt.canonical import FacilityProblem, at_most_one_sets, indicators, partition
from moe2opt.result import BoolArray, Certificate, Conflict, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.brb import Examined, unknown_bound
from moe2opt.solvers.dominance import dominance_chains
from moe2opt.solvers.tree import Leaf, SplitTree, Step

BOUNDS = ("auto", "cuts", "submodular", "corner")

#: Budgets count as exceeded in floating point only beyond this relative margin; what lies within
#: is settled exactly at the last point.
_MARGIN = 1e-11


def facility_relaxation(problem: FacilityProblem, search: Search) -> FacilityRelaxation:
    """Return the relaxation for `search.options.bound`."""
    name = search.options.bound
    if name not in BOUNDS:
        raise unknown_bound(name, problem, BOUNDS)
    model = FacilityModel(problem)
    bounder: Bounder
    if name in ("auto", "cuts"):
        from moe2opt.solvers.cuts import CutBound

        bounder = CutBound(model)
    else:
        bounder = SubmodularBound(model) if name == "submodular" else CornerBound(model)
    return FacilityRelaxation(model, bounder, search)


@dataclass(frozen=True, slots=True)
class Subset:
    """All choices between a set of forced experts and a set of allowed ones."""

    forced: BoolArray
    allowed: BoolArray

    @property
    def free(self) -> BoolArray:
        """Experts that are allowed but not forced."""
        return self.allowed & ~self.forced


@dataclass(frozen=True, slots=True)
class Price:
    """Multipliers and the Lagrangian value that they give over a box.

    Attributes
    ----------
    cluster, row, cover
        Multipliers, see `moe2opt.result.Multipliers`.
    value
        Upper bound, rounding errors included.
    profit
        ``(N,)`` contribution of each expert when chosen.
    infeasible
        The rows alone, so priced, exclude every choice in the box.
    """

    cluster: FloatArray
    row: FloatArray
    cover: FloatArray
    value: float
    profit: FloatArray
    infeasible: bool = False


@dataclass(frozen=True, slots=True)
class Bounded:
    """A bound and the fractional choice it came from (None if the bound has none)."""

    price: Price
    fractional: FloatArray | None = None


class Bounder(Protocol):
    """Source of multipliers for a box."""

    def bound(self, box: Subset, search: Search) -> Bounded:
        """Return the best multipliers found for `box`."""


class FacilityModel:
    """A facility problem prepared for bounding.

    Attributes
    ----------
    values
        ``(C, N)`` weighted values, rounded up to multiples of ``2**-bits``.
    chains, sets, parts
        Dominance chains, all at-most-one sets, and a disjoint partition made of them.
    rows, limits
        Budget rows followed by one row per at-most-one set.
    covers
        ``(H, N)`` indicator rows.
    """

    def __init__(self, problem: FacilityProblem) -> None:
        self.problem = problem
        self.bits = grid_bits(problem.weighted)
        self.values = np.ldexp(np.ceil(np.ldexp(problem.weighted, self.bits)), -self.bits)
        # Without an objective every expert dominates every other, which says nothing about rows.
        self.chains = dominance_chains(problem) if problem.weighted.any() else []
        self.sets = at_most_one_sets(problem.groups, self.chains)
        self.parts = partition(self.sets, problem.size)
        self.order = np.concatenate(self.parts)
        self.starts = np.concatenate([[0], np.cumsum([len(p) for p in self.parts])[:-1]])
        self.part_of = np.repeat(np.arange(len(self.parts)), [len(p) for p in self.parts])
        self.part_of = self.part_of[np.argsort(self.order)]
        self.rows = np.vstack([problem.costs, indicators(self.sets, problem.size)])
        self.limits = np.concatenate([problem.limits, np.ones(len(self.sets))])
        self.covers = indicators(problem.covers, problem.size)

    def price(
        self, box: Subset, cluster: FloatArray, row: FloatArray, cover: FloatArray
    ) -> Price:
        """Return the Lagrangian value of multipliers over a box."""
        grid = np.ldexp(np.round(np.ldexp(np.maximum(cluster, 0.0), self.bits)), -self.bits)
        excess = np.maximum(self.values - grid[:, None], 0.0).sum(axis=0)
        paid, earned = row @ self.rows, cover @ self.covers
        constant = [float(grid.sum()), float(row @ self.limits), -float(cover.sum())]
        profit = excess - paid + earned
        size = float((excess + paid + earned)[box.allowed].sum()) + sum(map(abs, constant))
        value = sum(constant) + self.best(box, profit) + self._rounding_error(size)
        return Price(grid, row, cover, value, profit)

    def contradiction(self, box: Subset, row: FloatArray, cover: FloatArray) -> Price | None:
        """Return prices under which the rows alone exclude the box, or None if they do not."""
        paid, earned = row @ self.rows, cover @ self.covers
        constant = [float(row @ self.limits), -float(cover.sum())]
        size = float((paid + earned)[box.allowed].sum()) + sum(map(abs, constant))
        profit = earned - paid
        value = sum(constant) + self.best(box, profit) + 10 * self._rounding_error(size)
        nothing = np.zeros(0)
        return Price(nothing, row, cover, -math.inf, profit, True) if value < 0 else None

    def best(self, box: Subset, profit: FloatArray) -> float:
        """Return the largest total profit in the box, at most one expert from each part."""
        free, forced = self.part_profits(box, profit)
        return float(np.where(np.isnan(forced), np.maximum(free, 0.0), forced).sum())

    def part_profits(self, box: Subset, profit: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return per part the best free profit (-inf if none) and the forced one (NaN if none)."""
        free = np.maximum.reduceat(np.where(box.free, profit, -np.inf)[self.order], self.starts)
        forced = np.full(len(self.parts), np.nan)
        for i in np.flatnonzero(box.forced):
            part = self.part_of[i]
            forced[part] = profit[i] + (0.0 if math.isnan(forced[part]) else forced[part])
        return free, forced

    def _rounding_error(self, size: float) -> float:
        terms = self.problem.clusters + self.problem.size + len(self.limits) + 16
        return 2.3e-16 * terms * size


def grid_bits(weighted: FloatArray) -> int:
    """Return how finely values and thresholds may be cut so that all sums stay exact in int64."""
    largest = float(weighted.max(initial=0.0))
    total = max(float(weighted.max(axis=1, initial=0.0).sum()), float(weighted.sum(axis=0).max()))
    exact_entry = 52 - math.ceil(math.log2(largest + 1e-300)) if largest > 0 else 52
    exact_sum = 60 - math.ceil(math.log2(total + 1.0))
    return max(0, min(50, exact_entry, exact_sum))


class CornerBound:
    """The value of everything that is allowed."""

    def __init__(self, model: FacilityModel) -> None:
        self.model = model

    def bound(self, box: Subset, search: Search) -> Bounded:
        best = self.model.values[:, box.allowed].max(axis=1, initial=0.0)
        model = self.model
        return Bounded(
            model.price(box, best, np.zeros(len(model.limits)), np.zeros(len(model.covers)))
        )


class SubmodularBound:
    """Marginal gains over the forced experts, packed fractionally into the best single budget."""

    def __init__(self, model: FacilityModel) -> None:
        self.model = model

    def bound(self, box: Subset, search: Search) -> Bounded:
        model = self.model
        base = model.values[:, box.forced].max(axis=1, initial=0.0)
        zero = np.zeros(len(model.limits))
        cover = np.zeros(len(model.covers))
        plain = model.price(box, base, zero, cover)
        best = plain
        for k in range(len(model.problem.limits)):
            row = zero.copy()
            row[k] = self._critical_ratio(box, plain.profit, k)
            price = model.price(box, base, row, cover)
            best = price if price.value < best.value else best
        return Bounded(best)

    def _critical_ratio(self, box: Subset, gain: FloatArray, k: int) -> float:
        """Return gain per cost of the expert at which budget `k` runs out, 0 if it does not."""
        cost = self.model.problem.costs[k]
        left = self.model.limits[k] - cost[box.forced].sum()
        items = np.flatnonzero(box.free & (cost > 0))
        ratio = gain[items] / cost[items]
        ranked = np.argsort(-ratio, kind="stable")
        used = np.cumsum(cost[items][ranked])
        over = np.flatnonzero(used > left)
        return float(ratio[ranked[over[0]]]) if len(over) else 0.0


class FacilityRelaxation:
    """Reductions by budgets, groups and covers; bound and fixing by Lagrangian prices."""

    def __init__(self, model: FacilityModel, bounder: Bounder, search: Search) -> None:
        self.model, self.bounder = model, bounder
        self.tree = SplitTree()
        self._start(search)

    def _start(self, search: Search) -> None:
        from moe2opt.solvers.baselines import greedy_facility, improve_facility

        start = greedy_facility(self.model.problem)
        if start is not None:
            search.offer(start, "H")
            search.offer(improve_facility(self.model.problem, start), "H")

    def root(self) -> Subset:
        size = self.model.problem.size
        return Subset(np.zeros(size, dtype=bool), np.ones(size, dtype=bool))

    def split(self, box: Subset, axis: int, cut: int) -> tuple[Subset, Subset]:
        return _excluded(box, axis), _forced(box, axis)

    def certificate(self, claim: float, conflict: Conflict | None) -> Certificate:
        chains = tuple(tuple(map(int, chain)) for chain in self.model.chains)
        return self.tree.certificate(
            self.model.problem,
            claim,
            grid_bits=self.model.bits,
            chains=chains,
            conflict=conflict,
        )

    def examine(self, box: Subset, search: Search) -> Examined:
        steps, box, leaf = self._propagate(box)
        if leaf is not None:
            return Examined(steps, box, leaf)
        if not box.free.any():
            return self._single_point(steps, box, search)
        bounded = self.bounder.bound(box, search)
        price = bounded.price
        index = self.tree.price(price.cluster, price.row, price.cover)
        if price.infeasible:
            return Examined(steps, box, ("farkas", index))
        proof = ("dual", index)
        if not search.closes(price.value):
            self._round(box, bounded, search)
        if search.closes(price.value):
            return Examined(steps, box, bound=price.value, proof=proof)
        fixed, box = self._fix(box, price, proof, search)
        implied, box, leaf = self._propagate(box)
        steps += fixed + implied
        if leaf is not None:
            return Examined(steps, box, leaf)
        if not box.free.any():
            return self._single_point(steps, box, search)
        return Examined(steps, box, None, price.value, proof, self._branch(box, bounded))

    def _single_point(self, steps: list[Step], box: Subset, search: Search) -> Examined:
        problem = self.model.problem
        over = problem.usage_of(box.forced) > problem.limits
        if over.any():
            return Examined(steps, box, ("budget", int(np.argmax(over))))
        search.offer(box.forced, "B")
        return Examined(steps, box, bound=problem.evaluate(box.forced), proof=("corner", 0))

    # ------------------------------------------------------------------ reductions

    def _propagate(self, box: Subset) -> tuple[list[Step], Subset, Leaf | None]:
        """Exclude what no longer fits and force what covers need, until nothing changes."""
        steps: list[Step] = []
        while True:
            leaf = self._broken(box)
            if leaf is not None:
                return steps, box, leaf
            new = self._excluding(box) or self._forcing(box)
            if not new:
                return steps, box, None
            steps += new
            for step in new:
                box = _forced(box, step.axis) if step.keep_right else _excluded(box, step.axis)

    def _broken(self, box: Subset) -> Leaf | None:
        model, problem = self.model, self.model.problem
        used = problem.costs[:, box.forced].sum(axis=1)
        over = used > problem.limits + _MARGIN * np.abs(problem.limits)
        if over.any():
            return ("budget", int(np.argmax(over)))
        crowded = model.rows[len(problem.limits) :, box.forced].sum(axis=1) > 1
        if crowded.any():
            return ("group", int(np.argmax(crowded)))
        bare = ~(model.covers[:, box.allowed] > 0).any(axis=1)
        return ("cover", int(np.argmax(bare))) if bare.any() else None

    def _excluding(self, box: Subset) -> list[Step]:
        model = self.model
        budgets = len(model.problem.limits)
        left = model.limits - model.rows[:, box.forced].sum(axis=1)
        tolerance = _MARGIN * np.abs(model.limits)
        over = (model.rows > (left + tolerance)[:, None]) & box.free[None, :]
        steps = []
        for i in np.flatnonzero(over.any(axis=0)):
            row = int(np.argmax(over[:, i]))
            leaf = ("budget", row) if row < budgets else ("group", row - budgets)
            steps.append(Step(int(i), 0, False, leaf))
        return steps

    def _forcing(self, box: Subset) -> list[Step]:
        members = self.model.covers > 0
        unmet = ~members[:, box.forced].any(axis=1)
        single = np.flatnonzero(unmet & (members[:, box.allowed].sum(axis=1) == 1))
        if not len(single):
            return []
        cover = int(single[0])
        expert = int(np.argmax(members[cover] & box.allowed))
        return [Step(expert, 0, True, ("cover", cover))]

    def _fix(
        self, box: Subset, price: Price, proof: Leaf, search: Search
    ) -> tuple[list[Step], Subset]:
        """Exclude and force experts whose other side the prices already rule out."""
        free_best, forced = self.model.part_profits(box, price.profit)
        steps: list[Step] = []
        for i in np.flatnonzero(box.free):
            part = self.model.part_of[i]
            if not math.isnan(forced[part]):
                continue
            without = price.value - max(0.0, free_best[part])
            if search.closes(without + price.profit[i]):
                steps.append(Step(int(i), 0, False, proof, without + float(price.profit[i])))
                box = _excluded(box, int(i))
        for part in np.flatnonzero(np.isnan(forced) & (free_best > 0)):
            members = [int(i) for i in self.model.parts[part] if box.free[i]]
            ranked = sorted(members, key=lambda i: -price.profit[i])
            second = max(0.0, price.profit[ranked[1]]) if len(ranked) > 1 else 0.0
            bound = price.value - free_best[part] + second
            if ranked and search.closes(bound):
                steps.append(Step(ranked[0], 0, True, proof, float(bound)))
                box = _forced(box, ranked[0])
        return steps, box

    # ------------------------------------------------------------------ incumbents, branching

    def _round(self, box: Subset, bounded: Bounded, search: Search) -> None:
        """Build a solution from the most wanted experts that fit."""
        from moe2opt.solvers.baselines import improve_facility

        wanted = bounded.price.profit if bounded.fractional is None else bounded.fractional
        chosen = box.forced.copy()
        left = self.model.limits - self.model.rows[:, chosen].sum(axis=1)
        ranked = sorted(np.flatnonzero(box.free), key=lambda i: (-wanted[i], -bounded.price.profit[i]))
        for i in ranked:
            if (self.model.rows[:, i] <= left).all():
                chosen[i] = True
                left -= self.model.rows[:, i]
        if search.offer(chosen, "L"):
            search.offer(improve_facility(self.model.problem, chosen.astype(np.int64)), "L")

    def _branch(self, box: Subset, bounded: Bounded) -> tuple[int, int] | None:
        free = np.flatnonzero(box.free)
        if not len(free):
            return None
        gain = np.maximum(bounded.price.profit[free], 0.0)
        if bounded.fractional is not None:
            y = bounded.fractional[free]
            middle = np.minimum(y, 1.0 - y)
            if middle.max() > 1e-6:
                return int(free[np.argmax(middle)]), 0
        return int(free[np.argmax(gain)]), 0


def _excluded(box: Subset, axis: int) -> Subset:
    allowed = box.allowed.copy()
    allowed[axis] = False
    return replace(box, allowed=allowed)


def _forced(box: Subset, axis: int) -> Subset:
    forced = box.forced.copy()
    forced[axis] = True
    return replace(box, forced=forced)
