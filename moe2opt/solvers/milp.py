"""Engine ``milp``: the strong formulation in Pyomo, solved by HiGHS.

Its bound is *claimed*: HiGHS works in floating point and gives no certificate. Integer objectives
round it down; any other bound is moved outward by `RESOLUTION` times the sum of the largest
values, below which HiGHS cannot tell two solutions apart. What HiGHS takes for a solution counts
only if the problem itself finds it feasible; when HiGHS stretches a budget by its tolerance, the
solution is cut off by a minimal cover of that budget and HiGHS runs again.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem, Problem
from moe2opt.result import NUMERICAL_GAP, IntArray, Limit
from moe2opt.solvers.base import Outcome, Search, require_structure
from moe2opt.solvers.ceiling import ceiling
from moe2opt.solvers.formulations import (
    LinearModel,
    LinearProblem,
    chosen_entries,
    columns_of,
    matrices,
    pyomo_model,
    solution_of,
)
from moe2opt.solvers.formulations import export_model as export_model
from moe2opt.solvers.highs import Answer, News, Settings, maximise

#: Relative to the sum of the largest values: objectives closer than this count as equal.
RESOLUTION = 1e-12

#: Runs of HiGHS at most, each after cutting off a solution that stretched a budget.
MOST_RUNS = 200


class _LimitReachedError(Exception):
    """A limit was hit while the model was being built."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit)
        self.limit = limit


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
    if search.options.warm_start is not None:
        search.offer(search.options.warm_start, "U")
    try:
        start_s = search.time_s
        model = _build(problem, search)
    except _LimitReachedError as stopped:
        return Outcome(bound=search.bound, limit=stopped.limit)
    return _Engine(problem, search, model, search.time_s - start_s).run()


def _build(problem: LinearProblem, search: Search) -> LinearModel:
    """Build the matrices; raise `_LimitReachedError` as soon as a limit is hit."""

    def watch() -> None:
        limit = search.limit_reached()
        if limit is not None:
            raise _LimitReachedError(limit)

    watch()
    return matrices(pyomo_model(problem, watch))


class _Engine:
    """HiGHS runs on one problem until its answer stands up to the problem's own test."""

    def __init__(
        self, problem: LinearProblem, search: Search, model: LinearModel, build_s: float
    ) -> None:
        self.problem, self.search, self.model = problem, search, model
        self.magnitude = _magnitude(problem)
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
                # With an incumbent HiGHS contradicts itself, and its claim is worth nothing.
                return self._outcome(self.search.bound if self.search.x is not None else -math.inf)
            if answer.verdict == "limit":
                return self._outcome(bound, answer.limit or self.stopped_by)
            if answer.verdict == "unknown" or self._agrees(answer):
                return self._outcome(self._closed(bound) if answer.verdict == "optimal" else bound)
            if self.runs >= MOST_RUNS or not self._cut_off(answer):
                return self._outcome(bound)
            limit = self.search.limit_reached()
            if limit is not None:
                return self._outcome(bound, limit)

    def _without_columns(self) -> Outcome:
        """Settle a problem in which nothing costs or earns anything."""
        self.search.offer(np.zeros(self.problem.size, dtype=np.int64), "M")
        return self._outcome(self.search.objective)

    def _maximise(self) -> Answer:
        answer = self._run_highs(self._settings())
        if answer.verdict == "unknown" and self.search.limit_reached() is None:
            return self._run_highs(replace(self._settings(), presolve=False))
        return answer

    def _run_highs(self, settings: Settings) -> Answer:
        self.runs += 1
        answer = maximise(self.model, settings, self._on_news, self._should_stop)
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
            rel_gap=options.rel_gap,
            threads=options.threads,
            seed=options.seed,
            start=None if x is None else columns_of(self.problem, self.model, x),
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
        if math.isfinite(bound):
            self.search.improve_bound(_outward(self.problem, bound, self.magnitude))

    def _agrees(self, answer: Answer) -> bool:
        """Tell whether the best solution of HiGHS is feasible for the problem, too."""
        if answer.columns is None:
            return True
        return self.problem.is_feasible(solution_of(self.problem, self.model, answer.columns))

    def _closed(self, bound: float) -> float:
        """Return the bound of a finished run: what HiGHS cannot tell apart leaves no gap.

        Where large values cancel, the outward shift of the bound may exceed the gap that counts
        as closed; it is then cut back to half of that gap.
        """
        objective = self.search.objective
        if self.problem.is_integral or bound > objective + 4 * RESOLUTION * self.magnitude:
            return bound
        return min(bound, objective + 0.5 * NUMERICAL_GAP * max(1e-10, abs(objective)))

    def _cut_off(self, answer: Answer) -> bool:
        """Forbid the solution of HiGHS by a minimal cover; tell whether that was possible."""
        assert answer.columns is not None
        x = solution_of(self.problem, self.model, answer.columns)
        cover = minimal_cover(self.problem, x)
        if cover is None:
            return False
        self.model = _with_cover(self.model, self.model.chosen_by[cover])
        return True

    def _outcome(self, bound: float, limit: Limit | None = None) -> Outcome:
        stats: dict[str, Any] = {
            "highs_runs": self.runs,
            "rows": int(self.model.rows.shape[0]),
            "columns": int(self.model.rows.shape[1]),
            "build_s": self.build_s,
        }
        return Outcome(bound=bound, limit=limit, stats=stats)


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


def _with_cover(model: LinearModel, columns: IntArray) -> LinearModel:
    """Return the model with the row "not all of these columns"."""
    from scipy.sparse import csr_array, vstack

    entries = (np.ones(len(columns)), columns, np.array([0, len(columns)]))
    row = csr_array(entries, shape=(1, len(model.objective)))
    return replace(
        model,
        rows=vstack([model.rows, row], format="csr"),
        row_lower=np.append(model.row_lower, -np.inf),
        row_upper=np.append(model.row_upper, len(columns) - 1.0),
    )


def _magnitude(problem: LinearProblem) -> float:
    """Return the sum of the largest values that can be earned."""
    if isinstance(problem, MultipleChoiceProblem):
        return math.fsum(float(np.abs(options).max()) for options in problem.values)
    affordable = (problem.costs <= problem.limits[:, None]).all(axis=0)
    return math.fsum(problem.weighted[:, affordable].max(axis=1, initial=0.0))


def _outward(problem: LinearProblem, bound: float, magnitude: float) -> float:
    """Return a bound that holds in spite of rounding inside HiGHS."""
    if problem.is_integral:
        return float(math.floor(bound + 1e-6 + RESOLUTION * magnitude))
    return bound + RESOLUTION * magnitude
