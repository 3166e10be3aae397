r"""Joules per token: floor power over the time, energy per byte and per operation.

.. math::
    e = k_m \left(p_0\, t + e_B B + e_F\, 2 P\right)

per output token, and with :math:`B / n` in place of :math:`B` per prompt token. One fit per
device and power scope: joules of different scopes are never pooled. A power cap below the power
that follows holds the power at the cap while the time grows (`moe2opt.profiles.fitting.caps`).
"""

from __future__ import annotations

import numpy as np

from moe2opt.profiles.fitting.points import Points
from moe2opt.profiles.fitting.robust import group_weights, robust_nnls
from moe2opt.result import FloatArray

#: Coefficients: watts, joules per byte, joules per operation.
COEFFICIENTS = ("floor_w", "j_per_byte", "j_per_operation")

#: Relative to the mean power of the runs: floor, bytes at full bandwidth, operations at full rate.
_SHARES = np.array([0.4, 0.6, 0.6])
_SPREAD = np.array([1.5, 1.5, 1.5])
_NOISE = 0.08

#: Operations per byte of bandwidth at the usual rate of a prompt.
_OPERATIONS_PER_BYTE = 65.0


def columns(points: Points, seconds: FloatArray, prompt: FloatArray) -> FloatArray:
    """Return ``(n, 3)`` joules per unit of each coefficient, per token.

    Parameters
    ----------
    points
        Requests.
    seconds
        ``(n,)`` seconds per token.
    prompt
        ``(n,)`` 1 for a prompt token, 0 for an output token.
    """
    length = np.maximum(points.prompt_tokens, 1.0)
    read = np.where(prompt > 0, points.all_bytes / length, points.active_bytes)
    return np.stack([seconds, read, 2.0 * points.active_params * prompt], axis=1)


def fit_device(
    points: Points, joules: FloatArray, seconds: FloatArray, prompt: FloatArray
) -> FloatArray:
    """Return the ``(3,)`` coefficients of one device within one power scope.

    `joules` are in the reference power mode; `seconds` those of the runs themselves.
    """
    typical_w = float(np.median(joules / seconds))
    bandwidth = points.bandwidth_bytes_per_s[0]
    scale = typical_w * np.array([1.0, 1 / bandwidth, 1 / (bandwidth * _OPERATIONS_PER_BYTE)])
    return robust_nnls(
        columns(points, seconds, prompt),
        joules,
        group_weights(points.group),
        _SHARES * scale,
        _SPREAD,
        _NOISE,
    )
