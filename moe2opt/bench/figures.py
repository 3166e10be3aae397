"""Plots of a benchmark as SVG: performance profile, gap over time, growth of cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from moe2opt import plotting
from moe2opt.bench.growth import Fit
from moe2opt.bench.job import Row
from moe2opt.bench.tally import performance_profile, times_by_case
from moe2opt.result import FloatArray, relative_gap
from moe2opt.writing import replacing

#: Smallest gap that a logarithmic axis shows; a closed gap is drawn there.
_SMALLEST_GAP = 1e-7

_SIZE_INCHES = (6.4, 4.0)


def plot_profile(rows: Sequence[Row], limit_s: float, path: Path) -> None:
    """Draw the share of instances that each peer solves within a factor of the best time."""
    figure, axes = _figure()
    curves = performance_profile(times_by_case(rows, limit_s), limit_s)
    plotting.performance_profile(axes, curves)
    _save(figure, axes, path)


def plot_gap(rows: Sequence[Row], limit_s: float, path: Path) -> None:
    """Draw each peer's median relative gap over time, across the runs that count."""
    times = np.geomspace(1e-3, max(limit_s, 1e-2), 120)
    figure, axes = _figure()
    for peer in dict.fromkeys(row.peer for row in rows):
        gaps = [gap_over_time(row, times) for row in rows if row.peer == peer and row.counted]
        if gaps:
            middle = np.median(np.stack(gaps), axis=0)
            axes.plot(times, np.clip(middle, _SMALLEST_GAP, 1.0), label=peer)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="seconds",
        ylabel="median relative gap (1: none or no solution)",
    )
    _save(figure, axes, path)


def gap_over_time(row: Row, times_s: FloatArray) -> FloatArray:
    """Return the relative gap of a run at `times_s`, infinite before there is one.

    A run whose claim is wrong has no gap at all.
    """
    gaps = np.full(len(times_s), math.inf)
    if row.wrong:
        return gaps
    for time_s, objective, bound in row.trajectory:
        gaps[times_s >= time_s] = relative_gap(objective, bound)
    return gaps


def plot_growth(fits: Sequence[Fit], path: Path) -> None:
    """Draw seconds and peak memory against size, with the fitted powers."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    panels: Any = figure.subplots(1, 2)
    for fit in fits:
        axes = panels[0] if fit.measure == "solve_s" else panels[1]
        label = f"{fit.peer}, {fit.axis}: exponent {fit.exponent:.2f}"
        (line,) = axes.plot(fit.sizes, fit.values, "o", label=label)
        curve = math.exp(fit.intercept) * np.asarray(fit.sizes, dtype=np.float64) ** fit.exponent
        axes.plot(fit.sizes, curve, "-", color=line.get_color())
    for axes, title in zip(panels, ("seconds", "peak memory in bytes"), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="experts or clusters", ylabel=title)
        if axes.has_data():
            axes.legend(fontsize="small")
    with replacing(path) as beside:
        figure.savefig(beside, format="svg", metadata={"Date": None})


def _figure() -> tuple[Any, Any]:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, axes: Any, path: Path) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small")
    axes.grid(visible=True, alpha=0.3)
    with replacing(path) as beside:
        figure.savefig(beside, format="svg", metadata={"Date": None})
