"""What every solver shares: options, limits, the incumbent, progress and the final result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from moe2opt.canonical import Problem
from moe2opt.result import (
    NUMERICAL_GAP,
    BoolArray,
    Certificate,
    FloatArray,
    InputError,
    IntArray,
    Limit,
    ProgressEvent,
    Result,
    Status,
    closing_gap,
    optimal_within,
    relative_gap,
)
from moe2opt.solvers.ceiling import ceiling
from moe2opt.solvers.limits import Interrupt as Interrupt
from moe2opt.solvers.limits import LimitReachedError as LimitReachedError
from moe2opt.solvers.limits import Stop as Stop
from moe2opt.solvers.limits import never as never
from moe2opt.solvers.limits import resident_bytes as resident_bytes
from moe2opt.solvers.options import Options as Options

#: Seconds between two clock ticks in the progress log.
TICK_S = 1.0

#: Errors of a bound within which big whole numbers count as equal: nodes differ in their errors.
_BLURS = 8.0

ProgressCallback = Callable[[ProgressEvent], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a solver hands back besides the incumbent, which the search keeps.

    Attributes
    ----------
    bound
        Proven (or, without certificate, claimed) upper bound; ``-inf`` for infeasible.
    limit
        The limit that stopped the run, or None.
    certificate
        Proof of the bound, if the solver gives one.
    stats
        Counters of the solver.
    """

    bound: float
    limit: Limit | None = None
    certificate: Certificate | None = None
    stats: dict[str, Any] = field(default_factory=dict)


