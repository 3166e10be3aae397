"""Fit decode, prefill and energy of every device together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from moe2opt.profiles.columns import ALONE
from moe2opt.profiles.fitting import decode, energy, prefill
from moe2opt.profiles.fitting.points import Points, points_of, used_for
from moe2opt.profiles.fitting.robust import weighted_sum
from moe2opt.profiles.formats import EAGER
from moe2opt.result import BoolArray, FloatArray
from moe2opt.schema.csv import Row

Modes = dict[str, dict[str, float]]

#: Length of a prompt where a source gives a rate without it.
USUAL_PROMPT_TOKENS = 512.0

#: Peak operations per byte of bandwidth of a device whose arithmetic rate is not known: the
#: middle of the cards with matrix units in ``devices.csv``.
USUAL_OPERATIONS = 80.0

#: Quantities with hold-out errors.
QUANTITIES = ("decode", "prefill", "decode_energy", "prefill_energy")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What is known of a device besides its runs.

    Attributes
    ----------
    bandwidth_gb_per_s
        Peak memory bandwidth, in 1e9 bytes per second.
    tflops
        Peak dense 16-bit arithmetic rate, None where unknown.
    stated
        Rates that are stated rather than calibrated: bytes per second of decoding in 1e9, 1e12
        operations per second, watts. None for a calibrated device.
    scope, limit_w
        What its power figures include, where it has no energy runs of its own, and its power
        limit, None where unknown.
    """

    bandwidth_gb_per_s: float
    tflops: float | None = None
    stated: tuple[float, float, float] | None = None
    scope: str | None = None
    limit_w: float | None = None

    @property
    def peaks(self) -> tuple[float, float]:
        """Bytes and operations per second at most."""
        bytes_per_s = 1e9 * self.bandwidth_gb_per_s
        rate = USUAL_OPERATIONS * bytes_per_s if self.tflops is None else 1e12 * self.tflops
        return bytes_per_s, rate


@dataclass(frozen=True, eq=False)
class Pools:
    """What all devices have in common, for decoding and for prompts."""

    decode: decode.Pool
    prefill: prefill.PrefillPool


@dataclass(frozen=True, eq=False)
class Calibration:
    """Coefficients of every device that has runs, and of all of them together.

    Attributes
    ----------
    pools
        Common coefficients: the fallback of a device without runs.
    decode, prefill, energy
        Coefficients by device.
    decode_modes, prefill_modes, energy_modes
        Factors of power modes, by device and mode.
    scopes
        Power scope of the energy fit, by device.
    host_bound
        Devices whose energy runs are all of host-bound engines, which keep a card half idle.
    """

    pools: Pools
    hardware: Mapping[str, Hardware]
    decode: dict[str, FloatArray]
    prefill: dict[str, FloatArray]
    energy: dict[str, FloatArray]
    decode_modes: Modes
    prefill_modes: Modes
    energy_modes: Modes
    scopes: dict[str, str]
    host_bound: frozenset[str] = frozenset()

    def decode_s(self, points: Points) -> FloatArray:
        """Return the seconds per output token of each request."""
        return self._by_device(points, self._device_decode_s)

    def prefill_s(self, points: Points) -> FloatArray:
        """Return the seconds of each request's prompt."""
        return self._by_device(points, self._device_prefill_s)

    def joules(self, points: Points, seconds: FloatArray, prompt: FloatArray) -> FloatArray:
        """Return joules per token; NaN where no device with the power scope was measured.

        A device without energy runs is taken to draw its power limit, and so is one whose runs
        are all of host-bound engines, under any other.
        """
        found = np.full(len(points), np.nan)
        table = energy.columns(points, seconds / self._paces(points, prompt), prompt)
        pace = decode.mode_of(points, self.energy_modes)
        eager = np.array([name == EAGER for name in points.engine])
        for device in dict.fromkeys(points.device):
            own = np.array([name == device for name in points.device])
            coefficients = self.energy_coefficients(device)
            if coefficients is not None:
                found[own] = weighted_sum(table[own], coefficients) * pace[own]
            limit_w = self.hardware[device].limit_w
            if limit_w is not None and self.draws_limit(device):
                at_limit = own & ~(eager & (device in self.energy))
                found[at_limit] = limit_w * seconds[at_limit]
        return found

    def draws_limit(self, device: str) -> bool:
        """Whether compiled engines are taken to draw the power limit of a device."""
        own = self.hardware[device]
        like = device in self.host_bound and own.scope == self.scopes.get(device)
        return own.limit_w is not None and (like or device not in self.energy)

    def energy_coefficients(self, device: str) -> FloatArray | None:
        """Return a device's coefficients, else the middle of devices with its power scope.

        The floor scales with the peak bandwidth. None where fewer than two devices share the
        scope.
        """
        if device in self.energy:
            return self.energy[device]
        scope = self.hardware[device].scope
        like = [name for name in self.energy if scope and self.scopes.get(name) == scope]
        if len(like) < 2:
            return None
        own = self.hardware[device].bandwidth_gb_per_s
        scales = [own / self.hardware[name].bandwidth_gb_per_s for name in like]
        rows = [self.energy[n] * [s, 1.0, 1.0] for n, s in zip(like, scales, strict=True)]
        return np.median(rows, axis=0)

    def decode_coefficients(self, device: str) -> FloatArray:
        """Return a device's coefficients, or those of all devices together."""
        return self.decode.get(device, self.pools.decode.coefficients)

    def prefill_coefficients(self, device: str) -> FloatArray:
        """Return a device's coefficients, or those of all devices together."""
        return self.prefill.get(device, self.pools.prefill.coefficients)

    def _paces(self, points: Points, prompt: FloatArray) -> FloatArray:
        """Return the factor of the power mode on the time of each token."""
        return np.where(
            prompt > 0,
            decode.pace_of(points, self.prefill_modes),
            decode.pace_of(points, self.decode_modes),
        )

    def _device_decode_s(self, device: str, points: Points) -> FloatArray:
        pace = decode.pace_of(points, self.decode_modes)
        own = self.decode_coefficients(device)
        return decode.predict_seconds(points, own, self.pools.decode, pace)

    def _device_prefill_s(self, device: str, points: Points) -> FloatArray:
        pace = decode.pace_of(points, self.prefill_modes)
        reading = float(self.decode_coefficients(device)[0])
        at = self.pools.prefill.attained(points)
        return prefill.predict_seconds(at, self.prefill_coefficients(device), reading, pace)

    @staticmethod
    def _by_device(points: Points, rule: Callable[[str, Points], FloatArray]) -> FloatArray:
        found = np.empty(len(points))
        for device in dict.fromkeys(points.device):
            own = np.array([name == device for name in points.device])
            found[own] = rule(device, points.take(own))
        return found


