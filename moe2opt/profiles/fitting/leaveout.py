"""Leave a model, a source or a device out of the fit, and predict it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from moe2opt.profiles.fitting.calibrate import Calibration, Hardware, Pools, Samples, calibrate
from moe2opt.profiles.fitting.points import Points, repository
from moe2opt.profiles.fitting.robust import group_means
from moe2opt.result import FloatArray


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


def left_out(
    samples: Samples,
    hardware: Mapping[str, Hardware],
    scopes: Mapping[str, str],
    by: str,
    pools: Pools | None = None,
) -> dict[str, FloatArray]:
    """Return log(predicted / measured) of every run, its model, source or device left out.

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
    misses = {name: np.full(len(sample.points), np.nan) for name, sample in samples.items()}
    for key in sorted({key for names in keys.values() for key in names}):
        rest = {n: s.take([k != key for k in keys[n]]) for n, s in samples.items()}
        found = calibrate(rest, hardware, scopes, pools)
        for name, sample in samples.items():
            out = np.array([k == key for k in keys[name]])
            if out.any():
                test = sample.take(out.tolist())
                misses[name][out] = np.log(predict(found, name, test.points) / test.values)
    return misses


def predict(found: Calibration, quantity: str, points: Points) -> FloatArray:
    """Return the prediction of a quantity, times and energies both predicted."""
    if quantity == "decode":
        return found.decode_s(points)
    if quantity == "prefill":
        return found.prefill_s(points)
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
