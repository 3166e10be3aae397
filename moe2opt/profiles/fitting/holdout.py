"""Hold-out errors: how far predictions are off for what a fit has not seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from moe2opt.profiles.fitting.calibrate import (
    QUANTITIES,
    Hardware,
    Pools,
    Samples,
)
from moe2opt.profiles.fitting.leaveout import grouped, left_out
from moe2opt.profiles.fitting.points import Points
from moe2opt.profiles.fitting.robust import group_means
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


@dataclass(frozen=True, slots=True)
class Cell:
    """Errors of one source on one device, one quantity and one kind of engine.

    Attributes
    ----------
    device, source, quantity, kind
        Whose errors these are.
    by
        What was left out: ``source`` where other sources know the device, else ``model``; or
        ``device``.
    errors
        Absolute log errors by group.
    """

    device: str
    source: str
    quantity: str
    kind: str
    by: str
    errors: tuple[float, ...]


#: With fewer cells to lean on than these, an interval spans a factor of two at least.
_FEW_CELLS = 5

#: What all cells of other devices together weigh, in groups of runs of the device itself.
_PRIOR = 6.0


@dataclass(frozen=True, eq=False)
class Errors:
    """Hold-out errors, and what intervals are made of.

    Attributes
    ----------
    table
        Every error that was computed.
    cells
        Errors by device and source.
    exact
        Devices that are taken at their word.
    """

    table: tuple[HoldOut, ...]
    cells: tuple[Cell, ...] = ()
    exact: frozenset[str] = frozenset()

    def spread(
        self, device: str, quantity: str, kind: str, *, extrapolated: bool, level: float
    ) -> float:
        """Return the log error that a prediction stays within with probability `level`.

        A new source is further off than another run of a known one, and a device with few runs
        says little about how far: its errors are pooled with those of sources that were left out
        on other devices, which weigh `_PRIOR` groups of runs together. An extrapolation has at
        least the errors of devices that were left out. Every source on a device counts alike.
        """
        if device in self.exact:
            return 0.0
        kinds = {cell.kind for cell in self.cells if cell.quantity == quantity}
        kind = kind if kind in kinds else KINDS[0]
        about = [c for c in self.cells if (c.quantity, c.kind) == (quantity, kind)]
        own = [c for c in about if c.device == device and c.by != "device"]
        own = [c for c in own if c.by == "source"] or own
        others = [c for c in about if c.device != device]
        known = [c for c in others if c.by == "source"] or [c for c in others if c.by == "model"]
        widths = []
        if own:
            values = [error for cell in own for error in cell.errors]
            shares = [1.0] * len(values)
            widths.append(_quantile((values, shares), _pooled(known, _PRIOR), level))
        if extrapolated or not own:
            far = [c for c in others if c.by == "device"] or known or own
            widths.append(_quantile(([], []), _pooled(far, float(len(far))), level))
        if len(known) < _FEW_CELLS:
            # Two or three sources do not show how far the next one may be off.
            widths.append(math.log(2.0) * stretch(level))
        return max(widths)

    def find(self, device: str, quantity: str, kind: str, by: str) -> HoldOut | None:
        """Return one row of the table, None where it was not computed."""
        for row in self.table:
            if (row.device, row.quantity, row.kind, row.by, row.source) == (
                device, quantity, kind, by, "",
            ):  # fmt: skip
                return row
        return None


@dataclass(frozen=True, slots=True)
class Held:
    """How a source that was left out fares, on all of its devices.

    Attributes
    ----------
    source, quantity, kind
        Who measured what, with which engines.
    groups
        Number of groups of runs.
    median_error
        Median relative error.
    inside
        Share of the groups inside their intervals, which never saw an error of this source.
    factor
        Median of the factor either way that the intervals span.
    """

    source: str
    quantity: str
    kind: str
    groups: int
    median_error: float
    inside: float
    factor: float


def held_out_sources(errors: Errors, level: float = 0.9) -> list[Held]:
    """Return how each source fares with intervals made of the errors of the others."""
    found = []
    wanted = [
        c for c in errors.cells
        if c.by == "source" or (c.by == "device" and not _known_elsewhere(errors, c))
    ]  # fmt: skip
    for source, quantity, kind in dict.fromkeys((c.source, c.quantity, c.kind) for c in wanted):
        rest = Errors(
            errors.table, tuple(c for c in errors.cells if c.source != source), errors.exact
        )
        misses, spreads = list[float](), list[float]()
        for cell in wanted:
            if (cell.source, cell.quantity, cell.kind) == (source, quantity, kind):
                far = cell.by == "device"
                if not any(c.quantity == quantity for c in rest.cells):
                    continue
                width = rest.spread(cell.device, quantity, kind, extrapolated=far, level=level)
                misses += cell.errors
                spreads += [width] * len(cell.errors)
        if misses:
            inside = np.mean(np.array(misses) <= np.array(spreads))
            median = float(np.expm1(np.median(misses)))
            factor = float(np.exp(np.median(spreads)))
            found.append(Held(source, quantity, kind, len(misses), median, float(inside), factor))
    return found


def _known_elsewhere(errors: Errors, cell: Cell) -> bool:
    key = (cell.device, cell.source, cell.quantity, cell.kind)
    return any(
        (c.device, c.source, c.quantity, c.kind) == key and c.by == "source" for c in errors.cells
    )


def _pooled(cells: Sequence[Cell], total: float) -> tuple[list[float], list[float], float]:
    """Return errors of cells that weigh alike, their weights, and the weight of one cell."""
    share = total / len(cells) if cells else 0.0
    values = [error for cell in cells for error in cell.errors]
    weights = [share / len(cell.errors) for cell in cells for _ in cell.errors]
    return values, weights, share


def stretch(level: float) -> float:
    """Return how much wider a log error at a level is than at 0.9, where only that is known.

    Below, in proportion to the level, which is cautious; above, as a normal distribution widens.

    Examples
    --------
    >>> [round(stretch(level), 2) for level in (0.45, 0.9, 0.99)]
    [0.5, 1.0, 1.57]
    """
    if level <= 0.9:
        return level / 0.9
    return NormalDist().inv_cdf((1 + level) / 2) / NormalDist().inv_cdf(0.95)


def _quantile(
    own: tuple[list[float], list[float]],
    pooled: tuple[list[float], list[float], float],
    level: float,
) -> float:
    """Return the weighted quantile of split conformal prediction: a new cell is the worst."""
    values = np.array([*own[0], *pooled[0]])
    weights = np.array([*own[1], *pooled[1]])
    if not len(values) or level <= 0:
        return 0.0
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    wanted = level * (reached[-1] + (pooled[2] or 1.0))
    index = int(np.searchsorted(reached, min(wanted, reached[-1]) * (1 - 1e-12)))
    return float(values[order][min(index, len(values) - 1)])


def hold_out(
    samples: Samples,
    hardware: Mapping[str, Hardware],
    scopes: Mapping[str, str],
    pools: Pools | None = None,
    others: Sequence[Cell] = (),
) -> Errors:
    """Compute the hold-out errors of a set of runs.

    Parameters
    ----------
    samples, hardware, scopes
        As for `moe2opt.profiles.fitting.calibrate.calibrate`.
    pools, others
        Common coefficients and errors of devices from other tables. With them, only models and
        sources are left out, device by device; without, everything is refitted each time.
    """
    ways = ("model", "source") if pools else ("model", "source", "device")
    misses = {by: _misses(samples, hardware, scopes, by, pools) for by in ways}
    table = [
        row
        for by in ways
        for quantity in QUANTITIES
        for row in _rows(samples[quantity].points, misses[by][quantity], quantity, by)
    ]
    own = {device for sample in samples.values() for device in sample.points.device}
    cells = [cell for quantity in QUANTITIES for cell in _cells(samples, misses, quantity)]
    return Errors(tuple(table), (*cells, *(cell for cell in others if cell.device not in own)))


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


def _cells(
    samples: Samples, misses: Mapping[str, Mapping[str, FloatArray]], quantity: str
) -> Iterator[Cell]:
    """Yield the errors of each source on each device, each way of leaving something out."""
    points = samples[quantity].points
    keys = list(zip(points.device, points.source, _kinds(points), strict=True))
    sources = {d: {k[1] for k in keys if k[0] == d} for d in points.device}
    for device, source, kind in dict.fromkeys(keys):
        mask = [key == (device, source, kind) for key in keys]
        for by in misses:
            if by == "source" and len(sources[device]) < 2:
                continue  # left out like a device then: nothing else is known of it
            logs = _logs(points, misses[by][quantity], mask)
            if logs:
                yield Cell(device, source, quantity, kind, by, logs)
