"""Read a measured table: which LLM where, and the figures that were noted, units in the names."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from moe2opt.files import read_text
from moe2opt.result import InputError
from moe2opt.schema.csv import AMOUNT, NAME, NOTE, POSITIVE, Column, Row, header_of, read_table
from moe2opt.selection.sections import MoneyBudget

#: Columns that say what a row is about, in the order of messages.
KEYS = ("llm", "server", "device", "precision", "category", "prompt")

#: Columns that are kept and shown, and mean nothing here.
_REMARKS = ("note", "source")


@dataclass(frozen=True, slots=True)
class Figure:
    """What the numbers of a column are.

    Attributes
    ----------
    quantity
        Name of the quantity in base units: ``seconds`` and ``joules`` of a whole answer,
        ``prefill_s`` and ``prefill_j`` per token of the prompt, ``decode_s`` and ``decode_j`` per
        token of the answer, ``prompt_tokens``, ``output_tokens``; ``money`` of a whole answer,
        ``money_request`` besides what tokens cost, ``money_prefill`` and ``money_decode`` per
        token, ``money_hour`` while it is deployed.
    factor
        What a number is multiplied by to get there.
    rate
        Whether the quantity is one over that.
    """

    quantity: str
    factor: float = 1.0
    rate: bool = False

    def value(self, number: float) -> float:
        """Return a number of the column in the base unit."""
        return 1.0 / (number * self.factor) if self.rate else number * self.factor


#: Columns of figures, several names for the same quantity among them.
FIGURES = {
    "s_per_prompt": Figure("seconds"),
    "seconds_per_prompt": Figure("seconds"),
    "seconds": Figure("seconds"),
    "ms_per_prompt": Figure("seconds", 1e-3),
    "decode_tokens_per_s": Figure("decode_s", rate=True),
    "prefill_tokens_per_s": Figure("prefill_s", rate=True),
    "s_per_output_token": Figure("decode_s"),
    "s_per_prompt_token": Figure("prefill_s"),
    "ms_per_output_token": Figure("decode_s", 1e-3),
    "ms_per_prompt_token": Figure("prefill_s", 1e-3),
    "j_per_prompt": Figure("joules"),
    "joules_per_prompt": Figure("joules"),
    "joules": Figure("joules"),
    "wh_per_prompt": Figure("joules", 3600.0),
    "j_per_output_token": Figure("decode_j"),
    "j_per_prompt_token": Figure("prefill_j"),
    "prompt_tokens": Figure("prompt_tokens"),
    "output_tokens": Figure("output_tokens"),
    "tokens": Figure("output_tokens"),
}

#: Prices, after the currency and an underscore.
_PRICES = {
    "per_prompt": Figure("money"),
    "per_request": Figure("money_request"),
    "per_prompt_token": Figure("money_prefill"),
    "per_output_token": Figure("money_decode"),
    "per_million_prompt_tokens": Figure("money_prefill", 1e-6),
    "per_million_output_tokens": Figure("money_decode", 1e-6),
    "per_hour": Figure("money_hour"),
}

CURRENCIES = get_args(MoneyBudget.model_fields["currency"].annotation)

#: From every column of prices to its currency.
PRICED = {f"{currency}_{name}": currency for currency in CURRENCIES for name in _PRICES}

FIGURES |= {f"{currency}_{name}": _PRICES[name] for currency in CURRENCIES for name in _PRICES}

#: Names without a unit, or of another thing, and what was probably meant.
_UNITLESS = {
    **dict.fromkeys(("time", "latency", "delay", "duration", "s"), "s_per_prompt"),
    **dict.fromkeys(("energy", "joule", "j"), "j_per_prompt"),
    **dict.fromkeys(("decode", "speed", "throughput", "tokens_per_s"), "decode_tokens_per_s"),
    "prefill": "prefill_tokens_per_s",
    **dict.fromkeys(("price", "cost", "money", "usd", "total_cost"), "usd_per_prompt"),
}


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """One row: its line in the file, its cells as typed, what it is about, what it says.

    Attributes
    ----------
    line
        Line of the file, the header being 1.
    typed
        The cells, letter for letter.
    llm, server, device, precision, category, prompt
        What it is about; None where it says nothing.
    figures
        From quantities to numbers in base units.
    """

    line: int
    typed: tuple[str, ...]
    llm: str
    server: str | None
    device: str | None
    precision: str | None
    category: str | None
    prompt: str | None
    figures: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredTable:
    """A measured table as typed, and what it says.

    Attributes
    ----------
    name, columns, rows
        Name of the file, its header and its rows.
    sha256
        Digest of the file.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[MeasuredRow, ...]
    sha256: str

    @property
    def currency(self) -> str | None:
        """Currency of its prices; None without any."""
        return next((PRICED[name] for name in self.columns if name in PRICED), None)

    @property
    def quantities(self) -> frozenset[str]:
        """Quantities that the table has a column for."""
        return frozenset(FIGURES[name].quantity for name in self.columns if name in FIGURES)


