"""Strict reading of CSV tables: every error names the file, the line and the column."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from moe2opt.errors import InputError
from moe2opt.files import read_text
from moe2opt.text import fault_of_name, fault_of_text, near, shown
from moe2opt.writing import write_text

#: One checked row: text, numbers, or None for an allowed blank.
Row = dict[str, Any]

#: Errors of one file that are listed before the rest is only counted.
_MOST_ERRORS = 20

#: Characters of a cell that a message shows.
_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Column:
    """What a column may hold.

    Attributes
    ----------
    kind
        ``name`` (one line of up to 200 characters), ``text``, ``number`` or ``integer``.
    blank
        Whether an empty cell is allowed; it is read as None.
    least, most
        Range of numbers, ends included.
    choices
        Allowed texts; empty for any.
    optional
        Whether the whole column may be left out; its cells are then read as None.
    """

    kind: Literal["name", "text", "number", "integer"] = "text"
    blank: bool = False
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False


NUMBER = Column("number")
AMOUNT = Column("number", least=0)
NAME = Column("name")
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
    lines = _lines(path)
    raise_all(_header_errors(path, lines[0][1], columns))
    rows, errors = _parse(path, lines, columns)
    raise_all(errors or _repeated(path, rows, unique))
    return [row for _, row in rows]


def read_columns(
    path: Path, wanted: Mapping[str, tuple[str, Column]], *, unique: Sequence[str] = ()
) -> list[Row]:
    """Read those columns of a CSV file that a configuration names; further ones may be there.

    Parameters
    ----------
    path
        As for `read_table`.
    wanted
        From the key of the configuration to the column that it names and what it may hold.
    unique
        Keys whose columns identify a row.

    Returns
    -------
    list of dict
        One per line: from the keys to the cells.

    Raises
    ------
    InputError
        Naming the key of a column that is missing, or as `read_table` does.
    """
    header = _lines(path)[0][1]
    for key, (name, _) in wanted.items():
        if name not in header:
            hint = _hint(name, [h for h in header if h.startswith(f"{name}_")], header)
            there = ", ".join(f"'{shown(h[:_WIDTH])}'" for h in header[:8])
            hint = hint or f"; it has {there}"
            raise InputError(f"{key}: {path.name} has no column '{shown(name)}'{hint}")
    found: list[Row] = []
    left = dict(wanted)
    while left:  # a column of two keys (an option called by its size, say) is read twice
        once = {name: (key, column) for key, (name, column) in reversed(left.items())}
        left = {key: asked for key, asked in left.items() if once[asked[0]][0] != key}
        columns = dict.fromkeys(header, NOTE) | {name: c for name, (_, c) in once.items()}
        keys = () if found else unique
        rows = read_table(path, columns, unique=[wanted[key][0] for key in keys])
        found = found or [{} for _ in rows]
        for own, row in zip(found, rows, strict=True):
            own |= {key: row[name] for name, (key, _) in once.items()}
    return found


def read_numbers(path: Path, by: str, name: str, content: Column, key: str) -> dict[str, float]:
    """Return one number per name from a CSV file.

    Parameters
    ----------
    path
        As for `read_table`.
    by
        Column of the names, each once.
    name
        Column of the numbers; in a file of two columns the other one, whatever it is called.
    content
        What it may hold.
    key
        Key of the configuration that names the file.
    """
    if not path.exists():  # perhaps it was to be a number: "8 ms"
        raise InputError(f"{key}: {path.name}: No such file or directory")
    header = header_of(path)
    others = [column for column in header if column != by]
    if name not in header and len(others) == 1:
        name = others[0]
    if by not in header or name not in header:
        raise InputError(f"{key}: {path.name} needs the columns '{shown(by)}' and '{shown(name)}'")
    columns = dict.fromkeys(header, NOTE) | {by: NAME, name: content}
    return {row[by]: row[name] for row in read_table(path, columns, unique=(by,))}


def same_names(key: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise an `InputError` about a key unless it gives a figure for every known name only."""
    for name in given:
        if name not in known:
            raise InputError(f"{key}: the table has no '{shown(name)}'{_hint(name, [], known)}")
    lacking = [name for name in known if name not in set(given)]
    if lacking:
        raise InputError(f"{key}: nothing is said of {', '.join(lacking[:5])}")


