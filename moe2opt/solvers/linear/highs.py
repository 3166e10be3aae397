"""Run HiGHS on a linear model in a thread of its own, its news delivered to the calling thread.

HiGHS cannot be interrupted while it solves the root relaxation, so a run that does not stop within
`LinearTuning.grace_s` is abandoned: the caller goes on with what it has, and the thread ends at
HiGHS' next callback. Vectors that HiGHS does not declare valid are never read.
"""

from __future__ import annotations

import atexit
import math
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import highspy
import numpy as np
from highspy import cb

from moe2opt.result import FloatArray, Limit, MoeOptError
from moe2opt.solvers.linear.formulations import LinearModel
from moe2opt.solvers.tuning import DEFAULT, LinearTuning

#: Tolerance on rows (scaled to a largest coefficient near 1) and on integrality.
FEASIBILITY = 1e-9

#: Real objectives are scaled to this magnitude, which makes absolute tolerances negligible.
_MAGNITUDE_BITS = 16
_INTEGRAL_BITS = 30

_FEASIBLE_POINT = 2
_LARGEST_INT = 2**31 - 1


class SolverError(MoeOptError):
    """HiGHS refused a model or an option; `milp` then does without it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run HiGHS.

    Attributes
    ----------
    magnitude
        Sum of the largest values: an objective of this size is normal.
    integral
        Whether every feasible objective value is an integer.
    time_limit_s, node_limit
        Limits, infinite or None for none.
    rel_gap, threads, seed
        As in `moe2opt.solvers.Options`.
    start
        ``(n,)`` columns of a feasible solution, or None.
    presolve
        False to switch presolve off.
    tuning
        The engine's tuned numbers.
    """

    magnitude: float
    integral: bool
    time_limit_s: float = math.inf
    node_limit: int | None = None
    rel_gap: float = 0.0
    threads: int = 1
    seed: int = 0
    start: FloatArray | None = None
    presolve: bool = True
    tuning: LinearTuning = DEFAULT.linear

    @property
    def factor(self) -> float:
        """Power of two that the objective is multiplied by."""
        bits = math.frexp(self.magnitude)[1] if self.magnitude > 0 else _MAGNITUDE_BITS
        if self.integral:
            return math.ldexp(1.0, min(0, _INTEGRAL_BITS - bits))
        return math.ldexp(1.0, max(-1000, min(1000, _MAGNITUDE_BITS - bits)))


@dataclass(frozen=True, slots=True)
class News:
    """What HiGHS reports while it runs: nodes, upper bound, and a solution if it found one."""

    nodes: int
    bound: float
    columns: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """How a run of HiGHS ended.

    Attributes
    ----------
    verdict
        ``optimal`` and ``infeasible`` are claims of HiGHS; ``limit`` and ``unknown`` are not.
    limit
        The limit that HiGHS stopped at itself, None when the caller stopped it.
    nodes
        Branch-and-bound nodes.
    bound
        Upper bound on the objective, ``inf`` without one.
    columns
        ``(n,)`` best solution, None unless HiGHS declares it valid and feasible.
    detail
        The name that HiGHS gives to the end.
    """

    verdict: Literal["optimal", "infeasible", "limit", "unknown"]
    limit: Limit | None = None
    nodes: int = 0
    bound: float = math.inf
    columns: FloatArray | None = None
    detail: str = ""


def maximise(
    model: LinearModel,
    settings: Settings,
    on_news: Callable[[News], None],
    should_stop: Callable[[], bool],
) -> Answer:
    """Solve `model`; `on_news` and `should_stop` are called in the calling thread.

    Returns
    -------
    Answer
        With verdict ``limit`` when `should_stop` ended the run. What was found until then went
        through `on_news`.
    """
    run = _Run(_loaded(model, settings), settings.factor)
    run.thread.start()
    try:
        return _follow(run, on_news, should_stop, settings.tuning)
    except BaseException:
        _abandon(run)
        raise


def _follow(
    run: _Run,
    on_news: Callable[[News], None],
    should_stop: Callable[[], bool],
    tuning: LinearTuning,
) -> Answer:
    deadline = math.inf
    while True:
        with suppress(queue.Empty):
            message = run.messages.get(timeout=tuning.poll_s)
            if isinstance(message, News):
                on_news(message)
            elif isinstance(message, Answer):
                return message
            else:
                raise message
        if deadline == math.inf and should_stop():
            run.stopping = True
            deadline = time.perf_counter() + tuning.grace_s
        if time.perf_counter() > deadline:
            _abandon(run)
            return Answer("limit", detail="abandoned")


@dataclass(slots=True, eq=False)
class _Run:
    """One HiGHS object, its thread, and the messages that it sends."""

    highs: Any
    factor: float
    stopping: bool = False
    messages: queue.SimpleQueue[News | Answer | BaseException] = field(
        default_factory=queue.SimpleQueue
    )
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.work, name="highs", daemon=True)

    def work(self) -> None:
        """Solve, and send the answer (or the exception) as the last message."""
        try:
            subscribe(self.highs, self.on_callback)
            self.highs.run()
            # The callback refers to this object: left in place, neither would ever be freed.
            self.highs.setCallback(None, None)
            self.messages.put(self.answer())
        except BaseException as error:  # the calling thread raises it
            self.messages.put(error)

    def on_callback(self, kind: int, _text: str, out: Any, reply: Any, _user: Any) -> None:
        """Pass on what HiGHS reports; runs in the thread of HiGHS."""
        solution = out.mip_solution if int(kind) == _callback("MipSolution") else None
        columns = None if solution is None else np.array(solution, dtype=np.float64)
        bound = _number(out.mip_dual_bound) / self.factor
        self.messages.put(News(max(0, int(out.mip_node_count)), bound, columns))
        if reply is not None:
            reply.user_interrupt = self.stopping

    def answer(self) -> Answer:
        """Read the end of the run, vectors only where HiGHS vouches for them."""
        status, info = self.highs.getModelStatus(), self.highs.getInfo()
        verdict, limit = _VERDICTS.get(status.name, ("unknown", None))
        solution = self.highs.getSolution()
        valid = solution.value_valid and info.primal_solution_status == _FEASIBLE_POINT
        return Answer(
            verdict=verdict,
            limit=limit,
            nodes=max(0, int(info.mip_node_count)),
            bound=_number(info.mip_dual_bound) / self.factor,
            columns=np.array(solution.col_value, dtype=np.float64) if valid else None,
            detail=status.name,
        )


