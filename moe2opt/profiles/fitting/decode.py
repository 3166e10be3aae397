r"""Seconds per output token: bytes over a bandwidth, unpacking, a fixed time, the KV cache.

For a request with :math:`B` active bytes, :math:`P` active parameters in a weight class
:math:`f` and :math:`c` cached tokens on a device of peak bandwidth :math:`W`,

.. math::
    t = k_e k_m\, \frac{\theta_B B + \theta_f P + \theta_0 + \theta_{moe} + \theta_{kv} P c}{W},

with a factor :math:`k_e` per engine and :math:`k_m` per power mode. All coefficients are
non-negative and in *byte equivalents*, which makes devices comparable: :math:`1/\theta_B` is the
share of the peak bandwidth that is reached, :math:`\theta_f` the bytes that unpacking a parameter
costs. A device's coefficients are drawn towards those of all devices together (`Pool`), so that
a format or a device without runs still has a prediction, which is then marked.

Engines that launch every operation from the host (Hugging Face transformers) are bound by it:
there :math:`t` is the larger of the host's time, which every layer takes alike whatever its width,
and of the line above.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from moe2opt.profiles.fitting.points import Points
from moe2opt.profiles.fitting.robust import group_weights, robust_nnls, weighted_sum
from moe2opt.profiles.formats import CLASSES, EAGER, REFERENCE, VULKAN
from moe2opt.result import FloatArray

#: Coefficients in the order of the columns.
COEFFICIENTS = ("bytes", "8-bit", "4-bit", "2-bit", "1-bit", "fixed", "moe", "context")

#: Where the coefficients of all devices are expected, and how far they may stray (relative).
_CENTRE = np.array([1.2, 0.1, 0.2, 0.5, 1.0, 0.5, 1.0, 1.0])
_SPREAD = np.array([0.4, 4.0, 4.0, 4.0, 4.0, 3.0, 2.0, 2.0])
#: The same for one device around those of all devices.
_DEVICE_SPREAD = np.array([0.1, 0.5, 0.5, 0.5, 0.5, 0.4, 0.5, 0.4])

_POOL_NOISE, _DEVICE_NOISE = 0.2, 0.1

#: Byte equivalents of the columns that do not count bytes: a fixed time of 1e9 bytes, and 1e-5
#: bytes per parameter and cached token.
_FIXED, _CONTEXT = 1e9, 1e-5

#: An engine needs this many groups of runs before its factor is believed half.
_ENGINE_PRIOR = 3.0
_ROUNDS = 5

#: Name of a power mode that says its watts.
_WATTS = re.compile(r"[1-9]\d{0,3}W")


@dataclass(frozen=True, slots=True)
class Pool:
    """What all devices have in common.

    Attributes
    ----------
    coefficients
        ``(8,)`` in the order of `COEFFICIENTS`.
    engines
        Time per token of an engine class, relative to `REFERENCE`; through Vulkan it is the same,
        since decoding waits for the memory.
    host_layer_s
        Least seconds per token and layer of host-bound engines, by weight class.
    """

    coefficients: FloatArray
    engines: dict[str, float] = field(default_factory=dict)
    host_layer_s: dict[str, float] = field(default_factory=dict)

    def factors(self, points: Points) -> FloatArray:
        """Return the factor of each request's engine; 1 for one without runs."""
        return np.array([self.engines.get(name, 1.0) for name in points.engine])


def columns(points: Points) -> FloatArray:
    """Return the ``(n, 8)`` seconds per unit of each coefficient."""
    packed = [points.of_class(name) * points.active_params for name in list(CLASSES)[1:]]
    context = points.active_params * points.context_tokens * _CONTEXT
    table = np.stack(
        [
            points.active_bytes,
            *packed,
            np.full(len(points), _FIXED),
            points.moe * _FIXED,
            context,
        ],
        axis=1,
    )
    return table / points.bandwidth_bytes_per_s[:, None]


def fit_pool(points: Points, seconds: FloatArray, modes: Mapping[str, dict[str, float]]) -> Pool:
    """Fit what all devices have in common.

    Parameters
    ----------
    points, seconds
        Runs, and their seconds per token.
    modes
        Factors of the power modes, by device (`mode_factors`).
    """
    host = host_seconds(points, seconds)
    keep = np.array([name != EAGER for name in points.engine])
    points, seconds = points.take(keep), seconds[keep]
    pace = mode_of(points, modes)
    pool = Pool(_CENTRE.copy(), {}, host)
    for _ in range(_ROUNDS):
        plain = seconds / pace / pool.factors(points)
        weights = group_weights(points.group) * group_weights(points.device)
        shared = robust_nnls(columns(points), plain, weights, _CENTRE, _SPREAD, _POOL_NOISE)
        pool = Pool(shared, pool.engines, host)
        own = device_coefficients(points, plain, pool)
        fitted = np.einsum("ij,ij->i", columns(points), own)
        pool = Pool(shared, _engine_factors(points, seconds / pace / fitted), host)
    return pool


def device_coefficients(points: Points, plain: FloatArray, pool: Pool) -> FloatArray:
    """Return the ``(n, 8)`` coefficients of each request's device, fitted device by device."""
    found = np.empty((len(points), len(COEFFICIENTS)))
    for device in set(points.device):
        own = np.array([name == device for name in points.device])
        found[own] = fit_device(points.take(own), plain[own], pool)
    return found


