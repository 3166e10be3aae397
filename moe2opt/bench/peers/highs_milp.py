"""HiGHS on the strong mixed-integer model or a reformulation, handed over as matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import highspy
import numpy as np
from highspy import cb

from moe2opt.bench.peers import Answer, Run
from moe2opt.bench.peers.linear import Matrices
from moe2opt.bench.peers.reformulated import linear_form
from moe2opt.result import FloatArray

#: How HiGHS calls its ends.
CLAIMS: dict[str, Any] = {"kOptimal": "optimal", "kInfeasible": "infeasible"}


def solve(run: Run) -> Answer:
    """Maximise with HiGHS' defaults, one thread, at the gap of the run."""
    form = linear_form(run.problem)
    highs = new_highs(run)
    if not form.exact:  # of a logarithm, or without a constant
        highs.setOptionValue("mip_rel_gap", 0.0)
    highs.passModel(programme(form.matrices))
    listen(
        highs,
        lambda columns: run.offer(form.read(columns)),
        lambda bound: run.improve_bound(form.above(bound)),
        lambda: run.time_left_s <= 0,
    )
    run.start()
    highs.setOptionValue("time_limit", run.time_limit_s)
    highs.run()
    info = highs.getInfo()
    if info.primal_solution_status == 2:
        run.offer(form.read(np.array(highs.getSolution().col_value)))
    claim = CLAIMS.get(highs.getModelStatus().name, "limit")
    bound = info.mip_dual_bound
    above = form.above(bound) if math.isfinite(bound) else math.inf
    return Answer(claim, -math.inf if claim == "infeasible" else above, int(info.mip_node_count))


def new_highs(run: Run) -> Any:
    """Return a silent HiGHS with one thread and the options of the run."""
    highs = highspy._core._Highs()  # noqa: SLF001 - its Python wrapper adds cost per callback
    highs.setOptionValue("log_to_console", False)
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    highs.setOptionValue("random_seed", run.seed)
    highs.setOptionValue("mip_rel_gap", run.rel_gap)
    return highs


def programme(model: Matrices) -> Any:
    """Return the model as a ``HighsLp``."""
    rows, columns = model.rows.shape
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = columns, rows
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = model.objective
    lp.col_lower_, lp.col_upper_ = np.zeros(columns), np.ones(columns)
    lp.row_lower_, lp.row_upper_ = model.row_lower, model.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = model.rows.indptr, model.rows.indices
    lp.a_matrix_.value_ = model.rows.data
    kinds = [highspy.HighsVarType.kInteger] * model.binary
    lp.integrality_ = kinds + [highspy.HighsVarType.kContinuous] * (columns - model.binary)
    return lp


def listen(
    highs: Any,
    on_columns: Callable[[FloatArray], object],
    on_bound: Callable[[float], object],
    should_stop: Callable[[], bool],
) -> None:
    """Report the solutions and bounds of HiGHS while it runs, and stop it on demand."""
    kinds = cb.HighsCallbackType

    def callback(kind: Any, message: str, out: Any, into: Any, user: Any) -> None:
        if int(kind) == int(kinds.kCallbackMipImprovingSolution):
            on_columns(np.array(out.mip_solution))
        elif int(kind) == int(kinds.kCallbackMipInterrupt):
            into.user_interrupt = should_stop()
        else:
            on_bound(float(out.mip_dual_bound))

    highs.setCallback(callback, None)
    highs.startCallbackInt(int(kinds.kCallbackMipImprovingSolution))
    highs.startCallbackInt(int(kinds.kCallbackMipLogging))
    highs.startCallbackInt(int(kinds.kCallbackMipInterrupt))
