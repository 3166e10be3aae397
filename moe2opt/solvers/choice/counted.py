r"""The linear relaxation over counts: its rows, its bounds, and what its prices prove in a box."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.choice.kinds import kinds_of
from moe2opt.solvers.choice.rounded import Budgets
from moe2opt.solvers.lp import LinearProgram, LinearSolution
from moe2opt.solvers.tuning import ChoiceTuning


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """Bounds on the counts of all options, class after class, and on the totals of kinds."""

    lower: IntArray
    upper: IntArray
    least: IntArray
    most: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """Row prices, the profit of each option, the bound, and the fractional counts and totals."""

    row: FloatArray
    profit: FloatArray
    value: float
    error: float
    counts: FloatArray | None = None
    totals: FloatArray | None = None
    infeasible: bool = False


class Counted:
    """Counts of the options of all classes, the rows that bind them, and their LP.

    Attributes
    ----------
    sizes, starts, class_of
        Groups of each class, its first option (and the end), and the class of each option.
    values, costs, limits
        ``(M,)`` values, ``(R, M)`` and ``(R,)`` rows: budgets, totals at most and at least (their
        limits are those of a box), and rounded rows.
    members
        ``(T, M)`` which options each total counts.
    budgets
        The budgets, as rows that may be rounded.
    rounded
        What the rounded rows are: budgets and numbers of parts.
    """

    def __init__(
        self,
        problem: MultipleChoiceProblem,
        classes: tuple[tuple[int, ...], ...],
        tuning: ChoiceTuning,
    ) -> None:
        self.problem, self.tuning = problem, tuning
        self.sizes = np.array([len(members) for members in classes], dtype=np.int64)
        first = [members[0] for members in classes]
        widths = [len(problem.values[g]) for g in first]
        self.starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
        self.class_of = np.repeat(np.arange(len(classes)), widths)
        columns = np.concatenate(
            [np.arange(problem.offsets[g], problem.offsets[g + 1]) for g in first]
        )
        self.values = problem.flat_values[columns]
        self.costs = np.ascontiguousarray(problem.costs[:, columns])
        self.limits = problem.limits
        self.budgets = Budgets(self.costs, self.limits, self.starts, self.sizes)
        self.members = kinds_of(self.costs, self.starts, self.sizes)
        self.rounded: list[tuple[int, int]] = []
        norms = np.maximum(np.abs(self.limits), self.costs.max(axis=1, initial=0.0))
        self.row_scale = 1.0 / np.where((norms > 0) & np.isfinite(norms), norms, 1.0)
        self.scale = 1000.0 / max(float(np.abs(self.values).max()), 1e-300)
        self.lp = self._new_lp()
        self._add_totals()

    def root(self) -> Box:
        totals = np.zeros(len(self.members), np.int64)
        return Box(
            np.zeros(len(self.class_of), np.int64),
            self.sizes[self.class_of],
            totals,
            totals + self.problem.size,
        )

    def split(self, box: Box, axis: int, cut: int) -> tuple[Box, Box]:
        """Return the halves of a box: by an option's count, by a total, or (-1) by options."""
        if cut == -1:
            places, own = (
                np.arange(len(self.class_of)),
                self.class_of == self.class_of[axis],
            )
            return (
                replace(box, upper=np.where(own & (places > axis), 0, box.upper)),
                replace(box, upper=np.where(own & (places <= axis), 0, box.upper)),
            )
        total = axis - len(self.class_of)
        if total >= 0:
            most, least = box.most.copy(), box.least.copy()
            most[total], least[total] = cut, cut + 1
            return replace(box, most=most), replace(box, least=least)
        upper, lower = box.upper.copy(), box.lower.copy()
        upper[axis], lower[axis] = cut, cut + 1
        return replace(box, upper=upper), replace(box, lower=lower)

    def empty_class(self, box: Box) -> int | None:
        """Return a class whose bounds leave no counts, None without one."""
        least = np.add.reduceat(box.lower, self.starts[:-1])
        most = np.add.reduceat(box.upper, self.starts[:-1])
        empty = (least > self.sizes) | (most < self.sizes)
        return int(np.argmax(empty)) if empty.any() else None

    def _new_lp(self) -> LinearProgram:
        root = self.root()
        top = np.concatenate([root.upper, root.most]).astype(np.float64)
        worth = np.concatenate([self.values * self.scale, np.zeros(len(root.most))])
        lp = LinearProgram(worth, np.zeros(len(top)), top)
        columns, ones = np.arange(len(self.class_of)), np.ones(len(self.class_of))
        lp.add_sparse_rows(self.starts[:-1], columns, ones, self.sizes.astype(np.float64))
        lp.add_sparse_rows(self.starts[:-1], columns, -ones, -self.sizes.astype(np.float64))
        self._add_rows(lp, self.costs, self.limits, self.row_scale)
        return lp

    def _add_totals(self) -> None:
        """Tie the columns of the totals to the counts, from above and from below.

        As rows to be priced they say that a total is at most, and at least, what a box says.
        """
        count = len(self.members)
        tied = np.hstack([self.members, -np.eye(count)])
        self.lp.add_rows(np.vstack([tied, -tied]), np.zeros(2 * count))
        self.costs = np.vstack([self.costs, self.members, -self.members])
        self.limits = np.append(self.limits, np.zeros(2 * count))
        self.row_scale = np.append(self.row_scale, np.ones(2 * count))
        self.sized = np.abs(self.costs)

    def limits_in(self, box: Box) -> FloatArray:
        """Return the limits of all rows in a box."""
        limits, first, count = self.limits.copy(), len(self.problem.limits), len(self.members)
        limits[first : first + 2 * count] = np.concatenate([box.most, -box.least])
        return limits

    @staticmethod
    def _add_rows(
        lp: LinearProgram, costs: FloatArray, limits: FloatArray, scale: FloatArray
    ) -> None:
        """Append budget rows; one without limit keeps its place and says nothing."""
        finite = np.isfinite(limits)
        matrix = np.where(finite, scale, 0.0)[:, None] * costs
        lp.add_rows(matrix, np.where(finite, limits * scale, 1.0))

    def round_rows(self, box: Box, priced: Priced, search: Search) -> Priced:
        """Add the rounded rows that the fractional counts violate, in a few rounds.

        Searches for any feasible point do without: proofs for several limits share their rows.
        """
        if search.first_feasible:
            return priced
        for _ in range(self.tuning.rounded_rounds):
            if priced.counts is None or search.prunes(priced.value):
                return priced
            new = self.budgets.violated(priced.counts, self.rounded, self.tuning)
            new = new[: self.tuning.rounded_rows - len(self.rounded)]
            if not new:
                return priced
            for row, parts in new:
                own, limit = self.budgets.rounded(row, parts)
                self._add_rows(self.lp, own[None, :], np.array([limit]), np.array([1.0 / limit]))
                self.costs = np.vstack([self.costs, own])
                self.sized = np.abs(self.costs)
                self.limits = np.append(self.limits, limit)
                self.row_scale = np.append(self.row_scale, 1.0 / limit)
                self.rounded.append((row, parts))
            priced = self.bound(box, search)
        return priced

    def bound(self, box: Box, search: Search) -> Priced:
        free = self.value(box, np.zeros(len(self.limits)))
        solution = self.solved(box, search)
        if solution.price is None:
            return free
        row = solution.price[2 * len(self.sizes) :] * self.row_scale
        row = np.where(np.isfinite(self.limits), row, 0.0)
        if solution.infeasible:
            found = self.value(box, row, objective=0.0)
            return found if found.infeasible else free
        found = self.value(box, row / self.scale)
        best = found if found.value < free.value else free
        x, options = solution.x, len(self.class_of)
        if x is None:
            return best
        return replace(best, counts=x[:options], totals=x[options:])

    def solved(self, box: Box, search: Search) -> LinearSolution:
        lower, upper = np.append(box.lower, box.least), np.append(box.upper, box.most)
        self.lp.set_bounds(np.arange(len(lower)), lower.astype(float), upper.astype(float))
        return self.lp.solve(search.time_left_s)

    def value(self, box: Box, row: FloatArray, objective: float = 1.0) -> Priced:
        """Return the Lagrangian value of row prices over a box, rounding errors included."""
        paid, most = row @ self.costs, row @ self.sized
        profit = objective * self.values - paid
        # A limit of a row that is not priced may be infinite.
        limits = np.where(row > 0, self.limits_in(box), 0.0)
        base = float(row @ limits)
        # Of options that are nearly as profitable, the one that rounding made worse may be best.
        slips = 4.5e-16 * (len(row) + 2) * (np.abs(objective * self.values) + most)
        taken, _ = self.filled(box, profit + slips)
        terms = 2 * len(self.class_of) + len(row) + 16
        size = float((np.abs(profit) + 2.0 * most) @ taken) + float(row @ np.abs(limits))
        error = 4.5e-16 * terms * size + float(slips @ taken)
        value = base + float(profit @ taken) + error
        return Priced(row, profit, value, error, infeasible=not objective and value < 0)

    def filled(self, box: Box, profit: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return the most profitable counts, and the least profit taken in each class."""
        order = np.lexsort((-profit, self.class_of))
        room = (box.upper - box.lower)[order]
        before = np.cumsum(room) - room
        left = self.sizes - np.add.reduceat(box.lower, self.starts[:-1])
        own = self.class_of  # of the options in this order, too
        more = np.clip(left[own] - (before - before[self.starts[:-1]][own]), 0, room)
        taken, least = box.lower.copy(), np.full(len(self.sizes), -np.inf)
        taken[order] += more
        last = np.flatnonzero(more)
        least[own[last]] = profit[order[last]]  # of several numbers for a class, the last stays
        return taken, least