def fit_device(points: Points, plain: FloatArray, pool: Pool) -> FloatArray:
    """Return the ``(8,)`` coefficients of one device.

    Parameters
    ----------
    points, plain
        Its runs with compiled engines, and their seconds per token in the reference power mode,
        the engine's factor taken off.
    pool
        Where the coefficients are drawn to.
    """
    centre = np.maximum(pool.coefficients, 0.02 * _CENTRE)
    weights = group_weights(points.group)
    return robust_nnls(columns(points), plain, weights, centre, _DEVICE_SPREAD, _DEVICE_NOISE)


def predict_seconds(
    points: Points, coefficients: FloatArray, pool: Pool, pace: FloatArray
) -> FloatArray:
    """Return the ``(n,)`` seconds per token; `pace` holds the factors of the power modes."""
    device_s = weighted_sum(columns(points), coefficients) * pool.factors(points)
    return np.maximum(device_s, _host_floor(points, pool)) * pace


def _host_floor(points: Points, pool: Pool) -> FloatArray:
    if not pool.host_layer_s:
        return np.zeros(len(points))
    names = list(CLASSES)
    usual = min(pool.host_layer_s.values())
    floor = [
        pool.host_layer_s.get(names[int(kind)], usual) if engine == EAGER else 0.0
        for kind, engine in zip(points.weight_class, points.engine, strict=True)
    ]
    return np.array(floor) * points.layers


def host_seconds(points: Points, seconds: FloatArray) -> dict[str, float]:
    """Return the median seconds per token and layer of host-bound engines, by weight class."""
    names = list(CLASSES)
    found: dict[str, list[float]] = {}
    each = seconds / points.layers
    for kind, engine, value in zip(points.weight_class, points.engine, each, strict=True):
        if engine == EAGER:
            found.setdefault(names[int(kind)], []).append(float(value))
    return {name: float(np.median(values)) for name, values in sorted(found.items())}


def _engine_factors(points: Points, ratio: FloatArray) -> dict[str, float]:
    """Return the median ratio of each engine, drawn towards 1 where it has few runs."""
    factors = {}
    weights = group_weights(points.group)
    for engine in sorted(set(points.engine) - {REFERENCE, VULKAN}):
        own = np.array([name == engine for name in points.engine])
        trust = weights[own].sum() / (weights[own].sum() + _ENGINE_PRIOR)
        factors[engine] = float(np.exp(trust * np.log(np.median(ratio[own]))))
    return factors


def mode_factors(points: Points, values: FloatArray) -> dict[str, dict[str, float]]:
    """Return the factor of each power mode against the device's most frequent one.

    Of several as frequent, that of the most watts: what devices have in common is full speed.
    Only runs of one LLM, format, engine and source in both modes are compared; the factor is the
    median of their ratios.
    """
    return {device: _modes_of(device, points, values) for device in dict.fromkeys(points.device)}


def _modes_of(device: str, points: Points, values: FloatArray) -> dict[str, float]:
    own = [k for k, name in enumerate(points.device) if name == device]
    counts: dict[str, int] = {}
    for k in own:
        counts[points.mode[k]] = counts.get(points.mode[k], 0) + 1
    reference = max(counts, key=lambda name: (counts[name], _watts(name)))
    factors = {reference: 1.0}
    for mode in counts:
        ratios = _matched([points.mode[k] for k in own], own, points, values, mode, reference)
        if mode != reference and ratios:
            factors[mode] = float(np.median(ratios))
    return factors


def _matched(
    modes: Sequence[str],
    own: Sequence[int],
    points: Points,
    values: FloatArray,
    mode: str,
    reference: str,
) -> list[float]:
    def key(k: int) -> tuple[object, ...]:
        return points.model[k], points.weight_class[k], points.engine[k], points.source[k]

    base = {key(k): values[k] for k, name in zip(own, modes, strict=True) if name == reference}
    pairs = [k for k, name in zip(own, modes, strict=True) if name == mode and key(k) in base]
    return [float(values[k] / base[key(k)]) for k in pairs]


def mode_of(points: Points, modes: Mapping[str, dict[str, float]]) -> FloatArray:
    """Return the factor of each request's power mode, 1 where none is known."""
    pairs = zip(points.device, points.mode, strict=True)
    return np.array([modes.get(device, {}).get(mode, 1.0) for device, mode in pairs])


def pace_of(points: Points, modes: Mapping[str, dict[str, float]]) -> FloatArray:
    """Return the factor of each request's power mode on its time.

    A mode of fewer watts than the device's usual one that nobody ran is taken to be slower in
    inverse proportion; any other unknown mode has the factor 1.
    """
    pairs = zip(points.device, points.mode, strict=True)
    return np.array([_mode_factor(modes.get(device, {}), mode) for device, mode in pairs])


def _mode_factor(known: Mapping[str, float], mode: str) -> float:
    usual = next((name for name, factor in known.items() if factor == 1.0), "")
    watts, most = _watts(mode), _watts(usual)
    if mode in known or not watts or math.isinf(most):
        return known.get(mode, 1.0)
    return max(1.0, most / watts)


def _watts(mode: str) -> float:
    """Return the watts in the name of a power mode, 0 where it does not say."""
    if mode == "MAXN":
        return math.inf
    return float(mode[:-1]) if _WATTS.fullmatch(mode) else 0.0
