"""Figures beside each other, as predicted and as measured, and how far off they may be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from moe2opt.result import InputError

#: Figures that a tolerance can be stated for.
JUDGED = ("time", "bytes", "hit_rate", "memory", "perplexity")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, predicted and measured.

    Attributes
    ----------
    name, unit
        What it is.
    predicted, measured
        None where one of them is not known.
    """

    name: str
    unit: str
    predicted: float | None
    measured: float | None

    @property
    def error(self) -> float | None:
        """Measured over predicted, minus 1; of a hit rate the difference. None where unknown."""
        if self.predicted is None or self.measured is None:
            return None
        if self.name == "hit_rate":
            return self.measured - self.predicted
        if self.predicted == 0:
            return 0.0 if self.measured == 0 else math.inf
        return self.measured / self.predicted - 1

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        error = self.error
        finite = error is not None and math.isfinite(error)
        return {**asdict(self), "error": error if finite else None}


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer's experts: milliseconds, bytes and hit rate per token, predicted and measured."""

    layer: int
    time: Row
    bytes: Row
    hit_rate: Row

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        rows = {row.name: row.to_dict() for row in (self.time, self.bytes, self.hit_rate)}
        return {"layer": self.layer, **rows}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Prediction against measurement.

    Attributes
    ----------
    total
        One row per figure of the whole model.
    layers
        One per layer with experts.
    quartiles_s
        Lower and upper quartile of the mean token time over the passes.
    notes
        What must be known.
    """

    total: tuple[Row, ...]
    layers: tuple[LayerRow, ...]
    quartiles_s: tuple[float, float]
    notes: tuple[str, ...] = ()

    def row(self, name: str) -> Row:
        """Return the row of a figure."""
        return next(row for row in self.total if row.name == name)

    def exceeded(self, tolerances: Mapping[str, float]) -> list[str]:
        """Return in words which stated tolerances the errors exceed."""
        found = []
        for name, limit in tolerances.items():
            error = self.row(name).error
            if error is None:
                found.append(f"{name}: there is no figure to hold against the tolerance")
            elif not abs(error) <= limit:
                found.append(f"{name}: off by {_percent(error)}, tolerance {_percent(limit)}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "total": {row.name: row.to_dict() for row in self.total},
            "layers": [layer.to_dict() for layer in self.layers],
            "token_s_quartiles": list(self.quartiles_s),
            "notes": list(self.notes),
        }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def parse_tolerances(texts: Sequence[str], names: Sequence[str] = JUDGED) -> dict[str, float]:
    """Return tolerances by figure from texts such as ``0.15`` (the first) or ``time=15%,bytes=2%``.

    Raises
    ------
    InputError
        For an unknown figure or a number that is none.
    """
    found = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, _, number = part.rpartition("=")
        name = (name or names[0]).strip()
        if name not in names:
            raise InputError(f"--tolerance {part}: unknown figure ({', '.join(names)})")
        try:
            value = float(number.rstrip("% ")) / (100 if number.strip().endswith("%") else 1)
        except ValueError as error:
            raise InputError(f"--tolerance {part}: '{number}' is not a number") from error
        if not 0 <= value < math.inf:
            raise InputError(f"--tolerance {part}: the tolerance must be at least 0")
        found[name] = value
    return found
