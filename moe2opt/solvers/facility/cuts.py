r"""Projected cutting planes: the strong linear relaxation of a facility problem, without its size.

The LP has one variable per expert and one per block of clusters,

.. math:: \max \sum_k \theta_k - \sum_i o_i y_i \quad\text{s.t. rows},\; 0 \le y \le 1,\;
          \theta_k \le \sum_{c \in k} \Big[\lambda_c + \sum_i (W_{ci}-\lambda_c)^+ y_i\Big]
          \text{ for every cut found.}

For fixed y the best cut is closed form: walk the experts of a cluster by falling value until their
y sum to one; the value reached is the threshold (Nemhauser and Wolsey's cut, also the Benders cut).
By convexity, thresholds averaged with the duals of a block's cuts have a Lagrangian value no worse
than the LP, so the duals are the multipliers of the certificate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.facility.cut_pool import CutPool
from moe2opt.solvers.facility.kernels import fill_to_one
from moe2opt.solvers.facility.model import Bounded, FacilityModel, Price, Subset
from moe2opt.solvers.lp import LinearProgram, LinearSolution

#: Scaled opening costs in the LP, whose multipliers bound the problem whatever it leaves out.
_LARGEST_COST = 1e9


class CutBound:
    """Multipliers from the projected LP; cuts are global and shared by all nodes."""

    def __init__(self, model: FacilityModel) -> None:
        self.model = model
        self.pool = CutPool(_blocks(model.values, _block_count(model)))
        # The LP works with values and rows of order one thousand and one.
        total = float(model.best_values.sum()) or float(model.problem.fixed.sum())
        self.scale = 1000.0 / total if total > 0 else 1.0
        self.work_before = 0
        self.lp = self._new_lp()
        self._add_cuts(model.best_values, np.ones(self.blocks, dtype=bool))
        self.at_root = True
        self.inner = np.zeros(0)

    @property
    def blocks(self) -> int:
        """Number of blocks of clusters."""
        return len(self.pool.lengths)

    @property
    def work(self) -> int:
        """Work of the LP so far, see `LinearProgram`."""
        return self.work_before + self.lp.work

    def bound(self, box: Subset, search: Search) -> Bounded:
        """Return the LP's multipliers; at the root, rounded rows make it tighter first."""
        if self.at_root and search.x is not None:
            self._begin_at(np.asarray(search.x) > 0)
        bounded = self._alternate(box, search)
        while self.at_root and self._worth_tightening(bounded, search):
            self._rebuild()
            tighter = self._alternate(box, search)
            if tighter.price.value > bounded.price.value:
                bounded = self._with_all_rows(bounded)
                break
            bounded = tighter
        self.at_root = False
        self._purge()
        return bounded

    def _begin_at(self, chosen: BoolArray) -> None:
        """Add the cuts of a good choice before the first round.

        Duals of a choice lie between the second best and the best of its values in each cluster.
        Measured: a third to two thirds fewer pivots at the root of pmed instances.
        """
        experts = np.unique(self.model.merged_index[chosen])
        every = np.ones(self.blocks, dtype=bool)
        served = np.sort(self.model.columns[experts], axis=0)
        for rank in range(1, 1 + min(2, len(experts))):
            self._add_cuts(served[-rank], every)
        self.inner = np.zeros(self.model.problem.size)
        self.inner[experts] = 1.0

    def _worth_tightening(self, bounded: Bounded, search: Search) -> bool:
        if bounded.fractional is None or search.prunes(bounded.price.value):
            return False
        return search.limit_reached() is None and self.model.tighten(bounded.fractional)

    def _with_all_rows(self, bounded: Bounded) -> Bounded:
        """Return multipliers from before the last rows with prices of zero for these."""
        row = np.zeros(len(self.model.limits))
        row[: len(bounded.price.row)] = bounded.price.row
        return replace(bounded, price=replace(bounded.price, row=row))

    def _rebuild(self) -> None:
        """Set the LP up again, with the model's present rows and all cuts."""
        self.work_before += self.lp.work
        self.lp = self._new_lp()
        self._append(0)

    def _alternate(self, box: Subset, search: Search) -> Bounded:
        """Alternate between the LP and cuts until it closes, stands still or slows down."""
        size = self.model.problem.size
        self.lp.set_bounds(
            np.arange(size), box.forced.astype(np.float64), box.allowed.astype(np.float64)
        )
        best: Bounded | None = None
        rounds = self.model.tuning.root_rounds if self.at_root else self.model.tuning.node_rounds
        for _ in range(rounds):
            solution = self.lp.solve(search.time_left_s)
            if solution.x is None or solution.price is None:
                return self._without_solution(box, solution, best)
            self.pool.age(solution.price[self.fixed_rows :])
            y = np.clip(solution.x[:size], 0.0, 1.0)
            price = self._price(box, solution)
            last = np.inf if best is None else best.price.value
            best = (
                Bounded(price if price.value < last else best.price, y)
                if best
                else Bounded(price, y)
            )
            if search.prunes(best.price.value) or not self._separate(y, solution.x[size:]):
                break
            if not self.at_root and self._slow(last, best.price.value, search):
                break
            if search.limit_reached() is not None:
                break
        assert best is not None
        return best

    def _slow(self, last: float, value: float, search: Search) -> bool:
        least = self.model.tuning.progress * (value - search.cutoff)
        return bool(np.isfinite(last) and last - value < least)

    def _without_solution(
        self, box: Subset, solution: LinearSolution, best: Bounded | None
    ) -> Bounded:
        """Turn an infeasible LP into a contradiction, else fall back to plain values."""
        if solution.infeasible and solution.price is not None:
            found = self.model.contradiction(box, *self._row_prices(solution.price, 1.0))
            if found is not None:
                return Bounded(found)
        if best is not None:
            return best
        corner = self.model.columns[box.allowed].max(axis=0, initial=0.0)
        zero = np.zeros(len(self.model.limits)), np.zeros(len(self.model.covers))
        return Bounded(self.model.price(box, corner, *zero))

    # ------------------------------------------------------------------ the LP

    def _new_lp(self) -> LinearProgram:
        model, size, blocks = self.model, self.model.problem.size, self.blocks
        norms = np.maximum(np.abs(model.limits), model.rows.max(axis=1, initial=0.0))
        self.row_scale = 1.0 / np.where(norms > 0, norms, 1.0)
        ceiling = self.scale * self.pool.by_block(model.best_values)
        lp = LinearProgram(
            np.concatenate([-self._opening(), np.ones(blocks)]),
            np.zeros(size + blocks),
            np.concatenate([np.ones(size), 2.0 * ceiling + 1.0]),
        )
        scaled = model.rows * self.row_scale[:, None]
        lp.add_rows(scaled, model.limits * self.row_scale)
        lp.add_rows(-model.covers, -np.ones(len(model.covers)))
        self.fixed_rows = lp.rows
        return lp

    def _opening(self) -> FloatArray:
        """Return scaled opening costs, none so large that the LP takes it for infinite."""
        return np.minimum(self.scale * self.model.problem.fixed, _LARGEST_COST)

    def _row_prices(self, price: FloatArray, scale: float) -> tuple[FloatArray, FloatArray]:
        """Split and unscale the duals of the budget, set and cover rows."""
        count = len(self.model.limits)
        return price[:count] * self.row_scale / scale, price[count : self.fixed_rows] / scale

    def _price(self, box: Subset, solution: LinearSolution) -> Price:
        """Return the Lagrangian value of the LP's duals."""
        assert solution.price is not None
        dual = solution.price[self.fixed_rows :]
        cluster = self.pool.averaged(dual, self.model.best_values)
        row, cover = self._row_prices(solution.price, self.scale)
        return self.model.price(box, cluster, row, cover)

    # ------------------------------------------------------------------ cuts

    def _separate(self, y: FloatArray, theta: FloatArray) -> bool:
        """Add the closed-form cut of every block whose value the LP overestimates.

        At the root, cuts are first separated halfway between the LP's point and a point
        that follows it (in-out separation, Ben-Ameur and Neto 2007): these are deeper, and take
        about half the rounds. Cuts at the LP's point itself are added if they do not bite.
        """
        if self.at_root and len(self.inner):
            outer = self.model.tuning.outer
            self.inner = outer * y + (1.0 - outer) * self.inner
            thresholds, _ = fill_to_one(self.model.ranked, self.model.experts, self.inner)
            deep = self._violated(theta, self.pool.worth(self.model, thresholds, y))
            self._add_cuts(thresholds, deep)
            if np.count_nonzero(deep) > self.model.tuning.enough * len(deep):
                return True
        thresholds, value = fill_to_one(self.model.ranked, self.model.experts, y)
        violated = self._violated(theta, self.pool.by_block(value))
        self._add_cuts(thresholds, violated)
        return bool(violated.any())

    def _violated(self, theta: FloatArray, value: FloatArray) -> BoolArray:
        """Tell which blocks the LP takes to be worth more than `value`."""
        actual = self.scale * value
        return np.asarray(theta > actual + self.model.tuning.violation * np.maximum(1.0, actual))

    def _add_cuts(self, thresholds: FloatArray, wanted: BoolArray) -> None:
        if wanted.any():
            known = len(self.pool)
            self.pool.add(thresholds, wanted)
            self._append(known)

    def _append(self, start: int) -> None:
        """Add the rows of the cuts from `start` on to the LP."""
        rows, constants = self.pool.rows(self.model, start)
        rows *= -self.scale
        blocks = self.pool.block[start:]
        rows[np.arange(len(rows)), self.model.problem.size + blocks] = 1.0
        self.lp.add_rows(rows, self.scale * constants)

    def _purge(self) -> None:
        """Drop cuts that have been slack for long, once they are a good part of the pool."""
        idle = self.pool.slack_for > self.model.tuning.patience
        if np.count_nonzero(idle) > len(self.pool) // 4:
            self.lp.delete_rows(self.fixed_rows + np.flatnonzero(idle))
            self.pool.drop(idle)


def _block_count(model: FacilityModel) -> int:
    """Return how many blocks suit the number of experts that an average choice can hold."""
    mean = model.problem.costs.mean(axis=1)
    room = [b / a for a, b in zip(mean, model.problem.limits, strict=True) if a > 0]
    wanted = model.tuning.blocks_per_expert * min([model.problem.size, *room])
    return int(np.clip(wanted, model.tuning.least_blocks, model.tuning.most_blocks))


def _blocks(values: FloatArray, count: int) -> list[IntArray]:
    """Group clusters by their best expert, the rarer ones together."""
    best = values.argmax(axis=1)
    experts, frequency = np.unique(best, return_counts=True)
    rank = np.empty(values.shape[1], dtype=np.int64)
    rank[experts[np.argsort(-frequency, kind="stable")]] = np.arange(len(experts))
    block = rank[best] % count
    order = np.argsort(block, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(block[order])) + 1)
    return [part for part in parts if len(part)]
