"""Traces: what changes while a plan is in use, on a uniform grid of time steps.

A trace file is a CSV table. Lines that start with ``#`` come first and hold ``key: value`` pairs
(``name``, ``source``, ``synthetic``). The columns say what they are and in which unit:

``t_s``
    Seconds; each row holds until the next one.
``mbit_per_s``, ``mbit_per_s[a-b]``
    Rate of the replayed link, or of the link between the tiers a and b.
``memory_share[tier]``
    Share of a tier's capacity that exists, 1 for all of it.
``load[tier]``
    Share of a tier's compute that others take, below 1.
``mix[domain]``
    Weight of an input domain in the requests.
``server``
    Name of the edge server in reach, empty where there is none.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError
from moe2opt.writing import write_text

_COLUMN = re.compile(r"(mbit_per_s|memory_share|load|mix)(?:\[([^\[\]]+)\])?\Z")

#: Columns that need a name in brackets, and the largest value of each kind.
_NAMED = ("memory_share", "load", "mix")
_MOST = {"mbit_per_s": 1e9, "memory_share": 1.0, "load": 1.0, "mix": 1e12}

#: A step longer than this many usual steps, and than this many seconds, is a gap.
_GAP, _GAP_S = 5.0, 10.0

#: Most faults that one message lists.
_MOST_FAULTS = 5

#: Most steps of a resampled trace.
_MOST_STEPS = 5_000_000


@dataclass(frozen=True, eq=False)
class Trace:
    """Series over time.

    Attributes
    ----------
    name
        Short name.
    t_s
        ``(n,)`` start of each step.
    series
        ``(n,)`` values by column name, see the module; finite.
    missing
        ``(n,)`` whether nothing was measured: the value is then the last known one, which the
        controller does not get to see.
    server
        ``(n,)`` server in reach, empty without a column of that name.
    source, synthetic
        Where the figures come from, and whether they are made up.
    repairs
        What was repaired when the trace was read.
    end_s
        End of the last step; the usual length of a step after its start when left out.
    """

    name: str
    t_s: FloatArray
    series: Mapping[str, FloatArray]
    missing: BoolArray
    server: tuple[str, ...] = ()
    source: str = ""
    synthetic: bool = False
    repairs: tuple[str, ...] = field(default=())
    end_s: float | None = None

    def __len__(self) -> int:
        return len(self.t_s)

    @property
    def step_s(self) -> float:
        """Usual seconds between two rows."""
        return float(np.median(np.diff(self.t_s))) if len(self) > 1 else 1.0

    @property
    def duration_s(self) -> float:
        """Seconds from the first row to the end of the last one."""
        if self.end_s is not None:
            return self.end_s - float(self.t_s[0])
        return float(self.t_s[-1] - self.t_s[0]) + self.step_s

    def columns(self, kind: str) -> dict[str, FloatArray]:
        """Return the series of one kind by the name in brackets, "" without one."""
        found = {}
        for column, values in self.series.items():
            match = _COLUMN.fullmatch(column)
            if match and match[1] == kind:
                found[match[2] or ""] = values
        return found

    def rate(self) -> FloatArray:
        """Return the ``(n,)`` bits per second of the replayed link.

        Raises
        ------
        InputError
            When the trace has no column ``mbit_per_s``.
        """
        if "mbit_per_s" not in self.series:
            raise InputError(f"trace {self.name}: there is no column mbit_per_s")
        return np.asarray(self.series["mbit_per_s"] * 1e6)

    def resampled(self, step_s: float = 1.0) -> Trace:
        """Return means over steps of equal length; each row holds until the next one."""
        if not step_s > 0:
            raise InputError(f"step of {step_s} s: it must be positive")
        if self.duration_s / step_s > _MOST_STEPS:
            raise InputError(
                f"trace {self.name}: {self.duration_s:.3g} s in steps of {step_s} s are more than "
                f"{_MOST_STEPS} steps"
            )
        steps = max(1, math.floor(self.duration_s / step_s + 1e-9))
        edges = self.t_s[0] + step_s * np.arange(steps + 1)
        row = np.searchsorted(self.t_s, edges[:-1] + 1e-9 * step_s, side="right") - 1
        row = np.maximum(row, 0)
        series = {name: _means(self.t_s, values, edges) for name, values in self.series.items()}
        missing = _means(self.t_s, self.missing.astype(np.float64), edges) > 0.999
        server = tuple(self.server[k] for k in row) if self.server else ()
        return replace(
            self,
            t_s=edges[:-1],
            series=MappingProxyType(series),
            missing=missing,
            server=server,
            end_s=float(edges[-1]),
        )

    def head(self, duration_s: float) -> Trace:
        """Return the first seconds; the last row ends with them, or where it ended before."""
        keep = int(np.searchsorted(self.t_s, self.t_s[0] + duration_s - 1e-9))
        end_s = float(self.t_s[0]) + min(duration_s, self.duration_s)
        return replace(self.rows(slice(0, max(1, keep))), end_s=end_s)

    def rows(self, part: slice) -> Trace:
        """Return some of the rows."""
        series = {name: values[part] for name, values in self.series.items()}
        return replace(
            self,
            t_s=self.t_s[part],
            series=MappingProxyType(series),
            missing=self.missing[part],
            server=self.server[part],
            end_s=None,
        )

    def with_series(self, **more: Any) -> Trace:
        """Return the trace with columns added or replaced; ``a__b`` stands for ``a[b]``."""
        series = dict(self.series)
        for key, values in more.items():
            kind, _, name = key.partition("__")
            series[f"{kind}[{name}]" if name else kind] = np.asarray(values, dtype=np.float64)
        built = build_trace(
            self.name,
            self.t_s,
            series,
            server=self.server,
            source=self.source,
            synthetic=self.synthetic,
        )
        return replace(built, end_s=self.end_s)

    def write(self, path: str | Path) -> None:
        """Write the trace as CSV."""
        head = {"name": self.name, "source": self.source, "synthetic": str(self.synthetic).lower()}
        text = io.StringIO()
        for key, value in head.items():
            text.write(f"# {key}: {value}\n")
        writer = csv.writer(text, lineterminator="\n")
        names = list(self.series)
        writer.writerow(["t_s", *names, *(["server"] if self.server else [])])
        for k, t in enumerate(self.t_s):
            cells = [f"{self.series[n][k]:.6g}" if not self.missing[k] else "" for n in names]
            writer.writerow([f"{t:.10g}", *cells, *([self.server[k]] if self.server else [])])
        write_text(path, text.getvalue())


def _means(t_s: FloatArray, values: FloatArray, edges: FloatArray) -> FloatArray:
    """Return the mean of a step function between consecutive edges."""
    end = max(float(edges[-1]), float(t_s[-1])) + 1.0
    knots = np.append(t_s, end)
    total = np.concatenate([[0.0], np.cumsum(values * np.diff(knots))])
    return np.asarray(np.diff(np.interp(edges, knots, total)) / np.diff(edges))


def build_trace(
    name: str,
    t_s: Any,
    series: Mapping[str, Any],
    *,
    server: Sequence[str] = (),
    source: str = "",
    synthetic: bool = False,
    repair: bool = False,
) -> Trace:
    """Check series and return a trace.

    Parameters
    ----------
    name, source, synthetic
        As in `Trace`.
    t_s, series, server
        ``(n,)`` times, values by column name, and names of servers.
    repair
        Hold the last value where a value is missing, not finite or negative, and over gaps; drop
        rows whose time does not increase. Each repair is noted. Otherwise these are errors.

    Raises
    ------
    InputError
        With all kinds of faults in one message.
    """
    times = np.asarray(t_s, dtype=np.float64)
    table = {key: np.asarray(values, dtype=np.float64) for key, values in series.items()}
    _check_shapes(name, times, table, server)
    faults = _faults(times, table)
    if faults and not repair:
        shown = "; ".join(faults[:_MOST_FAULTS])
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise InputError(f"trace {name}: {shown}{more} (--repair holds the last value)")
    missing = np.zeros(len(times), dtype=bool)
    if faults:
        times, table, missing, server = _repaired(name, times, table, server)
    return Trace(
        name,
        times,
        MappingProxyType(table),
        missing,
        tuple(server),
        source,
        synthetic,
        tuple(faults),
    )


def _check_shapes(
    name: str, times: FloatArray, table: dict[str, FloatArray], server: Sequence[str]
) -> None:
    if times.ndim != 1 or not len(times):
        raise InputError(f"trace {name}: there is no row")
    if not table and not server:
        raise InputError(f"trace {name}: there is no column besides t_s")
    for column, values in table.items():
        match = _COLUMN.fullmatch(column)
        if not match or (match[1] in _NAMED and not match[2]):
            raise InputError(
                f"trace {name}: column {column!r} is not understood; columns are t_s, mbit_per_s, "
                "mbit_per_s[a-b], memory_share[tier], load[tier], mix[domain], server"
            )
        if values.shape != times.shape:
            raise InputError(f"trace {name}: column {column} has {values.size} values")
    if len(server) not in (0, len(times)):
        raise InputError(f"trace {name}: column server has {len(server)} values")


def _faults(times: FloatArray, table: dict[str, FloatArray]) -> list[str]:
    """Return what is wrong, one phrase per column and kind of fault."""
    found = []
    broken = ~np.isfinite(times)
    if broken.any():
        found.append(_phrase("t_s", broken, "is not a finite number"))
    step = np.diff(times)
    back = np.concatenate([[False], ~(step > 0)]) & ~broken
    if back.any():
        found.append(_phrase("t_s", back, "does not increase"))
    elif len(step):
        gaps = np.concatenate([[False], _is_gap(step)])
        if gaps.any():
            found.append(_phrase("t_s", gaps, "follows a gap"))
    for column, values in table.items():
        kind = column.partition("[")[0]
        for fault, text in (
            (~np.isfinite(values), "is not a finite number"),
            (values < 0, "is negative"),
            (values > _MOST[kind], f"is above {_MOST[kind]:g}"),
        ):
            if fault.any():
                found.append(_phrase(column, fault, text))
    return found


def _is_gap(step: FloatArray) -> BoolArray:
    usual = float(np.median(step)) if len(step) else 1.0
    return np.asarray(step > max(_GAP * usual, _GAP_S))


def _phrase(column: str, fault: BoolArray, text: str) -> str:
    count = int(fault.sum())
    rows = "" if count == 1 else f" ({count} rows)"
    return f"{column} in row {int(np.argmax(fault)) + 1} {text}{rows}"


def _repaired(
    name: str, times: FloatArray, table: dict[str, FloatArray], server: Sequence[str]
) -> tuple[FloatArray, dict[str, FloatArray], BoolArray, Sequence[str]]:
    """Return times, series, flags of missing rows and servers after the repair."""
    highest = np.fmax.accumulate(np.where(np.isfinite(times), times, -np.inf))
    before = np.concatenate([[-np.inf], highest[:-1]])
    kept = np.flatnonzero(np.isfinite(times) & (times > before))
    if not len(kept):
        raise InputError(f"trace {name}: no row has a usable time")
    times = times[kept]
    missing = np.zeros(len(kept), dtype=bool)
    fixed = {}
    for column, values in table.items():
        values = values[kept]
        good = np.isfinite(values) & (values >= 0) & (values <= _MOST[column.partition("[")[0]])
        if not good.any():
            raise InputError(f"trace {name}: column {column} holds no usable value")
        last = np.maximum.accumulate(np.where(good, np.arange(len(values)), -1))
        fixed[column] = values[np.where(last < 0, int(np.argmax(good)), last)]
        missing |= ~good
    names = [server[int(k)] for k in kept] if len(server) else []
    return _with_gaps(times, fixed, missing, names)


def _with_gaps(
    times: FloatArray, table: dict[str, FloatArray], missing: BoolArray, server: Sequence[str]
) -> tuple[FloatArray, dict[str, FloatArray], BoolArray, Sequence[str]]:
    """Insert a row without a measurement one usual step after each row that a gap follows."""
    step = np.diff(times)
    usual = float(np.median(step)) if len(step) else 1.0
    gaps = np.flatnonzero(_is_gap(step))
    place = gaps + 1
    times = np.insert(times, place, times[gaps] + usual)
    table = {column: np.insert(values, place, values[gaps]) for column, values in table.items()}
    missing = np.insert(missing, place, True)
    if len(server):
        server = np.insert(
            np.array(server, dtype=object), place, [server[int(k)] for k in gaps]
        ).tolist()
    return times, table, missing, server
