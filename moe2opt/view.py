"""A plan as a reader sees it: figures, bars, tables, a map and notes, whatever question it answers.

A question's plan builds its own `View`; the report and notebooks draw it and know no question.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from moe2opt import present


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; the first column names the rows.

    Attributes
    ----------
    title, header, rows
        What it shows.
    numeric
        Which columns hold figures, and go to the right.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """Use of one budget: name, texts of use and limit, share from 0 to 1 (None for none)."""

    name: str
    used: str
    limit: str
    share: float | None


@dataclass(frozen=True, slots=True)
class Map:
    """Rows of cells coloured by where they are, for example experts by memory tier.

    Attributes
    ----------
    title, label, caption
        Heading, what a screen reader says, and the words below.
    axis
        What the cells of a row are, in words.
    places
        Names that the numbers in `rows` stand for.
    names
        Name of each row.
    rows
        Number of the place of each cell, -1 for nowhere; rows are equally long.
    """

    title: str
    label: str
    caption: str
    axis: str
    places: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class View:
    """What the page and notebooks show of a plan.

    Attributes
    ----------
    asks
        The question that the plan answers, in one sentence.
    figures
        Name and text of the headline figures.
    bars
        Use of the budgets.
    tables
        The plan itself first.
    notes
        What must be known to read the figures.
    map
        A map of the plan, None for none.
    """

    asks: str = ""
    figures: tuple[tuple[str, str], ...] = ()
    bars: tuple[Bar, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    map: Map | None = None


class Used(Protocol):
    """Use of one budget as plans hold it; `share` is used / limit (None for a limit of zero)."""

    @property
    def name(self) -> str:
        """Name with its unit, as in the code."""

    @property
    def used(self) -> float:
        """What the plan uses."""

    @property
    def limit(self) -> float:
        """What it may use."""

    @property
    def share(self) -> float | None:
        """Their ratio."""


def number(value: float | None) -> str:
    """Return a figure in four digits, a dash for none."""
    return present.number(value, 4)


def percent(share: float | None) -> str:
    """Return a share in percent with one decimal, or a dash."""
    return "-" if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table; columns whose every cell starts like a figure go to the right."""
    lines = tuple(tuple(str(cell) for cell in row) for row in rows)
    numeric = tuple(
        k > 0 and all(line[k][:1] in "+-" or line[k][:1].isdigit() for line in lines)
        for k in range(len(header))
    )
    return Table(title, tuple(header), lines, numeric)


def bars(budgets: Iterable[Used]) -> tuple[Bar, ...]:
    """Return one bar per budget."""
    return tuple(
        Bar(present.label_of(b.name), number(b.used), number(b.limit), b.share) for b in budgets
    )
