"""What a measured table says of single experts, from the most specific row to the least."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.selection.measured.table import MeasuredRow, MeasuredTable
from moe2opt.selection.sections import SelectionConfig, Server
from moe2opt.selection.sections.config import API
from moe2opt.text import near

#: Faults that are listed before the rest is only counted.
_MOST_FAULTS = 20

#: From quantities to numbers in base units.
Figures = dict[str, float]

#: LLM, precision and single server.
Place = tuple[str, str, str]


@dataclass(slots=True)
class Cells:
    """What is known of one expert: in general, by category, by prompt."""

    general: Figures = field(default_factory=dict)
    by_category: dict[str, Figures] = field(default_factory=dict)
    by_prompt: dict[str, Figures] = field(default_factory=dict)

    def add(self, row: MeasuredRow) -> None:
        """Take in a row; it replaces what was known of the same thing."""
        if row.prompt is not None:
            own = self.by_prompt.setdefault(row.prompt, {})
        elif row.category is not None:
            own = self.by_category.setdefault(row.category, {})
        else:
            own = self.general
        own.update(row.figures)

    def fill(self, category_of: Mapping[str, str]) -> None:
        """Let the means of prompts stand where nothing is said of a category, or in general."""
        lists: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for prompt, figures in self.by_prompt.items():
            for quantity, value in figures.items() if prompt in category_of else ():
                lists[category_of[prompt]][quantity].append(value)
        everything: dict[str, list[float]] = defaultdict(list)
        for category, found in lists.items():
            own = self.by_category.setdefault(category, {})
            for quantity, values in found.items():
                own.setdefault(quantity, math.fsum(values) / len(values))
                everything[quantity] += values
        for quantity, values in everything.items():
            self.general.setdefault(quantity, math.fsum(values) / len(values))

    def look(
        self, quantity: str, categories: Sequence[str], prompts: Sequence[str]
    ) -> tuple[FloatArray, IntArray]:
        """Return ``(R,)`` numbers and how specific they are: 0 unknown, 3 of the prompt itself.

        `prompts` names the prompt of each row where it is known; it may be empty.
        """
        value = np.full(len(categories), self.general.get(quantity, math.nan))
        level = np.where(np.isnan(value), 0, 1)
        levels = [(2, self.by_category, categories), (3, self.by_prompt, prompts)]
        for own, known, names in levels:
            if known and names:
                found = np.array([known.get(n, {}).get(quantity, math.nan) for n in names])
                level = np.where(np.isnan(found), level, own)
                value = np.where(np.isnan(found), value, found)
        return value, level.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A measured table bound to a configuration.

    Attributes
    ----------
    table
        The table as typed.
    strict
        Whether cells that are missing are refused.
    includes_network
        Whether its seconds of whole answers include the network.
    cells
        What it says of each expert.
    about
        Experts that each row is about.
    """

    table: MeasuredTable
    strict: bool
    includes_network: bool
    cells: Mapping[Place, Cells]
    about: tuple[frozenset[Place], ...]


def bind(
    table: MeasuredTable,
    config: SelectionConfig,
    llms: Sequence[str],
    categories: Sequence[str],
    prompts: Mapping[str, str | None],
) -> Measured:
    """Return what a table says of the experts of a configuration.

    Parameters
    ----------
    table, config
        The table, and what it is for.
    llms, categories
        Names that there are.
    prompts
        From prompts to their categories; None as the category of a prompt that no mean may use.

    Raises
    ------
    InputError
        Naming file and line of rows about an LLM, server, device, precision, category or prompt
        that there is none of, or about a pair that the configuration forbids.
    """
    apis = [server.api for server in config.servers]
    known: dict[str, Collection[str]] = {
        "llm": llms,
        "server": [name for server in config.servers for name in server.names],
        "device": [server.device for server in config.servers if server.device is not None],
        "precision": [*(item.name for item in config.precisions), *[API] * any(apis)],
        "category": categories,
        "prompt": prompts,
    }
    faults = [f for row in table.rows for f in _strangers(table, row, known)]
    faults += [f for row in table.rows for f in _open(table, row, config)]
    if config.money is not None and table.currency not in (None, config.money.currency):
        wanted = config.money.currency
        faults = [f"{table.name}:1: prices are in {table.currency}, money.currency is {wanted}"]
    _stop(faults)
    cells: dict[Place, Cells] = defaultdict(Cells)
    about = [frozenset(_places(config, row)) for row in table.rows]
    told = zip(table.rows, about, strict=True)
    _stop([_forbidden(table, row, config) for row, places in told if not places])
    # What is said of a server goes before what is said of all servers of its kind.
    for k in sorted(range(len(about)), key=lambda k: table.rows[k].server is not None):
        for place in about[k]:
            cells[place].add(table.rows[k])
    learn = {prompt: category for prompt, category in prompts.items() if category is not None}
    for own in cells.values():
        own.fill(learn)
    section = config.measured_section
    assert section is not None
    return Measured(table, section.strict, section.network == "included", dict(cells), tuple(about))


