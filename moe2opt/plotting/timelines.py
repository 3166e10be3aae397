"""Timelines: what a trace did, which plan was in force, and when it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moe2opt.plotting.style import axis_label, colour, dashes, finish, in_legend, numbers
from moe2opt.result import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time with a name, such as the plan in force.

    Attributes
    ----------
    start_s, end_s
        From when to when.
    label
        Its name; spans of the same name have the same colour.
    """

    start_s: float
    end_s: float
    label: str


def timeline(
    ax: Axes,
    time_s: npt.ArrayLike,
    series: Mapping[str, npt.ArrayLike],
    *,
    y: str,
    spans: Sequence[Span] = (),
    events: Mapping[str, Sequence[float]] | None = None,
    title: str | None = None,
    subtitle: str | None = None,
) -> Axes:
    """Draw quantities of a trace over time above bands for the plans in force.

    Parameters
    ----------
    ax
        Where to draw.
    time_s
        ``(T,)`` rising seconds.
    series
        By name, ``(T,)`` values that hold from each time to the next.
    y
        Name of their quantity, with its unit as in the code or in words.
    spans
        Plans in force; each name gets a band of its colour.
    events
        By name, seconds at which something happened, such as ``re-planned``.
    title, subtitle
        Texts above the axes; say whether the trace is measured or synthetic.

    Raises
    ------
    InputError
        When the times fall or a series has another length.

    Returns
    -------
    The axes.
    """
    times = numbers(time_s, "time_s")
    if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise InputError("time_s must be one row of rising seconds")
    for k, (name, values) in enumerate(series.items()):
        row = numbers(values, f"series {name!r}")
        if row.shape != times.shape:
            raise InputError(f"series {name!r} has shape {row.shape}, time_s {times.shape}")
        ax.plot(
            times, row, dashes(k), color=colour(k), drawstyle="steps-post", label=in_legend(name)
        )
    _draw_spans(ax, spans)
    for k, (name, moments) in enumerate((events or {}).items()):
        for n, moment in enumerate(moments):
            ax.axvline(
                moment, color="#333333", linewidth=0.9, linestyle=("-", ":")[k % 2],
                label=in_legend(name) if n == 0 else "_",
            )  # fmt: skip
    ax.set(xlabel="time (s)", ylabel=axis_label(y))
    return finish(ax, title=title, subtitle=subtitle, legend=True)


def _draw_spans(ax: Axes, spans: Sequence[Span]) -> None:
    names = list(dict.fromkeys(span.label for span in spans))
    for n, span in enumerate(spans):
        first = all(other.label != span.label for other in spans[:n])
        shade = colour(names.index(span.label) + 4)
        look = {"color": shade, "alpha": 0.25, "linewidth": 0}
        label = in_legend(span.label) if first else "_"
        ax.axvspan(span.start_s, span.end_s, ymax=0.08, label=label, **look)  # type: ignore[arg-type]