@dataclass(frozen=True, eq=False)
class Sample:
    """Runs that calibrate one quantity, with what was measured.

    Attributes
    ----------
    points
        The N requests.
    values
        ``(N,)`` seconds per output token, seconds of the prompt, or joules per token.
    seconds
        ``(N,)`` measured seconds per token, for the energies.
    shared
        ``(N,)`` whether a run counts for what all devices have in common, too.
    """

    points: Points
    values: FloatArray
    seconds: FloatArray
    shared: BoolArray

    def take(self, mask: Sequence[bool]) -> Sample:
        """Return the runs where `mask` is true."""
        keep = np.asarray(mask, dtype=bool)
        return Sample(
            self.points.take(keep), self.values[keep], self.seconds[keep], self.shared[keep]
        )


Samples = dict[str, Sample]


def samples_of(
    runs: Sequence[Row], hardware: Mapping[str, Hardware], formats: Sequence[Row]
) -> Samples:
    """Return the runs of each quantity as arrays."""
    peaks = {name: own.peaks for name, own in hardware.items()}
    found = {}
    for quantity in QUANTITIES:
        chosen = used_for(runs, quantity)
        points = points_of(chosen, peaks, formats)
        seconds = np.array([_seconds(run, quantity) for run in chosen])
        values = seconds
        if quantity.startswith("prefill"):
            known = points.prompt_tokens
            points = replace(points, prompt_tokens=np.where(known > 0, known, USUAL_PROMPT_TOKENS))
        if quantity == "prefill":
            values = seconds * points.prompt_tokens
        elif quantity.endswith("energy"):
            values = np.array([_joules(run, s) for run, s in zip(chosen, seconds, strict=True)])
        alone = [ALONE in run["fits"].split() for run in chosen]
        found[quantity] = Sample(points, values, seconds, ~np.array(alone, dtype=bool))
    return found


def _seconds(run: Row, quantity: str) -> float:
    """Return the seconds per token of the phase that a quantity is about."""
    phase = "prefill" if quantity.startswith("prefill") else "decode"
    rate = run[f"{phase}_tokens_per_s"]
    return 1.0 / float(rate) if rate else float("nan")


def _joules(run: Row, seconds: float) -> float:
    joules = run["energy_j_per_token"]
    return float(joules) if joules is not None else float(run["power_w"]) * seconds


def fit_pools(samples: Samples) -> Pools:
    """Fit what all devices have in common."""
    own = samples["decode"].take(samples["decode"].shared.tolist())
    modes = decode.mode_factors(own.points, own.values)
    shared = decode.fit_pool(own.points, own.values, modes)
    prompt = samples["prefill"]
    pace = decode.mode_of(prompt.points, decode.mode_factors(prompt.points, prompt.values))
    reading = float(shared.coefficients[0])
    return Pools(shared, prefill.fit_pool(prompt.points, prompt.values / pace, reading))


