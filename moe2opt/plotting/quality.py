"""Quality of a plan and of every baseline against a budget, joules, seconds or money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.plotting.style import (
    COLOURS,
    axis_label,
    dashes,
    finish,
    in_legend,
    marker,
    new_panels,
)
from moe2opt.result import BoolArray, FloatArray, InputError
from moe2opt.selection.evaluation.grid_report import TWO_SIDED
from moe2opt.selection.evaluation.report import PLAN
from moe2opt.selection.evaluation.tables import BUDGET, MEASURES, kept_policies

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from moe2opt.selection.evaluation.grid_report import GridCell, GridEvaluation
    from moe2opt.selection.evaluation.report import Evaluation, PolicyReport

#: Panels of one figure, and those side by side.
_MOST_PANELS, _ABREAST = 6, 3

#: How far neighbouring policies stand apart at one budget, as a share of it.
_APART = 0.006

_MOST_TICKS = 8

#: Colours of baselines: those of the house but black, which is the plan's, and yellow, too faint.
_HUES = (*COLOURS[:6], "#777777")

_BARS = "bars: 95 %, of the plan its own, of baselines that of the paired difference to the plan"


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One policy in one panel.

    Attributes
    ----------
    policy
        Its name.
    x, y, margin
        ``(P,)`` where it stands, its quality in percent, and half its interval.
    sure
        ``(P,)`` whether the plan there is certified; None for a baseline.
    """

    policy: str
    x: FloatArray
    y: FloatArray
    margin: FloatArray
    sure: BoolArray | None = None


def quality_figure(
    done: GridEvaluation | Evaluation,
    *,
    against: Sequence[str] = (),
    policies: Sequence[str] = (),
) -> Figure:
    """Draw the quality of plan and baselines with their intervals.

    Of a grid with one axis there is one panel for each measure, with a line for each policy; of one
    with two axes a panel for each budget of the second one (six at most). Without a grid every
    policy is a point. Policies differ by colour, marker and dashes, and stay apart in grey.

    Parameters
    ----------
    done
        What `evaluate` found.
    against
        What the horizontal axis shows: ``budget`` (of a grid, its default), or what the policy
        uses: ``energy_j_per_prompt`` (the default without a grid), ``delay_s``,
        ``money_per_prompt``.
    policies
        Baselines that are drawn; all when empty. The plan always is.

    Raises
    ------
    InputError
        For a grid with three axes, a policy or a measure that is not there.
    """
    shown = kept_policies(done, policies)
    panels = [
        (name, words, _tracks(done, cells, name, shown))
        for words, cells in _slices(done)
        for name in against or [BUDGET if hasattr(done, "axes") else MEASURES[0]]
    ]
    if len(panels) > _MOST_PANELS:
        raise InputError(f"figure: {len(panels)} panels; name fewer measures ({_MOST_PANELS} fit)")
    columns = min(_ABREAST, len(panels))
    figure, axes = new_panels(math.ceil(len(panels) / columns), columns, width_inches=5.6)
    for ax, (name, words, tracks) in zip(axes, panels, strict=False):
        for k, track in enumerate(tracks):
            _draw(ax, track, k, lines=hasattr(done, "axes"))
        budget = axis_label(done.axes[0]) if hasattr(done, "axes") else ""
        _scale(ax, tracks, budgets=name == BUDGET)
        label = f"budget: {budget}" if name == BUDGET else f"used: {axis_label(name)}"
        ax.set(xlabel=label, ylabel="test accuracy (%)")
        finish(ax, title=None, subtitle=words, legend=False)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=7, frameon=False)
    figure.suptitle(_about(done), fontsize=7.5, x=0.01, ha="left", color="#444444")
    return figure


def _scale(ax: Axes, tracks: Sequence[Track], *, budgets: bool) -> None:
    """Choose a scale in equal ratios where the values differ much; ticks stand at budgets."""
    every = np.concatenate([track.x for track in tracks])
    every = every[np.isfinite(every)]
    if len(every) and every.min() > 0 and every.max() > 5 * every.min():
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ticks = np.unique(every)
    if budgets and len(ticks) <= _MOST_TICKS:
        ax.set_xticks(ticks, [f"{tick:.4g}" for tick in ticks])


