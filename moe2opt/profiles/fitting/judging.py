"""How intervals fare for a source or an LLM that was left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe2opt.profiles.fitting.holdout import Cell, Errors


@dataclass(frozen=True, slots=True)
class Held:
    """How a source or an LLM that was left out fares, on all devices.

    Attributes
    ----------
    name, quantity, kind
        The source or the LLM, and what was measured with which engines.
    groups
        Number of groups of runs.
    median_error
        Median relative error.
    inside
        Share of the groups inside their intervals, which never saw an error of what was left out.
    factor
        Median of the factor either way that the intervals span.
    """

    name: str
    quantity: str
    kind: str
    groups: int
    median_error: float
    inside: float
    factor: float


def held_out(errors: Errors, by: str = "source", level: float = 0.9) -> list[Held]:
    """Return how each source or LLM fares with intervals made of the errors of the others.

    Parameters
    ----------
    errors
        Hold-out errors.
    by
        ``source`` or ``model``: what is left out.
    level
        Probability of the intervals.
    """
    wanted = [
        c for c in errors.cells
        if c.by == by or (by == "source" and c.by == "device" and not _known_elsewhere(errors, c))
    ]  # fmt: skip
    found = []
    for name in dict.fromkeys(name for cell in wanted for name in _names(cell, by)):
        rest = replace(errors, cells=tuple(_without(errors.cells, by, name)))
        misses: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for cell in wanted:
            if not any(c.quantity == cell.quantity for c in rest.cells):
                continue
            for error, own, far in zip(cell.errors, _names(cell, by), cell.beyond, strict=True):
                if own == name:
                    width = rest.spread(
                        cell.device, cell.quantity, cell.kind, extrapolated=far, level=level
                    )
                    misses.setdefault((cell.quantity, cell.kind), []).append((error, width))
        found += [_held(name, *key, pairs) for key, pairs in misses.items()]
    return found


def _held(name: str, quantity: str, kind: str, pairs: Sequence[tuple[float, float]]) -> Held:
    misses, widths = np.array(pairs).T
    middle, factor = float(np.expm1(np.median(misses))), float(np.exp(np.median(widths)))
    return Held(name, quantity, kind, len(pairs), middle, float(np.mean(misses <= widths)), factor)


def _names(cell: Cell, by: str) -> tuple[str, ...]:
    return cell.models if by == "model" else (cell.source,) * len(cell.errors)


def _without(cells: Sequence[Cell], by: str, name: str) -> Iterator[Cell]:
    """Yield the cells without the errors of a source or of an LLM."""
    for cell in cells:
        kept = [k for k, own in enumerate(_names(cell, by)) if own != name]
        if kept:
            yield replace(
                cell,
                errors=tuple(cell.errors[k] for k in kept),
                models=tuple(cell.models[k] for k in kept),
                beyond=tuple(cell.beyond[k] for k in kept),
            )


def _known_elsewhere(errors: Errors, cell: Cell) -> bool:
    key = (cell.device, cell.source, cell.quantity, cell.kind)
    return any(
        (c.device, c.source, c.quantity, c.kind) == key and c.by == "source" for c in errors.cells
    )
