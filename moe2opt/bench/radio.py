"""Powers of links that share a channel: the weighted sum of rates, and discrete power control.

Every transmitter sends at one of a few levels; what one sends is noise to the others. The sum of
rates is not monotone, but mixed monotone: it rises with the powers as signals and falls with them
as interference (Matthiesen et al., arXiv 1910.07853). Both problems are oracles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.canonical import MonotoneProblem
from moe2opt.result import FloatArray, IntArray

#: Levels of a transmitter, the first of which is off.
LEVELS = 8

#: Noise of the channels of Matthiesen et al., whose largest power and mean gain are 1, and mean
#: gain of interferers here. At theirs, 1, the best is almost always that one user sends alone.
NOISE, _CROSS = 0.01, 0.1

#: Rep. ITU-R M.2135-1, urban micro-cells: carrier, shadowing without line of sight, power class and
#: noise figure of a terminal, and thermal noise of 290 K in 10 MHz.
_CARRIER_GHZ, _SHADOWING_DB = 2.5, 4.0
_MOST_DBM, _FIGURE_DB, _THERMAL_DBM = 24.0, 7.0, -174.0 + 70.0

#: Side of the area, shortest and longest link in metres; steps between levels; receivers that must
#: not hear more than this much above their noise.
_SIDE_M, _LINK_M, _STEP_DB = 1000.0, (10.0, 50.0), 3.0
_PROTECTED, _ABOVE_NOISE_DB = 2, -6.0


@dataclass(frozen=True, eq=False)
class SumRate:
    r"""Batched sum of rates as a function of signals x and interference y.

    .. math:: F(x, y) = \sum_i w_i \log_2 \Big( 1
              + \frac{g_{ii} p(x_i)}{n + \sum_{j \ne i} g_{ij} p(y_j)} \Big)

    Attributes
    ----------
    gains
        ``(D, D)`` gain from the transmitter of the column to the receiver of the row.
    powers
        ``(L,)`` rising powers of the levels.
    noise, weights
        Noise power n, and ``(D,)`` weights.
    """

    gains: FloatArray
    powers: FloatArray
    noise: float
    weights: FloatArray

    def __call__(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return bits per second and hertz of ``(B, D)`` levels as signals and as interference.

        Added up in one order, so that rounded values are monotone, too.
        """
        own, other = self.powers[upper], self.powers[lower]
        total = np.zeros(len(upper))
        for i, row in enumerate(self.gains):
            disturbed = np.full(len(upper), self.noise)
            for j, gain in enumerate(row):
                if j != i:
                    disturbed += gain * other[:, j]
            total += self.weights[i] * np.log2(1.0 + row[i] * own[:, i] / disturbed)
        return total


@dataclass(frozen=True, eq=False)
class Interference:
    """How far the power that one protected receiver hears is above its limit, in limits.

    Attributes
    ----------
    gains
        ``(D,)`` gains from the transmitters, divided by the limit.
    powers
        ``(L,)`` powers of the levels.
    """

    gains: FloatArray
    powers: FloatArray

    def __call__(self, points: IntArray) -> FloatArray:
        """Return the excess at ``(B, D)`` levels."""
        heard = np.zeros(len(points))
        for i, gain in enumerate(self.gains):
            heard += gain * self.powers[points[:, i]]
        return np.asarray(heard - 1.0)


def weighted_sum_rate(users: int, seed: int) -> MonotoneProblem:
    """Return a random sum of rates: Rayleigh fading, interferers 10 dB weaker than signals.

    Eight equidistant powers from 0 to 1, noise 20 dB below the largest, weights of 1 to 3.
    """
    rng = np.random.default_rng([seed, users, 6])
    gains = rng.exponential(np.where(np.eye(users) > 0, 1.0, _CROSS))
    return rates_on(gains, NOISE, rng.integers(1, 4, users).astype(np.float64))


def rates_on(gains: FloatArray, noise: float, weights: FloatArray) -> MonotoneProblem:
    """Return the sum of rates over equidistant powers from 0 to 1 on a given channel."""
    rates = SumRate(gains, np.linspace(0.0, 1.0, LEVELS), noise, weights)
    return _levels(len(gains), rates, [])


def power_control(links: int, seed: int) -> MonotoneProblem:
    """Return random links beside receivers of somebody else, as in underlay spectrum sharing.

    Transmitters lie uniformly in a square kilometre, each receiver 10 to 50 m away. Levels are off
    and 6 to 24 dBm in steps of 3 dB. Neither of two protected receivers may hear more than 6 dB
    below its noise. Path loss and noise: see the constants of this module; powers in mW.
    """
    rng = np.random.default_rng([seed, links, 7])
    senders = rng.uniform(0.0, _SIDE_M, (links, 2))
    reach, angle = rng.uniform(*_LINK_M, links), rng.uniform(0.0, 2 * np.pi, links)
    receivers = senders + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    protected = rng.uniform(0.0, _SIDE_M, (_PROTECTED, 2))
    places = np.vstack([receivers, protected])
    metres = np.linalg.norm(places[:, None, :] - senders, axis=2)
    loss = path_loss_db(metres) + rng.normal(0.0, _SHADOWING_DB, metres.shape)
    gains = _ratio(-loss)
    steps = _MOST_DBM - _STEP_DB * np.arange(LEVELS - 2, -1, -1)
    powers, noise = np.r_[0.0, _ratio(steps)], float(_ratio(_THERMAL_DBM + _FIGURE_DB))
    limit = noise * float(_ratio(_ABOVE_NOISE_DB))
    rates = SumRate(gains[:links], powers, noise, np.ones(links))
    return _levels(links, rates, [Interference(row / limit, powers) for row in gains[links:]])


def path_loss_db(metres: FloatArray) -> FloatArray:
    """Return the loss without line of sight in an urban micro-cell (ITU-R M.2135-1, table A1-2).

    Stated for 10 to 2,000 m; what is nearer counts as 10 m.
    """
    far = 36.7 * np.log10(np.maximum(metres, 10.0))
    return np.asarray(far + 22.7 + 26.0 * np.log10(_CARRIER_GHZ))


def _ratio(decibels: Any) -> FloatArray:
    return np.asarray(10.0 ** (np.asarray(decibels) / 10.0))


def _levels(links: int, rates: SumRate, limits: list[Interference]) -> MonotoneProblem:
    return MonotoneProblem(
        np.zeros(links, dtype=np.int64),
        np.full(links, LEVELS - 1),
        mixed_objective=rates,
        constraints=limits,
    )
