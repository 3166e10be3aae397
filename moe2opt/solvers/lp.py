"""An incremental LP on HiGHS: maximise c x under rows A x ≤ b and bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from moe2opt.result import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class LinearSolution:
    """What one solve of the LP returned.

    Attributes
    ----------
    x
        ``(n,)`` primal point, None unless optimal.
    price
        ``(m,)`` non-negative duals of the rows; for an infeasible LP, weights of the rows
        that together contradict the bounds (a dual ray). None when neither exists.
    infeasible
        Whether the solver calls the LP infeasible. Callers verify `price` themselves.
    """

    x: FloatArray | None
    price: FloatArray | None
    infeasible: bool


class LinearProgram:
    """Dual simplex with warm starts; one instance serves a whole search tree.

    Attributes
    ----------
    rows
        Number of rows.
    work
        Work so far: simplex iterations times rows and columns.
    """

    def __init__(self, objective: FloatArray, lower: FloatArray, upper: FloatArray) -> None:
        # The Python wrapper `highspy.Highs` prints a banner before it can be told not to.
        self._model: Any = highspy._core._Highs()  # noqa: SLF001
        for option, value in _OPTIONS.items():
            self._model.setOptionValue(option, value)
        columns = len(objective)
        self._model.addVars(columns, lower, upper)
        self._all = np.arange(columns, dtype=np.int32)
        self._model.changeColsCost(columns, self._all, -objective)
        self.rows = 0
        self.work = 0

    def set_bounds(self, columns: IntArray, lower: FloatArray, upper: FloatArray) -> None:
        """Change the bounds of some columns."""
        self._model.changeColsBounds(len(columns), columns.astype(np.int32), lower, upper)

    def add_rows(self, matrix: FloatArray, limits: FloatArray) -> None:
        """Append dense rows ``matrix x ≤ limits``; zeros are not stored."""
        row, column = np.nonzero(matrix)
        starts = np.searchsorted(row, np.arange(len(matrix))).astype(np.int32)
        self.add_sparse_rows(starts, column, matrix[row, column], limits)

    def add_sparse_rows(
        self, starts: Any, columns: Any, coefficients: FloatArray, limits: FloatArray
    ) -> None:
        """Append rows in compressed form; ``starts`` has one entry per row."""
        if not len(limits):
            return
        self._model.addRows(
            len(limits),
            np.full(len(limits), -highspy.kHighsInf),
            np.asarray(limits, dtype=np.float64),
            len(columns),
            np.asarray(starts, dtype=np.int32),
            np.asarray(columns, dtype=np.int32),
            np.asarray(coefficients, dtype=np.float64),
        )
        self.rows += len(limits)

    def delete_rows(self, rows: IntArray) -> None:
        """Remove rows; the ones after them move up."""
        self._model.deleteRows(len(rows), rows.astype(np.int32))
        self.rows -= len(rows)

    def solve(self, time_limit_s: float) -> LinearSolution:
        """Solve from the last basis."""
        if np.isfinite(time_limit_s):
            spent = self._model.getRunTime()
            self._model.setOptionValue("time_limit", spent + max(time_limit_s, 1e-3))
        self._model.run()
        # A count instead of seconds keeps decisions that depend on it repeatable.
        iterations = int(self._model.getInfo().simplex_iteration_count)
        self.work += (iterations + 1) * (self.rows + len(self._all))
        status = self._model.getModelStatus()
        if status == highspy.HighsModelStatus.kOptimal:
            solution = self._model.getSolution()
            dual = np.array(solution.row_dual, dtype=np.float64)
            return LinearSolution(np.array(solution.col_value), np.maximum(-dual, 0.0), False)
        if status == highspy.HighsModelStatus.kInfeasible:
            _, exists, ray = self._model.getDualRay()
            price = np.maximum(-np.asarray(ray), 0.0) if exists else None
            return LinearSolution(None, price, True)
        return LinearSolution(None, None, False)


_OPTIONS: dict[str, Any] = {
    "output_flag": False,
    "presolve": "off",
    "solver": "simplex",
    "threads": 1,
    "dual_feasibility_tolerance": 1e-9,
    "primal_feasibility_tolerance": 1e-9,
}
