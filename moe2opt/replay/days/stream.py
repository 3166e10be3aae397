"""A stream of days: which LLMs come and go, and which keys of the configuration change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moe2opt.result import InputError
from moe2opt.schema.csv import NOTE, Column, header_of, read_table
from moe2opt.schema.source import did_you_mean

_MOST_DAYS = 10_000


@dataclass(frozen=True, slots=True)
class Day:
    """One day.

    Attributes
    ----------
    offered
        Names of the LLMs that may be deployed.
    come
        Those of them that were not there the day before; empty on the first day.
    overrides
        What differs from the configuration, as texts of ``--set``.
    """

    offered: tuple[str, ...]
    come: tuple[str, ...]
    overrides: tuple[str, ...]


def read_days(path: str | Path, llms: Sequence[str]) -> tuple[Day, ...]:
    """Read a table of days.

    Parameters
    ----------
    path
        CSV file with the column ``day`` (0, 1, 2, ...), optionally ``add`` and ``remove`` (names of
        LLMs, separated by semicolons) and a column for each key of the configuration that changes,
        such as ``energy.limit_j_per_prompt``. An empty cell leaves things as they were. Without
        the column ``add`` all LLMs are there from the first day on.
    llms
        Names of all LLMs that could ever be deployed.

    Raises
    ------
    InputError
        With file and line of days out of order, unknown LLMs, and LLMs that come twice or go
        without being there.
    """
    path = Path(path)
    keys = [name for name in header_of(path) if name not in ("day", "add", "remove")]
    columns = {"day": Column("integer", least=0), **dict.fromkeys(header_of(path), NOTE)}
    rows = read_table(path, {**columns, "day": Column("integer", least=0)})
    if not 0 < len(rows) <= _MOST_DAYS:
        raise InputError(f"{path}: {len(rows)} days; expected 1 to {_MOST_DAYS:,}")
    there = [] if "add" in columns else list(llms)
    before: list[str] = []
    current: dict[str, str] = {}
    days = []
    for number, row in enumerate(rows):
        where = f"{path}:{number + 2}"
        if row["day"] != number:
            raise InputError(f"{where}: day: {row['day']}, expected {number}")
        for name in _names(row.get("remove")):
            if name not in there:
                raise InputError(f"{where}: remove: '{name}' is not there")
            there.remove(name)
        for name in _names(row.get("add")):
            if name not in llms:
                hint = did_you_mean(name, list(llms))
                raise InputError(f"{where}: add: there is no LLM '{name}' to deploy{hint}")
            if name in there:
                raise InputError(f"{where}: add: '{name}' is there already")
            there.append(name)
        if not there:
            raise InputError(f"{where}: no LLM is there")
        current |= {key: row[key] for key in keys if row[key] not in (None, "")}
        come = tuple(name for name in there if number and name not in before)
        days.append(Day(tuple(there), come, tuple(f"{k}={v}" for k, v in current.items())))
        before = list(there)
    return tuple(days)


def _names(cell: str | None) -> list[str]:
    return [name.strip() for name in (cell or "").split(";") if name.strip()]
