"""Leave a model, a source or a device out of the fit, and predict it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from moe2opt.profiles.fitting.calibrate import Calibration, Hardware, Pools, Samples, calibrate
from moe2opt.profiles.fitting.points import NEAR, Points, repository
from moe2opt.profiles.fitting.robust import group_means
from moe2opt.profiles.formats import EAGER
from moe2opt.result import BoolArray, FloatArray


def model_key(points: Points) -> list[str]:
    """Return the LLM of each request, spelling variants of a name put together."""
    return [re.sub(r"[^a-z0-9]", "", name.lower()) for name in points.model]


def source_key(points: Points) -> list[str]:
    """Return the repository or site of each request."""
    return [repository(name) if ":" not in name else name for name in points.source]


def device_key(points: Points) -> list[str]:
    """Return the device of each request."""
    return list(points.device)


#: What may be left out, by name.
KEYS: dict[str, Callable[[Points], list[str]]] = {
    "model": model_key,
    "source": source_key,
    "device": device_key,
}


#: Powers of which errors are told: joules over seconds, both predicted.
POWERS = {"decode_power": "decode_energy", "prefill_power": "prefill_energy"}


def beyond(points: Points, by: str) -> BoolArray:
    """Return which requests the other runs of their device do not span.

    The runs of the same model, source or device are not among the others; what `predict` then
    calls an extrapolation is one here.
    """
    keys, classes = KEYS[by](points), points.weight_class.tolist()
    found = []
    for k, device in enumerate(points.device):
        rest = [j for j, name in enumerate(points.device) if name == device and keys[j] != keys[k]]
        sizes = points.all_bytes[rest]
        found.append(
            not rest
            or points.mode[k] not in {points.mode[j] for j in rest}
            or classes[k] not in {classes[j] for j in rest}
            or (points.engine[k] == EAGER) not in {points.engine[j] == EAGER for j in rest}
            or not sizes.min() / NEAR <= points.all_bytes[k] <= sizes.max() * NEAR
        )
    return np.array(found, dtype=bool)


def new_format(points: Points, by: str) -> BoolArray:
    """Return which requests are of a host-bound engine with weights that no other such run has."""
    keys, classes = KEYS[by](points), points.weight_class.tolist()
    eager = [engine == EAGER for engine in points.engine]
    runs = {(classes[k], keys[k]) for k, own in enumerate(eager) if own}
    return np.array(
        [
            own and not any(kind == classes[k] and key != keys[k] for kind, key in runs)
            for k, own in enumerate(eager)
        ],
        dtype=bool,
    )


def left_out(
    samples: Samples,
    hardware: Mapping[str, Hardware],
    scopes: Mapping[str, str],
    by: str,
    pools: Pools | None = None,
) -> dict[str, FloatArray]:
    """Return log(predicted / measured) of every run, its model, source or device left out.

    By quantity, and for the runs with joules by the watts of `POWERS`, too.

    Parameters
    ----------
    samples, hardware, scopes
        As for `calibrate`.
    by
        ``model``, ``source`` or ``device``.
    pools
        Common coefficients of other tables; refitted without what is left out when None.
    """
    keys = {name: KEYS[by](sample.points) for name, sample in samples.items()}
    told = {name: POWERS.get(name, name) for name in (*samples, *POWERS)}
    misses = {name: np.full(len(samples[own].points), np.nan) for name, own in told.items()}
    for key in sorted({key for names in keys.values() for key in names}):
        rest = {n: s.take([k != key for k in keys[n]]) for n, s in samples.items()}
        found = calibrate(rest, hardware, scopes, pools)
        for name, own in told.items():
            out = np.array([k == key for k in keys[own]])
            if out.any():
                test = samples[own].take(out.tolist())
                measured = test.values / test.seconds if name in POWERS else test.values
                miss = np.log(predict(found, name, test.points) / measured)
                misses[name][out] = np.where(_comparable(found, own, test.points), miss, np.nan)
    return misses


def _comparable(found: Calibration, quantity: str, points: Points) -> BoolArray:
    """Return where a prediction is about what was metered.

    The power limit, which stands in for joules that nobody metered, may include more.
    """
    return np.array(
        [
            not quantity.endswith("energy")
            or device in found.energy
            or found.hardware[device].scope == found.scopes.get(device)
            for device in points.device
        ]
    )


def predict(found: Calibration, quantity: str, points: Points) -> FloatArray:
    """Return the prediction of a quantity, times and energies both predicted."""
    if quantity == "decode":
        return found.decode_s(points)
    if quantity == "prefill":
        return found.prefill_s(points)
    if quantity in POWERS:
        seconds = found.decode_s(points)
        if quantity == "prefill_power":
            seconds = found.prefill_s(points) / np.maximum(points.prompt_tokens, 1.0)
        return predict(found, POWERS[quantity], points) / seconds
    if quantity == "decode_energy":
        return found.joules(points, found.decode_s(points), np.zeros(len(points)))
    per_token = found.prefill_s(points) / np.maximum(points.prompt_tokens, 1.0)
    return found.joules(points, per_token, np.ones(len(points)))


def grouped(points: Points, misses: FloatArray) -> list[float]:
    """Return the mean relative error of each group of equal runs, in the order of the runs."""
    known = ~np.isnan(misses)
    chosen = [g for g, k in zip(points.group, known, strict=True) if k]
    means: list[float] = group_means(chosen, np.abs(np.exp(misses[known]) - 1.0)).tolist()
    return means
