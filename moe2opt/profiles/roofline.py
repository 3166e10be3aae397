r"""A transparent roofline model of one device, fitted to measured runs.

With weights of :math:`B` bytes read per token and :math:`P` active parameters,

.. math::
    t_{decode} = B / \beta + t_0, \qquad
    t_{prefill}(n) = \max(2 P n / F,\; B_{all} / \beta),

energy is power times time, phase by phase. :math:`\beta, t_0` are the least-squares fit of
relative errors with :math:`t_0 \ge 0`; :math:`F` and the powers are medians. Runs of one model,
quantisation and engine are first reduced to their median, so that a long sweep of one model
weighs as much as a single run of another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from moe2opt.profiles.csvfile import Row
from moe2opt.result import InputError

#: From this number of bits per weight on, weights are read without dequantisation.
_WIDE_BITS = 15.5


@dataclass(frozen=True, slots=True)
class Fit:
    """Quality of one fitted quantity.

    Attributes
    ----------
    quantity
        What was fitted.
    points
        Medians that entered (one per model, quantisation and engine).
    median_error, worst_error
        Relative residuals ``|predicted / measured - 1|`` over these points.
    basis
        ``fitted``, or what stands in where nothing was measured.
    """

    quantity: str
    points: int
    median_error: float
    worst_error: float
    basis: str = "fitted"

    def account(self) -> str:
        """Return the quantity with its median residual, or what stands in for a measurement."""
        if self.basis != "fitted":
            return f"{self.quantity} {self.basis}"
        if self.points == 1:
            return f"{self.quantity} from a single model"
        error = f"{100 * self.median_error:.0f} %"
        return f"{self.quantity} off by {error} (median of {self.points}, in sample)"


@dataclass(frozen=True, slots=True)
class Stream:
    """Decoding of one class of weights.

    Attributes
    ----------
    bandwidth_bytes_per_s
        Effective memory bandwidth.
    overhead_s
        Fixed time per token.
    fit
        Residuals.
    """

    bandwidth_bytes_per_s: float
    overhead_s: float
    fit: Fit


@dataclass(frozen=True, slots=True)
class Roofline:
    """Seconds and joules of a device for one request at a time.

    Attributes
    ----------
    device
        Name of the device.
    wide, narrow
        Decoding of 16-bit weights and of quantised ones. A class without measured runs repeats the
        other one, and its `fit.basis` says so.
    flops_per_s
        Effective arithmetic rate of prefill.
    decode_power_w, prefill_power_w
        Mean power of the two phases within `power_scope`.
    power_scope
        What the power meter sees. Joules of different scopes are not comparable.
    fits
        Residuals of every fitted quantity.
    """

    device: str
    wide: Stream
    narrow: Stream
    flops_per_s: float
    decode_power_w: float
    prefill_power_w: float
    power_scope: str
    fits: tuple[Fit, ...]

    def stream(self, bits_per_weight: float) -> Stream:
        """Return the class of weights that a precision belongs to."""
        return self.wide if bits_per_weight >= _WIDE_BITS else self.narrow

    def account(self, bits_per_weight: Iterable[float]) -> str:
        """Say how well the fits behind predictions at these precisions hold."""
        streams = {id(s): s.fit for s in map(self.stream, bits_per_weight)}.values()
        parts = [fit.account() for fit in (*streams, *self.fits[2:])]
        return "time and energy are predicted by a roofline; " + "; ".join(parts)

    def decode_s_per_token(self, active_params_b: float, bits_per_weight: float) -> float:
        """Return the seconds of one output token."""
        stream = self.stream(bits_per_weight)
        weight_bytes = active_params_b * 1e9 * bits_per_weight / 8
        return weight_bytes / stream.bandwidth_bytes_per_s + stream.overhead_s

    def prefill_s(
        self, tokens: float, params_b: float, active_params_b: float, bits_per_weight: float
    ) -> float:
        """Return the seconds of a prompt of `tokens`; all weights are read at least once."""
        arithmetic_s = 2 * active_params_b * 1e9 * tokens / self.flops_per_s
        weight_bytes = params_b * 1e9 * bits_per_weight / 8
        return max(arithmetic_s, weight_bytes / self.stream(bits_per_weight).bandwidth_bytes_per_s)


def fit_roofline(device: Row, runs: Sequence[Row]) -> Roofline:
    """Fit the model of one device.

    Parameters
    ----------
    device
        Row of ``devices.csv``.
    runs
        Rows of ``runs.csv`` of any device; the column `fits` says what a run is used for.

    Raises
    ------
    InputError
        When a quantity has no run, or power readings of different scopes would be pooled.
    """
    name = device["device"]
    own = [run for run in runs if run["device"] == name]
    wide, narrow = _streams(name, own)
    flops_per_s, prefill_fit = _median_fit(name, "prefill rate", _used(own, "prefill"), _flops)
    decode_w, decode_fit = _median_fit(name, "decode power", _used(own, "decode_power"), _power)
    prefill_w, power_fit = _prefill_power(device, own)
    return Roofline(
        device=name,
        wide=wide,
        narrow=narrow,
        flops_per_s=flops_per_s,
        decode_power_w=decode_w,
        prefill_power_w=prefill_w,
        power_scope=_one_scope(name, own),
        fits=(wide.fit, narrow.fit, prefill_fit, decode_fit, power_fit),
    )


def fit_stream(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return ``(seconds per byte, fixed seconds)`` that fit ``(bytes, seconds)`` points best.

    Minimises the sum of squared relative errors with both coefficients non-negative; a single
    point, or points that ask for a negative constant, give a line through the origin.
    """
    scaled = [(size / seconds, 1.0 / seconds) for size, seconds in points]
    uu, uv, vv = (sum(a * b for a, b in pairs) for pairs in _products(scaled))
    u, v = sum(a for a, _ in scaled), sum(b for _, b in scaled)
    determinant = uu * vv - uv * uv
    if len(points) > 1 and determinant > 1e-12 * uu * vv:
        slope, constant = (u * vv - v * uv) / determinant, (v * uu - u * uv) / determinant
        if slope > 0 and constant >= 0:
            return slope, constant
    return u / uu, 0.0


