"""Infinite values: constraints may have them, objectives only where nothing is feasible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import moe2opt as mo


@pytest.mark.parametrize("solver", ["auto", "polyblock", "greedy", "random", "enumerate"])
def test_infinite_objectives_are_refused_where_they_are_feasible(solver: str) -> None:
    """No gap to an infinite value closes, so a run says so instead of looking for one."""

    def objective(x: Any) -> Any:
        return np.where(x.sum(axis=1) > 3, np.inf, 1.0 * x.sum(axis=1))

    with pytest.raises(mo.InputError, match=r"objective is inf at x = \["):
        mo.solve(mo.MonotoneProblem([0, 0], [5, 5], objective), solver)
    walls = [lambda x: np.where(x.sum(axis=1) > 3, np.inf, -np.inf)]
    excluded = mo.MonotoneProblem([0, 0], [5, 5], objective, constraints=walls)
    assert mo.solve(excluded, solver).objective == 3
