"""Requests: what is asked of a device, checked and turned into what the fit predicts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from moe2opt.profiles.fitting.calibrate import Hardware
from moe2opt.profiles.fitting.caps import CapCurve
from moe2opt.profiles.fitting.fit import Fit
from moe2opt.profiles.fitting.holdout import KINDS
from moe2opt.profiles.fitting.points import NEAR, Points, usual_layers
from moe2opt.profiles.formats import (
    CLASSES,
    EAGER,
    REFERENCE,
    Format,
    engine_class,
    weight_class,
)
from moe2opt.result import FloatArray, InputError
from moe2opt.schema.csv import Row

#: Requests that ask for less than this share of the power of a swept workload count as lighter.
_LIGHTER = 0.85


@dataclass(frozen=True, slots=True)
class Load:
    """One LLM in one format on one device, without the lengths of its prompts.

    Attributes
    ----------
    device
        Row of ``devices.csv``.
    form
        Weight format.
    all_bytes, active_bytes, active_params
        Weights in memory, weights and parameters used per token.
    layers
        Number of layers.
    engine
        Class of engines.
    power_mode
        Name of the power mode; empty for the usual one.
    power_cap_w
        Power cap, None for none.
    """

    device: Row
    form: Format
    all_bytes: float
    active_bytes: float
    active_params: float
    layers: float
    engine: str
    power_mode: str = ""
    power_cap_w: float | None = None

    def kind(self, fit: Fit) -> str:
        """Return the kind of engine that hold-out errors are told apart by."""
        if self.engine != EAGER:
            return KINDS[0]
        known = self.form.weight_class in fit.calibration.pools.decode.host_layer_s
        return KINDS[1] if known else KINDS[2]

    @property
    def is_moe(self) -> bool:
        """Whether a token uses a part of the weights only."""
        return self.active_bytes < 0.999 * self.all_bytes

    def points(self, prompt: FloatArray, context: FloatArray) -> Points:
        """Return requests with these ``(n,)`` prompt lengths and mean numbers of cached tokens."""
        n = len(prompt)
        kind = list(CLASSES).index(weight_class(self.form.bits_per_weight))
        bandwidth, tflops = self.device["memory_bandwidth_gb_per_s"], self.device["fp16_tflops"]
        peaks = Hardware(bandwidth, tflops).peaks
        return Points(
            device=(self.device["device"],) * n,
            mode=(self.power_mode,) * n,
            engine=(self.engine,) * n,
            model=("",) * n,
            source=("",) * n,
            group=(None,) * n,
            bandwidth_bytes_per_s=np.full(n, peaks[0]),
            operations_per_s=np.full(n, peaks[1]),
            all_bytes=np.full(n, self.all_bytes),
            active_bytes=np.full(n, self.active_bytes),
            active_params=np.full(n, self.active_params),
            layers=np.full(n, self.layers),
            weight_class=np.full(n, float(kind)),
            moe=np.full(n, float(self.is_moe)),
            prompt_tokens=prompt,
            context_tokens=context,
        )


def load_of(
    device: Row,
    form: Format,
    weights_bytes: float,
    *,
    active_bytes: float | None = None,
    params_b: float | None = None,
    active_params_b: float | None = None,
    layers: float | None = None,
    engine: str | None = None,
    power_mode: str | None = None,
    power_cap_w: float | None = None,
) -> Load:
    """Return a checked load; what is not given follows from the bytes and the format.

    Raises
    ------
    InputError
        Naming the argument that is not a positive number, or active above all.
    """
    positive("weights_bytes", weights_bytes)
    for name, value in (
        ("active_bytes", active_bytes),
        ("params_b", params_b),
        ("active_params_b", active_params_b),
        ("layers", layers),
        ("power_cap_w", power_cap_w),
    ):
        if value is not None:
            positive(name, value)
    params = params_b * 1e9 if params_b else weights_bytes * 8 / form.bits_per_weight
    share = 1.0
    if active_bytes is not None:
        share = active_bytes / weights_bytes
    elif active_params_b is not None:
        share = active_params_b * 1e9 / params
    if share > 1 + 1e-6:
        raise InputError("active_bytes: more than weights_bytes, or active_params_b above params_b")
    share = min(share, 1.0)
    known = engine_class(engine) or form.engine
    if known == REFERENCE:
        # Nobody said through which interface the device is reached.
        known = engine_class(device["usual_engine"]) or known
    return Load(
        device=device,
        form=form,
        all_bytes=weights_bytes,
        active_bytes=weights_bytes * share,
        active_params=active_params_b * 1e9 if active_params_b else params * share,
        layers=layers or usual_layers(params / 1e9),
        engine=known,
        power_mode=mode_name(power_mode or ""),
        power_cap_w=power_cap_w,
    )


def mode_name(text: str) -> str:
    """Return a power mode as the tables write it: ``15 W`` is ``15W``, ``MAXN_SUPER`` ``MAXN``."""
    name = text.replace(" ", "").upper()
    return "MAXN" if name.startswith("MAXN") else name


def positive(name: str, value: float) -> None:
    """Raise `InputError` unless `value` is a positive finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise InputError(f"{name}: expected a positive number, not {value!r}")
    if not math.isfinite(value):
        raise InputError(f"{name}: expected a finite number, not {value!r}")


def not_negative(name: str, value: float) -> None:
    """Raise `InputError` unless `value` is 0 or a positive finite number."""
    if not 0 <= value < math.inf:
        raise InputError(f"{name}: expected a finite number of at least 0, not {value!r}")