def _stop(faults: list[str]) -> None:
    if faults:
        rest = len(faults) - _MOST_FAULTS
        more = [f"... and {rest} more"] if rest > 0 else []
        raise InputError("\n".join(["measured: " + faults[0], *faults[1:_MOST_FAULTS], *more]))


def _strangers(
    table: MeasuredTable, row: MeasuredRow, known: Mapping[str, Collection[str]]
) -> list[str]:
    """Return what a row names that there is not."""
    where, faults = f"{table.name}:{row.line}", []
    for key, names in known.items():
        name = getattr(row, key)
        if name is not None and name not in names:
            if key == "prompt" and not names:
                faults.append(f"{where}: prompt: rows of single prompts need `experts`")
                continue
            close = near(name, names)
            hint = f"; did you mean '{close}'?" if close else ""
            faults.append(f"{where}: {key}: there is no {key} '{name}' in the problem{hint}")
    return faults


def _open(table: MeasuredTable, row: MeasuredRow, config: SelectionConfig) -> Iterable[str]:
    """Yield what a row leaves open: the precision, where there is a choice."""
    offered = [item.name for item in config.precisions]
    own = any(_meant(row, s, copy) for s in config.servers if not s.api for copy in s.copies)
    if row.precision is None and len(offered) > 1 and own:
        yield f"{table.name}:{row.line}: precision: which of {', '.join(offered)}?"


def _places(config: SelectionConfig, row: MeasuredRow) -> Iterable[Place]:
    """Yield the experts that a row is about."""
    for server in config.servers:
        usual = API if server.api else config.precisions[0].name
        precision = row.precision or usual
        for copy in server.copies:
            if _meant(row, server, copy) and config.may_hold(server, copy, row.llm, precision):
                yield row.llm, precision, copy


def _meant(row: MeasuredRow, server: Server, copy: str) -> bool:
    if row.server is not None and row.server not in (server.name, copy):
        return False
    return row.device is None or row.device == server.device


def _forbidden(table: MeasuredTable, row: MeasuredRow, config: SelectionConfig) -> str:
    """Say why a row is about nothing."""
    where = f"{table.name}:{row.line}"
    meant = [s for s in config.servers if any(_meant(row, s, copy) for copy in s.copies)]
    if not meant:
        return f"{where}: device: server '{row.server}' is no '{row.device}'"
    what = " ".join(part for part in (row.llm, row.precision) if part)
    place = row.server if row.server is not None else row.device
    return f"{where}: {what} @ {place}: the configuration does not let it run there"


def whole_or_parts(
    found: tuple[FloatArray, IntArray],
    parts: Sequence[tuple[FloatArray, IntArray]],
    amounts: Sequence[FloatArray],
) -> tuple[FloatArray, list[BoolArray], BoolArray]:
    """Return what is known of whole answers, and which part of which row is not.

    Parameters
    ----------
    found
        What is said of whole answers, and how specifically.
    parts, amounts
        What is said per token of each part, and how many tokens there are.

    Returns
    -------
    tuple
        ``(R,)`` sums of what is known, masks of the parts that are missing, and where the figure
        of a whole answer was taken. A figure of the whole goes before parts that are no more
        specific.
    """
    value, level = found
    finest = np.maximum.reduce([own for _, own in parts])
    whole = (level > 0) & (level >= finest)
    missing = [~whole & (own == 0) for _, own in parts]
    per_token = zip(parts, amounts, missing, strict=True)
    sums = [np.where(gone | whole, 0.0, rate * amount) for (rate, _), amount, gone in per_token]
    total = np.where(whole, value, np.sum(sums, axis=0))
    return np.asarray(total), missing, whole
