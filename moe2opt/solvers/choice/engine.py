"""The multiple-choice engine: root dual, fixing, dives, and branch and bound in the core."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import BoolArray, Certificate, FloatArray, Limit
from moe2opt.solvers.base import Search
from moe2opt.solvers.choice.core import SHRUNK, CoreSearch, Shrunk
from moe2opt.solvers.choice.heuristics import greedy_choice, improve_choice
from moe2opt.solvers.choice.kernels import INFEASIBLE, descend
from moe2opt.solvers.choice.lattice import fill
from moe2opt.solvers.choice.model import ChoiceModel, Part
from moe2opt.solvers.choice.polish import polish
from moe2opt.solvers.choice.rounded import Budgets
from moe2opt.solvers.choice.tree import RootTree, core_records, sealed
from moe2opt.solvers.choice.vertex import Vertex, new_vertex
from moe2opt.solvers.choice.walk import walk
from moe2opt.solvers.choice.warm import warm_up
from moe2opt.solvers.relaxation import Explored
from moe2opt.solvers.tuning import ChoiceTuning


def fractional(whole: Part, vertex: Vertex) -> FloatArray:
    """Return the ``(M,)`` fractional choice that the vertex of the whole problem stands for."""
    core = whole.core
    x = np.zeros(len(core.values))
    x[vertex.key] = 1.0
    tie = np.flatnonzero(vertex.first >= 0)
    first, weight = vertex.first[tie], np.clip(vertex.weight[tie], 0.0, 1.0)
    np.add.at(x, first, weight)
    np.add.at(x, vertex.key[core.group_of[first]], -weight)
    choice = np.zeros(len(whole.options) + len(whole.picked) - len(whole.groups))
    choice[whole.picked] = 1.0
    choice[whole.options] = x
    return choice


class ChoiceEngine:
    """Grows the tree of one multiple-choice problem; see `moe2opt.solvers.choice.search`."""

    def __init__(self, problem: MultipleChoiceProblem, tuning: ChoiceTuning) -> None:
        self.problem, self.tuning = problem, tuning
        self.model = ChoiceModel(problem)
        self.tree = RootTree(self.model.row_scale)

    def certificate(self, claim: float) -> Certificate:
        """Return the certificate of the finished tree."""
        return sealed(self.problem, claim, self.tree)

    def explore(self, search: Search) -> Explored:
        """Prove the optimum, or a bound at a limit."""
        warm_up(search)
        limit = search.limit_reached()
        if limit is not None:
            self.tree.leaf("corner", None)
            return Explored(math.inf, limit)
        search.nodes += 1
        search.tick()
        whole = self.model.part(np.ones(len(self.model.values), dtype=bool))
        root = self._root(whole)
        if root is None:
            return Explored(-math.inf, None)
        bound, vertex = root
        search.blur(self.model.error * (self.model.size + float(vertex.price @ self.model.sizes)))
        search.improve_bound(search.rounded(bound))
        self._first_incumbents(search)
        self.tree.leaf("dual", vertex.price)
        if not search.prunes(bound):
            self._dive(whole, vertex, bound, search)
        if not search.prunes(bound):
            whole, vertex, bound = self._rounded(whole, vertex, bound, search)
        if search.prunes(bound):
            return Explored(search.rounded(bound), None)
        limit = search.limit_reached()
        if limit is not None:
            return Explored(search.rounded(bound), limit)
        return self._prove(whole, vertex, bound, search)

    # ------------------------------------------------------------------ root

    def _root(self, whole: Part) -> tuple[float, Vertex] | None:
        """Return bound and vertex of the linear relaxation; None when it is infeasible."""
        core = whole.core
        vertex = new_vertex(core)
        box = np.ones(len(core.values), dtype=np.uint8)
        if len(core.starts) > 4 * self.tuning.sample:
            self._sampled_start(whole, vertex)
        ending, bound = descend(core, vertex, box, -math.inf, 1000)
        if ending == INFEASIBLE:
            self.tree.leaf("farkas", vertex.direction)
            return None
        if core.aimless:
            vertex.price[:] = 0.0
        return bound, vertex

    def _sampled_start(self, whole: Part, vertex: Vertex) -> None:
        """Start at the best vertex of a sample of groups: its ties are ties of the whole."""
        core = whole.core
        groups = len(core.starts) - 1
        sample = np.unique(np.linspace(0, groups - 1, self.tuning.sample).astype(np.int64))
        options = np.flatnonzero(np.isin(core.group_of, sample))
        sizes = np.diff(core.starts)[sample]
        share = len(sample) / groups
        small = core._replace(
            values=np.ascontiguousarray(core.values[options]),
            costs=np.ascontiguousarray(core.costs[options]),
            rows=np.ascontiguousarray(core.rows[:, options]),
            starts=np.concatenate([[0], np.cumsum(sizes)]),
            group_of=np.repeat(np.arange(len(sample)), sizes),
            limits=core.limits * share,
        )
        start = new_vertex(small)
        descend(small, start, np.ones(len(options), dtype=np.uint8), -math.inf, 300)
        tie = start.first >= 0
        vertex.first[:] = np.where(tie, options[np.maximum(start.first, 0)], start.first)
        vertex.partner[:] = np.where(tie, options[np.maximum(start.partner, 0)], -1)
        vertex.price[:] = start.price
        profit = core.values - core.costs @ start.price
        best = np.maximum.reduceat(profit, core.starts[:-1])
        top = np.flatnonzero(profit == best[core.group_of])
        vertex.key[core.group_of[top]] = top
        vertex.key[core.group_of[vertex.partner[tie]]] = vertex.partner[tie]

    def _rounded(
        self, whole: Part, vertex: Vertex, bound: float, search: Search
    ) -> tuple[Part, Vertex, float]:
        """Add rounded rows where they close much of the gap, and dive under their prices.

        Only where a solution is known: proofs of infeasibility name the budgets that they need.
        """
        barred = search.first_feasible or search.options.proof != "any" or self.model.aimless
        if barred or search.x is None or len(self.model.values) < self.tuning.rounded_options:
            return whole, vertex, bound
        problem, kept = self.problem, (self.model, self.tree)
        plain = whole, vertex, bound
        sizes = np.ones(problem.size, dtype=np.int64)
        budgets = Budgets(problem.costs, problem.limits, problem.offsets, sizes)
        names: list[tuple[int, int]] = []
        for _ in range(self.tuning.core_rounded):
            new = budgets.violated(fractional(whole, vertex), names, self.tuning)
            if not new or search.limit_reached() is not None:
                break
            names.append(new[0])
            self.model = ChoiceModel(problem, [budgets.rounded(*name) for name in names])
            self.tree = RootTree(self.model.row_scale, rounded=tuple(names))
            whole = self.model.part(np.ones(len(self.model.values), dtype=bool))
            root = self._root(whole)
            if root is None:  # by rounding only, since a solution is known
                bound = plain[-1]
                break
            bound, vertex = root
            if search.prunes(bound):
                break
        if plain[-1] - bound < self.tuning.rounded_share * (plain[-1] - search.objective):
            self.model, self.tree = kept
            return plain
        search.blur(self.model.error * (self.model.size + float(vertex.price @ self.model.sizes)))
        search.improve_bound(search.rounded(bound))
        self.tree.leaf("dual", vertex.price)
        if not search.prunes(bound):
            self._dive(whole, vertex, bound, search)
        return whole, vertex, bound

    def _first_incumbents(self, search: Search) -> None:
        """Offer greedy choices and what swaps make of them, where that is cheap."""
        if len(self.model.values) > self.tuning.small:
            return
        start = greedy_choice(self.problem, stop=search.pressed, tuning=self.tuning)
        if start is not None:
            search.offer(start, "H")
            better = improve_choice(self.problem, start, 30, search.pressed, self.tuning)
            search.offer(better, "H")

    def _regrets(self, vertex: Vertex) -> FloatArray:
        """Return how much less than the best option of its group every option is worth."""
        profit = self.model.values - self.model.costs @ vertex.price
        best = np.maximum.reduceat(profit, self.model.starts)
        return np.asarray(best[self.model.group_of] - profit)

    def _dive(self, whole: Part, vertex: Vertex, bound: float, search: Search) -> None:
        """Look for incumbents among the options that cost least under the prices."""
        if self.model.aimless:
            return
        regret = self._regrets(vertex)
        keys = whole.options[vertex.key]
        regret[keys] = 0.0
        for options in self.tuning.dive_options:
            place = len(self.model.starts) + options
            # A dive among most of the options is the search itself, without a proof.
            if len(regret) < 2 * place or search.prunes(bound):
                return
            level = np.partition(regret, place)[place]
            box = regret < level
            box[keys] = True
            box[np.delete(whole.picked, whole.groups)] = True
            CoreSearch(self.model.part(box), bound, search).run(self.tuning.dive_nodes)
            fill(self.model, vertex.price, bound, search)
            filled = search.objective
            polish(self.model, vertex.price, bound, search)
            if search.objective > filled:
                fill(self.model, vertex.price, bound, search)

    # ------------------------------------------------------------------ core

    def _prove(self, whole: Part, vertex: Vertex, bound: float, search: Search) -> Explored:
        """Fix what the root rules out and search the rest, again when the rest has shrunk."""
        while True:
            fixed, shaved = self._fixed(whole, vertex, bound, search)
            part = self.model.part(~fixed)
            self.tree.reduce(np.flatnonzero(fixed), vertex.price)
            core = CoreSearch(part, bound, search, vertex.price)
            ended = self._searched(core, vertex, bound, search)
            if ended is SHRUNK:
                continue
            self.tree.core = core_records(part, core.state)
            return Explored(search.rounded(max(shaved, core.bound)), ended)

    def _searched(
        self, core: CoreSearch, vertex: Vertex, bound: float, search: Search
    ) -> Limit | Literal[Shrunk.SHRUNK] | None:
        """Search a core to its end, and walk from the incumbent whenever its nodes have doubled."""
        nodes = self.tuning.walk_nodes
        while True:
            ended = core.run(nodes)
            if ended is not None or not core.is_open:
                return ended
            before = search.objective
            moves = max(self.tuning.walk_least, self.tuning.walk_moves * nodes)
            walk(self.model, vertex.price, bound, search, moves)
            if search.objective > before and core.should_shrink():
                return SHRUNK
            nodes *= 2

    def _fixed(
        self, whole: Part, vertex: Vertex, bound: float, search: Search
    ) -> tuple[BoolArray, float]:
        """Return flags of the options that the root rules out, and the bound on all of them."""
        if self.model.aimless:
            return np.zeros(len(self.model.values), dtype=bool), -math.inf
        regret = self._regrets(vertex)
        regret[whole.options[vertex.key]] = 0.0
        bounds = bound - regret + self.model.error * self.model.size
        fixed = search.prunes_each(bounds) & (regret > 0)
        return fixed, float(bounds[fixed].max(initial=-math.inf))