def _products(scaled: list[tuple[float, float]]) -> tuple[list[tuple[float, float]], ...]:
    return [(a, a) for a, _ in scaled], [(a, b) for a, b in scaled], [(b, b) for _, b in scaled]


def _streams(device: str, runs: list[Row]) -> tuple[Stream, Stream]:
    used = _used(runs, "decode")
    classes = {
        "16-bit": [run for run in used if run["bits_per_weight"] >= _WIDE_BITS],
        "quantised": [run for run in used if run["bits_per_weight"] < _WIDE_BITS],
    }
    fitted = {label: _stream(label, rows) for label, rows in classes.items() if rows}
    if not fitted:
        raise InputError(f"profiles: no run with fits = decode for device '{device}'")
    fallback = next(iter(fitted.values()))
    wide, narrow = (fitted.get(label) or _borrowed(label, fallback) for label in classes)
    return wide, narrow


def _stream(label: str, runs: list[Row]) -> Stream:
    groups = _by_model(runs)
    points = [
        (_weight_bytes(g[0]), 1 / median(r["decode_tokens_per_s"] for r in g)) for g in groups
    ]
    slope, constant = fit_stream(points)
    errors = [abs((slope * size + constant) / seconds - 1) for size, seconds in points]
    return Stream(1 / slope, constant, _fit(f"decode of {label} weights", errors))


def _borrowed(label: str, other: Stream) -> Stream:
    basis = f"extrapolated from {other.fit.quantity}"
    fit = Fit(f"decode of {label} weights", 0, float("nan"), float("nan"), basis)
    return Stream(other.bandwidth_bytes_per_s, other.overhead_s, fit)


def _median_fit(
    device: str, quantity: str, runs: list[Row], measure: Callable[[Row], float]
) -> tuple[float, Fit]:
    if not runs:
        raise InputError(f"profiles: no run to fit {quantity} of device '{device}'")
    values = [median(measure(run) for run in group) for group in _by_model(runs)]
    centre = median(values)
    return centre, _fit(quantity, [abs(centre / value - 1) for value in values])


def _prefill_power(device: Row, runs: list[Row]) -> tuple[float, Fit]:
    name, used = device["device"], _used(runs, "prefill_power")
    if used:
        return _median_fit(name, "prefill power", used, _power)
    assumed = device["prefill_power_assumed_w"]
    if assumed is None:
        raise InputError(
            f"profiles: device '{name}' has neither a measured nor an assumed prefill power"
        )
    basis = f"assumed to be {assumed:g} W"
    return assumed, Fit("prefill power", 0, float("nan"), float("nan"), basis)


def _one_scope(device: str, runs: list[Row]) -> str:
    used = [*_used(runs, "decode_power"), *_used(runs, "prefill_power")]
    scopes = sorted({run["power_scope"] for run in used})
    if len(scopes) != 1:
        raise InputError(
            f"profiles: power scopes of device '{device}' may not be pooled: {', '.join(scopes)}"
        )
    return str(scopes[0])


def _by_model(runs: list[Row]) -> list[list[Row]]:
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for run in runs:
        groups[run["model"], run["quant"], run["engine"]].append(run)
    return list(groups.values())


def _used(runs: Sequence[Row], quantity: str) -> list[Row]:
    return [run for run in runs if quantity in (run["fits"] or "").split()]


def _weight_bytes(run: Row) -> float:
    return float(run["params_b"] * 1e9 * run["bits_per_weight"] / 8)


def _flops(run: Row) -> float:
    return float(2 * run["params_b"] * 1e9 * run["prefill_tokens_per_s"])


def _power(run: Row) -> float:
    return float(run["power_w"])


def _fit(quantity: str, errors: list[float]) -> Fit:
    return Fit(quantity, len(errors), median(errors), max(errors))