_VERDICTS: dict[str, tuple[Literal["optimal", "infeasible", "limit", "unknown"], Limit | None]] = {
    "kOptimal": ("optimal", None),
    "kInfeasible": ("infeasible", None),
    "kTimeLimit": ("limit", Limit.TIME),
    "kSolutionLimit": ("limit", Limit.NODES),
    "kMemoryLimit": ("limit", Limit.MEMORY),
    "kInterrupt": ("limit", None),
    "kHighsInterrupt": ("limit", None),
}


def _number(value: float) -> float:
    """Return `value` with NaN read as "nothing known"."""
    return math.inf if math.isnan(value) else float(value)


def _callback(name: str) -> int:
    return int(getattr(cb.HighsCallbackType, f"kCallback{name}"))


def subscribe(highs: Any, on_callback: Callable[..., None]) -> None:
    """Ask HiGHS for solutions, log lines and chances to interrupt."""
    highs.setCallback(on_callback, None)
    for name in ("MipSolution", "MipLogging", "MipInterrupt"):
        highs.startCallbackInt(_callback(name))


def _loaded(model: LinearModel, settings: Settings) -> Any:
    """Return a HiGHS object that holds the scaled model and the options."""
    highs = highspy._core._Highs()  # noqa: SLF001 - its Python wrapper adds cost per callback
    for name, value in _options(settings, len(model.objective)).items():
        if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise SolverError(f"HiGHS does not accept {name} = {value}")
    if highs.passModel(_scaled(model, settings.factor)) == highspy.HighsStatus.kError:
        raise SolverError("HiGHS does not accept the model")
    if settings.start is not None:
        solution = highspy.HighsSolution()
        solution.col_value = settings.start.tolist()
        highs.setSolution(solution)
    return highs


def _options(settings: Settings, columns: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "log_to_console": False,
        "threads": settings.threads,
        "random_seed": settings.seed % _LARGEST_INT,
        "mip_feasibility_tolerance": FEASIBILITY,
        "primal_feasibility_tolerance": FEASIBILITY,
        "dual_feasibility_tolerance": FEASIBILITY,
        "small_matrix_value": 1e-12,
        # A gap of exactly rel_gap at HiGHS may exceed it once the bound is rounded outward.
        "mip_rel_gap": settings.rel_gap * (1.0 - 1e-6),
        "mip_abs_gap": (1.0 - 1e-6) * settings.factor if settings.integral else 0.0,
        "presolve": "choose" if settings.presolve else "off",
    }
    if columns < settings.tuning.small:
        options["mip_heuristic_run_feasibility_jump"] = False
    if math.isfinite(settings.time_limit_s):
        options["time_limit"] = settings.time_limit_s
    if settings.node_limit is not None:
        options["mip_max_nodes"] = min(settings.node_limit, _LARGEST_INT)
    return options


def _scaled(model: LinearModel, factor: float) -> Any:
    """Return the model as a ``HighsLp``; rows are scaled by powers of two, so nothing rounds."""
    rows, columns = model.rows.shape
    scale = _row_factors(model)
    scaled = model.rows.copy()
    scaled.data = scaled.data * np.repeat(scale, np.diff(scaled.indptr))
    matrix = scaled.tocsc()
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = columns, rows
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = model.objective * factor
    lp.col_lower_, lp.col_upper_ = np.zeros(columns), model.upper
    lp.row_lower_, lp.row_upper_ = model.row_lower * scale, model.row_upper * scale
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr, matrix.indices
    lp.a_matrix_.value_ = matrix.data
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    lp.integrality_ = [kinds[binary] for binary in model.integer.tolist()]
    return lp


def _row_factors(model: LinearModel) -> FloatArray:
    """Return powers of two that bring each row's largest coefficient that fits its side near 1."""
    largest = np.asarray(abs(model.rows).max(axis=1).todense(), dtype=np.float64).reshape(-1)
    side = np.where(model.row_upper > 0, model.row_upper, np.inf)
    normal = np.minimum(largest, side)
    exponents = np.frexp(np.where(normal > 0, normal, 1.0))[1]
    return np.asarray(np.ldexp(1.0, np.clip(1 - exponents, -1000, 1000)), dtype=np.float64)


_abandoned: list[_Run] = []


def _abandon(run: _Run) -> None:
    """Leave a run that does not stop to itself."""
    run.stopping = True
    _abandoned[:] = [other for other in _abandoned if other.thread.is_alive()]
    _abandoned.append(run)


@atexit.register
def _silence() -> None:
    """Keep abandoned runs from calling into an interpreter that is shutting down."""
    for run in _abandoned:
        if run.thread.is_alive():
            for name in ("MipSolution", "MipLogging", "MipInterrupt"):
                run.highs.stopCallbackInt(_callback(name))
