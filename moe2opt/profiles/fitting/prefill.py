r"""Seconds of a prompt: a roofline of arithmetic and bandwidth, plus a fixed time.

.. math::
    t(n) = k_m \left(\max\left(\theta_F \frac{2 P n}{F},\; \theta_B \frac{B}{W}\right)
        + \theta_r \frac{B}{W} + \theta_0 \frac{10^9}{W}
        + \theta_c \frac{P^{2/3} n^2}{F}\right),

with all the weights :math:`B` (a long prompt meets every expert), :math:`\theta_B` from decoding,
and the peak arithmetic rate :math:`F` of the device, of which :math:`1/\theta_F` is attained: cards
of one bandwidth differ in it by a factor of two. Mixtures of experts have a share of their own:
their matrices are small. The last term is attention, which meets every earlier token: layers times
width, which grow as :math:`P^{2/3}`; how much it costs depends on the engine's kernels. Through
Vulkan less of the matrix units is attained: :math:`F` is smaller by a factor of all devices.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from moe2opt.profiles.fitting.points import Points
from moe2opt.profiles.fitting.robust import group_weights, robust_nnls, weighted_sum
from moe2opt.profiles.formats import VULKAN
from moe2opt.result import BoolArray, FloatArray

#: Coefficients: inverse shares of the peak arithmetic rate of dense and of mixture models,
#: repeated reads of the weights, fixed time in 1e9 bytes, attention in operations per pair of
#: tokens and parameter of a model of 8e9 parameters.
COEFFICIENTS = ("dense", "moe", "reread", "fixed", "context")

_CENTRE = np.array([1.25, 2.5, 0.3, 1.0, 1.0])
_SPREAD = np.array([1.0, 2.0, 2.0, 3.0, 2.0])
_DEVICE_SPREAD = np.array([0.4, 2.0, 1.5, 1.5, 1.5])
_CONTEXT, _CONTEXT_PARAMS = 6.5e-5, 8e9

_POOL_NOISE, _DEVICE_NOISE = 0.2, 0.1
#: A coefficient that vanishes for all devices may still show on one: least share of the centre.
_LEAST = 0.25
_ROUNDS = 4
#: An engine with so many groups of runs has half of its factor believed.
_ENGINE_PRIOR = 1.0


@dataclass(frozen=True, slots=True)
class PrefillPool:
    """What all devices have in common.

    Attributes
    ----------
    coefficients
        ``(5,)``, in the order of `COEFFICIENTS`.
    engines
        By how much less of the arithmetic rate an engine attains; 1 for one that is not here.
    """

    coefficients: FloatArray
    engines: dict[str, float] = field(default_factory=dict)

    def factor(self, engine: str) -> float:
        """Return by how much less of the arithmetic rate an engine attains."""
        return self.engines.get(engine, 1.0)

    def attained(self, points: Points) -> Points:
        """Return the requests on devices that are as fast as their engines let them be."""
        factors = np.array([self.factor(name) for name in points.engine])
        return replace(points, operations_per_s=points.operations_per_s / factors)


def columns(points: Points, bound: BoolArray) -> FloatArray:
    """Return ``(n, 5)`` seconds per unit; arithmetic is hidden where bandwidth is the `bound`."""
    byte_s, operation_s = 1 / points.bandwidth_bytes_per_s, 1 / points.operations_per_s
    operations = np.where(bound, 0.0, 2.0 * points.active_params * points.prompt_tokens)
    dense, moe = operations * (1 - points.moe), operations * points.moe
    heads = _CONTEXT_PARAMS * (points.active_params / _CONTEXT_PARAMS) ** (2 / 3)
    pairs = heads * points.prompt_tokens**2 * _CONTEXT
    arithmetic = [dense * operation_s, moe * operation_s]
    reading = [points.all_bytes * byte_s, 1e9 * byte_s]
    return np.stack([*arithmetic, *reading, pairs * operation_s], axis=1)


def arithmetic_s(points: Points, coefficients: FloatArray) -> FloatArray:
    """Return the ``(n,)`` seconds of arithmetic alone."""
    none = np.zeros(len(points), dtype=bool)
    return weighted_sum(columns(points, none)[:, :2], coefficients[:2])


def predict_seconds(
    points: Points, coefficients: FloatArray, reading: float, pace: FloatArray
) -> FloatArray:
    """Return the ``(n,)`` seconds of the prompts.

    Parameters
    ----------
    points
        Requests, with what their engines attain (`PrefillPool.attained`).
    coefficients
        ``(5,)`` of the device.
    reading
        Decode coefficient of the bytes: inverse share of the peak bandwidth that is reached.
    pace
        Factors of the power modes.
    """
    read_s = reading * points.all_bytes / points.bandwidth_bytes_per_s
    bound = read_s > arithmetic_s(points, coefficients)
    rest = weighted_sum(columns(points, bound), coefficients)
    return (rest + np.where(bound, read_s, 0.0)) * pace


def fit_pool(points: Points, seconds: FloatArray, reading: float) -> PrefillPool:
    """Fit the coefficients of all devices together; `seconds` are in the reference power mode."""
    weights = group_weights(points.group) * group_weights(points.device)
    own = np.array([name == VULKAN for name in points.engine])
    trust = weights[own].sum() / (weights[own].sum() + _ENGINE_PRIOR)
    factor = 1.0
    for _ in range(_ROUNDS):
        pool = PrefillPool(_CENTRE, {VULKAN: factor})
        at = pool.attained(points)
        found = _fit(at, seconds, reading, weights, _CENTRE, _SPREAD, _POOL_NOISE)
        pool = replace(pool, coefficients=found)
        if not own.any():
            break
        fitted = predict_seconds(at.take(own), found, reading, np.ones(int(own.sum())))
        factor = float((factor * np.median(seconds[own] / fitted)) ** trust)
    return pool


def fit_device(
    points: Points, seconds: FloatArray, reading: float, centre: FloatArray
) -> FloatArray:
    """Return the ``(5,)`` coefficients of one device, drawn towards `centre`."""
    weights = group_weights(points.group)
    around = np.maximum(centre, _LEAST * _CENTRE)
    return _fit(points, seconds, reading, weights, around, _DEVICE_SPREAD, _DEVICE_NOISE)


def _fit(
    points: Points,
    seconds: FloatArray,
    reading: float,
    weights: FloatArray,
    centre: FloatArray,
    spread: FloatArray,
    noise: float,
) -> FloatArray:
    """Alternate between which side of the roofline binds and the coefficients."""
    read_s = reading * points.all_bytes / points.bandwidth_bytes_per_s
    found = centre.copy()
    for _ in range(_ROUNDS):
        bound = (read_s > arithmetic_s(points, found)) & (read_s < seconds)
        table = columns(points, bound)
        target = seconds - np.where(bound, read_s, 0.0)
        # A relative error of the whole weighs as much where only a part is left to explain.
        scale = (target / seconds) ** 2
        found = robust_nnls(table, target, weights * scale, centre, spread, noise)
    return found