def calibrate(
    samples: Samples,
    hardware: Mapping[str, Hardware],
    scopes: Mapping[str, str],
    pools: Pools | None = None,
) -> Calibration:
    """Fit every device that has runs.

    Parameters
    ----------
    samples
        Runs by quantity (`samples_of`).
    hardware
        Every known device.
    scopes
        Power scope of each device's energy runs.
    pools
        Common coefficients; fitted to the same runs when left out.
    """
    pools = pools or fit_pools(samples)
    found = Calibration(
        pools=pools,
        hardware=hardware,
        decode={},
        prefill={},
        energy={},
        decode_modes=_modes(samples["decode"]),
        prefill_modes=_modes(samples["prefill"]),
        energy_modes=_modes(samples["decode_energy"]),
        scopes=dict(scopes),
        host_bound=_host_bound(samples["decode_energy"].points),
    )
    found = replace(found, decode=_fit_decode(samples["decode"], found))
    found = replace(found, prefill=_fit_prefill(samples["prefill"], found))
    return _with_stated(replace(found, energy=_fit_energy(samples, found)))


def _with_stated(found: Calibration) -> Calibration:
    """Return the calibration with the coefficients of devices whose rates are stated."""
    tables = [dict(found.decode), dict(found.prefill), dict(found.energy)]
    for device, own in found.hardware.items():
        if own.stated is not None:
            decode_gb_per_s, prefill_tflops, power_w = own.stated
            reading = own.bandwidth_gb_per_s / decode_gb_per_s
            operation = own.peaks[1] / (1e12 * prefill_tflops)
            tables[0][device] = np.array([reading, *[0.0] * (len(decode.COEFFICIENTS) - 1)])
            tables[1][device] = np.array([operation, operation, 0.0, 0.0, 0.0])
            tables[2][device] = np.array([power_w, 0.0, 0.0])
    return replace(found, decode=tables[0], prefill=tables[1], energy=tables[2])


def _host_bound(points: Points) -> frozenset[str]:
    pairs = set(zip(points.device, points.engine, strict=True))
    compiled = {device for device, engine in pairs if engine != EAGER}
    return frozenset(points.device) - compiled


def _modes(sample: Sample) -> Modes:
    return decode.mode_factors(sample.points, sample.values)


def _fit_decode(sample: Sample, found: Calibration) -> dict[str, FloatArray]:
    sample = sample.take([name != EAGER for name in sample.points.engine])
    shared = found.pools.decode
    pace = decode.mode_of(sample.points, found.decode_modes) * shared.factors(sample.points)
    return {
        device: decode.fit_device(own.points, own.values / pace[mask], shared)
        for device, own, mask in _split(sample)
    }


def _fit_prefill(sample: Sample, found: Calibration) -> dict[str, FloatArray]:
    pace = decode.mode_of(sample.points, found.prefill_modes)
    fits = {}
    for device, own, mask in _split(sample):
        centre = found.pools.prefill.coefficients
        at = found.pools.prefill.attained(own.points)
        reading = float(found.decode_coefficients(device)[0])
        plain = own.values / pace[mask]
        fits[device] = prefill.fit_device(at, plain, reading, centre)
    return fits


def _fit_energy(samples: Samples, found: Calibration) -> dict[str, FloatArray]:
    both = _joined(samples["decode_energy"], samples["prefill_energy"])
    kind = np.repeat(
        [0.0, 1.0], [len(samples["decode_energy"].points), len(samples["prefill_energy"].points)]
    )
    pace = decode.mode_of(both.points, found.energy_modes)
    time_pace = np.where(
        kind > 0,
        decode.mode_of(both.points, found.prefill_modes),
        decode.mode_of(both.points, found.decode_modes),
    )
    return {
        device: energy.fit_device(
            own.points, own.values / pace[mask], own.seconds / time_pace[mask], kind[mask]
        )
        for device, own, mask in _split(both)
    }


def _split(sample: Sample) -> Iterable[tuple[str, Sample, FloatArray]]:
    for device in dict.fromkeys(sample.points.device):
        mask = np.array([name == device for name in sample.points.device])
        yield device, sample.take(mask.tolist()), mask


def _joined(first: Sample, second: Sample) -> Sample:
    parts: dict[str, Any] = {}
    for field in fields(Points):
        a, b = getattr(first.points, field.name), getattr(second.points, field.name)
        parts[field.name] = (*a, *b) if isinstance(a, tuple) else np.concatenate([a, b])
    return Sample(
        Points(**parts),
        np.concatenate([first.values, second.values]),
        np.concatenate([first.seconds, second.seconds]),
        np.concatenate([first.shared, second.shared]),
    )
