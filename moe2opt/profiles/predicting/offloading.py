"""Predict seconds per token when part of the experts lies in a slower tier of memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from moe2opt.profiles.fitting.holdout import stretch
from moe2opt.profiles.fitting.offload import OffloadCurve
from moe2opt.profiles.fitting.robust import upper_error
from moe2opt.profiles.formats import find_format
from moe2opt.profiles.predicting.predict import Prediction, predict, tables_of
from moe2opt.profiles.predicting.request import not_negative, positive
from moe2opt.profiles.ram import HOP_S, SPREAD, RamRate, ram_rate
from moe2opt.profiles.tables.tables import Profiles
from moe2opt.result import InputError

#: Share of the active bytes that are experts, where a caller does not say: the middle of the
#: mixture models in ``moe_models.csv``.
_EXPERT_SHARE = 0.6

#: Factor either way of the seconds in a tier whose effective bandwidth is given.
SPREAD_GIVEN = 1.6


def predict_offload(
    expert_share_gpu: float,
    *,
    series: str | None = None,
    device: str | None = None,
    weights_bytes: float | None = None,
    precision: str = "Q4_K_M",
    active_params_b: float | None = None,
    expert_bytes_per_token: float | None = None,
    tier_gb_per_s: float | None = None,
    ram: str | None = None,
    layers_in_tier: int = 0,
    latency_s: float = 0.0,
    overlap: float = 0.0,
    context_tokens: float = 0,
    engine: str | None = None,
    level: float = 0.9,
    profiles: Profiles | str | Path | None = None,
) -> Prediction:
    """Predict the seconds per output token of a mixture of experts that does not fit.

    Either name a published `series` (any part of its name that is unique), whose fitted curve is
    read off, or describe the model and the tier: the GPU reads what it holds, the tier delivers
    the rest at its bandwidth, and up to the share `overlap` of the shorter time is hidden.

    Parameters
    ----------
    expert_share_gpu
        Share of the experts on the GPU, 0 to 1.
    series
        Part of the name of a series in ``offload_runs.csv``.
    device, weights_bytes, precision, active_params_b
        The GPU and the model, as for `predict`.
    expert_bytes_per_token
        Bytes of experts that a token reads; 60 % of the active bytes when left out.
    tier_gb_per_s
        Effective bandwidth of the slower tier in 1e9 bytes per second.
    ram
        Kind of RAM that is the tier, such as ``ddr5-6000`` or ``ddr4-3200x8``, instead of a
        bandwidth (`moe2opt.profiles.ram`); two channels of DDR5-5600 when neither is given.
    layers_in_tier
        Layers whose experts are in the tier: each costs a hand-over.
    latency_s
        Seconds per token of going to the tier at all.
    overlap
        0 for one after the other, 1 for fully at the same time.
    context_tokens
        Tokens of the conversation so far, whose context the GPU reads for every token.
    engine
        As for `predict`.
    level
        Probability of the interval.
    profiles
        Tables or their folder; the built-in ones when left out.

    Raises
    ------
    InputError
        For an unknown or ambiguous series, or a number that makes no sense.

    Examples
    --------
    >>> from moe2opt.profiles import predict_offload
    >>> half = predict_offload(0.5, series="frequency")
    >>> full = predict_offload(1.0, series="frequency")
    >>> half.value > full.value, half.unit
    (True, 's/token')
    """
    for name, share in (("expert_share_gpu", expert_share_gpu), ("overlap", overlap)):
        if not 0 <= share <= 1:
            raise InputError(f"{name}: {share!r} is outside 0..1")
    if tier_gb_per_s is not None:
        positive("tier_gb_per_s", tier_gb_per_s)
    not_negative("layers_in_tier", layers_in_tier)
    not_negative("latency_s", latency_s)
    not_negative("expert_bytes_per_token", expert_bytes_per_token or 0)
    tables = tables_of(profiles)
    if series is not None:
        return _of_series(_find(series, tables.fit.offload_curves), expert_share_gpu, level)
    if device is None or weights_bytes is None or active_params_b is None:
        raise InputError("series: give it, or device, weights_bytes and active_params_b")
    form = find_format(precision, tables.formats)
    active = active_params_b * 1e9 * form.bits_per_weight / 8
    experts = _EXPERT_SHARE * active if expert_bytes_per_token is None else expert_bytes_per_token
    missed = (1.0 - expert_share_gpu) * min(experts, active)
    about: dict[str, Any] = {
        "quantity": "s_per_token", "active_params_b": active_params_b, "level": level,
        "engine": engine, "profiles": tables,
    }  # fmt: skip
    on_gpu = predict(device, weights_bytes, precision, context_tokens=context_tokens, **about)
    bare = predict(device, weights_bytes, precision, prompt_tokens=0, output_tokens=1, **about)
    context_s = max(on_gpu.value - bare.value, 0.0)
    own = bare.value * (active - missed) / active + context_s
    rate = ram_rate(ram) if tier_gb_per_s is None else RamRate(tier_gb_per_s * 1e9, "as given")
    going_s = latency_s + layers_in_tier * HOP_S if missed > 0 else 0.0
    tier_s = missed / rate.bytes_per_s + going_s
    wide = (SPREAD if tier_gb_per_s is None else SPREAD_GIVEN) ** stretch(level)
    found = _joined(on_gpu, own, tier_s, wide, overlap)
    if missed <= 0:
        return found
    reasons = [*found.reasons, "built from a bandwidth, not from runs of this model on this host"]
    if tier_gb_per_s is None:
        reasons.append(f"RAM is taken to be read at {rate.words}")
    return replace(found, extrapolated=True, reasons=tuple(reasons))


def _joined(
    on_gpu: Prediction, gpu_s: float, tier_s: float, wide: float, overlap: float
) -> Prediction:
    """Return both parts together: the GPU's with its own interval, the tier's with a factor."""

    def together(gpu_s: float, tier_s: float) -> float:
        return gpu_s + tier_s - overlap * min(gpu_s, tier_s)

    return replace(
        on_gpu,
        value=together(gpu_s, tier_s),
        lower=together(gpu_s * on_gpu.lower / on_gpu.value, tier_s / wide),
        upper=together(gpu_s * on_gpu.upper / on_gpu.value, tier_s * wide),
    )


def _find(name: str, curves: Sequence[OffloadCurve]) -> OffloadCurve:
    found = [curve for curve in curves if name.lower() in curve.series.lower()]
    if len(found) == 1:
        return found[0]
    known = "; ".join(curve.series for curve in (found or curves))
    what = "names several of" if found else "is not part of"
    raise InputError(f"series: '{name}' {what} the known series: {known}")


def _of_series(curve: OffloadCurve, share: float, level: float) -> Prediction:
    value = curve.seconds(share)
    measured = len(curve.errors) > 0
    spread = math.log1p(upper_error(curve.errors, level)) if measured else math.log(2.0)
    reasons = () if measured else (f"only {curve.points} runs: no hold-out error, a factor of 2",)
    error = f"mean error at a left-out share {100 * curve.mean_error:.1f} %" if measured else ""
    return Prediction(
        value=value,
        lower=value * math.exp(-spread),
        upper=value * math.exp(spread),
        unit="s/token",
        level=level,
        extrapolated=not measured,
        reasons=reasons,
        error=error or "no hold-out error",
    )
