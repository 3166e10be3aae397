"""Oracles are asked a few points at a time, so that limits hold on wide problems."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.solvers.base import Interrupt, LimitReachedError, Options, Search
from moe2opt.solvers.monotone import boxes


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> mo.MonotoneProblem:
    """Return a problem of which an oracle gets at most two points at once."""
    monkeypatch.setattr(boxes, "_AT_ONCE", 12)
    return mo.MonotoneProblem(
        np.zeros(6, int), np.full(6, 3), lambda x: x.sum(axis=1), [lambda x: x[:, 0] - 2.0]
    )


def test_parts_are_put_together_in_order(problem: mo.MonotoneProblem) -> None:
    """The answers are those of a single call, and no call holds more points than fit."""
    sizes = []

    def oracle(points: Any) -> Any:
        sizes.append(len(points))
        return points @ np.arange(6.0)

    axes, levels = np.array([5, 1, 0, 2, 4]), np.array([3, 1, 2, 2, 1])
    found = boxes.asked(oracle, problem.lower, axes, levels, Search(problem, Options()))
    assert sizes == [2, 2, 1]
    assert found.tolist() == [15.0, 1.0, 0.0, 4.0, 4.0]


def test_an_interrupt_is_heard_between_parts(problem: mo.MonotoneProblem) -> None:
    """Once a limit is hit no further part is asked."""
    interrupt, calls = Interrupt(), []

    def oracle(points: Any) -> Any:
        calls.append(len(points))
        interrupt.raised = True
        return points.sum(axis=1)

    search = Search(problem, Options(), interrupt=interrupt)
    with pytest.raises(LimitReachedError):
        boxes.asked(oracle, problem.lower, np.arange(6), np.ones(6, int), search)
    assert calls == [2]


@pytest.mark.parametrize("solver", ["brb", "polyblock"])
def test_proofs_do_not_depend_on_the_parts(
    problem: mo.MonotoneProblem, solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked in parts or at once, a solver grows the same tree."""
    parts = mo.solve(problem, solver)
    monkeypatch.setattr(boxes, "_AT_ONCE", 2**21)
    assert parts == mo.solve(problem, solver)
    assert parts.objective == 17.0
