"""Opening traces: our own format, formats of published data sets, tables of many traces, built-ins.

Known formats besides `moe2opt.replay.traces.trace`:

``t rate``
    Two columns without a header: seconds and Mbit/s, as cooked HSDPA and FCC traces have them.
six columns
    Log of an HSDPA measurement: seconds, milliseconds, two coordinates, bytes, milliseconds since
    the line before.
one column
    Milliseconds at which a packet of 1500 bytes could be sent (Mahimahi), as for LTE traces.
``DL_bitrate``
    CSV tables of the UCC 4G and 5G data sets, one row per second, kbit/s.
``file.parquet::name``
    One trace of a table with a column ``trace``; the part after ``::`` may be left out when there
    is only one.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.files import read_text
from moe2opt.library import roots
from moe2opt.replay.traces.csv import read_trace
from moe2opt.replay.traces.trace import Trace, build_trace
from moe2opt.result import FloatArray, InputError
from moe2opt.schema.frames import read_frame

_PACKET_BITS = 1500 * 8

#: Columns of tables: of the time and its unit in seconds, of the rate and its unit in Mbit/s.
_TIMES = {"t_s": 1.0, "t_ms": 1e-3}
_RATES = {"mbps": 1.0, "kbps": 1e-3, "DL_bitrate": 1e-3, "mbit_per_s": 1.0}


def builtin_traces() -> dict[str, Path]:
    """Return the traces in ``problems/traces`` by name."""
    return _builtin("*.csv")


def builtin_expert_traces() -> dict[str, Path]:
    """Return the traces of experts in ``problems/traces`` by name."""
    return _builtin("*.npz")


def is_token_trace(spec: str) -> bool:
    """Tell whether a trace holds the experts of tokens rather than a state of the world."""
    path = Path(spec.partition("::")[0])
    if path.suffix == ".npz" or (not path.exists() and str(path) in builtin_expert_traces()):
        return True
    if path.suffix == ".parquet" and path.is_file():
        return _has_experts(path)
    if path.suffix != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        head = next((line for line in stream if not line.startswith("#")), "")
    return {"layer", "expert"} <= {cell.strip() for cell in head.split(",")}


def _has_experts(path: Path) -> bool:
    try:
        import pyarrow.parquet as pq

        return {"layer", "expert"} <= set(pq.read_schema(path).names)
    except (ImportError, OSError, ValueError):
        return False


def token_file(spec: str) -> Path:
    """Return a file, or the built-in trace of that name, with or without its suffix."""
    path = Path(spec)
    if path.is_file() or len(path.parts) != 1:
        return path
    return builtin_expert_traces().get(path.name.removesuffix(".npz"), path)


def _builtin(pattern: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in reversed(roots()):
        found |= {path.stem: path for path in sorted((root / "traces").glob(pattern))}
    return found


def open_trace(spec: str | Path, *, repair: bool = False) -> Trace:
    """Return the trace that a user means: a file in any known format, or the name of a built-in.

    Parameters
    ----------
    spec
        Path, ``path::name`` for a table of traces, or name of a built-in trace.
    repair
        Repair what is missing, see `moe2opt.replay.traces.trace.build_trace`.

    Raises
    ------
    InputError
        When there is no such file, or it holds no trace.
    """
    text, _, name = str(spec).partition("::")
    path = Path(text)
    if not path.is_file():
        known = builtin_traces()
        if text in known:
            return read_trace(known[text], repair=repair)
        if path.is_dir():
            raise InputError(f"{text}: is a folder; name one trace in it")
        experts = ", ".join(file.name for file in builtin_expert_traces().values())
        raise InputError(
            f"{text}: no such file, and no built-in trace; built-in: {', '.join(sorted(known))}; "
            f"of experts: {experts}"
        )
    if path.suffix == ".parquet":
        return _from_table(path, name, repair)
    return _from_text(path, repair)


def _from_text(path: Path, repair: bool) -> Trace:
    lines = read_text(path).split("\n")
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    header = [cell.strip() for cell in first.split(",")]
    if "DL_bitrate" in header:
        return _from_ucc(path, repair)
    cells = first.split()
    if "t_s" in header or len(cells) not in (1, 2, 6) or not _is_number(cells[0]):
        return read_trace(path, repair=repair)
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    for number, row in enumerate(rows, 1):
        if len(row) != len(cells) or not all(map(_is_number, row)):
            raise InputError(f"{path}: line {number} does not look like the first one")
    table = np.array(rows, dtype=np.float64)
    times, rates = _columns(path, table)
    return _built(path, path.stem, times, rates, repair)


def _columns(path: Path, table: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return seconds and Mbit/s of a table of one, two or six columns."""
    if table.shape[1] == 1:
        return _from_packets(path, table[:, 0])
    if table.shape[1] == 2:
        return table[:, 0], table[:, 1]
    seconds = table[:, 1] / 1e3
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = table[:, 4] * 8 / (table[:, 5] * 1e3)
    return seconds - seconds[0], rate


def _from_packets(path: Path, at_ms: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the rate per second of a list of moments at which a packet could be sent."""
    if (at_ms < 0).any() or (np.diff(at_ms) < 0).any() or at_ms[-1] > 1e9:
        raise InputError(f"{path}: milliseconds must not be negative or fall")
    count = np.bincount((at_ms // 1000).astype(np.int64))
    return np.arange(len(count), dtype=np.float64), count * _PACKET_BITS / 1e6


def _from_ucc(path: Path, repair: bool) -> Trace:
    reader = csv.DictReader(io.StringIO(read_text(path)))
    try:
        cells = [row.get("DL_bitrate", "") for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: {error}") from error
    rate = np.array([float(c) / 1e3 if _is_number(c) else np.nan for c in cells])
    return _built(path, path.stem, np.arange(float(len(rate))), rate, repair)


def _from_table(path: Path, name: str, repair: bool) -> Trace:
    table = read_frame(path)
    rate = next((column for column in _RATES if column in table.columns), None)
    if rate is None or "trace" not in table.columns:
        raise InputError(f"{path}: needs a column trace and one of {', '.join(_RATES)}")
    names = sorted(map(str, table["trace"].unique()))
    if not names:
        raise InputError(f"{path}: has no rows")
    if not name and len(names) > 1:
        raise InputError(f"{path}: holds {len(names)} traces; take one with ::{names[0]}")
    if name and name not in names:
        raise InputError(f"{path}: has no trace {name!r}; the first of {len(names)} is {names[0]}")
    part = table[table["trace"].astype(str) == (name or names[0])]
    if "set" in part.columns:
        part = part[part["set"] == part["set"].iloc[0]]
    return _built(
        path, name or names[0], _times(part), part[rate].to_numpy() * _RATES[rate], repair
    )


def _times(part: Any) -> FloatArray:
    for column, unit in _TIMES.items():
        if column in part.columns:
            return np.asarray(part[column].to_numpy(dtype=np.float64) * unit)
    return np.arange(float(len(part)))


def _built(path: Path, name: str, times: Any, rates: Any, repair: bool) -> Trace:
    try:
        return build_trace(name, times, {"mbit_per_s": rates}, source=path.name, repair=repair)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _is_number(cell: str | None) -> bool:
    try:
        float(cell or "")
    except ValueError:
        return False
    return True
