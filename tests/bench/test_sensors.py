"""Sensor placement: information by hand, and the optimum that looking at all choices finds."""

from __future__ import annotations

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.bench.sensors import Information, sensor_placement


def test_information_by_hand() -> None:
    """One place tells log2(1 + 3) / 2 = 1 bit, two that vary together less than two of them."""
    told = Information(np.array([[3.0, 2.0], [2.0, 3.0]]))
    values = told(np.array([[0, 0], [1, 0], [0, 1], [1, 1]]))
    assert values == pytest.approx([0, 1, 1, np.log2(4 * 4 - 4) / 2])


@pytest.mark.parametrize("solver", ["brb", "polyblock"])
def test_placements_are_proven(solver: str) -> None:
    """Both engines prove what looking at all choices finds, and seeds give other problems."""
    problem = sensor_placement(10, 0)
    result = mo.solve(problem, solver)
    assert mo.certify(problem, result).kind == "checked"
    best = mo.solve(problem, "enumerate").objective
    assert result.objective == pytest.approx(best, rel=1e-12)
    assert best != mo.solve(sensor_placement(10, 1)).objective


def test_information_rises() -> None:
    """No pair of points contradicts that more sensors tell more."""
    assert mo.find_counterexample(sensor_placement(16, 0)) is None
