"""Limits inside nodes: however long one step is, a run ends soon after its limit is hit."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from solving import run

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem
from moe2opt.certify import certify
from moe2opt.result import InputError, Limit, Status
from moe2opt.solvers import Interrupt, Options, Search, base, polyblock
from moe2opt.solvers.baselines import (
    greedy_choice,
    greedy_facility,
    improving_choice,
    improving_facility,
)
from moe2opt.solvers.monotone.relaxation import CornerRelaxation
from moe2opt.solvers.tuning import DEFAULT

#: Calls of oracles that may still be made once a limit is hit.
MOST_CALLS_AFTER = 12


class Clock:
    """A clock that only moves when it is told to, and counts how often that was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.moves = 0.0, 0
        monkeypatch.setattr("moe2opt.solvers.base.time.perf_counter", lambda: self.now_s)

    def second(self) -> None:
        """Let a second pass."""
        self.now_s += 1.0
        self.moves += 1


def wide(bits: int, called: Callable[[], None] = lambda: None) -> MonotoneProblem:
    """Maximise x + y below a diagonal of a wide box: reductions of one feed those of the other."""

    def total(points: Any) -> Any:
        called()
        return points.sum(axis=1) * 1.0

    def above(points: Any) -> Any:
        called()
        return points.sum(axis=1) - 2.0 ** (bits - 1)

    return MonotoneProblem(
        [0, 0], [2**bits, 2**bits], total, [above], [lambda x: x[:, 0] * 1.0 + x[:, 1]]
    )


@pytest.mark.parametrize("bits", [12, 20, 40])
def test_a_wide_box_is_reduced_in_few_steps(bits: int) -> None:
    """The oracle calls of one node grow with the bits of a range, not with the range."""
    calls = itertools.count()
    problem = wide(bits, lambda: next(calls) and None)
    search = Search(problem, Options())
    search.offer([2 ** (bits - 1), 0], "H")
    relaxation = CornerRelaxation(problem)
    before = next(calls)
    examined = relaxation.examine(relaxation.root(), search)
    assert next(calls) - before < 30 * bits
    assert examined.branch is not None or search.prunes(examined.bound)


