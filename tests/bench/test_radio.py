"""Powers of links: rates by hand, true oracles, optima as by enumeration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.bench.radio import (
    Interference,
    SumRate,
    path_loss_db,
    power_control,
    rates_on,
    weighted_sum_rate,
)


def test_rates_by_hand() -> None:
    """Two links at the second of three powers: each hears the other, weights count, off is 0."""
    rates = SumRate(np.array([[3.0, 1.0], [0.5, 2.0]]), np.array([0.0, 1.0, 4.0]), 1.0, np.r_[1, 2])
    one = np.ones((1, 2), dtype=int)
    assert rates(one, one)[0] == pytest.approx(np.log2(1 + 3 / 2) + 2 * np.log2(1 + 2 / 1.5))
    assert rates(2 * one, 0 * one)[0] == pytest.approx(np.log2(13) + 2 * np.log2(9))
    assert rates(0 * one, one)[0] == 0


def test_interference_by_hand() -> None:
    """Gains in limits, powers of the levels: twice the limit is one above it."""
    heard = Interference(np.array([0.5, 1.0]), np.array([0.0, 2.0]))
    assert heard(np.array([[0, 0], [1, 0], [1, 1]])).tolist() == [-1.0, 0.0, 2.0]


def test_path_loss_by_hand() -> None:
    """At 100 m and 2.5 GHz, 96.1 dB and what the carrier adds; nothing is nearer than 10 m."""
    far, near, nearest = path_loss_db(np.array([100.0, 10.0, 1.0]))
    assert far == pytest.approx(73.4 + 22.7 + 26 * np.log10(2.5))
    assert near == nearest == pytest.approx(far - 36.7)


@pytest.mark.parametrize("make", [weighted_sum_rate, power_control])
def test_links_are_what_they_claim(make: object) -> None:
    """F rises in signals and falls in interference, limits rise; seeds repeat, others differ."""
    problem, again, other = make(6, 0), make(6, 0), make(6, 1)  # type: ignore[operator]
    assert mo.find_counterexample(problem) is None
    point = np.array([[1, 2, 3, 4, 5, 6]])
    value = problem.objective_values(point)
    assert value == again.objective_values(point) != other.objective_values(point)


@pytest.mark.parametrize("make", [weighted_sum_rate, power_control])
@pytest.mark.parametrize("solver", ["brb", "polyblock"])
def test_links_are_proven(make: object, solver: str) -> None:
    """Both engines prove what looking at all powers finds."""
    problem = make(4, 1)  # type: ignore[operator]
    result = mo.solve(problem, solver)
    assert mo.certify(problem, result).kind == "checked"
    best = mo.solve(problem, "enumerate").objective
    assert result.objective == pytest.approx(best, rel=1e-12)


def test_levels_reach_what_powers_reach(shared_data: Path) -> None:
    """On published channels the optimum over eight levels is near the continuous one, not above."""
    folder = shared_data / "instances/mmp_wsr"
    with np.load(folder / "channels.npz", allow_pickle=False) as archive:
        channels = archive["channels"][:20, :3, :3]
    known = json.loads((folder / "wsr_published.json").read_text(encoding="utf-8"))
    for gains, published in zip(channels, known["D"]["3"]["obj"], strict=False):
        problem = rates_on(gains, known["sigma"], np.ones(3))
        value = mo.solve(problem).objective
        assert 0.9 * published < value <= published + known["eps_abs"] + 1e-5
