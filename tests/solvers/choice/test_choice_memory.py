"""The limit of memory in the core of a multiple-choice problem."""

from __future__ import annotations

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.solvers import brb
from moe2opt.solvers.base import Options, Search


def test_a_tree_without_room_to_grow_ends_with_a_checked_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where two copies of the tree exceed the limit, the run ends with plan, bound and proof."""
    rng = np.random.default_rng(2)
    usage = rng.integers(1, 1000, (100, 10))
    worth = np.floor(usage.mean(axis=1) + 500 * rng.random(100))
    problem = mo.MultipleChoiceProblem(
        [np.array([0.0, v]) for v in worth],
        [np.stack([0 * u, u]) for u in usage],
        usage.sum(axis=0) // 2,
    )
    search = Search(problem, Options(bound="core"))
    asked: list[float] = []

    def has_room(memory_bytes: float) -> bool:
        asked.append(memory_bytes)
        return memory_bytes == 0

    monkeypatch.setattr(search, "has_room", has_room)
    outcome = brb.solve(problem, search)
    result = search.result(outcome, "brb")
    assert result.limit is mo.Limit.MEMORY
    assert max(asked) > 100_000
    assert result.objective < result.bound < np.inf
    assert mo.certify(problem, result).kind == "checked"