@pytest.mark.parametrize("solver", ["brb", "polyblock", "local_search", "greedy"])
@pytest.mark.parametrize("limit_s", [0, 7, 60, 200])
def test_slow_oracles_end_at_the_time_limit(
    solver: str, limit_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every oracle call takes a second, only a few follow after the limit."""
    clock = Clock(monkeypatch)
    problem = wide(30, clock.second)
    start = clock.moves
    result = run(problem, solver, time_limit_s=limit_s)
    assert result.limit is Limit.TIME or solver == "greedy" or solver == "local_search"
    assert clock.moves - start <= limit_s + MOST_CALLS_AFTER
    assert certify(problem, result).ok


def test_enumeration_takes_fewer_points_where_they_take_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Batches of an oracle that looks at one point at a time shrink to what a limit allows."""
    clock = Clock(monkeypatch)

    def slow(point: Any) -> float:
        clock.second()
        return float(point.sum())

    problem = MonotoneProblem([0] * 4, [9] * 4, slow, batched=False)
    start = clock.moves
    result = run(problem, "enumerate", time_limit_s=400)
    assert (result.status, result.limit) == (Status.FEASIBLE, Limit.TIME)
    assert clock.moves - start <= 400 + MOST_CALLS_AFTER


def families() -> list[Any]:
    """Return a problem of each family that takes some nodes."""
    rng = np.random.default_rng(5)
    costs = rng.random((2, 9))
    return [
        FacilityProblem(rng.random((6, 9)), costs, costs.sum(axis=1) * 0.3, covers=[[0, 1, 2]]),
        MultipleChoiceProblem(list(rng.random((5, 4))), list(rng.random((5, 4, 2))), [2.0, 2.0]),
        wide(9),
    ]


@pytest.mark.parametrize("family", range(3))
@pytest.mark.parametrize("solver", ["brb", "polyblock"])
def test_an_interrupt_at_any_moment_leaves_a_proof(
    family: int, solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a run is stopped, its bound is proven and its incumbent is feasible."""
    problem = families()[family]
    best = run(problem, "brb").objective
    left = [0]

    def pressing(_: Search) -> Limit | None:
        left[0] -= 1
        return Limit.INTERRUPTED if left[0] < 0 else None

    monkeypatch.setattr(Search, "_pressing_limit", pressing)
    for patience in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233):
        left[0] = patience
        result = run(problem, solver)
        assert result.limit in (Limit.INTERRUPTED, None)
        assert result.bound >= best
        verdict = certify(problem, result)
        assert verdict.ok, verdict.failures


def test_a_given_up_box_is_no_node() -> None:
    """A box whose examination a limit ends stays open and is not counted."""
    flag = Interrupt()

    def press() -> None:
        flag.raised = flag.raised or next(calls) > 90

    calls = itertools.count()
    problem = wide(20, press)
    search = Search(problem, Options(), interrupt=flag)
    from moe2opt.solvers.brb import solve

    result = search.result(solve(problem, search), "brb")
    assert result.limit is Limit.INTERRUPTED
    assert math.isfinite(result.bound)
    assert certify(problem, result).ok


def test_node_limits_wait_for_the_end_of_a_node() -> None:
    """The last node that is allowed is examined to its end."""
    search = Search(wide(8), Options(node_limit=1))
    search.nodes = 1
    search.check()
    assert not search.pressed()
    assert search.limit_reached() is Limit.NODES


def test_heuristics_stop_with_what_they_have() -> None:
    """Told to stop at once, greedy rules return something feasible or nothing, and moves end."""
    facility, choice, _ = families()
    for problem, greedy, moves in (
        (facility, greedy_facility, improving_facility),
        (choice, greedy_choice, improving_choice),
    ):
        stopped = greedy(problem, stop=lambda: True)
        assert stopped is None or problem.is_feasible(stopped)
        start = greedy(problem)
        assert start is not None
        assert list(moves(problem, start, lambda: True)) == []


@pytest.mark.parametrize("solver", ["brb", "polyblock"])
def test_memory_for_writing_the_proof_is_set_aside(
    solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run ends while there is still room to write down what it has proven."""
    used = 900_000_000
    monkeypatch.setattr(base, "resident_bytes", lambda: used)
    problem = wide(16)
    result = run(problem, solver, memory_limit_bytes=used + 20_000)
    assert result.limit is Limit.MEMORY
    records = len(result.certificate.tree)
    assert 0 < records * DEFAULT.tree.write_bytes <= 20_000 * 1.5
    assert certify(problem, result).ok


def test_time_for_writing_the_proof_is_set_aside() -> None:
    """A time limit leaves the seconds that writing down a large tree takes."""
    search = Search(wide(8), Options(time_limit_s=3600))
    assert search.limit_reached() is None
    search.reserve(round(3600 / DEFAULT.tree.write_s))
    assert search.limit_reached() is Limit.TIME


def test_a_constraint_that_does_not_increase_is_named() -> None:
    """An oracle that breaks its promise is an input error with the points that show it."""

    def at_two_points(points: Any) -> Any:
        return np.where((points == [1, 1]).all(axis=1) | (points == [3, 3]).all(axis=1), 1.0, -1.0)

    problem = MonotoneProblem([0, 0], [3, 3], lambda x: x.sum(axis=1) * 1.0, [at_two_points])
    search = Search(problem, Options())
    engine = polyblock.Polyblock(problem, search)
    box = np.array([2, 1]), np.array([3, 3]), np.array([1, 1])
    with pytest.raises(
        InputError, match=r"does not increase: positive at x = \[1, 1\], but not at"
    ):
        engine.examine(box, search)


LARGE = """
import sys, threading, time, numpy as np, moe2opt as mo
from moe2opt.solvers.limits import resident_bytes
kind, share = sys.argv[1], float(sys.argv[2])
rng = np.random.default_rng(0)
if kind == "facility":
    problem = mo.FacilityProblem(rng.random((8000, 800)), rng.integers(1, 50, (2, 800)), [400, 500])
else:
    usage = [rng.integers(1, 50, (100, 3)) for _ in range(12000)]
    problem = mo.MultipleChoiceProblem(list(rng.random((12000, 100))), usage, [180000] * 3)
few = [rng.integers(1, 50, (5, 3)) for _ in range(60)]  # what compiling takes is no matter here
mo.solve(mo.MultipleChoiceProblem(list(rng.random((60, 5))), few, [900] * 3))
mo.solve(mo.FacilityProblem(rng.random((30, 20)), rng.integers(1, 50, (2, 20)), [90, 90]))
most, peak = resident_bytes() + int(share * 2**30), 0
def watch():
    global peak
    while True:
        peak = max(peak, resident_bytes())
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
result = mo.solve(problem, memory_limit_bytes=most, time_limit_s=30)
print(result.x is not None, peak / most, mo.certify(problem, result).ok)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["facility", "choice"])
@pytest.mark.parametrize("share", [0.15, 0.25, 0.4])
def test_large_problems_keep_the_memory_limit(kind: str, share: float) -> None:
    """What preparing takes is counted before: the peak is at most a tenth above the limit."""
    ran = subprocess.run(
        [sys.executable, "-c", LARGE, kind, str(share)], capture_output=True, text=True, check=True
    )
    found, ratio, certified = ran.stdout.split()
    assert (found, certified) == ("True", "True")
    assert float(ratio) <= 1.1
