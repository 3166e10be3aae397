"""The fit of a profile folder: made from the tables, or read from ``fit.json`` beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.errors import DAMAGE
from moe2opt.files import read_json
from moe2opt.profiles.fitting import caps, offload
from moe2opt.profiles.fitting.calibrate import (
    QUANTITIES,
    Calibration,
    Hardware,
    Pools,
    Samples,
    calibrate,
    fit_pools,
    samples_of,
)
from moe2opt.profiles.fitting.decode import COEFFICIENTS as DECODE
from moe2opt.profiles.fitting.decode import Pool
from moe2opt.profiles.fitting.energy import COEFFICIENTS as ENERGY
from moe2opt.profiles.fitting.holdout import Cell, Errors, HoldOut, hold_out
from moe2opt.profiles.fitting.prefill import COEFFICIENTS as PREFILL
from moe2opt.profiles.fitting.prefill import PrefillPool
from moe2opt.profiles.formats import CLASSES, EAGER
from moe2opt.result import FloatArray
from moe2opt.schema.csv import Row

#: Version of the content of ``fit.json``.
VERSION = 5

#: Coefficients are stored with this many significant digits; the fit in memory is rounded alike,
#: so that a stored fit and a fresh one predict the same.
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Seen:
    """What the runs of a device span; a request outside of it is extrapolated.

    Attributes
    ----------
    least_bytes, most_bytes
        Range of the weights in memory.
    classes, engines, modes
        Names of weight classes, engine classes and power modes.
    """

    least_bytes: float
    most_bytes: float
    classes: tuple[str, ...]
    engines: tuple[str, ...]
    modes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Fit:
    """A calibration with everything that a prediction needs to say about itself.

    Attributes
    ----------
    calibration
        Coefficients.
    errors
        Hold-out errors.
    seen
        What the runs span, by ``device|quantity``.
    cap_curves, offload_curves
        Slow-down under power caps; seconds per token against the share of experts on the GPU.
    """

    calibration: Calibration
    errors: Errors
    seen: dict[str, Seen]
    cap_curves: tuple[caps.CapCurve, ...]
    offload_curves: tuple[offload.OffloadCurve, ...]

    def cap_curve(self, device: str, workload: str) -> caps.CapCurve | None:
        """Return the curve of a device and kind of workload, None where nothing was swept."""
        return next(
            (c for c in self.cap_curves if (c.device, c.workload) == (device, workload)), None
        )


def fit_tables(
    runs: Sequence[Row],
    hardware: Mapping[str, Hardware],
    formats: Sequence[Row],
    cap_rows: Sequence[Row] = (),
    offload_rows: Sequence[Row] = (),
    base: Fit | None = None,
) -> Fit:
    """Fit a set of tables.

    Parameters
    ----------
    runs, formats, cap_rows, offload_rows
        Rows of the tables.
    hardware
        Every device.
    base
        Fit of other tables whose common coefficients and errors are taken over. Without it the
        common coefficients are fitted too, and every hold-out refits them, which takes longer.
    """
    samples = samples_of(runs, hardware, formats)
    scopes = scopes_of(runs)
    pools = base.calibration.pools if base else rounded_pools(fit_pools(samples))
    found = rounded(calibrate(samples, hardware, scopes, pools))
    errors = hold_out(
        samples,
        hardware,
        scopes,
        base.calibration.pools if base else None,
        base.errors.cells if base else (),
    )
    return Fit(
        calibration=found,
        errors=_exact(errors, hardware),
        seen=_seen(samples) | _stated(hardware),
        cap_curves=caps.fit_curves(cap_rows),
        offload_curves=offload.fit_curves(offload_rows),
    )


def scopes_of(runs: Sequence[Row]) -> dict[str, str]:
    """Return the power scope of each device's energy runs."""
    return {
        run["device"]: run["power_scope"]
        for run in runs
        if any(name.endswith("energy") for name in (run["fits"] or "").split())
    }


def _stated(hardware: Mapping[str, Hardware]) -> dict[str, Seen]:
    """Return the span of devices whose rates are stated: nothing is extrapolated there."""
    whole = Seen(1.0, 1e30, tuple(CLASSES), (), ())
    return {
        f"{device}|{quantity}": whole
        for device, own in hardware.items()
        if own.stated is not None
        for quantity in QUANTITIES
    }


def _exact(errors: Errors, hardware: Mapping[str, Hardware]) -> Errors:
    """Return the errors with devices whose rates are stated, which are taken at their word."""
    stated = frozenset(name for name, own in hardware.items() if own.stated is not None)
    return replace(errors, exact=stated)


def _seen(samples: Samples) -> dict[str, Seen]:
    names = list(CLASSES)
    found = {}
    for quantity, sample in samples.items():
        points = sample.points
        for device in dict.fromkeys(points.device):
            own = points.take([name == device for name in points.device])
            found[f"{device}|{quantity}"] = Seen(
                float(own.all_bytes.min()),
                float(own.all_bytes.max()),
                tuple(dict.fromkeys(names[int(k)] for k in own.weight_class)),
                tuple(dict.fromkeys(own.engine)),
                tuple(dict.fromkeys(own.mode)),
            )
    return found


def _round(values: FloatArray) -> FloatArray:
    return np.array([float(f"{v:.{_DIGITS}g}") for v in values])