def header_of(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file; a file that is no table has none."""
    try:
        header = next(csv.reader(io.StringIO(read_text(path)), strict=True), [])
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error
    return [name.strip() for name in header]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the cells of each line with its number; the first one is the header."""
    text = read_text(path)
    if text.lstrip().startswith(("{", "[")):
        raise InputError(f"{path}:1: is JSON; expected a table in CSV")
    try:
        reader = csv.reader(io.StringIO(text), strict=True)
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error
    if not any(cells for _, cells in lines):
        raise InputError(f"{path}:1: the file is empty; expected a header")
    header = [name.strip() for name in lines[0][1]]
    if not header:
        raise InputError(f"{path}:1: the line is empty; expected a header")
    for sign, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and sign in header[0]:
            raise InputError(f"{path}:1: cells are separated by {name}; expected commas")
    return [(lines[0][0], header), *lines[1:]]


def value_columns(
    path: Path, column: str, error: str | None, kind: Column
) -> dict[str, tuple[str, Column]]:
    """Return what `read_columns` wants of a value and, where there is one, of its standard error.

    Parameters
    ----------
    path
        The table.
    column, error
        The columns that a configuration names; without `error` it is the value's own name with
        ``_se``, if the table has it.
    kind
        What the value may be.
    """
    wanted = {"value.column": (column, kind)}
    if error is None and f"{column}_se" in header_of(path):
        error = f"{column}_se"
    return wanted if error is None else wanted | {"value.se": (error, AMOUNT)}


def write_table(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header and Unix line ends; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _parse(
    path: Path, lines: list[tuple[int, list[str]]], columns: Mapping[str, Column]
) -> tuple[list[tuple[int, Row]], list[str]]:
    header, rows, errors = lines[0][1], [], []
    for number, cells in lines[1:]:
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
    if column.kind in ("name", "text"):
        fault = fault_of_name(cell) if column.kind == "name" else fault_of_text(cell)
        if fault is not None:
            raise ValueError(fault)
        if column.choices and cell not in column.choices:
            raise ValueError(f"'{cell}' is not one of {', '.join(column.choices)}")
        return cell
    number = _number(cell, column.kind)
    if not column.least <= number <= column.most:
        raise ValueError(f"{cell} is outside {column.least:g}..{column.most:g}")
    return number


def _number(cell: str, kind: str) -> float:
    short = shown(cell if len(cell) <= _WIDTH else f"{cell[:_WIDTH]}...")
    try:
        if "_" in cell or not cell.isascii():  # Python reads 5_0 as fifty
            raise ValueError
        number = int(cell) if kind == "integer" else float(cell)
    except ValueError:
        raise ValueError(
            f"'{short}' is not {'an integer' if kind == 'integer' else 'a number'}"
        ) from None
    if kind == "integer" and abs(number) > 2**53:
        raise ValueError(f"{short} is too large")
    if not math.isfinite(number):
        raise ValueError(f"{short} is not finite")
    return number


def _header_errors(path: Path, header: list[str], columns: Mapping[str, Column]) -> list[str]:
    errors = [
        f"{path}:1: column '{name}' is missing"
        for name, column in columns.items()
        if name not in header and not column.optional
    ]
    for name in header:
        if name not in columns:
            hint = _column_hint(name, columns) if len(errors) < _MOST_ERRORS else ""
            errors.append(f"{path}:1: unknown column '{shown(name[:_WIDTH])}'{hint}")
    repeated = sorted(name for name, count in Counter(header).items() if count > 1)
    return errors + [
        f"{path}:1: column '{shown(name[:_WIDTH])}' appears twice" for name in repeated
    ]


def _column_hint(name: str, columns: Mapping[str, Column]) -> str:
    """Return what the writer of an unknown column may have meant; a lost unit is named."""
    units = [
        known
        for known, column in columns.items()
        if known.startswith(f"{name}_") and column.kind in ("number", "integer")
    ]
    return _hint(name, units, columns)


def _hint(name: str, units: Sequence[str], known: Iterable[str]) -> str:
    """Return the known name that was meant, one of those that only add a unit first."""
    if units:
        return f"; its unit is missing: did you mean '{min(units, key=len)}'?"
    close = near(name, known)
    return f"; did you mean '{close}'?" if close else ""


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
