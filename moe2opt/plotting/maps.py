"""Maps: where experts live, who is asked how often, and what two budgets buy together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moe2opt.plotting.style import ABSENT, COLOURS, SEQUENTIAL, axis_label, colour, finish, numbers
from moe2opt.result import FloatArray, InputError, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from moe2opt.placement import PlacementPlan
    from moe2opt.view import Map

#: Most labels on an axis; more are thinned out.
_MOST_LABELS = 25


def placement_map(
    ax: Axes,
    plan: PlacementPlan,
    *,
    by_use: bool = True,
    title: str | None = None,
    subtitle: str | None = None,
) -> Axes:
    """Draw layer × expert, coloured by tier and paler for fewer bits; pruned experts are grey.

    A merged expert has the colour of its representative and a white dot.

    Parameters
    ----------
    ax
        Where to draw.
    plan
        A placement plan. Experts that are placed in parts (gate, up, down) get one column each.
    by_use
        Whether the experts of a layer stand in the order of their use, the most used on the left;
        otherwise in that of their numbers.
    title, subtitle
        Texts above the axes.

    Returns
    -------
    The axes.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    a = plan.assignment
    layers, experts, parts = a.tier.shape
    order = _order(plan, by_use)
    kinds = _sorted_by(a.tier * len(plan.precisions) + a.precision, order)
    kinds = np.where(_sorted_by(a.tier, order) < 0, -1, kinds)
    present = [int(kind) for kind in np.unique(kinds)]
    shades = [_shade(plan, kind) for kind in present]
    cells = np.searchsorted(present, kinds).reshape(layers, experts * parts)
    ax.imshow(
        cells, cmap=ListedColormap(shades), vmin=-0.5, vmax=len(present) - 0.5, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    merged = np.take_along_axis(a.form == 1, order, axis=1)
    rows, columns = np.nonzero(np.repeat(merged, parts, axis=1))
    ax.plot(columns, rows, "o", color="white", markersize=2.0, linestyle="none")
    handles = [
        Patch(facecolor=shade, label=f"{_kind_name(plan, kind)}: {(kinds == kind).mean():.1%}")
        for kind, shade in zip(present, shades, strict=True)
    ]
    place = "expert, the most used first" if by_use else "expert"
    ax.set(ylabel="layer", xlabel=place + (" (gate, up, down apart)" if parts > 1 else ""))
    _ticks(ax.yaxis, [str(number) for number in plan.layers])
    beside = (1.0, 1.0)
    ax.legend(
        handles=handles, fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=beside
    )
    return finish(ax, title=title, subtitle=subtitle, legend=False, grid=False)


def plan_map(
    ax: Axes, found: Map, *, title: str | None = None, subtitle: str | None = None
) -> Axes:
    """Draw the map in the view of any plan.

    It is the chosen level of each group, who serves whom, or when each device computes and sends.

    Parameters
    ----------
    ax
        Where to draw.
    found
        ``plan.view().map``.
    title, subtitle
        Texts above the axes.

    Returns
    -------
    The axes.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    shades = [ABSENT, *(colour(k) for k in range(len(found.places)))]
    ax.imshow(
        np.array(found.rows), cmap=ListedColormap(shades), vmin=-1.5,
        vmax=len(found.places) - 0.5, aspect="auto", interpolation="nearest",
    )  # fmt: skip
    _ticks(ax.yaxis, found.names)
    ax.set(xlabel=found.axis, xticks=[])
    handles = [
        Patch(facecolor=shade, label=name)
        for shade, name in zip(shades[1:], found.places, strict=True)
    ]
    ax.legend(
        handles=handles, fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1, 1)
    )
    return finish(ax, title=title, subtitle=subtitle, legend=False, grid=False)


def _order(plan: PlacementPlan, by_use: bool) -> IntArray:
    uses = np.array(plan.uses)
    if by_use:
        return np.asarray(np.argsort(-uses, axis=1, kind="stable"))
    return np.tile(np.arange(uses.shape[1]), (uses.shape[0], 1))


def _sorted_by(values: IntArray, order: IntArray) -> IntArray:
    return np.asarray(np.take_along_axis(values, order[:, :, None], axis=1))


def _shade(plan: PlacementPlan, kind: int) -> Any:
    """Return the colour of a tier, mixed with white for each format of more bits than this one."""
    from matplotlib.colors import to_rgb

    if kind < 0:
        return to_rgb(ABSENT)
    tier, precision = divmod(kind, len(plan.precisions))
    bits = plan.precisions[precision].bits_per_weight
    wider = sum(p.bits_per_weight > bits for p in plan.precisions)
    white = 0.7 * wider / max(1, len(plan.precisions) - 1) if len(plan.precisions) > 1 else 0.0
    return tuple(c + (1.0 - c) * white for c in to_rgb(colour(tier)))


def _kind_name(plan: PlacementPlan, kind: int) -> str:
    if kind < 0:
        return "pruned"
    tier, precision = divmod(kind, len(plan.precisions))
    name = plan.tiers[tier].name
    return name if len(plan.precisions) == 1 else f"{name} {plan.precisions[precision].name}"


def routing_map(
    ax: Axes,
    shares: npt.ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str = "share of the prompts (%)",
    percent: bool = True,
    title: str | None = None,
    subtitle: str | None = None,
) -> Axes:
    """Draw who is asked how often as a heat map, with its numbers where there is room.

    Parameters
    ----------
    ax
        Where to draw.
    shares
        ``(R, C)``: for instance the share of each category's prompts that goes to each expert
        (`routing_shares`), or uses per token by layer and expert. NaN cells stay empty.
    rows, columns
        Names of the rows and columns.
    label
        What the colours mean, with its unit.
    percent
        Whether `shares` is shown in percent.
    title, subtitle
        Texts above the axes.

    Raises
    ------
    InputError
        When the names do not fit the array.

    Returns
    -------
    The axes.
    """
    values = numbers(shares, "shares") * (100.0 if percent else 1.0)
    if values.shape != (len(rows), len(columns)):
        raise InputError(f"shares has shape {values.shape}, the names {len(rows), len(columns)}")
    ax.set_facecolor(ABSENT)
    image = ax.imshow(values, cmap=SEQUENTIAL, vmin=0.0, aspect="auto", interpolation="nearest")
    _bar(ax, image, label)
    if values.size <= 200:
        _write_numbers(ax, values)
    _ticks(ax.yaxis, rows)
    _ticks(ax.xaxis, columns)
    if max(map(len, columns), default=0) > 8:
        for text in ax.get_xticklabels():
            text.set(rotation=30, ha="right", rotation_mode="anchor")
    return finish(ax, title=title, subtitle=subtitle, legend=False, grid=False)


def _write_numbers(ax: Axes, values: FloatArray) -> None:
    middle = float(np.nanmax(values, initial=0.0)) / 2
    for (r, c), value in np.ndenumerate(values):
        if np.isfinite(value) and value > 0:
            ink = "black" if value > middle else "white"
            ax.text(c, r, f"{value:.0f}", ha="center", va="center", fontsize=7, color=ink)


def routing_shares(plan: Any, weights: npt.ArrayLike | None = None) -> tuple[FloatArray, list[str]]:
    """Return the share of each category's prompts that goes to each expert of a selection plan.

    Parameters
    ----------
    plan
        A `moe2opt.selection.SelectionPlan`.
    weights
        ``(C,)`` weight of each cluster, in the order of ``plan.routing`` (an instance has them in
        ``tables.weights``); equal ones by default.

    Raises
    ------
    InputError
        When there is not one weight per cluster.

    Returns
    -------
    ``(K, E)`` shares, whose rows are ``plan.by_category``, and the labels of the experts.
    """
    size = np.ones(len(plan.routing)) if weights is None else numbers(weights, "weights")
    if size.shape != (len(plan.routing),):
        raise InputError(f"weights has shape {size.shape}, the plan {len(plan.routing)} clusters")
    categories = [report.category for report in plan.by_category]
    shares = np.zeros((len(categories), len(plan.experts)))
    for route, weight in zip(plan.routing, size, strict=True):
        category = route.cluster.rsplit("/", 1)[0]
        if route.expert is not None and category in categories:
            shares[categories.index(category), route.expert] += weight
    total = shares.sum(axis=1, keepdims=True)
    labels = [f"{e.llm} {e.precision} @ {e.server}" for e in plan.experts]
    return shares / np.where(total > 0, total, 1.0), labels


def budget_map(
    ax: Axes,
    x_limits: npt.ArrayLike,
    y_limits: npt.ArrayLike,
    values: npt.ArrayLike,
    certified: npt.ArrayLike,
    *,
    x: str,
    y: str,
    value: str,
    percent: bool = False,
    title: str | None = None,
    subtitle: str | None = None,
) -> Axes:
    """Draw the best value for each pair of budgets; cells without a plan are grey.

    Cells that are not certified carry a hollow circle.

    Parameters
    ----------
    ax
        Where to draw.
    x_limits, y_limits
        ``(X,)`` and ``(Y,)`` rising budgets; cells are equally wide whatever the distances.
    values
        ``(Y, X)`` best values, not finite where no plan exists.
    certified
        ``(Y, X)`` whether value, or absence of a plan, is proven.
    x, y, value
        Names of budgets and value, with units as in the code or in words.
    percent
        Whether values are shares, to be shown in percent.
    title, subtitle
        Texts above the axes.

    Raises
    ------
    InputError
        When the shapes disagree.

    Returns
    -------
    The axes.
    """
    table = numbers(values, "values") * (100.0 if percent else 1.0)
    proven = np.asarray(certified, dtype=bool)
    columns, rows = numbers(x_limits, "x_limits"), numbers(y_limits, "y_limits")
    if table.shape != (len(rows), len(columns)) or proven.shape != table.shape:
        raise InputError(
            f"values {table.shape} and certified {proven.shape} must both be "
            f"{(len(rows), len(columns))}: limits of y by limits of x"
        )
    shown = np.ma.masked_invalid(table)
    ax.set_facecolor(ABSENT)
    image = ax.imshow(
        shown, cmap=SEQUENTIAL, origin="lower", aspect="auto", interpolation="nearest"
    )
    _bar(ax, image, axis_label(value, percent=percent))
    open_rows, open_columns = np.nonzero(~proven)
    ax.plot(
        open_columns, open_rows, "o", linestyle="none", markerfacecolor="white",
        markeredgecolor=COLOURS[1], markersize=5, label="not certified" if len(open_rows) else "_",
    )  # fmt: skip
    _ticks(ax.xaxis, [f"{limit:.4g}" for limit in columns])
    _ticks(ax.yaxis, [f"{limit:.4g}" for limit in rows])
    ax.tick_params(axis="x", labelrotation=45)
    ax.set(xlabel=axis_label(x), ylabel=axis_label(y))
    return finish(ax, title=title, subtitle=subtitle, legend=True, grid=False)


def _bar(ax: Axes, image: Any, label: str) -> None:
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax, label=label)


def _ticks(axis: Any, labels: Sequence[str]) -> None:
    """Label every cell, or every k-th one where there would be too many labels."""
    step = -(-len(labels) // _MOST_LABELS) or 1
    axis.set_ticks(range(0, len(labels), step), labels[::step], fontsize=7)