class Search:
    """Run control of one solve: clock and limits, incumbent, cutoff, progress log.

    Attributes
    ----------
    x, objective
        Incumbent and its value (``-inf`` without one).
    nodes
        Nodes examined so far; solvers count them up.
    first_feasible
        Set to stop at the first feasible solution.
    log
        Progress events so far.
    """

    def __init__(
        self,
        problem: Problem,
        options: Options,
        on_progress: ProgressCallback | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        self.problem = problem
        self.options = options
        self.x: IntArray | None = None
        self.objective = -math.inf
        self.nodes = 0
        self.open_nodes = 0
        self.bound = math.inf
        self.log: list[ProgressEvent] = []
        self.first_feasible = False
        self.rng = np.random.default_rng(options.seed)
        self._on_progress = on_progress
        self._interrupt = interrupt or Interrupt()
        self._start = time.perf_counter()
        self._last_tick = -math.inf
        self._reserved = (0.0, 0)
        self._resident = 0 if options.memory_limit_bytes is None else resident_bytes()
        self._wanted: Callable[[], float] = lambda: -math.inf
        self._blur = math.ulp(ceiling(problem)) / 4 if problem.is_integral else 0.0

    @property
    def time_s(self) -> float:
        """Seconds since the search was created."""
        return time.perf_counter() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock for what is no part of the search, such as compiling kernels."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - before

    @property
    def time_left_s(self) -> float:
        """Seconds until the time limit, ``inf`` without one."""
        limit = self.options.time_limit_s
        return math.inf if limit is None else max(0.0, limit - self.time_s)

    def child(self, problem: Problem, *, rel_gap: float = 0.0, nodes: int | None = None) -> Search:
        """Return a search for any feasible point of `problem` within the limits that are left."""
        # A monotone problem without its objective is of another sort than with it.
        alike = problem.kind == self.problem.kind != "monotone"
        bound = self.options.bound if alike else "auto"
        options = replace(self._left(nodes), rel_gap=rel_gap, bound=bound)
        search = Search(problem, options, interrupt=self._interrupt)
        search.first_feasible = True
        search.nodes = self.nodes
        return search

    def second(self, nodes: int, on_progress: ProgressCallback | None = None) -> Search:
        """Return a search of the same problem within the limits that are left and some nodes."""
        search = Search(self.problem, self._left(nodes), on_progress, self._interrupt)
        search.nodes = self.nodes
        if self.x is not None:
            search.offer(self.x, "U")
        return search

    def viewed(
        self,
        problem: Problem,
        start: Any,
        within: Callable[[float], float],
        on_progress: ProgressCallback,
    ) -> Search:
        """Return a search within the limits that are left for the same question in other words.

        `within` says what a cutoff of this search is in the values of the other one. Those have
        other relative gaps: a steep function of them multiplies what is left.
        """
        # Proofs of one conflict speak about several problems: none may rest on what groups share.
        proof = "linear" if self.first_feasible else self.options.proof
        options = replace(
            self._left(None), rel_gap=0.0, warm_start=start, proof=proof, fixed_rows=()
        )
        search = Search(problem, options, on_progress, self._interrupt)
        known = lru_cache(maxsize=1)(within)
        search._wanted = lambda: known(self.cutoff)
        search.first_feasible, search.nodes = self.first_feasible, self.nodes
        return search

    def _left(self, nodes: int | None) -> Options:
        """Return the options for a search within this one, of some more nodes."""
        left = None if self.options.time_limit_s is None else self.time_left_s
        most = [] if nodes is None else [self.nodes + nodes]
        most += [] if self.options.node_limit is None else [self.options.node_limit]
        # Other bounds may not fit the problems of such searches; counts fit what counts fitted.
        bound = "counts" if self.options.bound == "counts" else "auto"
        return replace(
            self.options,
            time_limit_s=left,
            node_limit=min(most, default=None),
            warm_start=None,
            bound=bound,
        )

    def offer_start(self) -> None:
        """Offer the user's solution, if there is one."""
        if self.options.warm_start is not None:
            self.offer(self.options.warm_start, "U")

    def offer(self, x: Any, source: str) -> bool:
        """Take `x` as incumbent if it is feasible and better; return whether it was taken.

        The value is computed by the problem, never passed in by a solver.

        Raises
        ------
        InputError
            For a feasible point that is worth infinitely much: no gap to it closes.
        """
        point = np.asarray(x, dtype=np.int64)
        value = self.problem.evaluate(point)
        if value <= self.objective or not self.problem.is_feasible(point):
            return False
        if value == math.inf:
            raise InputError(
                f"objective is inf at x = {point.tolist()}, which is feasible; let a constraint "
                "exclude such points, or return a finite number that is high enough"
            )
        self.x, self.objective = point.copy(), value
        self.record(source)
        return True

    def rounded(self, bound: float) -> float:
        """Return the bound that integrality of the objective allows.

        Bounds include their rounding errors, so nothing is added before the fraction is cut off.
        """
        if not self.problem.is_integral or not math.isfinite(bound):
            return bound
        return float(math.floor(bound))

    def blur(self, error: float) -> None:
        """Note by how much the bounds of this search may be off.

        Fractions are closed within some of these errors, and so are whole numbers where bounds
        cannot tell neighbours apart, from half a unit on; within `NUMERICAL_GAP` at most.
        """
        self._blur = max(self._blur, error)

    @property
    def tolerance(self) -> float:
        """The relative gap that counts as closed."""
        integral = self.problem.is_integral
        closing = closing_gap(self.options.rel_gap, integral)
        if integral and self._blur < 0.5:
            return closing
        numerical = _BLURS * self._blur / max(1.0 if integral else 1e-10, abs(self.objective))
        return max(closing, min(NUMERICAL_GAP, numerical))

    @property
    def cutoff(self) -> float:
        """Bounds up to this value (after `rounded`) cannot improve on the incumbent enough."""
        if self.x is None:
            return -math.inf
        if self.first_feasible:
            return math.inf
        bound = self.objective + self.tolerance * max(1e-10, abs(self.objective))
        # The status goes by the quotient: what closes every node must close the run.
        while relative_gap(self.objective, bound) > self.tolerance:
            bound = math.nextafter(bound, -math.inf)
        return max(bound, self._wanted())

    @property
    def target(self) -> float:
        """A bound below this value prunes a node: what a dual ascent should aim at."""
        if self.x is None:
            return self.bound - 1e-3 * abs(self.bound) if math.isfinite(self.bound) else 0.0
        if not self.problem.is_integral or not math.isfinite(self.cutoff):
            return self.cutoff
        return math.floor(self.cutoff) + 1.0 - min(0.5, 2e-9 * max(1.0, abs(self.cutoff)))

    def prunes(self, bound: float) -> bool:
        """Tell whether a node with this upper bound need not be explored."""
        return self.rounded(bound) <= self.cutoff

    def prunes_each(self, bounds: FloatArray) -> BoolArray:
        """Return `prunes` for an array of bounds."""
        if self.problem.is_integral:
            bounds = np.floor(bounds)
        return np.asarray(bounds <= self.cutoff)

    def limit_reached(self) -> Limit | None:
        """Return the first limit that is hit, or None.

        What `reserve` sets aside counts as spent.
        """
        limit = self._pressing_limit()
        if limit is None or limit is Limit.MEMORY:
            most = self.options.node_limit
            return Limit.NODES if most is not None and self.nodes >= most else limit
        return limit

    def _pressing_limit(self) -> Limit | None:
        """Return the first limit that cannot wait for the end of a node, or None."""
        options, (time_s, memory_bytes) = self.options, self._reserved
        if self._interrupt.raised:
            return Limit.INTERRUPTED
        if options.time_limit_s is not None and self.time_s + time_s >= options.time_limit_s:
            return Limit.TIME
        return None if self.has_room(memory_bytes) else Limit.MEMORY

    def check(self) -> None:
        """Raise `LimitReachedError` inside a node when a limit other than that of nodes is hit."""
        limit = self._pressing_limit()
        if limit is not None:
            raise LimitReachedError(limit)

    def pressed(self) -> bool:
        """Tell heuristics to stop with what they have: the same limits as `check`."""
        return self._pressing_limit() is not None

    def has_room(self, memory_bytes: float) -> bool:
        """Tell whether so much more memory keeps within the limit."""
        most = self.options.memory_limit_bytes
        return most is None or resident_bytes() + memory_bytes <= most

    @property
    def room_bytes(self) -> float:
        """Memory below the limit when the run began, ``inf`` without a limit."""
        most = self.options.memory_limit_bytes
        return math.inf if most is None else max(0.0, most - self._resident)

    def is_crowded(self) -> bool:
        """Tell whether more than half of the memory that the run began with is used.

        What `reserve` sets aside counts as used.
        """
        return not self.has_room(self._reserved[1] + self.room_bytes / 2)

    def reserve(self, records: int) -> None:
        """Set aside what writing down and sealing a proof of so many records takes, about."""
        tuning = self.options.tuning.tree
        self._reserved = (records * tuning.write_s, records * tuning.write_bytes)

    def improve_bound(self, bound: float) -> None:
        """Note a smaller global upper bound."""
        self.bound = min(self.bound, bound)

    def tick(self, source: str = " ") -> None:
        """Log a line when the last one is `TICK_S` seconds old."""
        if self.time_s - self._last_tick >= TICK_S:
            self.record(source)

    def record(self, source: str) -> None:
        """Log a line now."""
        self._last_tick = self.time_s
        bound = max(self.bound, self.objective)
        event = ProgressEvent(
            self._last_tick, self.nodes, self.open_nodes, bound, self.objective, source
        )
        self.log.append(event)
        if self._on_progress is not None:
            self._on_progress(event)

    def result(self, outcome: Outcome, solver: str) -> Result:
        """Combine the incumbent and a solver's outcome into a result."""
        bound = max(outcome.bound, self.objective)
        status = self._status(bound, outcome.limit)
        self.bound = min(self.bound, bound)
        self.record(" ")
        return Result(
            status=status,
            limit=None if status in (Status.OPTIMAL, Status.INFEASIBLE) else outcome.limit,
            x=self.x,
            objective=self.objective,
            bound=bound,
            certificate=outcome.certificate,
            solver=solver,
            rel_gap=self.options.rel_gap,
            stats={"nodes": self.nodes, "solve_s": self.time_s, **outcome.stats},
            log=tuple(self.log),
        )

    def _status(self, bound: float, limit: Limit | None) -> Status:
        if self.x is None:
            return Status.INFEASIBLE if bound == -math.inf and limit is None else Status.NO_SOLUTION
        tolerance = self.tolerance
        if not optimal_within(self.options.rel_gap):
            tolerance = min(tolerance, NUMERICAL_GAP)
        if limit is None and not self.problem.is_integral:
            # Every node is closed: what is left are the rounding errors of bounds.
            tolerance = max(tolerance, NUMERICAL_GAP)
        closed = relative_gap(self.objective, bound) <= tolerance
        return Status.OPTIMAL if closed else Status.FEASIBLE


def require_structure(solver: str, problem: Problem, *allowed: type) -> None:
    """Raise `InputError` when `solver` does not handle this family of problems."""
    if not isinstance(problem, allowed):
        kind = problem.kind.replace("_", "-")
        raise InputError(f"solver {solver!r} does not handle {kind} problems")