def rounded_pools(pools: Pools) -> Pools:
    """Return common coefficients with as many digits as are stored."""

    def number(value: float) -> float:
        return float(f"{value:.{_DIGITS}g}")

    own = pools.decode
    return Pools(
        Pool(
            _round(own.coefficients),
            {name: number(v) for name, v in own.engines.items()},
            {name: number(v) for name, v in own.host_layer_s.items()},
        ),
        PrefillPool(
            _round(pools.prefill.coefficients),
            {name: number(v) for name, v in pools.prefill.engines.items()},
        ),
    )


def rounded(found: Calibration) -> Calibration:
    """Return a calibration with as many digits as are stored."""
    tables: dict[str, Any] = {
        name: {device: _round(v) for device, v in getattr(found, name).items()}
        for name in ("decode", "prefill", "energy")
    }
    modes: dict[str, Any] = {
        name: {
            d: {m: float(f"{v:.{_DIGITS}g}") for m, v in own.items()} for d, own in table.items()
        }
        for name, table in (
            ("decode_modes", found.decode_modes),
            ("prefill_modes", found.prefill_modes),
            ("energy_modes", found.energy_modes),
        )
    }
    return replace(found, **tables, **modes)


def to_dict(fit: Fit, digest: str) -> dict[str, Any]:
    """Return the content of ``fit.json``; `digest` is that of the tables."""
    found = fit.calibration
    pool = found.pools.decode
    return {
        "version": VERSION,
        "tables_sha256": digest,
        "pools": {
            "decode": _named(DECODE, pool.coefficients),
            "engines": pool.engines,
            "host_layer_s": pool.host_layer_s,
            "prefill": _named(PREFILL, found.pools.prefill.coefficients),
            "prefill_engines": found.pools.prefill.engines,
        },
        "decode": {d: _named(DECODE, v) for d, v in found.decode.items()},
        "prefill": {d: _named(PREFILL, v) for d, v in found.prefill.items()},
        "energy": {d: _named(ENERGY, v) for d, v in found.energy.items()},
        "scopes": found.scopes,
        "modes": {
            "decode": found.decode_modes,
            "prefill": found.prefill_modes,
            "energy": found.energy_modes,
        },
        "seen": {key: asdict(own) for key, own in fit.seen.items()},
        "hold_out": [_short(asdict(row)) for row in fit.errors.table],
        "cells": [_short(asdict(cell)) for cell in fit.errors.cells],
        "caps": [_short(asdict(curve)) for curve in fit.cap_curves],
        "offload": [_short(asdict(curve)) for curve in fit.offload_curves],
    }


def from_dict(content: Mapping[str, Any], hardware: Mapping[str, Hardware]) -> Fit:
    """Return the fit that `to_dict` wrote."""
    pools = content["pools"]
    shared = Pool(
        _vector(DECODE, pools["decode"]), dict(pools["engines"]), dict(pools["host_layer_s"])
    )
    prompts = PrefillPool(_vector(PREFILL, pools["prefill"]), dict(pools["prefill_engines"]))
    found = Calibration(
        pools=Pools(shared, prompts),
        hardware=hardware,
        decode={d: _vector(DECODE, v) for d, v in content["decode"].items()},
        prefill={d: _vector(PREFILL, v) for d, v in content["prefill"].items()},
        energy={d: _vector(ENERGY, v) for d, v in content["energy"].items()},
        decode_modes=content["modes"]["decode"],
        prefill_modes=content["modes"]["prefill"],
        energy_modes=content["modes"]["energy"],
        scopes=dict(content["scopes"]),
        host_bound=frozenset(
            device
            for device in content["energy"]
            if content["seen"].get(f"{device}|decode_energy", {}).get("engines") == [EAGER]
        ),
    )
    errors = Errors(
        tuple(HoldOut(**row) for row in content["hold_out"]),
        tuple(_built(Cell, own) for own in content["cells"]),
    )
    errors = _exact(errors, hardware)
    return Fit(
        calibration=found,
        errors=errors,
        seen={key: _built(Seen, own) for key, own in content["seen"].items()},
        cap_curves=tuple(_built(caps.CapCurve, own) for own in content["caps"]),
        offload_curves=tuple(_built(offload.OffloadCurve, own) for own in content["offload"]),
    )


def read_fit(path: Path, digest: str, hardware: Mapping[str, Hardware]) -> Fit | None:
    """Return a stored fit, None where there is none or the tables have changed since."""
    try:
        content = read_json(path)
        if content["version"] != VERSION or content["tables_sha256"] != digest:
            return None
        return from_dict(content, hardware)
    except DAMAGE:
        # A fit follows from the tables, so a file that cannot be read is made anew.
        return None


def _built(kind: Any, content: Mapping[str, Any]) -> Any:
    values = {
        name.name: tuple(value) if isinstance(value := content[name.name], list) else value
        for name in fields(kind)
    }
    return kind(**{k: float("nan") if v is None else v for k, v in values.items()})


def _named(names: Sequence[str], values: FloatArray) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _vector(names: Sequence[str], content: Mapping[str, float]) -> FloatArray:
    return np.array([content[name] for name in names], dtype=float)


def _short(content: dict[str, Any]) -> dict[str, Any]:
    """Round numbers to what is stored; NaN, which JSON has not, becomes null."""
    return {k: _short_value(v) for k, v in content.items()}


def _short_value(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.{_DIGITS}g}")
    return _short_list(value) if isinstance(value, (list, tuple)) else value


def _short_list(values: Sequence[Any]) -> list[Any]:
    return [_short_value(v) for v in values]
