"""Solvers that a benchmark can run: our own, and peers that may or may not be installed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module, metadata, util
from typing import Any, Literal

import numpy as np

from moe2opt.canonical import Problem
from moe2opt.result import InputError, IntArray, MoeOptError
from moe2opt.solvers import SOLVERS

#: Shortest distance between two points of a trajectory that differ only in time.
_TICK_S = 0.25


class UnsupportedError(MoeOptError):
    """The peer cannot express this problem, or its licence does not allow its size."""


class TooLargeError(MoeOptError):
    """The peer's model of this problem would not fit into memory; it counts as unsolved."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer claims at its end.

    Attributes
    ----------
    claim
        ``limit`` also stands for any other end without a proof.
    bound
        Upper bound on the objective.
    nodes
        Nodes of the search, if known.
    result
        Our own result, whose certificate can be checked.
    note
        Remarks for the reader.
    """

    claim: Literal["optimal", "infeasible", "limit"]
    bound: float = math.inf
    nodes: int | None = None
    result: Any = None
    note: str = ""


@dataclass(slots=True)
class Run:
    """What a peer is given: the problem, its limits, and where to report to.

    Attributes
    ----------
    problem
        Canonical problem.
    time_limit_s, memory_limit_bytes, rel_gap, seed
        As in `moe2opt.bench.job.Job`.
    x, objective, bound
        Best solution that the problem accepts, its value, and the best bound reported.
    rejected
        Solutions offered that the problem does not accept.
    trajectory
        ``(seconds, objective, bound)`` points.
    on_point
        Called with every new point.
    on_start
        Called when the solver's clock starts.
    """

    problem: Problem
    time_limit_s: float
    rel_gap: float = 1e-6
    seed: int = 0
    memory_limit_bytes: int | None = None
    x: IntArray | None = None
    objective: float = -math.inf
    bound: float = math.inf
    rejected: int = 0
    model_s: float = 0.0
    trajectory: list[tuple[float, float, float]] = field(default_factory=list)
    on_point: Callable[[tuple[float, float, float]], None] = lambda point: None
    on_start: Callable[[], None] = lambda: None
    _created: float = field(default_factory=time.perf_counter)
    _start: float = math.nan
    _start_cpu: float = math.nan

    def start(self) -> None:
        """Start the clock: the model is built. What came before counts as `model_s`."""
        self.on_start()
        self._start, self._start_cpu = time.perf_counter(), time.process_time()
        self.model_s = self._start - self._created

    @property
    def time_s(self) -> float:
        """Seconds since `start`."""
        return 0.0 if math.isnan(self._start) else time.perf_counter() - self._start

    @property
    def cpu_s(self) -> float:
        """Processor seconds of this process since `start`."""
        return 0.0 if math.isnan(self._start_cpu) else time.process_time() - self._start_cpu

    @property
    def time_left_s(self) -> float:
        """Seconds until the limit."""
        return max(0.0, self.time_limit_s - self.time_s)

    def offer(self, x: Any) -> float:
        """Evaluate a solution by the canonical problem; return its value, ``-inf`` if infeasible.

        Only solutions that the problem accepts are kept.
        """
        point = np.asarray(x, dtype=np.int64)
        if not self.problem.is_feasible(point):
            self.rejected += 1
            return -math.inf
        value = self.problem.evaluate(point)
        if value > self.objective:
            self.x, self.objective = point.copy(), value
            self._record()
        return value

    def improve_bound(self, bound: float) -> None:
        """Note a smaller upper bound."""
        if math.isfinite(bound) and bound < self.bound:
            self.bound = bound
            self._record(tick=True)

    def note_point(self, time_s: float, objective: float, bound: float) -> None:
        """Take over a point from the log of a solver of ours."""
        self.objective, self.bound = max(self.objective, objective), min(self.bound, bound)
        self._append((time_s, self.objective, self.bound))

    def _record(self, *, tick: bool = False) -> None:
        if tick and self.trajectory and self.time_s - self.trajectory[-1][0] < _TICK_S:
            return
        self._append((self.time_s, self.objective, self.bound))

    def _append(self, point: tuple[float, float, float]) -> None:
        self.trajectory.append(point)
        self.on_point(point)


#: A peer is a function of a run.
PeerFunction = Callable[[Run], Answer]


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What a peer is.

    Attributes
    ----------
    name, about
        What it is called and one line about how it is used.
    module
        Where its function ``solve`` lives; imported in the worker only.
    needs
        Distributions that it consists of.
    imports
        Modules that must be importable.
    """

    name: str
    about: str
    module: str
    needs: tuple[str, ...]
    imports: tuple[str, ...]

    def versions(self) -> dict[str, str]:
        """Return the installed versions of `needs`; a missing one is left out."""
        found = {}
        for name in self.needs:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return found

    def missing(self) -> list[str]:
        """Return the modules that cannot be found, without importing them."""
        return [name for name in self.imports if util.find_spec(name) is None]

    def load(self) -> PeerFunction:
        """Import the peer and return its function."""
        for name in self.imports:
            import_module(name)
        function: PeerFunction = import_module(self.module).solve
        return function


def _peer(name: str, module: str, needs: str, imports: str, about: str) -> PeerInfo:
    where = f"moe2opt.bench.peers.{module}"
    return PeerInfo(name, about, where, tuple(needs.split()), tuple(imports.split()))


PEERS: dict[str, PeerInfo] = {
    peer.name: peer
    for peer in (
        _peer("brb", "ours", "moe2opt numba highspy numpy", "numba highspy", "ours, certified"),
        _peer("highs-milp", "highs_milp", "highspy", "highspy scipy", "HiGHS on the strong MILP"),
        _peer(
            "highs-cuts",
            "highs_cuts",
            "highspy",
            "highspy",
            "HiGHS in a loop of Nemhauser-Wolsey cuts (facility only)",
        ),
        _peer(
            "scip",
            "scip",
            "PySCIPOpt",
            "pyscipopt",
            "SCIP with lazy Nemhauser-Wolsey cuts and a rounding heuristic; MILP otherwise",
        ),
        _peer("cpsat", "cpsat", "ortools", "ortools", "CP-SAT on the strong 0/1 model"),
        _peer(
            "gurobi",
            "gurobi",
            "gurobipy",
            "gurobipy",
            "Gurobi with lazy Nemhauser-Wolsey cuts; size-limited licence",
        ),
        _peer(
            "polyblocks",
            "polyblocks",
            "polyblocks",
            "polyblocks",
            "continuous polyblock outer approximation on a step function (at most 30 variables)",
        ),
        _peer(
            "pbp-pmedian",
            "pbp",
            "pbp-pmedian highspy",
            "pbp_pmedian highspy",
            "reduced models and two-phase Benders, p-median only",
        ),
    )
}


def peer_of(name: str) -> PeerInfo:
    """Return the peer called `name`; every solver of moe2opt is a peer too.

    Raises
    ------
    InputError
        For an unknown name.
    """
    if name in PEERS:
        return PEERS[name]
    if name in SOLVERS:
        return _peer(name, "ours", "moe2opt numba highspy numpy", "numba", SOLVERS[name].about)
    known = ", ".join([*PEERS, *(name for name in SOLVERS if name not in PEERS)])
    raise InputError(f"unknown peer {name!r}; known are {known}")
