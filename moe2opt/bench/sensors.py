r"""Sensor placement: which places, within a budget, tell most about a field that varies smoothly.

The field is a Gaussian process with an exponential covariance, and what sensors at a set A of
places tell about it is :math:`I(A) = \frac12 \log_2 \det(1 + K_{AA} / \sigma^2)` bits. That
increases with A and is submodular (Krause, Singh and Guestrin, Near-optimal sensor placements in
Gaussian processes, JMLR 9, 2008; exact search for most entropy: Ko, Lee and Queyranne, Operations
Research 43, 1995).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import MonotoneProblem, parts
from moe2opt.result import FloatArray, IntArray

#: Length over which the field varies, in sides of the square, and variance of the noise of a
#: sensor; the variance of the field is 1.
_LENGTH, _NOISE = 1.0, 0.1


@dataclass(frozen=True, eq=False)
class Information:
    """Batched bits that chosen places tell.

    Attributes
    ----------
    covariance
        ``(n, n)`` covariance of the places, divided by the variance of the noise.
    """

    covariance: FloatArray

    def __call__(self, points: IntArray) -> FloatArray:
        """Return the information of ``(B, n)`` 0/1 choices."""
        chosen = points[:, :, None] * points[:, None, :]
        matrices = np.eye(len(self.covariance)) + chosen * self.covariance
        return np.asarray(np.linalg.slogdet(matrices).logabsdet / (2 * np.log(2.0)))


def sensor_placement(places: int, seed: int) -> MonotoneProblem:
    """Return random places in a unit square, at costs of 1 to 9 and with a third of their sum."""
    rng = np.random.default_rng([seed, places, 8])
    where = rng.random((places, 2))
    metres = np.linalg.norm(where[:, None, :] - where, axis=2)
    cost = rng.integers(1, 10, places)
    return MonotoneProblem.from_parts(
        [0] * places,
        [1] * places,
        parts.submodular(Information(np.exp(-metres / _LENGTH) / _NOISE)),
        at_most=[(parts.linear(cost), int(cost.sum()) // 3)],
    )
