"""Two engines on one problem: where own trees do not end soon, HiGHS has a turn.

Its solutions count once the problem itself finds them feasible. Its bound has no certificate: it is
reported as a claim beside the bound that the own trees prove, and ends the run once these had their
chance to prove it. How much HiGHS does is counted in nodes, so that runs are the same each time.
"""

from __future__ import annotations

import math
from dataclasses import replace

from moe2opt import progress
from moe2opt.canonical import MultipleChoiceProblem, Problem
from moe2opt.result import ProgressEvent, relative_gap
from moe2opt.solvers import brb
from moe2opt.solvers.base import Outcome, Search
from moe2opt.solvers.options import Options

#: Options times budgets up to which HiGHS has a turn, the nodes of that turn, and nodes times size.
MOST_SIZE, MOST_NODES, MOST_WORK = 800_000, 10_000, 200_000_000

#: Nodes that own trees get to prove what HiGHS calls closed: at least, at most, and times size.
PROOF_LEAST, PROOF_MOST, PROOF_WORK = 2000, 200_000, 1_000_000_000


def solve(problem: Problem, search: Search) -> Outcome:
    """Do what `moe2opt.solvers.brb.solve` does, and give HiGHS a turn where that may help."""
    nodes = turn_of(problem, search)
    if not nodes:
        return brb.solve(problem, search)
    highs = _HiGHS(search, nodes)
    outcome = brb.solve(problem, search, highs.turn)
    is_open = relative_gap(search.objective, outcome.bound) > search.tolerance
    if is_open and highs.bound < outcome.bound:
        # In the values of the canonical problem, as `bound` is here.
        claim = max(highs.bound, search.objective)
        outcome.stats["claimed"] = {"by": "HiGHS", "canonical_bound": claim}
    return outcome


def turn_of(problem: Problem, search: Search) -> int:
    """Return how many nodes HiGHS gets, 0 where it is not asked: fewer where they are dear."""
    named = search.options.bound not in ("auto", "counts")
    if not isinstance(problem, MultipleChoiceProblem) or named:
        return 0
    size = _size(problem)
    return 0 if size > MOST_SIZE else min(MOST_NODES, MOST_WORK // size)


def _size(problem: Problem) -> int:
    assert isinstance(problem, MultipleChoiceProblem)
    return len(problem.flat_values) * max(1, len(problem.limits))


class _HiGHS:
    """The turn of HiGHS: its solutions go to the search, its bound is kept apart."""

    def __init__(self, search: Search, nodes: int) -> None:
        self.search, self.nodes, self.bound = search, nodes, math.inf

    def turn(self) -> int | None:
        """Let HiGHS work; return the nodes that a proof is worth, None if the gap is open."""
        # Here for the sake of start-up: it brings Pyomo and HiGHS.
        from moe2opt.solvers.linear import milp

        search = self.search
        progress.logger.info("HiGHS has a turn; its solutions are checked, its bound is a claim")
        second = search.second(self.nodes, self._heard)
        second.options = _without_own(second)
        outcome = milp.solve(second.problem, second)
        search.nodes = second.nodes
        if second.x is not None:
            search.offer(second.x, "M")
        if "doubt" in outcome.stats or outcome.bound == -math.inf:
            return None
        self.bound = outcome.bound
        if relative_gap(search.objective, self.bound) > search.tolerance:
            return None
        return max(PROOF_LEAST, min(PROOF_MOST, PROOF_WORK // _size(second.problem)))

    def _heard(self, event: ProgressEvent) -> None:
        if event.objective > self.search.objective:
            self.search.tick("M")
        self.search.tick()


def _without_own(second: Search) -> Options:
    """Return options under which doubts of HiGHS are left to us, and half of our time is left."""
    options = second.options
    linear = replace(options.tuning.linear, own_nodes=0)
    limit = options.time_limit_s
    return replace(
        options,
        time_limit_s=None if limit is None else limit / 2,
        tuning=replace(options.tuning, linear=linear),
    )
