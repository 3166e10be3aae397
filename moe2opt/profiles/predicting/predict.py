"""Predict seconds, tokens per second, joules and watts of an LLM on a device, with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from moe2opt.profiles.fitting.fit import Fit
from moe2opt.profiles.fitting.holdout import stretch
from moe2opt.profiles.formats import find_format
from moe2opt.profiles.predicting.request import (
    Load,
    cap_reasons,
    capped,
    free_joules,
    free_times,
    load_of,
    not_negative,
    outside,
    positive,
    swept,
)
from moe2opt.profiles.tables.tables import Profiles, builtin_profiles, read_profiles
from moe2opt.result import InputError

Phase = Literal["decode", "prefill"]
Quantity = Literal["tokens_per_s", "s_per_token", "j_per_token", "power_w"]

#: Lengths that stand for those that a caller does not give.
_PROMPT_TOKENS, _OUTPUT_TOKENS = 512, 128


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted figure and how far to trust it.

    Attributes
    ----------
    value
        The figure.
    lower, upper
        Interval that holds a new measurement with probability `level`, as far as the hold-out
        errors go.
    unit
        Such as ``tokens/s``, with the power scope where there is one.
    level
        Probability of the interval.
    extrapolated
        Whether the runs do not span the request.
    reasons
        In words, why it is an extrapolation or an assumption.
    error
        In words, the hold-out errors behind the interval.
    """

    value: float
    lower: float
    upper: float
    unit: str
    level: float
    extrapolated: bool
    reasons: tuple[str, ...]
    error: str

    def __str__(self) -> str:
        mark = f"; extrapolated: {'; '.join(self.reasons)}" if self.extrapolated else ""
        return (
            f"{self.value:.4g} {self.unit} ({self.lower:.4g} to {self.upper:.4g} at "
            f"{self.level:.0%}; {self.error}{mark})"
        )


def predict(
    device: str,
    weights_bytes: float | None = None,
    precision: str = "Q4_K_M",
    phase: Phase = "decode",
    *,
    quantity: Quantity = "tokens_per_s",
    params_b: float | None = None,
    active_bytes: float | None = None,
    active_params_b: float | None = None,
    layers: float | None = None,
    bits_per_weight: float | None = None,
    engine: str | None = None,
    power_mode: str | None = None,
    power_cap_w: float | None = None,
    prompt_tokens: float | None = None,
    output_tokens: float | None = None,
    context_tokens: float = 0,
    level: float = 0.9,
    profiles: Profiles | str | Path | None = None,
) -> Prediction:
    """Predict one figure of one request at a time.

    Parameters
    ----------
    device
        Name of a device or an alias, such as ``RTX 4090`` or ``Jetson AGX Orin``.
    weights_bytes
        Size of the weights (about the size of the model file); else `params_b` must be given.
    precision
        Weight format, such as ``Q4_K_M``, ``BF16``, ``INT4``, ``AWQ``.
    phase
        ``decode`` (output tokens) or ``prefill`` (prompt tokens).
    quantity
        ``tokens_per_s``, ``s_per_token``, ``j_per_token`` or ``power_w``.
    params_b, active_params_b
        Parameters in memory and per token, in units of 1e9; a mixture of experts needs the latter
        or `active_bytes`.
    active_bytes
        Weights read per token; all of them when left out.
    layers
        Number of layers, which host-bound engines wait for; what is usual for the parameters when
        left out.
    bits_per_weight
        Effective bits; by the name of the format when left out.
    engine
        Such as ``llama.cpp``, ``vLLM``, ``HF transformers``; the usual one of the format when left
        out.
    power_mode, power_cap_w
        Such as ``15W`` on a Jetson; power cap in watts on a card.
    prompt_tokens, output_tokens, context_tokens
        Lengths; 512, 128 and 0 when left out. `context_tokens` were cached before.
    level
        Probability of the interval, below 1.
    profiles
        Tables or their folder; the built-in ones when left out.

    Raises
    ------
    InputError
        For an unknown device, format or quantity, or a number that makes no sense.

    Examples
    --------
    >>> from moe2opt.profiles import predict
    >>> rate = predict("RTX 4090", weights_bytes=4.92e9, precision="Q4_K_M")
    >>> rate.lower < rate.value < rate.upper, rate.unit, rate.extrapolated
    (True, 'tokens/s', False)
    """
    _check(phase, quantity, level)
    tables = tables_of(profiles)
    form = find_format(precision, tables.formats, bits_per_weight)
    if weights_bytes is None:
        if params_b is None:
            raise InputError("weights_bytes: missing; give it or params_b")
        positive("params_b", params_b)
        weights_bytes = params_b * 1e9 * form.bits_per_weight / 8
    load = load_of(
        tables.device(device),
        form,
        weights_bytes,
        active_bytes=active_bytes,
        params_b=params_b,
        active_params_b=active_params_b,
        layers=layers,
        engine=engine,
        power_mode=power_mode,
        power_cap_w=power_cap_w,
    )
    prompt = _PROMPT_TOKENS if prompt_tokens is None else prompt_tokens
    output = _OUTPUT_TOKENS if output_tokens is None else output_tokens
    for name, tokens in (("prompt_tokens", prompt), ("output_tokens", output)):
        if phase == "prefill" or name == "output_tokens" or prompt:
            positive(name, tokens)
    not_negative("context_tokens", context_tokens)
    found = _predict(tables.fit, load, phase, quantity, prompt, output, context_tokens, level)
    several = tables.taken_for(device)
    if several is None:
        return found
    return replace(found, extrapolated=True, reasons=(*found.reasons, several))


