"""Conformance: the published weighted-sum-rate optima and iteration counts (arXiv 1910.07853).

The instances are continuous: D users set powers in [0, 1] over an interference channel. They are
reproduced on the continuous box and not on a grid, because the published iteration counts are
those of bisection without reduction, and a grid fine enough for the tolerance would measure
something else.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from continuous import ContinuousResult, solve_box

#: Published values are rounded to this many decimals.
DECIMALS = 5

#: Boxes bisected at once for many users, where that costs few additional iterations.
BATCH = {8: 32}


@dataclass(frozen=True)
class SumRate:
    """Sum of log2(1 + SINR) over the users; interference y lowers it, own power x raises it.

    The channel holds the gain from transmitter j to receiver i in row i, column j.
    """

    channel: Any
    noise: float

    def __call__(self, x: Any, y: Any) -> Any:
        """Return bits per channel use for ``(B, D)`` powers."""
        direct = np.diag(self.channel)
        interference = y @ (self.channel - np.diag(direct)).T
        return np.log2(1 + direct * x / (self.noise + interference)).sum(axis=1)


@dataclass(frozen=True)
class Published:
    """Channels, optima and iteration counts of one number of users."""

    channels: Any
    noise: float
    power: float
    abs_gap: float
    objective: list[float]
    iterations: list[int]
    mean_iterations: float


def read_published(folder: Path, users: int) -> Published:
    """Read what was published for `users`."""
    with np.load(folder / "channels.npz", allow_pickle=False) as archive:
        channels = archive["channels"][:, :users, :users]
    data = json.loads((folder / "wsr_published.json").read_text(encoding="utf-8"))
    with (folder / "tin_iterations.csv").open(encoding="utf-8", newline="") as file:
        means = {row[""]: row["mmp"] for row in csv.DictReader(file)}
    return Published(
        channels,
        data["sigma"],
        data["Pmax"],
        data["eps_abs"],
        data["D"][str(users)]["obj"],
        data["D"][str(users)]["iters"],
        float(means[str(users)]),
    )


def solved(known: Published, channel: Any, batch: int = 1) -> ContinuousResult:
    """Solve one channel as it was published: powers in [0, Pmax], the same absolute gap."""
    users = len(channel)
    return solve_box(
        SumRate(channel, known.noise),
        np.zeros(users),
        np.full(users, known.power),
        abs_gap=known.abs_gap,
        batch=batch,
    )


@pytest.mark.parametrize(
    "users", [2, 3, 4, *(pytest.param(d, marks=pytest.mark.slow) for d in (5, 6, 8))]
)
def test_published_optima_and_iterations(users: int, shared_data: Path) -> None:
    """Over all 100 channels: optima within the published tolerance, mean iterations within 2 %."""
    known = read_published(shared_data / "instances/mmp_wsr", users)
    results = [solved(known, channel, BATCH.get(users, 1)) for channel in known.channels]
    rounding = 10.0**-DECIMALS
    for result, published in zip(results, known.objective, strict=True):
        assert result.gap <= known.abs_gap
        assert abs(result.objective - published) <= known.abs_gap + rounding
        assert result.bound >= published - rounding
    mean = np.mean([result.iterations for result in results])
    assert mean == pytest.approx(known.mean_iterations, rel=0.02)


@pytest.mark.parametrize("users", [2, 3])
def test_most_channels_take_the_very_same_iterations(users: int, shared_data: Path) -> None:
    """Bisected one box at a time, nine in ten channels need the published number of iterations.

    The source keeps corners and bounds in single precision, which explains the rest.
    """
    known = read_published(shared_data / "instances/mmp_wsr", users)
    counts = [solved(known, channel).iterations for channel in known.channels]
    assert np.mean(np.array(counts) == known.iterations) >= 0.9


def test_sum_rate_by_hand() -> None:
    """Two users at full power: each hears the other through its own row of the channel."""
    rate = SumRate(np.array([[3.0, 1.0], [0.5, 2.0]]), noise=1.0)
    full = np.ones((1, 2))
    assert rate(full, full)[0] == pytest.approx(np.log2(1 + 3 / 2) + np.log2(1 + 2 / 1.5))
    assert rate(full, 0 * full)[0] == pytest.approx(np.log2(4) + np.log2(3))
