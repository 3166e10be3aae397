"""Growth of cost: powers fitted to time and memory against the number of experts or clusters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.bench.cases import Case
from moe2opt.bench.job import Row


@dataclass(frozen=True, slots=True)
class Fit:
    """``value = exp(intercept) * size ** exponent``, fitted to the medians of solved runs.

    Attributes
    ----------
    peer, axis, measure
        Which runs; axis is ``experts`` or ``clusters``, measure ``solve_s`` or ``peak_bytes``.
    fixed
        Size of the other axis.
    sizes, values
        The points.
    exponent, intercept
        Of the least-squares line through the logarithms.
    """

    peer: str
    axis: str
    measure: str
    fixed: int
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    exponent: float
    intercept: float


def fit_growth(rows: Sequence[Row], sizes: Mapping[str, tuple[int, int]]) -> list[Fit]:
    """Return the fits along each axis with at least three sizes that were solved.

    Parameters
    ----------
    rows
        Rows of the suite ``growth``.
    sizes
        Name of a case -> (experts, clusters).
    """
    fits = []
    for peer in dict.fromkeys(row.peer for row in rows):
        solved = [row for row in rows if row.peer == peer and row.solved and row.case in sizes]
        for axis, name in enumerate(("experts", "clusters")):
            fixed = _commonest([sizes[row.case][1 - axis] for row in solved])
            line = [row for row in solved if sizes[row.case][1 - axis] == fixed]
            points = {sizes[row.case][axis] for row in line}
            if len(points) < 3:
                continue
            for measure in ("solve_s", "peak_bytes"):
                pairs = list(_medians(line, sizes, axis, measure))
                fits.append(_fit(peer, name, measure, fixed, pairs))
    return fits


def sizes_of(cases: Sequence[Case]) -> dict[str, tuple[int, int]]:
    """Return name -> (experts, clusters) of the cases of the suite ``growth``."""
    return {case.name: case.size for case in cases if case.suite == "growth"}


def _commonest(values: Sequence[int]) -> int:
    return max(set(values), key=lambda value: (values.count(value), -value), default=0)


def _medians(
    rows: Sequence[Row], sizes: Mapping[str, tuple[int, int]], axis: int, measure: str
) -> Iterator[tuple[int, float]]:
    for size in sorted({sizes[row.case][axis] for row in rows}):
        values = [float(getattr(r, measure)) for r in rows if sizes[r.case][axis] == size]
        yield size, float(np.median(values))


def _fit(peer: str, axis: str, measure: str, fixed: int, pairs: list[tuple[int, float]]) -> Fit:
    sizes, values = zip(*pairs, strict=True)
    logs = [math.log(max(value, 1e-9)) for value in values]
    exponent, intercept = np.polyfit(np.log(sizes), logs, 1)
    return Fit(peer, axis, measure, fixed, sizes, values, float(exponent), float(intercept))
