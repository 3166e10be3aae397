"""Hold-out errors: how far predictions are off for what a fit has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from moe2opt.profiles.fitting.calibrate import (
    QUANTITIES,
    Hardware,
    Pools,
    Samples,
)
from moe2opt.profiles.fitting.leaveout import grouped, left_out
from moe2opt.profiles.fitting.points import Points
from moe2opt.profiles.fitting.robust import group_means, upper_error
from moe2opt.profiles.formats import EAGER
from moe2opt.result import FloatArray

#: Kinds of engines whose errors are told apart.
KINDS = ("compiled", "host-bound")


@dataclass(frozen=True, slots=True)
class HoldOut:
    """Error of one quantity on one device when something is left out of the fit.

    Attributes
    ----------
    device, quantity
        What was predicted.
    kind
        ``compiled`` engines, or ``host-bound`` ones (`moe2opt.profiles.fitting.decode`).
    by
        What was left out: ``model``, ``source`` or ``device``.
    source
        Repository or site of the runs that the error is about; empty for all of them.
    runs, groups
        Number of runs, and of distinct LLM, format, engine, power mode and source among them.
    mean_error, worst_error
        Mean and largest relative error over the groups.
    """

    device: str
    quantity: str
    kind: str
    by: str
    source: str
    runs: int
    groups: int
    mean_error: float
    worst_error: float


@dataclass(frozen=True, eq=False)
class Errors:
    """Hold-out errors, and what intervals are made of.

    Attributes
    ----------
    table
        Every error that was computed.
    inside
        Absolute log errors by group, its model left out, by ``device|quantity|kind``.
    outside
        The same over all devices, the device (else the source) left out, by ``quantity|kind``:
        the width of an extrapolation.
    """

    table: tuple[HoldOut, ...]
    inside: dict[str, tuple[float, ...]] = field(default_factory=dict)
    outside: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def spread(
        self, device: str, quantity: str, kind: str, *, extrapolated: bool, level: float
    ) -> float:
        """Return the log error that a prediction stays within with probability `level`.

        Errors of a prediction inside the range of the runs are those of left-out models on the
        device; an extrapolation has at least those of left-out devices.
        """
        own = self.inside.get(f"{device}|{quantity}|{kind}", ())
        wide = self.outside.get(f"{quantity}|{kind}") or self.outside.get(f"{quantity}|compiled")
        widths = [upper_error(own, level)] if own else []
        if extrapolated or not own:
            widths.append(upper_error(wide or (), level))
        return max(widths, default=0.0)

    def find(self, device: str, quantity: str, kind: str, by: str) -> HoldOut | None:
        """Return one row of the table, None where it was not computed."""
        for row in self.table:
            if (row.device, row.quantity, row.kind, row.by, row.source) == (
                device, quantity, kind, by, "",
            ):  # fmt: skip
                return row
        return None


def hold_out(
    samples: Samples,
    hardware: Mapping[str, Hardware],
    scopes: Mapping[str, str],
    pools: Pools | None = None,
    outside: Mapping[str, tuple[float, ...]] | None = None,
) -> Errors:
    """Compute the hold-out errors of a set of runs.

    Parameters
    ----------
    samples, hardware, scopes
        As for `moe2opt.profiles.fitting.calibrate.calibrate`.
    pools, outside
        Common coefficients and their errors from other tables. With them, only models and sources
        are left out, device by device; without, everything is refitted each time.
    """
    ways = ("model", "source") if pools else ("model", "source", "device")
    misses = {by: _misses(samples, hardware, scopes, by, pools) for by in ways}
    table = [
        row
        for by in ways
        for quantity in QUANTITIES
        for row in _rows(samples[quantity].points, misses[by][quantity], quantity, by)
    ]
    inside = _inside(samples, misses["model"])
    if outside is None:
        outside = _outside(samples, misses)
    return Errors(tuple(table), inside, dict(outside))


def _misses(
    samples: Samples,
    hardware: Mapping[str, Hardware],
    scopes: Mapping[str, str],
    by: str,
    pools: Pools | None,
) -> dict[str, FloatArray]:
    """Return the misses of `left_out`; devices are independent once `pools` are given."""
    if pools is None:
        return left_out(samples, hardware, scopes, by)
    found = {name: np.full(len(sample.points), np.nan) for name, sample in samples.items()}
    devices = {device for sample in samples.values() for device in sample.points.device}
    for device in sorted(devices):
        masks = {n: [d == device for d in s.points.device] for n, s in samples.items()}
        own = {name: sample.take(masks[name]) for name, sample in samples.items()}
        for name, values in left_out(own, hardware, scopes, by, pools).items():
            found[name][np.array(masks[name], dtype=bool)] = values
    return found


def _kinds(points: Points) -> list[str]:
    return [KINDS[1] if engine == EAGER else KINDS[0] for engine in points.engine]


def _rows(points: Points, misses: FloatArray, quantity: str, by: str) -> list[HoldOut]:
    """Return the errors of each device and kind of engine; without models, by source as well."""
    pairs = list(zip(points.device, _kinds(points), strict=True))
    rows = []
    for device, kind in dict.fromkeys(pairs):
        own = np.array([pair == (device, kind) for pair in pairs]) & ~np.isnan(misses)
        sources = dict.fromkeys(name for name, k in zip(points.source, own, strict=True) if k)
        for source in ("", *(sources if by == "model" and len(sources) > 1 else ())):
            mask = own & np.array([source in ("", name) for name in points.source])
            errors = grouped(points.take(mask), misses[mask])
            if errors:
                mean, worst = float(np.mean(errors)), max(errors)
                sizes = (int(mask.sum()), len(errors))
                rows.append(HoldOut(device, quantity, kind, by, source, *sizes, mean, worst))
    return rows


def _logs(points: Points, misses: FloatArray, mask: Sequence[bool]) -> tuple[float, ...]:
    keep = np.asarray(mask, dtype=bool) & ~np.isnan(misses)
    groups = [group for group, k in zip(points.group, keep, strict=True) if k]
    return tuple(sorted(group_means(groups, np.abs(misses[keep])).tolist()))


def _inside(samples: Samples, misses: Mapping[str, FloatArray]) -> dict[str, tuple[float, ...]]:
    found = {}
    for quantity in QUANTITIES:
        points = samples[quantity].points
        pairs = list(zip(points.device, _kinds(points), strict=True))
        for pair in dict.fromkeys(pairs):
            logs = _logs(points, misses[quantity], [own == pair for own in pairs])
            if logs:
                found[f"{pair[0]}|{quantity}|{pair[1]}"] = logs
    return found


def _outside(
    samples: Samples, misses: Mapping[str, Mapping[str, FloatArray]]
) -> dict[str, tuple[float, ...]]:
    """Return errors without the device; without the source or the model where there are none."""
    found = {}
    for quantity in QUANTITIES:
        points = samples[quantity].points
        kinds = _kinds(points)
        for kind in dict.fromkeys(kinds):
            mask = [own == kind for own in kinds]
            ways = (
                _logs(points, misses[by][quantity], mask) for by in ("device", "source", "model")
            )
            found[f"{quantity}|{kind}"] = next((logs for logs in ways if logs), ())
    return found
