"""Hold-out errors: how far predictions are off for what a fit has not seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from moe2opt.profiles.fitting.calibrate import (
    QUANTITIES,
    Hardware,
    Pools,
    Samples,
)
from moe2opt.profiles.fitting.leaveout import POWERS, beyond, grouped, left_out, model_key
from moe2opt.profiles.fitting.points import Points
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
    models, beyond
        The LLM of each group, and whether the other runs of the device do not span it.
    """

    device: str
    source: str
    quantity: str
    kind: str
    by: str
    errors: tuple[float, ...]
    models: tuple[str, ...]
    beyond: tuple[bool, ...]


#: With fewer cells to lean on than these, an interval spans a factor of two at least, and that of
#: joules what the seconds span that they are made of.
_FEW_CELLS = 5
_TIMES = {"decode_energy": "decode", "prefill_energy": "prefill"}

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
            if quantity in _TIMES:
                unknown = extrapolated or not own
                widths.append(
                    self.spread(device, _TIMES[quantity], kind, extrapolated=unknown, level=level)
                )
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
    """How a source or an LLM that was left out fares, on all devices.

    Attributes
    ----------
    name, quantity, kind
        The source or the LLM, and what was measured with which engines.
    groups
        Number of groups of runs.
    median_error
        Median relative error.
    inside
        Share of the groups inside their intervals, which never saw an error of what was left out.
    factor
        Median of the factor either way that the intervals span.
    """

    name: str
    quantity: str
    kind: str
    groups: int
    median_error: float
    inside: float
    factor: float


def held_out(errors: Errors, by: str = "source", level: float = 0.9) -> list[Held]:
    """Return how each source or LLM fares with intervals made of the errors of the others.

    Parameters
    ----------
    errors
        Hold-out errors.
    by
        ``source`` or ``model``: what is left out.
    level
        Probability of the intervals.
    """
    wanted = [
        c for c in errors.cells
        if c.by == by or (by == "source" and c.by == "device" and not _known_elsewhere(errors, c))
    ]  # fmt: skip
    found = []
    for name in dict.fromkeys(name for cell in wanted for name in _names(cell, by)):
        rest = replace(errors, cells=tuple(_without(errors.cells, by, name)))
        misses: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for cell in wanted:
            if not any(c.quantity == cell.quantity for c in rest.cells):
                continue
            for error, own, far in zip(cell.errors, _names(cell, by), cell.beyond, strict=True):
                if own == name:
                    width = rest.spread(
                        cell.device, cell.quantity, cell.kind, extrapolated=far, level=level
                    )
                    misses.setdefault((cell.quantity, cell.kind), []).append((error, width))
        found += [_held(name, *key, pairs) for key, pairs in misses.items()]
    return found


def _held(name: str, quantity: str, kind: str, pairs: Sequence[tuple[float, float]]) -> Held:
    misses, widths = np.array(pairs).T
    middle, factor = float(np.expm1(np.median(misses))), float(np.exp(np.median(widths)))
    return Held(name, quantity, kind, len(pairs), middle, float(np.mean(misses <= widths)), factor)


def _names(cell: Cell, by: str) -> tuple[str, ...]:
    return cell.models if by == "model" else (cell.source,) * len(cell.errors)


def _without(cells: Sequence[Cell], by: str, name: str) -> Iterator[Cell]:
    """Yield the cells without the errors of a source or of an LLM."""
    for cell in cells:
        kept = [k for k, own in enumerate(_names(cell, by)) if own != name]
        if kept:
            yield replace(
                cell,
                errors=tuple(cell.errors[k] for k in kept),
                models=tuple(cell.models[k] for k in kept),
                beyond=tuple(cell.beyond[k] for k in kept),
            )


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
    """Return the weighted quantile of split conformal prediction.

    A new cell is taken to be worse than all that are known. Where these are too few for the level,
    errors beyond the worst one are taken to fall off as those of a Laplace distribution.
    """
    values = np.array([*own[0], *pooled[0]])
    weights = np.array([*own[1], *pooled[1]])
    if not len(values) or level <= 0:
        return 0.0
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    total = reached[-1] + (pooled[2] or 1.0)
    if level * total > reached[-1]:
        mean = float((values * weights).sum() / reached[-1])
        return float(values.max()) + mean * math.log((1 - reached[-1] / total) / (1 - level))
    index = int(np.searchsorted(reached, level * total * (1 - 1e-12)))
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
    told = {name: samples[POWERS.get(name, name)].points for name in (*QUANTITIES, *POWERS)}
    table = [
        row
        for by in ways
        for quantity, points in told.items()
        for row in _rows(points, misses[by][quantity], quantity, by)
    ]
    own = {device for sample in samples.values() for device in sample.points.device}
    cells = [
        cell
        for quantity, points in told.items()
        for cell in _cells(points, {by: misses[by][quantity] for by in ways}, quantity)
    ]
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
    told = (*samples, *POWERS)
    found = {n: np.full(len(samples[POWERS.get(n, n)].points), np.nan) for n in told}
    devices = {device for sample in samples.values() for device in sample.points.device}
    for device in sorted(devices):
        masks = {n: [d == device for d in s.points.device] for n, s in samples.items()}
        own = {name: sample.take(masks[name]) for name, sample in samples.items()}
        for name, values in left_out(own, hardware, scopes, by, pools).items():
            found[name][np.array(masks[POWERS.get(name, name)], dtype=bool)] = values
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


def _cells(points: Points, misses: Mapping[str, FloatArray], quantity: str) -> Iterator[Cell]:
    """Yield the errors of each source on each device, each way of leaving something out."""
    keys = list(zip(points.device, points.source, _kinds(points), strict=True))
    sources = {d: {k[1] for k in keys if k[0] == d} for d in points.device}
    models = model_key(points)
    for by, values in misses.items():
        far = beyond(points, by)
        for device, source, kind in dict.fromkeys(keys):
            if by == "source" and len(sources[device]) < 2:
                continue  # left out like a device then: nothing else is known of it
            groups: dict[object, list[int]] = {}
            for k, key in enumerate(keys):
                if key == (device, source, kind) and not np.isnan(values[k]):
                    groups.setdefault(points.group[k], []).append(k)
            rows = sorted(
                (float(np.mean(np.abs(values[own]))), models[own[0]], bool(far[own[0]]))
                for own in groups.values()
            )
            if rows:
                yield Cell(device, source, quantity, kind, by, *zip(*rows, strict=True))
