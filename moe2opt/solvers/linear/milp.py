"""Engine ``milp``: the strong formulation in Pyomo, solved by HiGHS.

Its bound is *claimed*: HiGHS works in floating point and gives no certificate. Integer objectives
round it down; any other bound is moved outward by `RESOLUTION` times the sum of the largest
values, below which HiGHS cannot tell two solutions apart. What HiGHS takes for a solution counts
only if the problem itself finds it feasible; when HiGHS stretches a budget by its tolerance, the
solution is cut off by a minimal cover of that budget and HiGHS runs again.

What plain arithmetic settles never reaches HiGHS: negative budgets, experts and options that fit
nowhere or cannot improve on a greedy plan, rows that cannot be exceeded. Where its tolerances could
still decide (see `why_in_doubt`), where it calls a problem infeasible, and where it fails, its word
is not enough: own branch and bound has to say the same, or the claim is dropped and
`stats["doubt"]` says why.
"""

from __future__ import annotations

import math
import queue
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from moe2opt import progress
from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem, Problem
from moe2opt.result import NUMERICAL_GAP, BoolArray, IntArray, Limit
from moe2opt.solvers.base import LimitReachedError, Outcome, Search, require_structure
from moe2opt.solvers.brb import choose_relaxation, explore
from moe2opt.solvers.ceiling import ceiling
from moe2opt.solvers.linear.doubt import (
    RESOLUTION,
    first_plan,
    magnitude_of,
    settled_out,
    why_in_doubt,
)
from moe2opt.solvers.linear.formulations import (
    LinearModel,
    LinearProblem,
    chosen_entries,
    columns_of,
    matrices,
    pyomo_model,
    solution_of,
    with_cover,
    without_columns,
    without_idle_rows,
)
from moe2opt.solvers.linear.formulations import export_model as export_model
from moe2opt.solvers.linear.highs import Answer, News, Settings, SolverError, maximise


def solve(problem: Problem, search: Search) -> Outcome:
    """Maximise by HiGHS; see `moe2opt.solve` for the options.

    Returns
    -------
    Outcome
        With a claimed bound, no certificate, and the number of HiGHS runs among the counters.
    """
    require_structure("milp", problem, FacilityProblem, MultipleChoiceProblem)
    assert isinstance(problem, FacilityProblem | MultipleChoiceProblem)
    search.improve_bound(ceiling(problem))
    search.offer_start()
    start_s = search.time_s
    limit = search.limit_reached()
    if limit is not None:
        return Outcome(bound=search.bound, limit=limit)
    first_plan(problem, search)
    out = settled_out(problem, search)
    if out is None:
        bound = search.objective
        return Outcome(bound=bound, stats={"highs_runs": 0, "settled": "by plain arithmetic"})
    try:
        model = _build(problem, search)
    except LimitReachedError as stopped:
        return Outcome(bound=search.bound, limit=stopped.limit)
    return _Engine(problem, search, model, out, search.time_s - start_s).run()


def _build(problem: LinearProblem, search: Search) -> LinearModel:
    """Build the matrices; raise `LimitReachedError` as soon as a limit is hit.

    In a thread of their own: Pyomo looks at no limit while it translates a model. One that is
    given up ends at its next watch, or with the translation.
    """
    done: queue.SimpleQueue[LinearModel | BaseException] = queue.SimpleQueue()
    given_up = threading.Event()

    def watch() -> None:
        if given_up.is_set():
            raise LimitReachedError(Limit.TIME)

    def work() -> None:
        try:
            done.put(matrices(pyomo_model(problem, watch)))
        except BaseException as error:  # the calling thread raises it
            done.put(error)

    threading.Thread(target=work, name="pyomo", daemon=True).start()
    try:
        while True:
            with suppress(queue.Empty):
                built = done.get(timeout=search.options.tuning.linear.poll_s)
                if isinstance(built, BaseException):
                    raise built
                return built
            limit = search.limit_reached()
            if limit is not None:
                raise LimitReachedError(limit)
    finally:
        given_up.set()


