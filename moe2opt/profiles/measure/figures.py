"""What a measurement is: repeats of one quantity, their median and their spread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Action = Callable[[], object]
Clock = Callable[[], float]

#: More repeats than this are told by their quartiles alone.
_MOST_KEPT = 30


class UnavailableError(Exception):
    """Something cannot be measured here; the text says why, in words for the user."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how large a session measures.

    Attributes
    ----------
    name
        ``full`` or ``quick``.
    seconds_per_figure
        Time after which no further repeat of a figure is started.
    least, most
        Fewest and largest number of repeats.
    buffer_bytes, file_bytes
        Most memory and most disk that a step takes; less where the machine is small.
    limit_s
        Seconds of the whole session after which no further step is started.
    """

    name: str
    seconds_per_figure: float
    least: int
    most: int
    buffer_bytes: int
    file_bytes: int
    limit_s: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity of one device.

    Attributes
    ----------
    device
        What it was measured on.
    quantity
        Name, with the block size in bytes after an ``@`` where it depends on one.
    unit
        Unit of all values.
    median, low, high
        Median and lower and upper quartile of the repeats.
    repeats
        How many values these are taken from.
    method
        How it was measured, in one sentence.
    samples
        The values themselves when they are few.
    """

    device: str
    quantity: str
    unit: str
    median: float
    low: float
    high: float
    repeats: int
    method: str
    samples: tuple[float, ...] = ()

    @property
    def spread(self) -> float:
        """Interquartile range as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "device": self.device,
            "quantity": self.quantity,
            "unit": self.unit,
            "median": self.median,
            "lower_quartile": self.low,
            "upper_quartile": self.high,
            "interquartile_range": self.high - self.low,
            "repeats": self.repeats,
            "method": self.method,
            "samples": list(self.samples),
        }


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was not measured.

    Attributes
    ----------
    what, why
        The step, and the reason in words for the user.
    """

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Device:
    """A processor with its memory, one row of ``devices.csv``.

    Attributes
    ----------
    name
        Name of the row.
    memory_bytes
        Size of its memory.
    kind
        ``host`` or ``accelerator``.
    """

    name: str
    memory_bytes: int
    kind: str = "host"


@dataclass(frozen=True, slots=True)
class Measurement:
    """Everything one session found.

    Attributes
    ----------
    devices
        The host, then its accelerators.
    figures, skipped
        What was measured and what was not.
    machine
        Hardware and system in words; no host name and no user name.
    versions
        Versions of the software that took part.
    started
        Date and time (UTC, ISO 8601).
    seconds
        Duration.
    settings
        Options of the session.
    """

    devices: tuple[Device, ...]
    figures: tuple[Figure, ...]
    skipped: tuple[Skipped, ...]
    machine: dict[str, Any]
    versions: dict[str, str]
    started: str
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)

    def find(self, quantity: str, device: str) -> Figure | None:
        """Return a figure by quantity and device, None when it was not measured."""
        found = (f for f in self.figures if f.quantity == quantity and f.device == device)
        return next(found, None)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content, that of ``machine.json``."""
        return {
            "format": "moe2opt machine profile",
            "format_version": 1,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "settings": self.settings,
            "versions": self.versions,
            "machine": self.machine,
            "devices": [
                {"device": d.name, "kind": d.kind, "memory_bytes": d.memory_bytes}
                for d in self.devices
            ],
            "figures": [figure.to_dict() for figure in self.figures],
            "skipped": [{"what": s.what, "why": s.why} for s in self.skipped],
        }


def figure(device: str, quantity: str, unit: str, samples: Iterable[float], method: str) -> Figure:
    """Summarise repeats of one quantity; there must be at least one."""
    values = np.asarray(list(samples), dtype=np.float64)
    low, middle, high = (float(v) for v in np.percentile(values, (25, 50, 75)))
    kept = tuple(float(v) for v in values) if len(values) <= _MOST_KEPT else ()
    return Figure(device, quantity, unit, middle, low, high, len(values), method, kept)


def seconds_of(action: Action, effort: Effort, clock: Clock = time.perf_counter) -> list[float]:
    """Return the duration of each repeat of `action`, after one that does not count.

    Repeats go on until the time of a figure is used up, but at least `effort.least` and at most
    `effort.most` times.
    """
    action()
    start, durations = clock(), list[float]()
    while len(durations) < effort.most:
        begin = clock()
        if len(durations) >= effort.least and begin - start >= effort.seconds_per_figure:
            break
        action()
        durations.append(max(clock() - begin, 1e-9))
    return durations


def rates(durations: Iterable[float], amount: float, scale: float = 1e9) -> list[float]:
    """Return ``amount / duration / scale`` for each duration, say GB/s from bytes."""
    return [amount / seconds / scale for seconds in durations]