def _about(done: GridEvaluation | Evaluation) -> str:
    count = len(done.provenance.get("splits", (None,)))
    splits = f", {count} splits" if count > 1 else ""
    return f"{done.instance}, test part{splits}; {_BARS}"


def _slices(done: Any) -> list[tuple[str | None, Sequence[GridCell]]]:
    """Return the cells of each panel with words about them."""
    axes = getattr(done, "axes", None)
    if axes is None or len(axes) == 1:
        return [(None, getattr(done, "planned", ()))]
    if len(axes) > 2:
        raise InputError(f"figure: shows grids of one axis or two, not of {len(axes)}")
    others = sorted({cell.budgets[1] for cell in done.cells})
    picked = np.unique(np.linspace(0, len(others) - 1, _MOST_PANELS).round().astype(int))
    return [
        (f"{axis_label(axes[1])}: {others[k]:.4g}", own)
        for k in picked
        if (own := [cell for cell in done.planned if cell.budgets[1] == others[k]])
    ]


def _tracks(
    done: Any, cells: Sequence[GridCell], name: str, policies: Sequence[str]
) -> list[Track]:
    """Return the policies of one panel, the plan first."""
    if not hasattr(done, "axes"):
        return [_point(done.row(policy), name) for policy in policies]
    found = []
    for policy in policies:
        met: list[tuple[GridCell, Any]] = [
            (cell, own)
            for cell in cells
            for own in ((cell,) if policy == PLAN else cell.rivals)
            if policy in (PLAN, getattr(own, "policy", PLAN))
        ]
        if not met:
            continue
        errors = [own.accuracy_error if policy == PLAN else own.error for _, own in met]
        found.append(
            Track(
                policy,
                np.array([c.budgets[0] if name == BUDGET else _of(own, name) for c, own in met]),
                100 * np.array([own.accuracy for _, own in met]),
                100 * TWO_SIDED * np.array(errors),
                np.array([c.certified for c, _ in met]) if policy == PLAN else None,
            )
        )
    return found


def _point(row: PolicyReport, name: str) -> Track:
    """Return a policy of a table as one point."""
    if name == BUDGET:
        raise InputError("figure: `budget` is an axis of a grid")
    own = row.accuracy if row.policy == PLAN else row.against_plan
    ends = [np.nan if end is None else end for end in (own.low, own.high)]
    middle = np.nan if row.accuracy.mean is None else row.accuracy.mean
    sure = np.array([True]) if row.policy == PLAN else None
    place, margin = np.array([_of(row, name)]), np.array([50 * (ends[1] - ends[0])])
    return Track(row.policy, place, np.array([100 * middle]), margin, sure)


def _of(own: Any, name: str) -> float:
    """Return what a policy uses of a measure."""
    value = getattr(own, name, None)
    value = getattr(value, "mean", value)
    if value is None:
        raise InputError(f"figure: {name} is not known here")
    return float(value)


def _draw(ax: Axes, track: Track, k: int, *, lines: bool) -> None:
    plan = track.policy == PLAN
    hue = "#000000" if plan else _HUES[(k - 1) % len(_HUES)]
    look: dict[str, Any] = {
        "color": hue,
        "marker": "o" if plan else marker(k),
        "fillstyle": ("full", "left", "bottom", "top")[k // 8 % 4],
        "markerfacecoloralt": "white",
        "linestyle": ("-" if plan else dashes(k + k // 8)) if lines else "none",
        "linewidth": 2.0 if plan else 1.0,
        "markersize": 5.0 if plan else 4.0,
        "elinewidth": 0.7,
        "capsize": 2.0,
        "zorder": 4 if plan else 3,
    }
    # At one budget bars would hide each other.
    x = track.x * (1 + _APART * ((k + 1) // 2) * (-1) ** k) if lines else track.x
    drawn = ax.errorbar(x, track.y, track.margin, label=in_legend(track.policy), **look)
    if track.sure is not None and not track.sure.all():
        unsure = ~track.sure
        ax.plot(x[unsure], track.y[unsure], "o", color=hue, markerfacecolor="white", zorder=5,
                label=in_legend(f"{track.policy}, not certified"))  # fmt: skip
    drawn.lines[0].set_gid(f"policy {track.policy}")