class _Engine:
    """HiGHS runs on one problem until its answer stands up to the problem's own test."""

    def __init__(
        self,
        problem: LinearProblem,
        search: Search,
        model: LinearModel,
        out: BoolArray,
        build_s: float,
    ) -> None:
        self.problem, self.search, self.out = problem, search, out
        self.model = _reduced(model, out)
        self.magnitude = magnitude_of(problem, out)
        self.doubt = why_in_doubt(problem, out, self.magnitude, search.objective)
        self.runs, self.nodes_before = 0, 0
        self.build_s = build_s
        self.stopped_by: Limit | None = None

    def run(self) -> Outcome:
        """Return the outcome; every solution on the way is offered to the search."""
        if not len(self.model.objective):
            return self._without_columns()
        while True:
            answer = self._maximise()
            bound = self._take(answer)
            if answer.verdict == "infeasible":
                return self._infeasible()
            if answer.verdict == "limit":
                return self._outcome(bound, answer.limit or self.stopped_by)
            if answer.verdict == "unknown":
                return self._own(f"HiGHS gives no answer ({answer.detail})")
            x = self._refused(answer)
            if x is None:
                return self._optimal(bound)
            if self.runs >= self.search.options.tuning.linear.most_runs or not self._cut_off(x):
                return self._own("HiGHS keeps stretching a budget by its tolerance")
            limit = self.search.limit_reached()
            if limit is not None:
                return self._outcome(bound, limit)

    def _without_columns(self) -> Outcome:
        """Settle a problem in which nothing costs or earns anything."""
        self.search.offer(np.zeros(self.problem.size, dtype=np.int64), "M")
        return self._outcome(self.search.objective)

    def _maximise(self) -> Answer:
        settings = replace(self._settings(), presolve=not self.doubt)
        answer = self._run_highs(settings)
        again = answer.verdict == "unknown" and settings.presolve
        if again and self.search.limit_reached() is None:
            return self._run_highs(replace(self._settings(), presolve=False))
        return answer

    def _run_highs(self, settings: Settings) -> Answer:
        self.runs += 1
        try:
            answer = maximise(self.model, settings, self._on_news, self._should_stop)
        except SolverError as error:
            return Answer("unknown", detail=str(error))
        self.search.nodes = max(self.search.nodes, self.nodes_before + answer.nodes)
        self.nodes_before = self.search.nodes
        return answer

    def _settings(self) -> Settings:
        options, x = self.search.options, self.search.x
        left = None if options.node_limit is None else options.node_limit - self.search.nodes
        return Settings(
            magnitude=self.magnitude,
            integral=self.problem.is_integral,
            time_limit_s=self.search.time_left_s,
            node_limit=left,
            # Room for rounding its bound outward afterwards.
            rel_gap=options.rel_gap if options.rel_gap > NUMERICAL_GAP else 0.0,
            threads=options.threads,
            seed=options.seed,
            start=None if x is None else columns_of(self.problem, self.model, x),
            tuning=options.tuning.linear,
        )

    def _on_news(self, news: News) -> None:
        self.search.nodes = max(self.search.nodes, self.nodes_before + news.nodes)
        self._improve_bound(news.bound)
        if news.columns is not None:
            self.search.offer(solution_of(self.problem, self.model, news.columns), "M")
        self.search.tick()

    def _should_stop(self) -> bool:
        # HiGHS counts nodes itself: stopping it from here would depend on timing.
        limit = self.search.limit_reached()
        self.stopped_by = None if limit is Limit.NODES else limit
        return self.stopped_by is not None

    def _take(self, answer: Answer) -> float:
        """Take over the best solution and the bound of an answer; return the best bound."""
        if answer.columns is not None:
            self.search.offer(solution_of(self.problem, self.model, answer.columns), "M")
        if answer.verdict in ("optimal", "limit"):
            self._improve_bound(answer.bound)
        return self.search.bound

    def _improve_bound(self, bound: float) -> None:
        """Take over a bound of HiGHS, unless it is in doubt or a known solution refutes it."""
        if not math.isfinite(bound):
            return
        bound = _outward(self.problem, bound, self.magnitude)
        if bound < self.search.objective and not self.doubt:
            self.doubt = "HiGHS claims a bound below a known solution"
            self.search.bound = ceiling(self.problem)
        if not self.doubt:
            self.search.improve_bound(bound)

    def _refused(self, answer: Answer) -> IntArray | None:
        """Return the best solution of HiGHS if the problem itself finds it infeasible."""
        if answer.columns is None:
            return None
        x = solution_of(self.problem, self.model, answer.columns)
        return None if self.problem.is_feasible(x) else x

    # ------------------------------------------------------------------ claims

    def _optimal(self, bound: float) -> Outcome:
        """Return the outcome of a run that HiGHS calls finished."""
        doubt = self.doubt or why_in_doubt(
            self.problem, self.out, self.magnitude, self.search.objective
        )
        if doubt:
            return self._own(doubt)
        bound = self._closed(bound)
        if bound - self.search.objective > self.search.tolerance * max(
            1e-10, abs(self.search.objective)
        ):
            return self._own("HiGHS cannot tell solutions of this size apart")
        return self._outcome(bound)

    def _closed(self, bound: float) -> float:
        """Return the bound of a finished run: what HiGHS cannot tell apart leaves no gap.

        Where large values cancel, the outward shift of the bound may exceed the gap that counts
        as closed; it is then cut back to half of that gap.
        """
        objective = self.search.objective
        if self.problem.is_integral or bound > objective + 4 * RESOLUTION * self.magnitude:
            return bound
        gap = 0.5 * min(NUMERICAL_GAP, self.search.tolerance)
        return min(bound, objective + gap * max(1e-10, abs(objective)))

    def _infeasible(self) -> Outcome:
        """Believe HiGHS that nothing is feasible only if nothing speaks against it."""
        own = self._own("HiGHS calls the problem infeasible")
        undecided = self.search.x is None and own.bound > -math.inf
        if not undecided or self.doubt or own.limit is not None:
            return own
        return self._outcome(-math.inf)

    def _own(self, doubt: str) -> Outcome:
        """Let own branch and bound say what HiGHS' word is not enough for."""
        search = self.search
        limit = search.limit_reached()
        if limit is not None:
            return self._outcome(search.bound, limit, doubt)
        progress.logger.info("%s; own branch and bound decides", doubt)
        second = search.second(search.options.tuning.linear.own_nodes)
        explored = explore(choose_relaxation(self.problem, second), second)
        search.nodes = second.nodes
        if second.x is not None:
            search.offer(second.x, "B")
        bound = explored.bound
        if explored.limit is not None:
            bound = min(max(bound, search.objective), ceiling(self.problem))
            limit = search.limit_reached()
        return self._outcome(bound, limit, doubt)

    def _cut_off(self, x: IntArray) -> bool:
        """Forbid the solution of HiGHS by a minimal cover; tell whether that was possible."""
        cover = minimal_cover(self.problem, x)
        if cover is None:
            return False
        self.model = with_cover(self.model, self.model.chosen_by[cover])
        return True

    def _outcome(self, bound: float, limit: Limit | None = None, doubt: str = "") -> Outcome:
        stats: dict[str, Any] = {
            "highs_runs": self.runs,
            "rows": int(self.model.rows.shape[0]),
            "columns": int(self.model.rows.shape[1]),
            "build_s": self.build_s,
        }
        if doubt or self.doubt:
            stats["doubt"] = doubt or self.doubt
        return Outcome(bound=bound, limit=limit, stats=stats)


