r"""Bounds for facility problems: Lagrangian values over a box of forced and allowed experts.

For thresholds :math:`\lambda`, row prices :math:`\mu` and cover prices :math:`\nu` the bound is the
inequality in `moe2opt.certify`, maximised over the box in closed form. The bounds differ in where
the multipliers come from:

* ``cuts``: projected cutting planes. The strong linear relaxation depends only on which experts
  are in; for a fractional choice its value per cluster is closed form, and gives the
  Nemhauser-Wolsey cut :math:`\theta_c \le \lambda_c + \sum_i (W_{ci}-\lambda_c)^+ y_i`. Cuts are
  added per block of clusters until the programme stands still. Its duals are the multipliers.
* ``submodular``: thresholds at the value of the forced experts, the best single budget priced at
  its critical ratio (the fractional knapsack over marginal gains).
* ``corner``: the value of everything allowed.
"""

from __future__ import annotations

import math

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import Certificate
from moe2opt.solvers.base import Search
from moe2opt.solvers.facility_model import (
    Bounded,
    Bounder,
    CornerBound,
    FacilityModel,
    Price,
    SubmodularBound,
    Subset,
)
from moe2opt.solvers.relaxation import Examined, unknown_bound
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
        return box.without(axis), box.with_forced(axis)

    def certificate(self, claim: float) -> Certificate:
        chains = tuple(tuple(map(int, chain)) for chain in self.model.chains)
        return self.tree.certificate(
            self.model.problem,
            claim,
            grid_bits=self.model.bits,
            chains=chains,
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
                box = box.with_forced(step.axis) if step.keep_right else box.without(step.axis)

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
                box = box.without(int(i))
        for part in np.flatnonzero(np.isnan(forced) & (free_best > 0)):
            members = [int(i) for i in self.model.parts[part] if box.free[i]]
            ranked = sorted(members, key=lambda i: -price.profit[i])
            second = max(0.0, price.profit[ranked[1]]) if len(ranked) > 1 else 0.0
            bound = price.value - free_best[part] + second
            if ranked and search.closes(bound):
                steps.append(Step(ranked[0], 0, True, proof, float(bound)))
                box = box.with_forced(ranked[0])
        return steps, box

    # ------------------------------------------------------------------ incumbents, branching

    def _round(self, box: Subset, bounded: Bounded, search: Search) -> None:
        """Build a solution from the most wanted experts that fit."""
        from moe2opt.solvers.baselines import improve_facility

        wanted = bounded.price.profit if bounded.fractional is None else bounded.fractional
        chosen = box.forced.copy()
        left = self.model.limits - self.model.rows[:, chosen].sum(axis=1)
        ranked = sorted(
            np.flatnonzero(box.free), key=lambda i: (-wanted[i], -bounded.price.profit[i])
        )
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
