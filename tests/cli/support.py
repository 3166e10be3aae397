"""Small solvers that the tests register, and a way to run the command line with them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem, Problem
from moe2opt.solvers import Outcome, Search, SolverInfo

FAMILIES = (FacilityProblem, MultipleChoiceProblem, MonotoneProblem)

TESTS = Path(__file__).resolve().parents[1]


def ranges(problem: Problem) -> list[range]:
    """Return the values that each variable may take."""
    if isinstance(problem, FacilityProblem):
        return [range(2)] * problem.size
    if isinstance(problem, MultipleChoiceProblem):
        return [range(len(options)) for options in problem.values]
    return [range(a, b + 1) for a, b in zip(problem.lower, problem.upper, strict=True)]


def exhaustive(problem: Problem, search: Search) -> Outcome:
    """Look at every point."""
    for x in itertools.product(*ranges(problem)):
        limit = search.limit_reached()
        if limit is not None:
            return Outcome(search.bound, limit)
        search.nodes += 1
        search.offer(x, "E")
        search.tick()
    return Outcome(search.objective, stats={"points": search.nodes})


def slow(problem: Problem, search: Search) -> Outcome:
    """Find a plan (all experts out) and then nothing more until a limit comes."""
    search.offer([0] * problem.size, "H")
    return blind(problem, search)


def blind(problem: Problem, search: Search) -> Outcome:
    """Wait for a limit."""
    search.record(" ")
    while (limit := search.limit_reached()) is None:
        time.sleep(0.01)
    return Outcome(float("inf"), limit)


def deaf(problem: Problem, search: Search) -> Outcome:
    """Never look at the limits."""
    search.record(" ")
    while True:
        time.sleep(0.01)


def hungry(problem: Problem, search: Search) -> Outcome:
    """Find a plan, prove a bound, and run out of memory."""
    search.offer([0] * problem.size, "H")
    search.improve_bound(7.0)
    raise MemoryError


def broken(problem: Problem, search: Search) -> Outcome:
    """Fail as a fault of the solver would."""
    raise RuntimeError("the solver fell over")


def info(function: Any, *, exact: bool = True) -> SolverInfo:
    """Return the registry entry of a function of this module."""
    return SolverInfo(
        function.__name__, "cli.support", function.__name__, FAMILIES, exact, False, "a test"
    )


EXTRA = {f.__name__: info(f) for f in (exhaustive, slow, blind, deaf, hungry, broken)}


def cli_process(*arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start ``moe2opt`` with the solvers above in a process of its own."""
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r}); from cli.support import EXTRA;"
        "from moe2opt.solvers import SOLVERS; SOLVERS.update(EXTRA);"
        "from moe2opt.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def save_tiny_problem(path: Path) -> Path:
    """Write a facility problem with two experts, of which one fits, and return its path."""
    content = {
        "kind": "facility",
        "values": [[1.0, 3.0]],
        "costs": [[1.0, 1.0]],
        "budgets": [1.0],
        "weights": None,
        "groups": [],
        "covers": [],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