def _reduced(model: LinearModel, out: BoolArray) -> LinearModel:
    """Return the model without the columns of entries that are out and without idle rows."""
    flags = np.zeros(len(model.objective), dtype=bool)
    columns = model.chosen_by[out]
    flags[columns[columns >= 0]] = True
    return without_idle_rows(without_columns(model, flags))


def minimal_cover(problem: LinearProblem, x: IntArray) -> IntArray | None:
    """Return chosen entries (experts or flat options) that already exceed one budget.

    None of them can be left out: no feasible solution contains them all. None when `x` keeps every
    budget.
    """
    chosen = chosen_entries(problem, x)
    used = problem.usage_of(x)
    broken = np.flatnonzero(used > problem.limits)
    if not len(broken):
        return None
    row, limit = problem.costs[broken[0]], float(problem.limits[broken[0]])
    cover = list(chosen[np.argsort(row[chosen], kind="stable")])
    for j in list(cover):
        rest = [i for i in cover if i != j]
        if math.fsum(row[rest]) > limit:
            cover = rest
    return np.array(cover, dtype=np.int64)


def _outward(problem: LinearProblem, bound: float, magnitude: float) -> float:
    """Return a bound that holds in spite of rounding inside HiGHS."""
    if problem.is_integral:
        return float(math.floor(bound + 1e-6 + RESOLUTION * magnitude))
    return bound + RESOLUTION * magnitude
