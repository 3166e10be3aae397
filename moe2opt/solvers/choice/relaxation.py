r"""Bounds for multiple-choice problems: Lagrangian values over sets of allowed options.

For row prices :math:`\mu \ge 0`, every feasible choice is worth at most
:math:`\mu b + \sum_g \max_{o \text{ allowed}} (v_{go} - \mu u_{go})`. The prices are the duals of
the linear relaxation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import BoolArray, Certificate, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.choice.classes import classes_of, counting_pays
from moe2opt.solvers.choice.counts import CountsRelaxation
from moe2opt.solvers.choice.engine import ChoiceEngine
from moe2opt.solvers.choice.heuristics import greedy_choice, improve_choice
from moe2opt.solvers.choice.kinds import kinds_of
from moe2opt.solvers.lp import LinearProgram, LinearSolution
from moe2opt.solvers.relaxation import Examined, unknown_bound
from moe2opt.solvers.tree import Leaf, SplitTree, Tightening

BOUNDS = ("auto", "core", "counts", "lagrangian", "corner")

_MARGIN = 1e-11

#: Options of all classes up to which the LP of a node with totals is worth its time.
_TOTALLED = 6000


def choice_relaxation(
    problem: MultipleChoiceProblem, search: Search
) -> ChoiceRelaxation | ChoiceEngine | CountsRelaxation:
    """Return the relaxation for `search.options.bound`."""
    name = search.options.bound
    if name not in BOUNDS:
        raise unknown_bound(name, problem, BOUNDS)
    tuning = search.options.tuning.choice
    if name == "counts" or (name == "auto" and search.options.proof == "any"):
        classes = classes_of(problem)
        if name == "counts" or counting_pays(problem, classes, tuning):
            return CountsRelaxation(problem, search, classes)
    many = len(problem.flat_values) >= tuning.core_options
    large = many and len(problem.limits) <= tuning.most_rows
    if name == "core" or (name == "auto" and large):
        return ChoiceEngine(problem, tuning)
    return ChoiceRelaxation(problem, search, priced=name != "corner")


def second_choice(
    relaxation: object, problem: MultipleChoiceProblem, search: Search
) -> Callable[[], CountsRelaxation] | None:
    """Return what takes turns with the core, if anything.

    Totals of kinds close what single options do not, but an LP for each of their nodes is dear
    where the core is quick, and too dear where there are many options.
    """
    free = search.options.bound == "auto" and search.options.proof == "any"
    if not free or not isinstance(relaxation, ChoiceEngine):
        return None
    classes = classes_of(problem)
    first = [members[0] for members in classes]
    columns = np.concatenate([np.arange(problem.offsets[g], problem.offsets[g + 1]) for g in first])
    if len(columns) > _TOTALLED:
        return None
    starts = np.concatenate([[0], np.cumsum([len(problem.values[g]) for g in first])])
    sizes = np.array([len(members) for members in classes])
    if not len(kinds_of(problem.costs[:, columns], starts, sizes)):
        return None
    return lambda: CountsRelaxation(problem, search, classes)


@dataclass(frozen=True, slots=True)
class _Priced:
    """Prices, the profit of each option under them, the bound and the fractional choice."""

    row: FloatArray
    profit: FloatArray
    value: float
    fractional: FloatArray | None = None
    infeasible: bool = False
    error: float = 0.0


class ChoiceRelaxation:
    """Nodes are flags of allowed options; an option is fixed to be out, or to be chosen."""

    def __init__(self, problem: MultipleChoiceProblem, search: Search, *, priced: bool) -> None:
        self.problem = problem
        self.tree = SplitTree()
        self.starts = problem.offsets[:-1]
        self.group_of = np.repeat(np.arange(problem.size), np.diff(problem.offsets))
        norms = np.maximum(np.abs(problem.limits), problem.costs.max(axis=1, initial=0.0))
        self.row_scale = 1.0 / np.where(norms > 0, norms, 1.0)
        self.scale = 1000.0 / max(float(np.abs(problem.flat_values).max()), 1e-300)
        self.lp = self._new_lp() if priced else None
        self._start(search)

    def _start(self, search: Search) -> None:
        stop, tuning = search.pressed, search.options.tuning.choice
        start = greedy_choice(self.problem, stop=stop, tuning=tuning)
        if start is not None:
            search.offer(start, "H")
            better = improve_choice(self.problem, start, stop=stop, tuning=tuning)
            search.offer(better, "H")

    def root(self) -> BoolArray:
        return np.ones(len(self.group_of), dtype=bool)

    def split(self, box: BoolArray, axis: int, cut: int) -> tuple[BoolArray, BoolArray]:
        return self._excluded(box, axis), self._chosen(box, axis)

    def certificate(self, claim: float) -> Certificate:
        return self.tree.certificate(self.problem, claim)

    def examine(self, box: BoolArray, search: Search) -> Examined:
        fixings, box, leaf = self._propagate(box)
        if leaf is not None:
            return Examined(fixings, box, leaf)
        if np.count_nonzero(box) == self.problem.size:
            return self._single_point(fixings, box, search)
        priced = self._bound(box, search)
        if not self.tree.prices:
            search.blur(priced.error)
        nothing = np.zeros(0)
        index = self.tree.price(nothing, priced.row, nothing)
        if priced.infeasible:
            return Examined(fixings, box, ("farkas", index))
        proof = ("dual", index)
        if not search.prunes(priced.value):
            self._round(box, priced, search)
        if search.prunes(priced.value):
            return Examined(fixings, box, bound=priced.value, proof=proof)
        fixed, box = self._fix(box, priced, proof, search)
        implied, box, leaf = self._propagate(box)
        fixings += fixed + implied
        if leaf is not None:
            return Examined(fixings, box, leaf)
        if np.count_nonzero(box) == self.problem.size:
            return self._single_point(fixings, box, search)
        return Examined(fixings, box, None, priced.value, proof, self._branch(box, priced))

    def _single_point(self, fixings: list[Tightening], box: BoolArray, search: Search) -> Examined:
        x = np.flatnonzero(box) - self.starts
        over = self.problem.usage_of(x) > self.problem.limits
        if over.any():
            return Examined(fixings, box, ("budget", int(np.argmax(over))))
        search.offer(x, "B")
        return Examined(fixings, box, bound=self.problem.evaluate(x), proof=("corner", 0))

    # ------------------------------------------------------------------ fixing

    def _propagate(self, box: BoolArray) -> tuple[list[Tightening], BoolArray, Leaf | None]:
        """Exclude options that break a budget even with the lightest choice everywhere else."""
        fixings: list[Tightening] = []
        problem = self.problem
        limits = problem.limits + _MARGIN * np.abs(problem.limits)
        while True:
            empty = np.add.reduceat(box.astype(np.int64), self.starts) == 0
            if empty.any():
                return fixings, box, ("group", int(np.argmax(empty)))
            costs = np.where(box[None, :], problem.costs, np.inf)
            least = np.minimum.reduceat(costs, self.starts, axis=1)
            base = least.sum(axis=1)
            over = base > limits
            if over.any():
                return fixings, box, ("budget", int(np.argmax(over)))
            extra = problem.costs - least[:, self.group_of]
            heavy = (base[:, None] + extra > limits[:, None]) & box[None, :]
            options = np.flatnonzero(heavy.any(axis=0))
            if not len(options):
                return fixings, box, None
            rows = np.argmax(heavy[:, options], axis=0)
            fixings += [
                Tightening(int(option), None, False, ("budget", int(row)))
                for option, row in zip(options, rows, strict=True)
            ]
            box = box.copy()
            box[options] = False

    def _fix(
        self, box: BoolArray, priced: _Priced, proof: Leaf, search: Search
    ) -> tuple[list[Tightening], BoolArray]:
        """Exclude options whose choice the prices already rule out."""
        best = np.maximum.reduceat(np.where(box, priced.profit, -np.inf), self.starts)
        bounds = priced.value - best[self.group_of] + priced.profit
        useless = box & search.prunes_each(bounds)
        fixings = [
            Tightening(int(m), None, False, proof, float(bounds[m]))
            for m in np.flatnonzero(useless)
        ]
        return fixings, box & ~useless

    def _excluded(self, box: BoolArray, option: int) -> BoolArray:
        smaller = box.copy()
        smaller[option] = False
        return smaller

    def _chosen(self, box: BoolArray, option: int) -> BoolArray:
        smaller: BoolArray = box & (self.group_of != self.group_of[option])
        smaller[option] = True
        return smaller

    # ------------------------------------------------------------------ bound

    def _new_lp(self) -> LinearProgram:
        problem = self.problem
        options = len(self.group_of)
        lp = LinearProgram(problem.flat_values * self.scale, np.zeros(options), np.ones(options))
        lp.add_rows(problem.costs * self.row_scale[:, None], problem.limits * self.row_scale)
        ones = np.ones(options)
        columns = np.arange(options)
        lp.add_sparse_rows(self.starts, columns, ones, np.ones(problem.size))
        lp.add_sparse_rows(self.starts, columns, -ones, -np.ones(problem.size))
        return lp

    def _bound(self, box: BoolArray, search: Search) -> _Priced:
        free = self._value(box, np.zeros(len(self.problem.limits)))
        if self.lp is None:
            return free
        self.lp.set_bounds(np.arange(len(box)), np.zeros(len(box)), box.astype(np.float64))
        solution = self.lp.solve(search.time_left_s)
        if solution.price is None:
            return free
        return self._from_lp(box, solution, free)

    def _from_lp(self, box: BoolArray, solution: LinearSolution, free: _Priced) -> _Priced:
        assert solution.price is not None
        count = len(self.problem.limits)
        row = solution.price[:count] * self.row_scale
        if solution.infeasible:
            found = self._value(box, row, objective=0.0)
            if found.value < 0:
                return _Priced(row, found.profit, -math.inf, infeasible=True)
            return free
        priced = self._value(box, row / self.scale)
        best = priced if priced.value < free.value else free
        return replace(best, fractional=solution.x)

    def _value(self, box: BoolArray, row: FloatArray, objective: float = 1.0) -> _Priced:
        """Return the Lagrangian value of row prices over a box, rounding errors included."""
        problem = self.problem
        paid = row @ problem.costs
        profit = objective * problem.flat_values - paid
        base = float(row @ problem.limits)
        terms = problem.size + len(row) + 16
        # Every option with its own error: a forbidden one of -1e9 blurs none of the others.
        most = profit + 2.3e-16 * terms * (np.abs(profit) + 2.0 * paid)
        best = np.maximum.reduceat(np.where(box, most, -np.inf), self.starts)
        error = 2.3e-16 * terms * (float(np.abs(best).sum()) + abs(base))
        return _Priced(row, most, base + float(best.sum()) + error, error=error)

    # ------------------------------------------------------------------ incumbents, branching

    def _round(self, box: BoolArray, priced: _Priced, search: Search) -> None:
        """Take the most wanted option of each group; repair by moving to lighter ones."""
        wanted = priced.profit if priced.fractional is None else priced.fractional
        x = self._best_options(box, wanted)
        if not search.offer(x, "L"):
            repaired = greedy_choice(self.problem, x, search.pressed, search.options.tuning.choice)
            if repaired is not None:
                search.offer(repaired, "L")

    def _best_options(self, box: BoolArray, wanted: FloatArray) -> IntArray:
        score = np.where(box, wanted, -np.inf)
        best = np.maximum.reduceat(score, self.starts)
        first = np.flatnonzero(score == best[self.group_of])
        _, position = np.unique(self.group_of[first], return_index=True)
        return np.asarray(first[position] - self.starts)

    def _branch(self, box: BoolArray, priced: _Priced) -> tuple[int, int] | None:
        sizes = np.add.reduceat(box.astype(np.int64), self.starts)
        open_options = np.flatnonzero(box & (sizes[self.group_of] > 1))
        if not len(open_options):
            return None
        if priced.fractional is not None:
            z = priced.fractional[open_options]
            middle = np.minimum(z, 1.0 - z)
            if middle.max() > 1e-6:
                return int(open_options[np.argmax(middle)]), 0
        return int(open_options[np.argmax(priced.profit[open_options])]), 0
