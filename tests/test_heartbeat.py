"""Long silence is broken, and by whom is known."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt import heartbeat


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let silence be long after an instant."""
    monkeypatch.setattr(heartbeat, "SILENCE_S", 0.01)
    monkeypatch.setattr(heartbeat, "_LOOK_S", 0.001)


class Heard:
    """Lines so far, and an event for the first."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.any = threading.Event()

    def __call__(self, line: str) -> None:
        """Take a line."""
        self.lines.append(line)
        self.any.set()


@pytest.mark.usefixtures("quick")
def test_silent_work_is_named_from_the_outermost_inwards() -> None:
    """A line says what is being done, words that change included, and for how long."""
    heard, nodes = Heard(), [7]
    with (
        heartbeat.beating(heard),
        heartbeat.doing("solve"),
        heartbeat.doing(lambda: f"brb, {nodes[0]} nodes"),
    ):
        assert heard.any.wait(10.0)
    assert heard.lines[0] == "still solve: brb, 7 nodes (0 s)"


def test_who_speaks_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is added while lines appear, and nothing after the block."""
    monkeypatch.setattr(heartbeat, "_LOOK_S", 0.001)
    monkeypatch.setattr(heartbeat, "SILENCE_S", 3600.0)
    heard = Heard()
    with heartbeat.beating(heard):
        assert not heard.any.wait(0.05)
    assert not any(t.name == "moe2opt-heartbeat" for t in threading.enumerate())


@pytest.mark.usefixtures("quick")
def test_only_the_outer_block_beats() -> None:
    """A verb that beats has no second voice in what it calls, and goes on after it."""
    outer, inner = Heard(), Heard()
    with heartbeat.beating(outer):
        with heartbeat.beating(inner):
            assert outer.any.wait(10.0)
        outer.any.clear()
        assert outer.any.wait(10.0)
    assert inner.lines == []


@pytest.mark.usefixtures("quick")
def test_what_a_run_is_at_is_forgotten_when_it_fails() -> None:
    """Work that raised is not named afterwards."""
    heard = Heard()
    with pytest.raises(ValueError, match="no"), heartbeat.doing("this"):
        raise ValueError("no")
    with heartbeat.beating(heard):
        assert heard.any.wait(10.0)
    assert heard.lines[0] == "still at it"


@pytest.mark.usefixtures("quick")
def test_a_slow_oracle_is_not_silent(caplog: pytest.LogCaptureFixture) -> None:
    """A solver that waits for an oracle still says that it is solving."""

    def worth(points: Any) -> Any:
        time.sleep(0.02)
        return points.sum(axis=1).astype(float)

    problem = mo.MonotoneProblem(np.zeros(3, int), np.ones(3, int), worth, [])
    with caplog.at_level("INFO", "moe2opt"):
        mo.solve(problem, display=True)
    assert "still solving, brb" in caplog.text


def test_a_search_says_how_far_it_is() -> None:
    """A line tells the nodes of a search, and its gap once it has a solution and a bound."""
    from types import SimpleNamespace

    from moe2opt.progress import so_far

    open_search: Any = SimpleNamespace(nodes=7, objective=-np.inf, bound=-0.985)
    assert so_far("brb", open_search) == "solving, brb, node 7"
    found: Any = SimpleNamespace(nodes=9, objective=-1.0, bound=-0.985)
    assert so_far("brb", found) == "solving, brb, node 9, gap 1.5%"
