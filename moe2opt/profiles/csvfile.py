"""Strict reading of CSV tables: every error names the file, the line and the column."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from moe2opt.result import InputError

#: One checked row: text, numbers, or None for an allowed blank.
Row = dict[str, Any]

#: Errors of one file that are listed before the rest is only counted.
_MOST_ERRORS = 20


@dataclass(frozen=True, slots=True)
class Column:
    """What a column may hold.

    Attributes
    ----------
    kind
        ``text``, ``number`` (finite) or ``integer``.
    blank
        Whether an empty cell is allowed; it is read as None.
    least, most
        Range of numbers, ends included.
    choices
        Allowed texts; empty for any.
    optional
        Whether the whole column may be left out; its cells are then read as None.
    """

    kind: Literal["text", "number", "integer"] = "text"
    blank: bool = False
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False


TEXT = Column()
NOTE = Column(blank=True)
POSITIVE = Column("number", least=1e-300)
COUNT = Column("integer", least=0)
SHARE = Column("number", least=0, most=1)


def read_table(
    path: Path, columns: Mapping[str, Column], *, unique: Sequence[str] = ()
) -> list[Row]:
    """Read a CSV file whose header is exactly `columns`, in any order; optional ones may lack.

    Parameters
    ----------
    path
        UTF-8 file with a header line; a byte order mark is ignored.
    columns
        Content of each column.
    unique
        Columns whose combination identifies a row.

    Raises
    ------
    InputError
        With one line ``file:line: column: problem`` for each fault found.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {_reason(error)}") from error
    if not lines:
        raise InputError(f"{path}:1: the file is empty; expected a header")
    raise_all(_header_errors(path, lines[0], columns))
    rows, errors = _parse(path, lines, columns)
    raise_all(errors or _repeated(path, rows, unique))
    return [row for _, row in rows]


def write_table(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header and Unix line ends; None becomes an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)


def _parse(
    path: Path, lines: list[list[str]], columns: Mapping[str, Column]
) -> tuple[list[tuple[int, Row]], list[str]]:
    header, rows, errors = lines[0], [], []
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            errors.append(f"{path}:{number}: {len(cells)} cells, the header has {len(header)}")
            continue
        row: Row = {name: None for name in columns if name not in header}
        for name, cell in zip(header, cells, strict=True):
            try:
                row[name] = _value(cell.strip(), columns[name])
            except ValueError as error:
                errors.append(f"{path}:{number}: {name}: {error}")
        rows.append((number, row))
    return rows, errors


def _value(cell: str, column: Column) -> Any:
    if not cell:
        if column.blank:
            return None
        raise ValueError("the cell is empty")
    if column.kind == "text":
        if column.choices and cell not in column.choices:
            raise ValueError(f"'{cell}' is not one of {', '.join(column.choices)}")
        return cell
    number = _number(cell, column.kind)
    if not column.least <= number <= column.most:
        raise ValueError(f"{cell} is outside {column.least:g}..{column.most:g}")
    return number


def _number(cell: str, kind: str) -> float:
    try:
        number = int(cell) if kind == "integer" else float(cell)
    except ValueError:
        raise ValueError(
            f"'{cell}' is not {'an integer' if kind == 'integer' else 'a number'}"
        ) from None
    if not math.isfinite(number):
        raise ValueError(f"{cell} is not finite")
    return number


def _header_errors(path: Path, header: list[str], columns: Mapping[str, Column]) -> list[str]:
    errors = [
        f"{path}:1: column '{name}' is missing"
        for name, column in columns.items()
        if name not in header and not column.optional
    ]
    for name in header:
        if name not in columns:
            errors.append(f"{path}:1: unknown column '{name}'{_column_hint(name, columns)}")
    repeated = sorted({name for name in header if header.count(name) > 1})
    return errors + [f"{path}:1: column '{name}' appears twice" for name in repeated]


def _column_hint(name: str, columns: Mapping[str, Column]) -> str:
    """Return what the writer of an unknown column may have meant; a lost unit is named."""
    units = [
        known
        for known, column in columns.items()
        if known.startswith(f"{name}_") and column.kind != "text"
    ]
    if units:
        return f"; its unit is missing: did you mean '{min(units, key=len)}'?"
    near = get_close_matches(name, columns, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _repeated(path: Path, rows: list[tuple[int, Row]], unique: Sequence[str]) -> list[str]:
    seen: dict[tuple[Any, ...], int] = {}
    errors = []
    for number, row in rows if unique else ():
        key = tuple(row[name] for name in unique)
        if key in seen:
            label = ", ".join(map(str, key))
            errors.append(
                f"{path}:{number}: {', '.join(unique)}: '{label}' repeats line {seen[key]}"
            )
        seen.setdefault(key, number)
    return errors


def raise_all(errors: Sequence[str]) -> None:
    """Raise one `InputError` with all `errors`, one a line; a long list is cut and counted."""
    if errors:
        rest = len(errors) - _MOST_ERRORS
        shown = list(errors[:_MOST_ERRORS]) + ([f"... and {rest} more"] if rest > 0 else [])
        raise InputError("\n".join(shown))


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
