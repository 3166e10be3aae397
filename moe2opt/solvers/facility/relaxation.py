r"""Bounds for facility problems: Lagrangian values over a box of forced and allowed experts.

For thresholds :math:`\lambda`, row prices :math:`\mu` and cover prices :math:`\nu` the bound is the
inequality in `moe2opt.certify`, maximised over the box in closed form. The bounds differ in where
the multipliers come from:

* ``cuts``: projected cutting planes. The strong linear relaxation depends only on which experts
  are in; for a fractional choice its value per cluster is closed form, and gives the
  Nemhauser-Wolsey cut :math:`\theta_c \le \lambda_c + \sum_i (W_{ci}-\lambda_c)^+ y_i`. Cuts are
  added per block of clusters until the LP stands still. Its duals are the multipliers.
* ``submodular``: thresholds at the value of the forced experts, the best single budget priced at
  its critical ratio (the fractional knapsack over marginal gains).
* ``corner``: the value of everything allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import Certificate, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.facility.cuts import CutBound
from moe2opt.solvers.facility.growth import Growth
from moe2opt.solvers.facility.heuristics import greedy_facility
from moe2opt.solvers.facility.kernels import find_excluded
from moe2opt.solvers.facility.lagrangian import AutomaticBound, LagrangianBound
from moe2opt.solvers.facility.model import (
    MARGIN,
    Bounded,
    Bounder,
    CornerBound,
    FacilityModel,
    Price,
    SubmodularBound,
    Subset,
)
from moe2opt.solvers.facility.polish import Polisher
from moe2opt.solvers.facility.warm import warm_up, warm_up_trees
from moe2opt.solvers.relaxation import Examined, OpenNode, unknown_bound
from moe2opt.solvers.tree import Exclusions, Leaf, SplitTree, Tightening
from moe2opt.solvers.tuning import FacilityTuning

BOUNDS = ("auto", "cuts", "lagrangian", "submodular", "corner")


def facility_relaxation(problem: FacilityProblem, search: Search) -> FacilityRelaxation:
    """Return the relaxation for `search.options.bound`."""
    name = search.options.bound
    if name not in BOUNDS:
        raise unknown_bound(name, problem, BOUNDS)
    warm_up(search)
    simplify, tuning = search.options.proof != "linear", search.options.tuning.facility
    model = FacilityModel(problem, simplify=simplify, tuning=tuning)
    return FacilityRelaxation(model, _bounder(name, model), search)


def _bounder(name: str, model: FacilityModel) -> Bounder:
    if name == "submodular":
        return SubmodularBound(model)
    if name == "corner":
        return CornerBound(model)
    if name == "cuts":
        return CutBound(model)
    return AutomaticBound(model) if name == "auto" else LagrangianBound(model)


#: Fixings of a node, what they leave, and why nothing is left of it.
_Propagated = tuple[list[Tightening], Subset, Leaf | None]


class FacilityRelaxation:
    """What branch-reduce-and-bound does in a node of a facility problem.

    `resume` is one node from top to bottom: propagate, bound, round, prune, fix, propagate again,
    choose where to branch. Bounds come from `facility/lagrangian.py` (cheap nodes) and
    `facility/cuts.py` (the LP), incumbents from `facility/polish.py`.
    """

    def __init__(self, model: FacilityModel, bounder: Bounder, search: Search) -> None:
        assert isinstance(search.problem, FacilityProblem)
        original = self.original = search.problem
        self.model, self.bounder = model, bounder
        self.tree = SplitTree()
        self.polisher = Polisher(model, original)
        self.scores = PseudoCosts(model.problem.size, model.tuning)
        self.target = search.target
        self.rounds = 0
        self.at_root = True
        cheap = bounder.cheap if isinstance(bounder, AutomaticBound) else bounder
        self.growth = (
            Growth(model, cheap, self.polisher)
            if isinstance(cheap, LagrangianBound) and search.options.threads == 1
            else None
        )
        self._start(search)

    def _start(self, search: Search) -> None:
        """Offer a greedy choice and what local search makes of it."""
        start = greedy_facility(self.original, search.pressed, self.model.tuning)
        if start is not None:
            self.polisher.start(np.asarray(start) > 0, search)

    def root(self) -> Subset:
        size = self.model.problem.size
        return Subset(np.zeros(size, dtype=bool), np.ones(size, dtype=bool))

    def split(self, box: Subset, axis: int, cut: int) -> tuple[Subset, Subset]:
        left, right = box.without(axis), box.with_forced(axis)
        lengths = [self.scores.first_length(box, axis, side, self.target) for side in range(2)]
        return (
            replace(left, branch=axis, length=lengths[0]),
            replace(right, branch=axis, length=lengths[1]),
        )

    def certificate(self, claim: float) -> Certificate:
        return self.tree.certificate(
            self.original,
            claim,
            rows=len(self.model.limits),
            grid_bits=self.model.bits,
            chains=tuple(tuple(map(int, chain)) for chain in self.model.chains),
            types=self.model.merged.types,
            rounded=tuple(self.model.rounded),
        )

    def wants_restart(self) -> bool:
        """Tell to begin again with multipliers from elsewhere."""
        wanted = isinstance(self.bounder, AutomaticBound) and self.bounder.wants_restart()
        self.at_root = self.at_root or wanted
        return wanted

    def can_grow(self, search: Search) -> bool:
        """Tell whether the tree can grow in compiled code: below its root, towards a cutoff."""
        if self.growth is None or not self.growth.fits or self.at_root:
            return False
        tuning, problem = self.model.tuning, self.original
        few = problem.size * len(problem.values) < tuning.grown_cells
        if few and search.nodes < tuning.grown_nodes:
            return False
        return search.x is not None and not search.first_feasible and self.can_start()

    def grow(
        self, nodes: Sequence[OpenNode], pruned: float, search: Search
    ) -> tuple[list[OpenNode], float]:
        """Let the tree grow in compiled code, see `moe2opt.solvers.facility.growth`."""
        assert self.growth is not None
        assert isinstance(self.bounder, AutomaticBound | LagrangianBound)
        warm_up_trees(search)
        experience = (self.scores.total, self.scores.count)
        return self.growth.grow(nodes, pruned, self.tree, experience, self.bounder, search)

    def can_start(self) -> bool:
        """Tell whether nodes are bounded by steps that threads can take side by side."""
        cheap = self.bounder
        return isinstance(cheap, AutomaticBound | LagrangianBound) and cheap.is_cheap()

    def start(self, box: Subset, target: float) -> tuple[_Propagated, Bounded | None]:
        """Propagate a node and bound it if it is still open, without any effect elsewhere."""
        propagated = self._propagate(box)
        _, small, leaf = propagated
        done = leaf is not None or not small.free.any()
        assert isinstance(self.bounder, AutomaticBound | LagrangianBound)
        return propagated, None if done else self.bounder.bound_cheaply(small, target)

    def examine(self, box: Subset, search: Search) -> Examined:
        return self.resume(box, search, (self._propagate(box), None))

    def resume(
        self, box: Subset, search: Search, start: tuple[_Propagated, Bounded | None]
    ) -> Examined:
        """Return what `examine` does, with the propagation and perhaps the bound given."""
        (fixings, box, leaf), ahead = start
        if leaf is not None:
            return Examined(fixings, box, leaf)
        if not box.free.any():
            return self._single_point(fixings, box, search)
        bounded = ahead or self.bounder.bound(box, search)
        if isinstance(self.bounder, AutomaticBound):
            self.bounder.count(bounded, search)
        price = bounded.price
        if not self.tree.prices:
            search.blur(price.error)
        self.scores.learn(box, price.value)
        index = self.tree.price(self.model.kinds.each(price.cluster), price.row, price.cover)
        if price.infeasible:
            return Examined(fixings, box, ("farkas", index))
        proof = ("dual", index)
        if not search.prunes(price.value):
            self._round(box, bounded, search)
        if search.prunes(price.value):
            return Examined(fixings, box, bound=price.value, proof=proof)
        fixed, box = self._fix(box, price, proof, search)
        implied, box, leaf = self._propagate(box)
        every = [*fixings, *fixed, *implied]
        if leaf is not None:
            return Examined(every, box, leaf)
        if not box.free.any():
            return self._single_point(every, box, search)
        if self.at_root:
            self.model.focus(box.allowed)
            self.at_root = False
        box, self.target = replace(box, parent=bounded, branch=-1), search.target
        return Examined(every, box, None, price.value, proof, (self._branch(box, bounded), 0))

    def _single_point(
        self, fixings: Sequence[Tightening | Exclusions], box: Subset, search: Search
    ) -> Examined:
        problem = self.model.problem
        over = problem.usage_of(box.forced) > problem.limits
        if over.any():
            return Examined(fixings, box, ("budget", int(np.argmax(over))))
        point = self.polisher.unmerged(box.forced)
        if point is not None:
            search.offer(point, "B")
        return Examined(fixings, box, bound=problem.evaluate(box.forced), proof=("corner", 0))

    # ------------------------------------------------------------------ fixing

    def _propagate(self, box: Subset) -> _Propagated:
        """Exclude what no longer fits and force what covers need, until nothing changes."""
        fixings: list[Tightening] = []
        while True:
            leaf, new = self._by_rows(box)
            leaf = leaf or self._bare_cover(box) or self._overfull(box)
            if leaf is not None:
                return fixings, box, leaf
            new = new or self._forcing(box) or self._unpackable(box)
            if not new:
                return fixings, box, None
            fixings += new
            box = _after(box, new)

    def _by_rows(self, box: Subset) -> tuple[Leaf | None, list[Tightening]]:
        """Return the budget or set that is broken, else the experts that would break one."""
        model = self.model
        number = len(model.problem.limits) + len(model.cliques)
        row_of = np.full(model.problem.size, -1)
        broken = find_excluded(
            model.rows[:number], model.limits[:number], MARGIN, box.forced, box.allowed, row_of
        )
        if broken >= 0:
            return self._row_leaf(broken), []
        out = np.flatnonzero(row_of >= 0)
        return None, [Tightening(int(i), None, False, self._row_leaf(int(row_of[i]))) for i in out]

    def _row_leaf(self, row: int) -> Leaf:
        budgets = len(self.model.problem.limits)
        return ("budget", row) if row < budgets else ("group", row - budgets)

    def _bare_cover(self, box: Subset) -> Leaf | None:
        if not len(self.model.covers):
            return None
        bare = ~(self.model.covers[:, box.allowed] > 0).any(axis=1)
        return ("cover", int(np.argmax(bare))) if bare.any() else None

    def _overfull(self, box: Subset) -> Leaf | None:
        overfull = self.model.overfull_type(box.forced)
        return None if overfull is None else ("packing", overfull)

    def _unpackable(self, box: Subset) -> list[Tightening]:
        """Exclude experts that do not pack into the rows of their type beside the forced ones."""
        return [
            Tightening(int(i), None, False, ("packing", t))
            for t in range(len(self.model.merged.types))
            for i in self.model.unpackable(box, t)
        ]

    def _forcing(self, box: Subset) -> list[Tightening]:
        if not len(self.model.covers):
            return []
        members = self.model.covers > 0
        unmet = ~members[:, box.forced].any(axis=1)
        single = np.flatnonzero(unmet & (members[:, box.allowed].sum(axis=1) == 1))
        if not len(single):
            return []
        cover = int(single[0])
        expert = int(np.argmax(members[cover] & box.allowed))
        return [Tightening(expert, None, True, ("cover", cover))]

    def _fix(
        self, box: Subset, price: Price, proof: Leaf, search: Search
    ) -> tuple[list[Tightening | Exclusions], Subset]:
        """Exclude and force experts whose other side the prices already rule out."""
        free_best, forced = self.model.part_profits(box, price.profit)
        open_part = np.isnan(forced)
        best = np.where(open_part, np.maximum(free_best, 0.0), 0.0)
        chosen_bound = price.value - best[self.model.part_of] + price.profit
        fixings: list[Tightening | Exclusions] = []
        allowed, forced_in = box.allowed.copy(), box.forced.copy()
        useless = box.free & open_part[self.model.part_of] & search.prunes_each(chosen_bound)
        if useless.any():
            out = np.flatnonzero(useless)
            fixings.append(Exclusions(out, proof, float(chosen_bound[out].max())))
        allowed &= ~useless
        # Without its best expert a part can at most be left empty or filled by the next best.
        for part in np.flatnonzero((best > 0) & search.prunes_each(price.value - best)):
            members = self.model.parts[part]
            members = members[allowed[members] & ~forced_in[members]]
            if not len(members):
                continue
            profit = price.profit[members]
            first = int(np.argmax(profit))
            second = float(np.delete(profit, first).max(initial=0.0))
            bound = float(price.value - best[part] + second)
            if search.prunes(bound):
                fixings.append(Tightening(int(members[first]), None, True, proof, bound))
                forced_in[members[first]] = True
        return fixings, replace(box, allowed=allowed, forced=forced_in)

    # ------------------------------------------------------------------ incumbents, branching

    def _round(self, box: Subset, bounded: Bounded, search: Search) -> None:
        """Fill up the forced experts with the most wanted ones; polish what is new."""
        wanted = bounded.price.profit if bounded.fractional is None else bounded.fractional
        tuning = self.model.tuning
        early = self.rounds < tuning.first_nodes
        self.rounds += 1
        every = tuning.round_first if early else tuning.round_every
        if bounded.cheap and not self.at_root and self.rounds % every:
            return
        better = self.polisher.round(box, wanted, "L", search, thorough=bounded.cheap)
        first = box.parent is None
        if search.x is not None and (first or (better and not bounded.cheap)):
            self.polisher.kick(np.asarray(search.x) > 0, search)

    def _branch(self, box: Subset, bounded: Bounded) -> int:
        free = np.flatnonzero(box.free)
        if bounded.fractional is None:
            return int(free[np.argmax(bounded.price.profit[free])])
        return int(free[np.argmax(self.scores.of(free, bounded.fractional[free]))])


def _after(box: Subset, fixings: Sequence[Tightening]) -> Subset:
    """Return what fixings leave of a node."""
    allowed, forced = box.allowed.copy(), box.forced.copy()
    allowed[[fixing.axis for fixing in fixings if not fixing.keep_right]] = False
    forced[[fixing.axis for fixing in fixings if fixing.keep_right]] = True
    return replace(box, allowed=allowed, forced=forced)


def _way(fractional: FloatArray, axis: int, side: int) -> float:
    """Return the square of how far a fraction moves when it goes to one side."""
    y = float(np.clip(fractional[axis], 0.05, 0.95))
    return (1.0 - y if side else y) ** 2


class PseudoCosts:
    """How much the bound fell in the past when an expert was excluded or chosen.

    The classical estimate (Benichou et al. 1971), but per squared change of the fractional choice:
    the LP's value is a sum over clusters of concave functions with many pieces, so that it falls
    about like a parabola. Averaged per expert and side; experts never branched on count as average.
    """

    def __init__(self, size: int, tuning: FacilityTuning) -> None:
        self.tuning = tuning
        self.total = np.zeros((2, size))
        self.count = np.zeros((2, size))

    def learn(self, box: Subset, value: float) -> None:
        """Take in what the last branching achieved."""
        if box.branch < 0 or box.parent is None or box.parent.fractional is None:
            return
        side = int(box.forced[box.branch])
        fall = max(0.0, box.parent.price.value - value) if math.isfinite(value) else 0.0
        self.total[side, box.branch] += fall / _way(box.parent.fractional, box.branch, side)
        self.count[side, box.branch] += 1

    def first_length(self, box: Subset, axis: int, side: int, target: float) -> float:
        """Return the first length of the descent of a half: gentler with the target out of reach.

        Polyak's rule takes the target for the minimum, so that steps are too long where it is far
        below. What counts as within reach is `trust` times the fall that experience promises.
        """
        tuning, parent, times = self.tuning, box.parent, self.count[side, axis]
        if parent is None or parent.fractional is None or times == 0.0:
            return tuning.length
        away = parent.price.value - target
        fall = self.total[side, axis] / times * _way(parent.fractional, axis, side)
        if away <= 0.0:
            return tuning.length
        return float(min(tuning.length, max(tuning.gentlest, tuning.trust * fall / away)))

    def of(self, free: IntArray, fractional: FloatArray) -> FloatArray:
        """Return the product score of the free experts."""
        y = np.clip(fractional, 0.02, 0.98)
        seen = np.maximum(self.count[:, free], 1.0)
        average = self.total.sum(axis=1) / np.maximum(self.count.sum(axis=1), 1.0)
        estimate = np.where(
            self.count[:, free] > 0, self.total[:, free] / seen, np.maximum(average, 1e-6)[:, None]
        )
        fall = np.maximum(estimate * np.stack([y, 1.0 - y]) ** 2, 1e-9)
        return np.asarray(fall[0] * fall[1])
