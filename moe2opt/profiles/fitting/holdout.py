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
from moe2opt.profiles.fitting.leaveout import (
    POWERS,
    beyond,
    grouped,
    left_out,
    model_key,
    new_format,
)
from moe2opt.profiles.fitting.points import Points
from moe2opt.profiles.formats import EAGER
from moe2opt.result import FloatArray

#: Kinds of engines whose errors are told apart; the last are host-bound ones with a class of
#: weights that no such engine has run.
KINDS = ("compiled", "host-bound", "host-bound, new format")

#: Kernels of one class of weights take a host ten times as long as those of another.
_NEW_FORMAT = math.log(10.0)


@dataclass(frozen=True, slots=True)
class HoldOut:
    """Error of one quantity on one device when something is left out of the fit.

    Attributes
    ----------
    device, quantity
        What was predicted.
    kind
        ``compiled`` engines, or ``host-bound`` ones (`moe2opt.profiles.fitting.decode`); in `Cell`
        the latter with ``new format``, too.
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


@dataclass(frozen=True, slots=True)
class Rule:
    """How wide intervals are; ``docs/studies/profile_nested.py`` chooses between such rules.

    Attributes
    ----------
    prior
        What all cells of other devices together weigh, in groups of runs of the device itself.
    strictness
        Errors are let beyond the quantile that is taken, relative to what the level allows.
    far
        Whether what the runs of a device do not span reaches at least as far as devices that were
        left out.
    """

    prior: float = 6.0
    strictness: float = 1.0
    far: bool = True

    def quantile(self, level: float) -> float:
        """Return the level at which the quantile of the errors is taken."""
        return max(0.0, level - (1.0 - level) * (self.strictness - 1.0))


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
    rule
        How wide intervals are.
    """

    table: tuple[HoldOut, ...]
    cells: tuple[Cell, ...] = ()
    exact: frozenset[str] = frozenset()
    rule: Rule = Rule()

    def spread(
        self, device: str, quantity: str, kind: str, *, extrapolated: bool, level: float
    ) -> float:
        """Return the log error that a prediction stays within with probability `level`.

        A new source is further off than another run of a known one, and a device with few runs
        says little about how far: its errors are pooled with those of sources that were left out
        on other devices, which weigh six groups of runs together (`Rule`). An extrapolation has at
        least the errors of devices that were left out. Every source on a device counts alike.
        """
        if device in self.exact:
            return 0.0
        new_format = kind == KINDS[2]
        kinds = {cell.kind for cell in self.cells if cell.quantity == quantity}
        kind = next((k for k in (kind, kind.partition(",")[0]) if k in kinds), KINDS[0])
        about = [c for c in self.cells if (c.quantity, c.kind) == (quantity, kind)]
        own = [c for c in about if c.device == device and c.by != "device"]
        own = [c for c in own if c.by == "source"] or own
        others = [c for c in about if c.device != device]
        known = [c for c in others if c.by == "source"] or [c for c in others if c.by == "model"]
        widths, at = [], self.rule.quantile(level)
        if own:
            values = [error for cell in own for error in cell.errors]
            shares = [1.0] * len(values)
            widths.append(_quantile((values, shares), _pooled(known, self.rule.prior), at))
        if not own or (extrapolated and self.rule.far):
            far = [c for c in others if c.by == "device"] or known or own
            widths.append(_quantile(([], []), _pooled(far, float(len(far))), at))
        if new_format:
            widths.append(_NEW_FORMAT * stretch(level))
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
    pairs = set(zip(points.device, points.source, strict=True))
    sources = {d: {source for device, source in pairs if device == d} for d in points.device}
    models, kinds = model_key(points), _kinds(points)
    for by, values in misses.items():
        far, new = beyond(points, by), new_format(points, by)
        own_kinds = [KINDS[2] if n else kind for n, kind in zip(new, kinds, strict=True)]
        keys = list(zip(points.device, points.source, own_kinds, strict=True))
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
