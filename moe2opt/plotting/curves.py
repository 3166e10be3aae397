"""Curves: value against a budget, bounds and incumbents over time, solvers against each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moe2opt.plotting.style import (
    ABSENT,
    axis_label,
    colour,
    dashes,
    finish,
    in_legend,
    marker,
    numbers,
)
from moe2opt.result import FloatArray, InputError, ProgressEvent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from moe2opt.pareto import Front


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one trade-off.

    Attributes
    ----------
    label
        Name in the legend.
    x, y
        ``(P,)`` budget and value; a value that is not finite says that no plan exists there.
    certified
        ``(P,)`` whether the value is proven to be the best. None for a curve that claims nothing,
        such as measurements: it is drawn as crosses.
    bound
        ``(P,)`` proven bound of the points that are not certified, None for none.
    """

    label: str
    x: npt.ArrayLike
    y: npt.ArrayLike
    certified: npt.ArrayLike | None = None
    bound: npt.ArrayLike | None = None


def front_curve(front: Front, label: str = "certified front") -> Curve:
    """Return the curve of a front from `moe2opt.pareto`."""
    proven = [point.certified for point in front]
    return Curve(label, front.budgets, front.objectives, proven, front.bounds)


def tradeoff(
    ax: Axes,
    curves: Sequence[Curve],
    *,
    x: str,
    y: str,
    steps: bool = True,
    percent: bool = False,
    title: str | None = None,
    subtitle: str | None = None,
) -> Axes:
    """Draw value against budget: certified points filled, the others hollow with their bound.

    The range of budgets in which every point of the first curve is infeasible is shaded.

    Parameters
    ----------
    ax
        Where to draw.
    curves
        What to draw.
    x, y
        Names of the quantities, with units as in the code (``energy_j_per_prompt``) or in words.
    steps
        Whether a plan of one budget stays the best up to the next one, as on an exact front.
    percent
        Whether values are shares, to be shown in percent.
    title, subtitle
        Texts above the axes; the subtitle names instance, devices and gap.

    Returns
    -------
    The axes.
    """
    for k, curve in enumerate(curves):
        _draw_curve(ax, curve, k, steps, 100.0 if percent else 1.0)
    if curves:
        _shade_infeasible(ax, curves[0])
    ax.set(xlabel=axis_label(x), ylabel=axis_label(y, percent=percent))
    return finish(ax, title=title, subtitle=subtitle, legend=True)


def _draw_curve(ax: Axes, curve: Curve, k: int, steps: bool, scale: float) -> None:
    x, y = _column(curve, "x"), scale * _column(curve, "y")
    there = np.isfinite(y)
    if curve.certified is None:
        ax.plot(x[there], y[there], "x", color="#555555", label=in_legend(curve.label))
        return
    proven = np.asarray(curve.certified, dtype=bool)
    if proven.shape != x.shape:
        raise InputError(f"curve {curve.label!r}: certified has another length than x")
    style = "steps-post" if steps else "default"
    ax.plot(x[there], y[there], "-", color=colour(k), linewidth=1.2, drawstyle=style)
    for which, face, note in ((proven, colour(k), ""), (~proven, "white", ", not certified")):
        points = there & which
        if points.any():
            look: Any = {"color": colour(k), "markerfacecolor": face, "markersize": 6.0}
            name = in_legend(curve.label) + note
            dots = ax.plot(x[points], y[points], marker(k), label=name, **look)
            dots[0].set_zorder(3)
    _draw_bounds(ax, curve, there & ~proven, colour(k), scale)


def _draw_bounds(ax: Axes, curve: Curve, open_: npt.NDArray[np.bool_], ink: str, s: float) -> None:
    """Draw a thin line from each open point to its proven bound."""
    if curve.bound is None or not open_.any():
        return
    x, y, bound = _column(curve, "x"), s * _column(curve, "y"), s * _column(curve, "bound")
    known = open_ & np.isfinite(bound)
    ax.vlines(x[known], y[known], bound[known], color=ink, linewidth=0.8, linestyle=":")


