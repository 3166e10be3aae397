"""HiGHS in a loop of Nemhauser-Wolsey cuts: first on the relaxation, then on integer solutions."""

from __future__ import annotations

import math
from typing import Any

import highspy
import numpy as np

from moe2opt.bench.peers import Answer, Run, UnsupportedError
from moe2opt.bench.peers.highs_milp import listen, new_highs
from moe2opt.bench.peers.linear import Cut, CutFamily, rounded, side_rows
from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray

_TOLERANCE = 1e-9


def solve(run: Run) -> Answer:
    """Alternate between HiGHS and cuts until the integer solution is worth what HiGHS believes."""
    if not isinstance(run.problem, FacilityProblem):
        raise UnsupportedError("cuts exist for facility problems only")
    loop = _Loop(run, run.problem)
    run.start()
    if not loop.relax():
        return Answer("infeasible" if loop.infeasible else "limit", run.bound, loop.nodes)
    return loop.branch()


class _Loop:
    """An incremental HiGHS model over the experts and one variable per block of clusters."""

    def __init__(self, run: Run, problem: FacilityProblem) -> None:
        self.run, self.problem = run, problem
        self.family = CutFamily(problem)
        self.highs = new_highs(run)
        # The time limit alone is obeyed late by an integer programme.
        listen(self.highs, self._offer, lambda bound: None, lambda: run.time_left_s <= 0)
        self.nodes, self.infeasible, self.ran = 0, False, False
        n, blocks = problem.size, self.family.blocks
        self.columns = np.arange(n + blocks, dtype=np.int32)
        for cost in self.family.opening:
            self.highs.addCol(float(cost), 0.0, 1.0, 0, [], [])
        for ceiling in self.family.ceilings:
            self.highs.addCol(-1.0, 0.0, float(ceiling), 0, [], [])  # HiGHS minimises
        for row, lower, upper in zip(*side_rows(problem), strict=True):
            self._add_row(row, self.columns[:n], lower, upper)

    def relax(self) -> bool:
        """Cut off the relaxation until it is exact; return whether it has a solution."""
        while True:
            columns = self._optimise()
            if columns is None:
                return False
            y, theta = np.split(columns, [self.problem.size])
            self.run.improve_bound(float(theta.sum() - self.family.opening @ y) / self.family.scale)
            self.run.offer(rounded(self.problem, y))
            if not self._cut(y, theta):
                return True

    def branch(self) -> Answer:
        """Solve integer programmes, cutting off what each overestimates."""
        integer = [highspy.HighsVarType.kInteger] * self.problem.size
        self.highs.changeColsIntegrality(
            self.problem.size, self.columns[: self.problem.size], integer
        )
        while True:
            columns = self._optimise()
            if self.ran:
                # Otherwise what HiGHS calls its bound is left over from the relaxation.
                self.run.improve_bound(-self.highs.getInfo().mip_dual_bound / self.family.scale)
                self.nodes += max(0, int(self.highs.getInfo().mip_node_count))
            if columns is None:
                claim: Any = "infeasible" if self.infeasible else "limit"
                return Answer(claim, self.run.bound, self.nodes)
            y, theta = np.split(columns, [self.problem.size])
            value = self.run.offer(np.rint(y))
            allowed = self.run.rel_gap * max(1.0, abs(value))
            if self.run.bound - self.run.objective <= allowed:
                return Answer("optimal", self.run.bound, self.nodes)
            if not self._cut(np.rint(y), theta):
                return Answer("optimal", self.run.bound, self.nodes, note="cuts ran dry")

    def _optimise(self) -> FloatArray | None:
        """Run HiGHS in the time that is left; return the columns of an optimal solution."""
        left = self.run.time_left_s
        self.ran = left > 0
        if not self.ran:
            return None
        self.highs.setOptionValue("time_limit", self.highs.getRunTime() + left)
        self.highs.run()
        status = self.highs.getModelStatus().name
        self.infeasible = status == "kInfeasible"
        if status != "kOptimal":
            return None
        return np.array(self.highs.getSolution().col_value)

    def _offer(self, columns: FloatArray) -> None:
        self.run.offer(np.rint(columns[: self.problem.size]))

    def _cut(self, y: FloatArray, theta: FloatArray) -> bool:
        cuts = self.family.violated(np.clip(y, 0.0, 1.0), theta)
        for cut in cuts:
            self._add_cut(cut)
        return bool(cuts)

    def _add_cut(self, cut: Cut) -> None:
        used = np.flatnonzero(cut.coefficients > _TOLERANCE)
        index = np.append(used, self.problem.size + cut.block).astype(np.int32)
        row = np.append(-cut.coefficients[used], 1.0)
        self.highs.addRow(-math.inf, cut.constant, len(index), index, row)

    def _add_row(self, row: FloatArray, columns: Any, lower: float, upper: float) -> None:
        used = np.flatnonzero(row)
        self.highs.addRow(float(lower), float(upper), len(used), columns[used], row[used])
