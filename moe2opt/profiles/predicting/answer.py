"""Seconds and joules of whole answers: prompt and output of one request at a time."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moe2opt.profiles.fitting.fit import Fit
from moe2opt.profiles.predicting.predict import account, power_basis
from moe2opt.profiles.predicting.request import (
    Load,
    cap_reasons,
    capped,
    free_joules,
    free_times,
    outside,
)
from moe2opt.result import FloatArray

#: What is predicted of an answer.
PHASES = ("decode", "prefill", "decode_energy", "prefill_energy")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Seconds and joules of n answers of one LLM, prompt and output apart.

    Attributes
    ----------
    prefill_s, decode_s, prefill_j, decode_j
        ``(n,)`` predictions.
    fit, load
        What they rest on.
    """

    prefill_s: FloatArray
    decode_s: FloatArray
    prefill_j: FloatArray
    decode_j: FloatArray
    fit: Fit
    load: Load

    def seconds(self, quantile: float | None = None) -> FloatArray:
        """Return the ``(n,)`` seconds, or what they stay below with probability `quantile`."""
        return sum(self.phase_seconds(quantile), np.zeros(len(self.prefill_s)))

    def phase_seconds(self, quantile: float | None = None) -> list[FloatArray]:
        """Return the seconds of the prompt and of the output apart."""
        return [self._raised(phase, own, quantile) for phase, own in self._seconds()]

    def joules(self, quantile: float | None = None) -> FloatArray:
        """Return the ``(n,)`` joules, or what they stay below with probability `quantile`.

        Both phases are put at their own quantile: their errors may well go together. No power
        limit of the same scope is exceeded on the way.
        """
        return sum(self.phase_joules(quantile), np.zeros(len(self.prefill_j)))

    def phase_joules(self, quantile: float | None = None) -> list[FloatArray]:
        """Return the joules of the prompt and of the output apart."""
        phases = []
        joules = (self.prefill_j, self.decode_j)
        for (phase, seconds), own in zip(self._seconds(), joules, strict=True):
            raised = self._raised(f"{phase}_energy", own, quantile)
            longest = self._raised(phase, seconds, quantile)
            # Without tokens there are no seconds, and no joules whatever the limit.
            limit_j = np.where(longest > 0, self._limit_w(), 0.0) * np.maximum(longest, 1e-300)
            phases.append(np.maximum(own, np.minimum(raised, limit_j)))
        return phases

    def _seconds(self) -> tuple[tuple[str, FloatArray], tuple[str, FloatArray]]:
        return ("prefill", self.prefill_s), ("decode", self.decode_s)

    def _limit_w(self) -> float:
        """Return the power limit, infinite where the meter sees something else."""
        device = self.load.device
        scope = self.fit.calibration.scopes.get(device["device"])
        if device["power_limit_w"] is None or scope != device["power_limit_scope"]:
            return math.inf
        return float(device["power_limit_w"])

    def _raised(self, quantity: str, value: FloatArray, quantile: float | None) -> FloatArray:
        if quantile is None:
            return value
        return value * math.exp(self._spread(quantity, quantile))

    def _spread(self, quantity: str, quantile: float) -> float:
        """Return the log error of the two-sided interval whose upper end is the quantile."""
        far = bool(outside(self.fit, self.load, quantity))
        return self.fit.errors.spread(
            self.load.device["device"],
            quantity,
            self.load.kind(self.fit),
            extrapolated=far,
            level=max(0.0, 2.0 * quantile - 1.0),
        )


def answers(
    fit: Fit, load: Load, prompt_tokens: npt.ArrayLike, output_tokens: npt.ArrayLike
) -> Answer:
    """Predict answers of one LLM on one device, one request at a time.

    Parameters
    ----------
    fit, load
        The fit of the tables, and the LLM on its device.
    prompt_tokens, output_tokens
        ``(n,)`` lengths.

    Raises
    ------
    InputError
        When the device has neither energy runs nor a power limit.
    """
    prompt = np.asarray(prompt_tokens, dtype=float)
    output = np.asarray(output_tokens, dtype=float)
    context = prompt + output / 2.0
    times = free_times(fit, load, prompt, context)
    per_output_j, prefill_j = free_joules(fit, load, prompt, context, times)
    decode_s, decode_j = _held(fit, load, "decode", times.decode_s_per_token, per_output_j)
    prefill_s, prefill_j = _held(fit, load, "prefill", times.prefill_s, prefill_j)
    return Answer(prefill_s, decode_s * output, prefill_j, decode_j * output, fit, load)


def _held(
    fit: Fit, load: Load, phase: str, seconds: FloatArray, joules: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return seconds and joules under the load's power cap."""
    if load.power_cap_w is None:
        return seconds, joules
    stretch, drawn_w = capped(fit, load, phase, joules / seconds)
    return seconds * stretch, seconds * stretch * drawn_w


def trust(fit: Fit, load: Load, used: Collection[str] = PHASES) -> tuple[str, ...]:
    """Return in words the hold-out errors behind answers of a load, and what is assumed.

    `used` are the predictions that matter.
    """
    name = load.device["device"]
    told = [quantity for quantity in _quantities(fit, name) if quantity in used]
    words = [account(fit, name, quantity, load.kind(fit)) for quantity in told]
    for quantity in ("decode", "prefill"):
        words += cap_reasons(fit, load, quantity) if quantity in used else []
    if name not in fit.calibration.energy and any(phase.endswith("energy") for phase in used):
        words.append(power_basis(fit, load))
    return tuple(dict.fromkeys(words))


def is_far(fit: Fit, load: Load) -> bool:
    """Whether the runs of the device do not span a load's decoding."""
    return bool(outside(fit, load, "decode"))


def _quantities(fit: Fit, device: str) -> tuple[str, ...]:
    energies = ("decode_energy", "prefill_energy") if device in fit.calibration.energy else ()
    return ("decode", "prefill", *energies)