def _shade_infeasible(ax: Axes, curve: Curve) -> None:
    x, y = _column(curve, "x"), _column(curve, "y")
    proven = np.asarray(curve.certified, dtype=bool) if curve.certified is not None else x < x
    empty = x[proven & ~np.isfinite(y)]
    if len(empty):
        ends = (float(empty.min()), float(empty.max()))
        ax.axvspan(*ends, color=ABSENT, linewidth=0, zorder=0, label="no plan exists (proven)")


def _column(curve: Curve, name: str) -> FloatArray:
    values = numbers(getattr(curve, name), f"curve {curve.label!r}: {name}")
    if values.ndim != 1 or len(values) != len(np.asarray(curve.x)):
        raise InputError(f"curve {curve.label!r}: {name} has another length than x")
    return values


def convergence(
    ax: Axes,
    events: Iterable[ProgressEvent],
    *,
    y: str = "objective",
    percent: bool = False,
    title: str | None = None,
    subtitle: str | None = None,
) -> Axes:
    """Draw incumbent and proven bound over time, the gap between them shaded.

    Parameters
    ----------
    ax
        Where to draw.
    events
        The log of one run (`Result.log`, or `moe2opt.report.read_log` of a ``log.jsonl``).
    y
        Name of the objective.
    percent
        Whether it is a share, to be shown in percent.
    title, subtitle
        Texts above the axes.

    Raises
    ------
    InputError
        When the log is empty.

    Returns
    -------
    The axes.
    """
    log = list(events)
    if not log:
        raise InputError("the log holds no event: nothing to draw")
    scale = 100.0 if percent else 1.0
    times = np.array([event.time_s for event in log])
    value = scale * np.array([_finite(event.objective) for event in log])
    bound = scale * np.array([_finite(event.bound) for event in log])
    ax.fill_between(
        times, value, bound, step="post", color=colour(5), alpha=0.3, linewidth=0, label="gap"
    )
    ax.plot(times, bound, "v-", color=colour(1), drawstyle="steps-post", label="proven bound", ms=4)
    ax.plot(times, value, "o-", color=colour(0), drawstyle="steps-post", label="best plan", ms=4)
    ax.set(xlabel="time (s)", ylabel=axis_label(y, percent=percent))
    return finish(ax, title=title, subtitle=subtitle, legend=True)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def performance_profile(
    ax: Axes,
    profiles: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    title: str | None = None,
    subtitle: str | None = None,
) -> Axes:
    """Draw the share of instances that each solver solves within a factor of the best time.

    Parameters
    ----------
    ax
        Where to draw.
    profiles
        For each solver the rising factors and the shares solved (Dolan and Moré 2002), as
        `moe2opt.bench.tally.performance_profile` returns them.
    title, subtitle
        Texts above the axes.

    Raises
    ------
    InputError
        When factors and shares differ in number.

    Returns
    -------
    The axes.
    """
    curves = {
        name: (numbers(f, f"profile {name!r}: factors"), numbers(s, f"profile {name!r}: shares"))
        for name, (f, s) in profiles.items()
    }
    for name, (f, s) in curves.items():
        if f.ndim != 1 or f.shape != s.shape:
            raise InputError(f"profile {name!r}: {f.shape} factors, {s.shape} shares")
    largest = max((float(f[-1]) for f, _ in curves.values() if len(f)), default=1.0)
    for k, (name, (factors, share)) in enumerate(curves.items()):
        x = np.concatenate([[1.0], factors, [2.0 * largest]])
        y = np.concatenate([[0.0], share, share[-1:] if len(share) else [0.0]])
        ax.step(x, y, where="post", label=in_legend(name), color=colour(k), linestyle=dashes(k))
    ax.set(
        xscale="log",
        ylim=(0.0, 1.02),
        xlabel="time / best time of any solver",
        ylabel="share of instances solved",
    )
    return finish(ax, title=title, subtitle=subtitle, legend=True)