def _check(phase: str, quantity: str, level: float) -> None:
    for name, value, known in (
        ("phase", phase, get_args(Phase)),
        ("quantity", quantity, get_args(Quantity)),
    ):
        if value not in known:
            raise InputError(f"{name}: '{value}' is not one of {', '.join(known)}")
    if not 0 <= level < 1:
        raise InputError(f"level: expected a probability below 1, not {level!r}")


def tables_of(profiles: Profiles | str | Path | None) -> Profiles:
    """Return tables from themselves, from their folder, or the built-in ones for None."""
    if isinstance(profiles, Profiles):
        return profiles
    return _builtin() if profiles is None else read_profiles(profiles)


@cache
def _builtin() -> Profiles:
    return read_profiles(builtin_profiles())


def _predict(
    fit: Fit,
    load: Load,
    phase: Phase,
    quantity: Quantity,
    prompt: float,
    output: float,
    before: float,
    level: float,
) -> Prediction:
    lengths = np.array([float(prompt)])
    context = np.array([before + prompt + output / 2.0])
    times = free_times(fit, load, lengths, context)
    seconds = times.decode_s_per_token if phase == "decode" else times.prefill_s / prompt
    joules = np.full(1, np.nan)
    if quantity in ("j_per_token", "power_w") or load.power_cap_w is not None:
        per_output, per_prompt = free_joules(fit, load, lengths, context, times)
        joules = per_output if phase == "decode" else per_prompt / prompt
        stretch, drawn = capped(fit, load, phase, joules / seconds)
        seconds = seconds * stretch
        joules = drawn * seconds
    value = {
        "tokens_per_s": 1.0 / seconds[0],
        "s_per_token": seconds[0],
        "j_per_token": joules[0],
        "power_w": joules[0] / seconds[0],
    }[quantity]
    return _dressed(fit, load, phase, quantity, float(value), level)


def _dressed(
    fit: Fit, load: Load, phase: Phase, quantity: Quantity, value: float, level: float
) -> Prediction:
    measured = f"{phase}_energy" if quantity in ("j_per_token", "power_w") else phase
    name = load.device["device"]
    reasons = [*outside(fit, load, measured), *cap_reasons(fit, load, phase)]
    scope = fit.calibration.scopes.get(name)
    if measured.endswith("energy") and scope is None:
        scope = load.device["power_limit_scope"]
        reasons.append(power_basis(fit, load))
    told = f"{phase}_power" if quantity == "power_w" else measured
    spread = fit.errors.spread(name, told, load.kind(fit), extrapolated=bool(reasons), level=level)
    same = swept(fit, load, phase) if quantity == "power_w" else None
    if same is not None:
        spread = same.watts_error * stretch(level)
    upper = value * math.exp(spread)
    if quantity == "power_w" and scope == load.device["power_limit_scope"]:
        # A cap above the usual limit lets the device draw more than that.
        limit_w = load.power_cap_w or load.device["power_limit_w"] or math.inf
        upper = max(value, min(upper, limit_w))
    units = {"tokens_per_s": "tokens/s", "s_per_token": "s/token"}
    energy = {"j_per_token": "J/token", "power_w": "W"}
    unit = units.get(quantity) or f"{energy[quantity]} ({scope or 'scope not stated'})"
    return Prediction(
        value=value,
        lower=value * math.exp(-spread),
        upper=upper,
        unit=unit,
        level=level,
        extrapolated=bool(reasons),
        reasons=tuple(reasons),
        error=account(fit, name, told, load.kind(fit)),
    )


def power_basis(fit: Fit, load: Load) -> str:
    """Return in words where the joules of a device without energy runs come from."""
    if load.device["power_limit_w"] is not None:
        return "power assumed to be the power limit"
    return f"energy of other devices with the power scope {load.device['power_limit_scope']}"


def account(fit: Fit, device: str, quantity: str, kind: str) -> str:
    """Return the hold-out errors of a quantity on a device in words."""
    words = quantity.replace("_", " ")
    kind = kind.partition(",")[0]
    found = {by: fit.errors.find(device, quantity, kind, by) for by in ("model", "source")}
    parts = [
        f"{100 * row.mean_error:.0f} % for a left-out {by}" for by, row in found.items() if row
    ]
    if fit.calibration.hardware[device].stated is not None:
        return f"{words} as stated"
    if not parts:
        return f"{words} never measured on {device}"
    groups = max(row.groups for row in found.values() if row)
    return f"{words} off by {' and '.join(parts)} (mean of {groups})"
