r"""Rows that say nothing new of whole layers, and much of fractions of them.

A relaxation fills every device to its last byte. Whole experts, and the few parts of them that a
split leaves, do not: beside ``n`` layers a device holds at most ``r(n)`` of them. For each slope
``s`` of the concave hull of ``r``,

.. math:: \text{experts} + s n \le \max_m (r(m) + s m),

which together bound what fits by its convex hull in numbers of layers and experts. Rows of runs
(`moe2opt.place.runs`) say more where cards are several; these are what is left where they are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from moe2opt.place.case import Case
from moe2opt.place.options import kept_bytes
from moe2opt.place.rows import Rows
from moe2opt.result import FloatArray, IntArray

#: Slopes that differ by less than this share of them are one.
_ALIKE = 0.03

#: Share of a limit, and more, by which sums of parts may differ from it by rounding.
_ROUNDING = 1e-9


def hull_rows(case: Case, rows: Rows) -> None:
    """Add what experts a device holds at most beside so many layers."""
    if not case.classes:
        return
    blocks, count = case.model.blocks, len(case.machine.devices)
    places = np.arange(blocks + 1, dtype=np.float64)
    for d, device in enumerate(case.machine.devices):
        stay = _parts(case, rows, d)
        away = {e: _parts(case, rows, e, to=d) for e in range(count) if e != d}
        reach = _reach(case, rows, d, _fractions([stay, *away.values()]))
        for slope in _different(s for own in np.unique(reach, axis=0) for s in _slopes(own)):
            most = np.maximum((reach + slope * places).max(axis=1), 0.0)
            own = rows.add(f"whole experts beside layers on {device.name}", float(most.max()))
            own[0][:] = most.max() - most
            own[1][d] = slope * (blocks - places)
            if d + 1 < count:
                # Layers of a device are those from its cut on without those from the next one on.
                own[1][d + 1] = slope * places
                rows.limits[-1] += slope * blocks
            own[2][:, [s for s, site in enumerate(rows.sites) if site.device == d]] = 1.0
            own[3][d] = [float(part) for part in stay]
            for e, found in away.items():
                # What stays elsewhere is taken off a limit that holds the most that can.
                own[3][e] = [float(max(found) - part) for part in found]
                rows.limits[-1] += float(max(found, default=0))
            rows.limits[-1] += _ROUNDING * (1.0 + rows.limits[-1])


def _parts(case: Case, rows: Rows, d: int, to: int | None = None) -> list[Fraction]:
    """Return which part of a layer's experts each split leaves on a device, of those that go on."""
    found = []
    for split in rows.splits:
        counts = split.kind >= 0 and to in (None, split.to)
        whole = case.classes[split.kind][0].expert_bytes
        found.append(Fraction(int(kept_bytes(case, d, split)) if counts else 0, whole))
    return found


def _fractions(parts: list[list[Fraction]]) -> FloatArray:
    """Return by what sums of whole experts and parts of them may exceed a whole number."""
    stay, *away = parts
    found = {Fraction(0), *stay}
    for own in away:
        found = {(f - p) % 1 for f in found for p in {Fraction(0), *own}}
    return np.array(sorted(map(float, found)))


def _reach(case: Case, rows: Rows, d: int, fractions: FloatArray) -> FloatArray:
    """Return the ``(V, blocks + 1)`` most experts beside layers by variant, or ``-inf``."""
    size = min(members[0].expert_bytes for members in case.classes)
    lightest = {u: _lightest(case.layer_bytes(u)) for u in case.config.ubatch}
    found = np.full((len(rows.variants), case.model.blocks + 1), -np.inf)
    for v, variant in enumerate(rows.variants):
        if d in variant.devices:
            room = case.usable_bytes(d) - case.compute_bytes(variant, d)
            room -= case.model.output_bytes * (d == variant.devices[-1])
            held = (room - lightest[variant.ubatch]) / size
            most = np.floor(held[:, None] - fractions + _ROUNDING) + fractions
            found[v] = np.where(held >= 0, np.maximum(most.max(axis=1), 0.0), -np.inf)
    return found


def _lightest(sizes: IntArray) -> FloatArray:
    """Return the ``(blocks + 1,)`` least bytes of any run of so many blocks."""
    sums = np.concatenate([[0], np.cumsum(sizes)])
    return np.array([float((sums[n:] - sums[: len(sums) - n]).min()) for n in range(len(sums))])


def _slopes(reach: FloatArray) -> Iterator[float]:
    """Yield how steeply the concave hull of what fits falls, from its top on."""
    at, end = 0, int(np.isfinite(reach).sum())
    while at + 1 < end:
        falls = (reach[at] - reach[at + 1 : end]) / np.arange(1, end - at)
        least = float(falls.min())
        yield least
        at += 1 + int(np.flatnonzero(falls <= least + 1e-12)[-1])


def _different(slopes: Iterator[float]) -> Iterator[float]:
    """Yield slopes in order, of those that are alike the least one."""
    last = -1.0
    for slope in sorted(slopes):
        if slope > last * (1 + _ALIKE) + 1e-12:
            last = slope
            yield slope
