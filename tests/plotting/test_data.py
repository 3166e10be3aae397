"""Every plot draws the numbers that it was given, names their units, and can be read in grey."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt import plotting
from moe2opt.result import InputError, ProgressEvent
from moe2opt.view import Map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FINITE = st.floats(-1e6, 1e6)


def axes() -> Axes:
    """Return a new pair of axes."""
    return plotting.new_figure()[1]


def line(ax: Axes, label: str) -> Any:
    """Return the line of a name."""
    return next(line for line in ax.lines if str(line.get_label()).strip() == label)


def points(drawn: Any) -> list[tuple[float, float]]:
    """Return the points of a line."""
    return [(float(x), float(y)) for x, y in zip(*drawn.get_data(), strict=True)]


# ---------------------------------------------------------------------- the numbers


@settings(max_examples=15)
@given(st.lists(st.tuples(FINITE, FINITE, st.booleans()), min_size=1, max_size=8), st.booleans())
def test_a_tradeoff_has_its_points(rows: list[tuple[float, float, bool]], percent: bool) -> None:
    """Certified points, the other points and their bounds are those of the curve."""
    x, y, sure = (list(column) for column in zip(*rows, strict=True))
    bound = [value + 1.0 for value in y]
    ax = plotting.tradeoff(
        axes(), [plotting.Curve("a", x, y, sure, bound)], x="experts", y="share", percent=percent
    )
    scale = 100.0 if percent else 1.0
    for which, label in ((True, "a"), (False, "a, not certified")):
        wanted = [(a, scale * b) for a, b, c in rows if c is which]
        if wanted:
            assert points(line(ax, label)) == wanted
    ends = [part for drawn in ax.collections for part in drawn.get_segments()]  # type: ignore[attr-defined]
    open_ = [(a, b) for a, b, c in rows if not c]
    assert [(s[0][0], s[0][1], s[1][1]) for s in ends] == [
        (a, scale * b, scale * (b + 1.0)) for a, b in open_
    ]


def test_a_curve_that_claims_nothing_is_crosses_alone() -> None:
    """A curve of measurements has crosses at its points and no line between them."""
    ax = plotting.tradeoff(axes(), [plotting.Curve("m", [1, 2], [3, np.nan])], x="experts", y="v")
    (drawn,) = ax.lines
    assert points(drawn) == [(1.0, 3.0)]
    assert (drawn.get_linestyle(), drawn.get_marker()) == ("None", "x")


def test_a_convergence_has_its_events() -> None:
    """Bound and best plan are those of the log; what is not finite is a gap, and not drawn."""
    log = [
        ProgressEvent(0.5, 1, 1, np.inf, -np.inf, "L"),
        ProgressEvent(1.0, 2, 1, 0.9, 0.4, "B"),
        ProgressEvent(2.0, 3, 0, 0.5, 0.5, "B"),
    ]
    ax = plotting.convergence(axes(), log, y="share", percent=True)
    assert points(line(ax, "proven bound"))[1:] == [(1.0, 90.0), (2.0, 50.0)]
    assert points(line(ax, "best plan"))[1:] == [(1.0, 40.0), (2.0, 50.0)]
    assert all(np.isnan(drawn.get_ydata()[0]) for drawn in ax.lines)  # type: ignore[index]


def test_a_convergence_of_a_run_ends_at_its_result() -> None:
    """The last points of a finished run are its objective and bound."""
    result = mo.solve(mo.load("tiny"))
    ax = plotting.convergence(axes(), result.log)
    assert line(ax, "best plan").get_ydata()[-1] == pytest.approx(result.objective)
    assert line(ax, "proven bound").get_ydata()[-1] == pytest.approx(result.bound)


def test_a_performance_profile_has_its_factors() -> None:
    """Between its start at no instance and its end each curve has the factors and shares given."""
    given_ = {"brb": ([1.0, 2.0, 4.0], [0.25, 0.5, 1.0]), "milp": ([], [])}
    ax = plotting.performance_profile(axes(), given_)
    assert points(line(ax, "brb")) == [(1, 0), (1, 0.25), (2, 0.5), (4, 1), (8, 1)]
    assert points(line(ax, "milp")) == [(1, 0), (8, 0)]


def test_a_timeline_has_its_series_and_events() -> None:
    """Series, moments and the ends of spans are those given."""
    ax = plotting.timeline(
        axes(), [0, 1, 3], {"up": [5, 4, 3], "down": [1, 1, 2]}, y="rate_mbps",
        spans=[plotting.Span(0, 2, "A"), plotting.Span(2, 3, "B")], events={"re-planned": [2.0]},
    )  # fmt: skip
    assert points(line(ax, "up")) == [(0, 5), (1, 4), (3, 3)]
    assert points(line(ax, "down")) == [(0, 1), (1, 1), (3, 2)]
    assert line(ax, "re-planned").get_xdata() == [2.0, 2.0]
    boxes = {str(p.get_label()): p.get_window_extent() for p in ax.patches}
    ends = {k: ax.transData.inverted().transform(b.get_points())[:, 0] for k, b in boxes.items()}
    assert {k: np.round(v, 9).tolist() for k, v in ends.items()} == {"A": [0, 2], "B": [2, 3]}


@pytest.mark.parametrize("percent", [False, True])
def test_a_budget_map_has_its_table(percent: bool) -> None:
    """The image holds the values, masked where there is no plan; ticks are the limits."""
    values = np.array([[-np.inf, 0.2, 0.4], [0.3, 0.5, 0.6]])
    sure = np.array([[True, True, False], [True, True, True]])
    names = {"x": "energy_j_per_prompt", "y": "delay_s", "value": "share"}
    ax = plotting.budget_map(axes(), [1, 2, 4], [5, 10], values, sure, percent=percent, **names)
    image: Any = ax.images[0].get_array()
    assert image.mask.tolist() == [[True, False, False], [False, False, False]]
    assert (
        image.compressed().tolist()
        == (values[np.isfinite(values)] * (100 if percent else 1)).tolist()
    )
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "4"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["5", "10"]
    assert points(line(ax, "not certified")) == [(2, 0)]


def test_a_routing_map_has_its_shares() -> None:
    """The image holds the shares in percent; the numbers in the cells are theirs, rounded."""
    shares = np.array([[0.256, 0.744], [1.0, 0.0]])
    ax = plotting.routing_map(axes(), shares, ["law", "maths"], ["alpha", "beta"])
    image: Any = ax.images[0].get_array()
    assert image.tolist() == (100 * shares).tolist()
    written = {tuple(map(int, text.get_position())): text.get_text() for text in ax.texts}
    assert written == {(0, 0): "26", (1, 0): "74", (0, 1): "100"}
    assert [text.get_text() for text in ax.get_yticklabels()] == ["law", "maths"]


def test_a_placement_map_counts_its_cells() -> None:
    """The legend's shares are those of the tiers in the plan's own table."""
    plan: Any = mo.solve(mo.load("three_tier_edge")).plan
    ax = plotting.placement_map(axes(), plan)
    tier = plan.assignment.tier
    precise = plan.assignment.precision
    for text in ax.get_legend().get_texts():  # type: ignore[union-attr]
        name, share = text.get_text().rsplit(": ", 1)
        here = [
            (int(t), int(p))
            for t, p in zip(tier.ravel(), precise.ravel(), strict=True)
            if (plan.tiers[t].name + " " + plan.precisions[p].name if t >= 0 else "pruned") == name
            or (t >= 0 and plan.tiers[t].name == name)
        ]
        assert share == f"{len(here) / tier.size:.1%}"


# ---------------------------------------------------------------------- names and units

LOG = [ProgressEvent(0.0, 0, 0, 0.9, 0.3, "H"), ProgressEvent(1.0, 5, 0, 0.5, 0.5, "B")]
TITLES = {"title": "what", "subtitle": "where"}


def _budget_map(ax: Axes) -> Axes:
    names = {"x": "energy_j_per_prompt", "y": "delay_s", "value": "correct answers"}
    one = np.ones((1, 1))
    return plotting.budget_map(ax, [1], [1], one, one, percent=True, **names, **TITLES)


def _timeline(ax: Axes) -> Axes:
    return plotting.timeline(ax, [0, 1], {"a": [1, 2]}, y="rate_mbps", **TITLES)


#: Plots, and the texts of their axes.
PLOTS: dict[str, tuple[Callable[[Axes], Axes], set[str]]] = {
    "tradeoff": (
        lambda ax: plotting.tradeoff(
            ax, [plotting.Curve("a", [1], [1], [True])], x="energy_j_per_prompt", y="loss_nats",
            **TITLES,
        ),
        {"energy (J per prompt)", "loss (nats)"},
    ),
    "convergence": (
        lambda ax: plotting.convergence(ax, LOG, y="share", percent=True, **TITLES),
        {"time (s)", "share (%)"},
    ),
    "performance_profile": (
        lambda ax: plotting.performance_profile(ax, {"a": ([1.0], [1.0])}, **TITLES),
        {"time / best time of any solver", "share of instances solved"},
    ),
    "timeline": (_timeline, {"time (s)", "rate (Mbit/s)"}),
    "budget_map": (_budget_map, {"energy (J per prompt)", "delay (s)", "correct answers (%)"}),
    "routing_map": (
        lambda ax: plotting.routing_map(ax, [[1.0]], ["a"], ["b"], **TITLES),
        {"share of the prompts (%)"},
    ),
    "placement_map": (
        lambda ax: plotting.placement_map(ax, mo.solve(mo.load("tinymoe")).plan, **TITLES),  # type: ignore[arg-type]
        {"layer", "expert, the most used first"},
    ),
    "plan_map": (
        lambda ax: plotting.plan_map(
            ax, Map("", "", "", "slot", ("a",), ("device",), ((0,),)), **TITLES
        ),
        {"slot"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLOTS)
def test_axes_name_quantities_with_units(name: str) -> None:
    """Every axis and colour bar says what it shows in which unit, under the given titles."""
    figure, ax = plotting.new_figure()
    assert PLOTS[name][0](ax) is ax
    shown = {text for a in figure.axes for text in (a.get_xlabel(), a.get_ylabel()) if text}
    assert shown == PLOTS[name][1]
    assert ax.get_title("left") == "where"
    assert "what" in [text.get_text() for text in ax.texts]


def test_every_public_plot_is_looked_at() -> None:
    """Each public function that takes axes has its place in the table above."""
    functions = {n for n in plotting.__all__ if callable(getattr(plotting, n)) and n.islower()}
    helpers = {"front_curve", "label_of", "new_figure", "routing_shares", "save"}
    assert functions - helpers == set(PLOTS)


def test_names_that_begin_with_an_underscore_are_named() -> None:
    """A curve called `_x` has its line in the legend, which matplotlib would leave out."""
    ax = plotting.tradeoff(axes(), [plotting.Curve("_x", [1], [1], [True])], x="experts", y="v")
    assert [text.get_text().strip() for text in ax.get_legend().get_texts()] == ["_x"]  # type: ignore[union-attr]


def test_no_window_and_no_global_state(tmp_path: Path) -> None:
    """Plotting to a file never imports pyplot, which keeps figures and opens windows."""
    code = (
        "import sys; from moe2opt import plotting as p; figure, ax = p.new_figure(); "
        "p.tradeoff(ax, [p.Curve('a', [1], [1])], x='x', y='y'); p.save(figure, sys.argv[1]); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    file = tmp_path / "a.svg"
    assert subprocess.run([sys.executable, "-c", code, str(file)], check=False).returncode == 0
    assert file.stat().st_size > 0


# ---------------------------------------------------------------------- without colour


def test_curves_differ_without_colour() -> None:
    """Eight curves have eight markers; four profiles or series have four kinds of lines."""
    curves = [plotting.Curve(str(k), [1], [k], [True]) for k in range(8)]
    dots = [line(plotting.tradeoff(axes(), curves, x="x", y="y"), str(k)) for k in range(8)]
    assert len({drawn.get_marker() for drawn in dots}) == 8
    profile = plotting.performance_profile(axes(), {str(k): ([1], [1]) for k in range(4)})
    series = plotting.timeline(axes(), [0, 1], {str(k): [1, 2] for k in range(4)}, y="y")
    for ax in (profile, series):
        assert len({line(ax, str(k)).get_linestyle() for k in range(4)}) == 4
    log = plotting.convergence(axes(), LOG)
    assert len({drawn.get_marker() for drawn in log.lines}) == 2


def test_the_colour_map_rises_in_lightness() -> None:
    """A larger value of a map is lighter, so that a grey print shows the same order."""
    from matplotlib import colormaps

    linear = colormaps[plotting.SEQUENTIAL](np.linspace(0, 1, 64))[:, :3] ** 2.2
    assert (np.diff(linear @ [0.2126, 0.7152, 0.0722]) > 0).all()


# ---------------------------------------------------------------------- what is refused


def _tradeoff(**changed: Any) -> Axes:
    curve = {"x": [1, 2], "y": [1, 2], "certified": [True, False], "bound": [1, 2], **changed}
    return plotting.tradeoff(axes(), [plotting.Curve("a", **curve)], x="x", y="y")


#: A wrong call, and what its message says.
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "short y": (lambda: _tradeoff(y=[1]), "curve 'a': y has another length than x"),
    "short proof": (lambda: _tradeoff(certified=[True]), "'a': certified has another length"),
    "short bound": (lambda: _tradeoff(bound=[1]), "curve 'a': bound has another length than x"),
    "text": (lambda: _tradeoff(x=["one", "two"]), "curve 'a': x must be numbers"),
    "table": (lambda: _tradeoff(x=[[1, 2]]), "curve 'a': x has another length"),
    "profile": (
        lambda: plotting.performance_profile(axes(), {"brb": ([1, 2], [1])}),
        r"profile 'brb': \(2,\) factors, \(1,\) shares",
    ),
    "no time": (
        lambda: plotting.timeline(axes(), [0, np.nan], {}, y="y"),
        "time_s must be one row of rising seconds",
    ),
    "short series": (
        lambda: plotting.timeline(axes(), [0, 1], {"up": [1]}, y="y"),
        r"series 'up' has shape \(1,\), time_s \(2,\)",
    ),
    "routing names": (
        lambda: plotting.routing_map(axes(), [[1, 2]], ["a"], ["b"]),
        r"shares has shape \(1, 2\), the names \(1, 1\)",
    ),
    "routing weights": (
        lambda: plotting.routing_shares(mo.solve(mo.load("tiny")).plan, [1.0]),
        r"weights has shape \(1,\), the plan 6 clusters",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_numbers_are_refused(name: str) -> None:
    """What does not fit together is refused by its name, before anything is drawn."""
    call, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        call()


def test_a_folder_is_no_figure(tmp_path: Path) -> None:
    """A figure is not written over a folder, nor into one that is not there."""
    (tmp_path / "a.svg").mkdir()
    for file in (tmp_path / "a.svg", tmp_path / "none" / "b.svg"):
        with pytest.raises(InputError, match=file.name):
            plotting.save(plotting.new_figure()[0], file)