def outside(fit: Fit, load: Load, quantity: str) -> list[str]:
    """Return in words why a prediction is an extrapolation; empty when it is not."""
    seen = fit.seen.get(f"{load.device['device']}|{quantity}")
    if seen is None:
        return [f"no run of {load.device['device']} calibrates {quantity.replace('_', ' ')}"]
    reasons = []
    if load.form.weight_class not in seen.classes:
        reasons.append(f"no run with {load.form.weight_class} weights")
    if load.engine == EAGER and EAGER not in seen.engines:
        reasons.append("no run with a host-bound engine")
    if load.engine != EAGER and seen.engines == (EAGER,):
        drawn = quantity.endswith("energy") and fit.calibration.draws_limit(load.device["device"])
        assumed = ": power assumed to be the power limit" if drawn else ""
        reasons.append(f"no run with a compiled engine{assumed}")
    if not seen.least_bytes / NEAR <= load.all_bytes <= seen.most_bytes * NEAR:
        reasons.append(
            f"weights of {load.all_bytes / 1e9:.3g} GB outside the measured "
            f"{seen.least_bytes / 1e9:.3g} to {seen.most_bytes / 1e9:.3g} GB"
        )
    if load.power_mode and load.power_mode not in seen.modes:
        known = ", ".join(filter(None, seen.modes)) or "none"
        reasons.append(f"no run in power mode '{load.power_mode}' (known: {known})")
    if not load.form.known:
        reasons.append(f"bits per weight of '{load.form.name}' guessed from the name")
    return reasons


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Seconds of n requests.

    Attributes
    ----------
    decode_s_per_token
        ``(n,)`` seconds per output token.
    prefill_s
        ``(n,)`` seconds of the prompt.
    """

    decode_s_per_token: FloatArray
    prefill_s: FloatArray


def free_times(fit: Fit, load: Load, prompt: FloatArray, context: FloatArray) -> Times:
    """Return the seconds of requests without any power cap."""
    points = load.points(prompt, context)
    found = fit.calibration
    return Times(found.decode_s(points), found.prefill_s(points))


def free_joules(
    fit: Fit, load: Load, prompt: FloatArray, context: FloatArray, times: Times
) -> tuple[FloatArray, FloatArray]:
    """Return joules per output token and of the prompt, without any power cap.

    A device without energy runs is taken to draw its power limit, which is an assumption; without
    that, joules are those of other devices with its power scope.

    Raises
    ------
    InputError
        When nothing is known about the power of the device.
    """
    name = load.device["device"]
    points = load.points(prompt, context)
    length = np.maximum(prompt, 1.0)
    limit_w = load.device["power_limit_w"]
    found = fit.calibration
    if limit_w is None and found.energy_coefficients(name) is None:
        raise InputError(
            f"device '{name}': neither energy runs nor power_limit_w are in its profile tables"
        )
    output = found.joules(points, times.decode_s_per_token, np.zeros(len(prompt)))
    reading = found.joules(points, times.prefill_s / length, np.ones(len(prompt)))
    return output, reading * length


def capped(fit: Fit, load: Load, phase: str, power_w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return by how much a power cap stretches time, and the power that is then drawn.

    Parameters
    ----------
    phase
        ``decode`` or ``prefill``.
    power_w
        ``(n,)`` power that the requests ask for.
    """
    cap_w = load.power_cap_w
    if cap_w is None:
        return np.ones(len(power_w)), power_w
    curve, same = _curve(fit, load, phase), swept(fit, load, phase)
    if same is not None:
        # What this very kind of request draws was measured; joules of other models say less.
        power_w = np.full(len(power_w), same.drawn_w)
    if curve is not None:
        usual_w = float(load.device["power_limit_w"] or curve.highest_w)
        slower = curve.slowdown(cap_w) / curve.slowdown(usual_w)
        # A clearly lighter request than the swept one asks for less: the cap binds later.
        relief = np.minimum(1.0, power_w / (_LIGHTER * min(curve.drawn_w, usual_w)))
        eased = np.array([curve.slowdown(cap_w / r) / curve.slowdown(usual_w) for r in relief])
        stretch = np.where(relief < 1.0, eased, slower)
    else:
        stretch = np.maximum(1.0, power_w / cap_w)
    return stretch, np.minimum(power_w, cap_w)


def _curve(fit: Fit, load: Load, phase: str) -> CapCurve | None:
    name = load.device["device"]
    own = fit.cap_curve(name, f"moe {phase}" if load.is_moe else phase)
    return own or fit.cap_curve(name, phase)


def swept(fit: Fit, load: Load, phase: str) -> CapCurve | None:
    """Return the sweep of power caps of a model of this size on the device, if there is one."""
    if load.power_cap_w is None or load.engine == EAGER:
        return None
    curve = fit.cap_curve(load.device["device"], f"moe {phase}" if load.is_moe else phase)
    params_b = load.all_bytes * 8 / load.form.bits_per_weight / 1e9
    if curve is None or not 1 / NEAR <= params_b / curve.params_b <= NEAR:
        return None
    return curve


def cap_reasons(fit: Fit, load: Load, phase: str) -> list[str]:
    """Return in words why the effect of a power cap is an extrapolation."""
    if load.power_cap_w is None:
        return []
    name, curve = load.device["device"], _curve(fit, load, phase)
    if curve is None:
        return [f"no power caps were swept on {name} for {phase}: time taken to grow as 1 / cap"]
    if not curve.lowest_w <= load.power_cap_w <= curve.highest_w:
        return [f"cap outside the swept {curve.lowest_w:g} to {curve.highest_w:g} W"]
    return []
