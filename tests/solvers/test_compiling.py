"""Compiling an instance: its steps are told, and limits and Ctrl-C end it without a traceback."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt import interrupts, steps
from moe2opt.canonical import MultipleChoiceProblem, undominated
from moe2opt.solvers import compiling
from moe2opt.verify import beyond_limits


@dataclass
class Clock:
    """A clock that goes on by so many seconds whenever it is read."""

    each_s: float
    now_s: float = 0.0

    def perf_counter(self) -> float:
        """Return the time."""
        self.now_s += self.each_s
        return self.now_s


@dataclass
class Slow:
    """An instance whose problem takes some steps."""

    stages: int = 5
    name: str = "slow"
    done: list[int] = field(default_factory=list)
    at_stage: Any = None

    def problem(self) -> MultipleChoiceProblem:
        """Return the problem after all stages."""
        for k in range(self.stages):
            steps.step(f"layer {k + 1} of {self.stages}")
            if self.at_stage is not None:
                self.at_stage(k)
            self.done.append(k)
        return MultipleChoiceProblem([[0.0, 1.0]], [[[0.0], [1.0]]], [1.0])

    def decode(self, x: Any) -> Any:
        """Return the solution as its own plan."""
        return x

    def evaluate(self, plan: Any) -> float:
        """Return the value of a plan."""
        return float(plan[0])

    def check(self, plan: Any) -> list[str]:
        """Return no violations."""
        return []

    def row_names(self) -> list[str]:
        """Return the name of the only budget."""
        return ["budget"]

    def cover_names(self) -> list[str]:
        """Return no names."""
        return []

    def describe(self) -> str:
        """Return nothing worth saying."""
        return ""


def _at(monkeypatch: pytest.MonkeyPatch, each_s: float) -> None:
    clock = SimpleNamespace(perf_counter=Clock(each_s).perf_counter)
    monkeypatch.setattr(compiling, "time", clock)


def test_the_time_limit_counts_while_compiling(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Compiling ends at the next step after the limit: no plan, an infinite bound, one line."""
    _at(monkeypatch, 1.0)
    slow = Slow()
    result = mo.solve(slow, time_limit_s=3)
    assert (result.status, result.limit) == ("NO_SOLUTION", "TIME")
    assert (result.x, result.certificate, result.bound) == (None, None, float("inf"))
    assert slow.done == [0, 1]
    assert "the time limit passed while compiling layer 3 of 5" in caplog.text
    assert mo.certify(slow, result).ok
    assert list(beyond_limits(slow, result.x)) == []
    assert slow.done == [0, 1]  # checking and printing nothing compile nothing


def test_what_compiling_took_is_not_there_for_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search gets the rest of the time; the record says what was asked."""
    _at(monkeypatch, 1.0)
    watch = compiling.Compiling(compiling.Options(time_limit_s=10.0), compiling.Interrupt())
    watch.done(Slow(stages=3).problem)
    assert watch.rest.time_limit_s == pytest.approx(10.0 - watch.seconds)
    assert watch.seconds >= 3
    assert mo.solve(Slow(), time_limit_s=60).provenance["options"]["time_limit_s"] == 60


def test_memory_limits_count_while_compiling() -> None:
    """A memory limit below what the process has ends compiling at its first step."""
    result = mo.solve(Slow(), memory_limit_bytes=1)
    assert (result.status, result.limit) == ("NO_SOLUTION", "MEMORY")


def test_interrupts_end_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C the next step is the last."""
    monkeypatch.setattr(interrupts, "heard", lambda: True)
    result = mo.solve(Slow())
    assert (result.status, result.limit) == ("NO_SOLUTION", "INTERRUPTED")


def test_long_compiling_says_where_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Stages are told once a second has passed, and not those of a short compilation."""
    caplog.set_level(logging.INFO, logger="moe2opt")
    _at(monkeypatch, 0.6)
    mo.solve(Slow())
    assert "Compiling layer 2 of 5" in caplog.text
    assert "Compiling layer 1 of 5" not in caplog.text
    caplog.clear()
    _at(monkeypatch, 0.01)
    mo.solve(Slow())
    assert "Compiling" not in caplog.text


def test_without_a_watch_steps_are_free() -> None:
    """Code that compiles on its own hears nothing, also after a watched run was ended."""
    mo.solve(Slow(), memory_limit_bytes=1)
    assert Slow().problem().size == 1


def test_fronts_can_be_ended() -> None:
    """The search for undominated options polls once for each block of options."""
    polls: list[str | None] = []
    with steps.watched(polls.append):
        undominated(np.column_stack([np.arange(1000.0), -np.arange(1000.0)]))
    assert 3 <= len(polls) <= 1000
