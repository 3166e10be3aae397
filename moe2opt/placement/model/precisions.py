"""Weight formats: effective bits per weight and what they cost in quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.result import InputError
from moe2opt.schema.csv import NAME, NOTE, POSITIVE, TEXT, Column, read_table
from moe2opt.schema.source import did_you_mean

#: Columns of the table of precisions.
COLUMNS: dict[str, Column] = {
    "precision": NAME,
    "bits_per_weight": POSITIVE,
    "loss_nats": Column("number", least=0),
    "source": TEXT,
    "note": NOTE,
}


@dataclass(frozen=True, slots=True)
class Precision:
    """A weight format.

    Attributes
    ----------
    name
        Its name.
    bits_per_weight
        Effective bits, scales included.
    loss_nats
        Rise of the logarithm of perplexity when all experts have this format.
    source
        Where the loss comes from.
    stored
        Whether it is the format of the model's own files, whose layers may differ in size.
    """

    name: str
    bits_per_weight: float
    loss_nats: float
    source: str = ""
    stored: bool = False


def read_precisions(path: Path, wanted: Sequence[Any]) -> tuple[Precision, ...]:
    """Return the formats that the configuration offers, completed from a table.

    Raises
    ------
    InputError
        When a figure is neither given nor in the table.
    """
    rows = {row["precision"]: row for row in read_table(path, COLUMNS, unique=("precision",))}
    found = []
    for k, entry in enumerate(wanted):
        row = rows.get(entry.name)
        bits, loss, source = entry.bits_per_weight, entry.loss_nats, "given in the configuration"
        if row is None and (bits is None or loss is None):
            missing = "bits_per_weight" if bits is None else "loss_nats"
            hint = did_you_mean(entry.name, list(rows))
            raise InputError(
                f"precisions.{k}.name: '{entry.name}' is not in {path.name}; give {missing}{hint}"
            )
        if row is not None:
            source = source if loss is not None else row["source"]
            bits = row["bits_per_weight"] if bits is None else bits
            loss = row["loss_nats"] if loss is None else loss
        found.append(Precision(entry.name, float(bits), float(loss), source))
    return tuple(found)
