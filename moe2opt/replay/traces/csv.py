"""Reading trace files."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from moe2opt.files import read_text
from moe2opt.replay.traces.trace import Trace, build_trace
from moe2opt.result import InputError
from moe2opt.text import fault_of_name, shown

#: Most rows of a file.
_MOST_ROWS = 2_000_000


def read_trace(path: str | Path, *, repair: bool = False) -> Trace:
    """Read a trace file, see `moe2opt.replay.traces.trace` for the format.

    Raises
    ------
    InputError
        Naming the file and every kind of fault in it.
    """
    path = Path(path)
    text = read_text(path)
    try:
        return _parsed(path.stem, text, repair)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _parsed(stem: str, text: str, repair: bool) -> Trace:
    lines = text.split("\n")
    start = next((k for k, line in enumerate(lines) if not line.startswith("#")), len(lines))
    pairs = [line.lstrip("# ").split(":", 1) for line in lines[:start] if ":" in line]
    head = {key.strip(): value.strip() for key, value in pairs}
    for key, value in head.items():
        if value and (fault := fault_of_name(value, longest=1000)):
            raise InputError(f"{shown(key)}: {fault}")
    try:
        rows = [row for row in csv.reader(lines[start:]) if row]
    except csv.Error as error:
        raise InputError(f"cannot be read as CSV: {error}") from error
    if not rows or "t_s" not in rows[0]:
        raise InputError("the table has no column t_s")
    if len(rows) > _MOST_ROWS:
        raise InputError(f"more than {_MOST_ROWS} rows")
    names = [cell.strip() for cell in rows[0]]
    if len(set(names)) < len(names):
        raise InputError("a column appears twice")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(names):
            raise InputError(f"row {number} has {len(row)} cells, the header has {len(names)}")
    columns = dict(zip(names, zip(*rows[1:], strict=True), strict=True)) if rows[1:] else {}
    server = tuple(cell.strip() for cell in columns.pop("server", ()))
    for number, name in enumerate(server, 1):
        if name and (fault := fault_of_name(name)):
            raise InputError(f"server in row {number}: {fault}")
    for name in columns:
        if fault := fault_of_name(name):
            raise InputError(f"column '{shown(name[:40])}': {fault}")
    table = {name: [_number(cell, name, k) for k, cell in enumerate(cells, 1)]
             for name, cells in columns.items()}  # fmt: skip
    return build_trace(
        head.get("name", stem),
        table.pop("t_s", []),
        table,
        server=server,
        source=head.get("source", ""),
        synthetic=head.get("synthetic", "").lower() == "true",
        repair=repair,
    )


def _number(cell: str, column: str, row: int) -> float:
    text = cell.strip()
    if not text:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{column} in row {row}: '{shown(text[:40])}' is not a number") from None