def read_measured(path: Path) -> MeasuredTable:
    """Read a measured table.

    Raises
    ------
    InputError
        With one line ``file:line: column: problem`` for each fault: columns that are missing,
        unknown, or without a unit; cells that are no finite non-negative numbers; rows about
        nothing, without a figure, or about the same thing as an earlier one.
    """
    header = header_of(path)
    _check_header(path, header)
    present = [name for name in KEYS if name in header]
    rows = read_table(path, _columns(), unique=present)
    text = read_text(path)
    typed = list(_typed(text))
    found = tuple(
        _row(path, line, cells, row) for (line, cells), row in zip(typed, rows, strict=True)
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    return MeasuredTable(path.name, tuple(header), found, digest)


def _columns() -> dict[str, Column]:
    """Return what every known column may hold."""
    key = Column("name", blank=True, optional=True)
    columns = dict.fromkeys(KEYS, key) | {"llm": NAME}
    columns |= dict.fromkeys(_REMARKS, Column(NOTE.kind, blank=True, optional=True))
    for name, figure in FIGURES.items():
        least = POSITIVE.least if figure.rate else AMOUNT.least
        columns[name] = Column("number", blank=True, least=least, optional=True)
    return columns


def _check_header(path: Path, header: list[str]) -> None:
    faults = [
        f"{path}:1: column '{name}': its unit is missing: did you mean '{_UNITLESS[name]}'?"
        for name in header
        if name in _UNITLESS
    ]
    if "server" not in header and "device" not in header:
        faults.append(f"{path}:1: column 'server' (or 'device') is missing: where was it measured?")
    seen: dict[str, str] = {}
    for name in (name for name in header if name in FIGURES):
        quantity = FIGURES[name].quantity
        if quantity in seen and seen[quantity] != name:
            faults.append(f"{path}:1: columns '{seen[quantity]}' and '{name}' say the same thing")
        seen.setdefault(quantity, name)
    currencies = sorted({PRICED[name] for name in header if name in PRICED})
    if len(currencies) > 1:
        faults.append(f"{path}:1: prices in {' and '.join(currencies)}: one currency, please")
    if not seen and not faults:
        names = ", ".join(("s_per_prompt", "decode_tokens_per_s", "j_per_prompt"))
        faults.append(f"{path}:1: no column of figures, such as {names}")
    if faults:
        raise InputError("\n".join(faults))


def _typed(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield line and cells of every row below the header, letter for letter."""
    reader = csv.reader(io.StringIO(text), strict=True)
    next(reader, None)
    for cells in reader:
        if cells:
            yield reader.line_num, tuple(cells)


def _row(path: Path, line: int, typed: tuple[str, ...], row: Row) -> MeasuredRow:
    figures = {
        figure.quantity: figure.value(row[name])
        for name, figure in FIGURES.items()
        if row.get(name) is not None
    }
    if row["server"] is None and row["device"] is None:
        raise InputError(f"{path}:{line}: server: neither a server nor a device is named")
    if not figures:
        raise InputError(f"{path}:{line}: no figure: all of its cells are empty")
    part = next((key for key in ("category", "prompt") if row[key] is not None), None)
    if part is not None and "money_hour" in figures:
        raise InputError(f"{path}:{line}: {part}: a price per hour is one of all prompts")
    return MeasuredRow(line, typed, **{name: row[name] for name in KEYS}, figures=figures)
