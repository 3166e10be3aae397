"""Plots, looked at as pictures: what must be there is found in the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt import plotting
from moe2opt.result import InputError, ProgressEvent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WHITE = (255, 255, 255)


def pixels(figure: Figure) -> np.ndarray[Any, Any]:
    """Return the picture of a figure as rows of red, green and blue, the first row on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].astype(int)


def at(figure: Figure, ax: Axes, x: float, y: float) -> tuple[int, ...]:
    """Return the colour of the pixel at a point in the coordinates of the axes."""
    picture = pixels(figure)
    column, row = ax.transData.transform((x, y))
    return tuple(picture[picture.shape[0] - 1 - int(row), int(column)].tolist())


def rgb(code: str) -> tuple[int, ...]:
    """Return a colour ``#RRGGBB`` as three numbers."""
    return tuple(int(code[k : k + 2], 16) for k in (1, 3, 5))


def close(a: tuple[int, ...], b: tuple[int, ...], slack: int = 12) -> bool:
    """Tell whether two colours are the same but for smoothing."""
    return all(abs(p - q) <= slack for p, q in zip(a, b, strict=True))


def count(picture: np.ndarray[Any, Any], code: str) -> int:
    """Return the number of pixels of a colour."""
    return int((np.abs(picture - np.array(rgb(code))) <= 3).all(axis=2).sum())


def legend(ax: Axes) -> list[str]:
    """Return the texts of the legend."""
    found = ax.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


CURVE = plotting.Curve(
    "all experts",
    x=[10, 20, 30, 40],
    y=[-np.inf, 0.5, 0.6, 0.7],
    certified=[True, True, False, True],
    bound=[-np.inf, 0.5, 0.66, 0.7],
)


def drawn_tradeoff() -> tuple[Figure, Axes]:
    """Return the trade-off of `CURVE` with a curve that claims nothing."""
    figure, ax = plotting.new_figure()
    measured = plotting.Curve("test split", [20, 40], [0.45, 0.65])
    plotting.tradeoff(ax, [CURVE, measured], x="energy_j_per_prompt", y="correct", percent=True)
    return figure, ax


def test_uncertified_points_are_hollow() -> None:
    """A certified point is filled with the colour of its curve, an uncertified one with white."""
    figure, ax = drawn_tradeoff()
    assert close(at(figure, ax, 20, 50), rgb(plotting.COLOURS[0]))
    assert at(figure, ax, 30, 60) == WHITE
    assert close(at(figure, ax, 40, 70), rgb(plotting.COLOURS[0]))


def test_range_without_a_plan_is_shaded() -> None:
    """Budgets that are proven too small lie on grey, those with a plan on white."""
    figure, ax = plotting.new_figure()
    empty = plotting.Curve("a", [10, 20, 30, 40], [-np.inf, -np.inf, 0.6, 0.7], [True] * 4)
    plotting.tradeoff(ax, [empty], x="experts", y="correct")
    assert close(at(figure, ax, 15, 0.651), rgb("#DDDDDD"))
    assert at(figure, ax, 33, 0.651) == WHITE


def test_tradeoff_names_curves_and_units() -> None:
    """Axes carry quantities with units; the legend says what is not certified."""
    _, ax = drawn_tradeoff()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("energy (J per prompt)", "correct (%)")
    names = legend(ax)
    assert names[:3] == ["all experts", "all experts, not certified", "test split"]


def test_uncertified_point_shows_its_bound() -> None:
    """A thin line runs from an uncertified point up to its proven bound."""
    _, ax = drawn_tradeoff()
    ends = [segment for lines in ax.collections for segment in lines.get_segments()]  # type: ignore[attr-defined]
    assert [segment.tolist() for segment in ends] == [[[30.0, 60.0], [30.0, 66.0]]]


def test_front_is_drawn_as_it_is() -> None:
    """The curve of a front has its budgets, objectives, bounds and certificates."""
    from moe2opt.pareto import Axis, Front, FrontPoint

    points = tuple(
        FrontPoint((k,), (b,), "OPTIMAL", None, v, v, sure)
        for k, (b, v, sure) in enumerate([(1.0, 0.3, True), (2.0, 0.4, False)])
    )
    curve = plotting.front_curve(Front("tiny", Axis("energy", "row", (1.0, 2.0)), points))
    assert np.asarray(curve.x).tolist() == [1.0, 2.0]
    assert np.asarray(curve.y).tolist() == np.asarray(curve.bound).tolist() == [0.3, 0.4]
    assert list(np.asarray(curve.certified)) == [True, False]


def test_convergence_shows_bound_incumbent_and_gap() -> None:
    """Incumbent and bound have their colours; the gap between them is shaded until it closes."""
    log = [
        ProgressEvent(0.0, 0, 0, np.inf, 0.3, "H"),
        ProgressEvent(1.0, 5, 3, 0.9, 0.4, "B"),
        ProgressEvent(4.0, 9, 0, 0.5, 0.5, "B"),
    ]
    figure, ax = plotting.new_figure()
    assert plotting.convergence(ax, log) is ax
    assert legend(ax) == ["gap", "proven bound", "best plan"]
    assert close(at(figure, ax, 1, 0.9), rgb(plotting.COLOURS[1]))
    assert close(at(figure, ax, 1, 0.4), rgb(plotting.COLOURS[0]))
    assert close(at(figure, ax, 2.5, 0.65), (204, 233, 248), slack=16)
    assert ax.get_xlabel() == "time (s)"


def test_convergence_needs_a_log() -> None:
    """An empty log is refused with a reason."""
    with pytest.raises(InputError, match="no event"):
        plotting.convergence(plotting.new_figure()[1], [])


def test_performance_profile_rises_to_the_share_solved() -> None:
    """Each curve starts at 0, passes its factors, and ends at the share of instances solved."""
    _, ax = plotting.new_figure()
    plotting.performance_profile(ax, {"brb": ([1.0, 2.0], [0.5, 1.0]), "milp": ([3.0], [0.5])})
    ends = {line.get_label(): line.get_ydata()[-1] for line in ax.lines}  # type: ignore[index]
    assert ends == {"brb": 1.0, "milp": 0.5}
    assert ax.get_xscale() == "log"


@pytest.fixture(scope="module")
def placed() -> Any:
    """Return a certified plan of a built-in placement problem."""
    return mo.solve(mo.load("three_tier_edge")).plan


def test_placement_map_has_a_cell_for_every_expert(placed: Any) -> None:
    """The picture has one cell per layer and expert, and a legend entry per tier in use."""
    figure, ax = plotting.new_figure()
    plotting.placement_map(ax, placed)
    layers, experts, parts = placed.assignment.tier.shape
    image = ax.images[0].get_array()
    assert image is not None
    assert image.shape == (layers, experts * parts)
    shares = [float(text.rsplit(" ", 1)[1].rstrip("%")) for text in legend(ax)]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert (ax.get_ylabel(), ax.get_xlabel()[:6]) == ("layer", "expert")
    assert pixels(figure).std() > 10


def test_placement_map_gives_each_cell_its_tier(placed: Any) -> None:
    """Cells of two tiers differ in colour, those of one tier and format agree."""
    figure, ax = plotting.new_figure()
    plotting.placement_map(ax, placed, by_use=False)
    tier, precision = placed.assignment.tier[:, :, 0], placed.assignment.precision[:, :, 0]
    kinds: dict[tuple[int, int], set[tuple[int, ...]]] = {}
    for layer, expert in [(0, 0), (0, 1), (1, 3), (2, 5), (3, 7)]:
        key = (int(tier[layer, expert]), int(precision[layer, expert]))
        kinds.setdefault(key, set()).add(at(figure, ax, expert + 0.3, layer + 0.3))
    assert all(len(colours) == 1 for colours in kinds.values())
    assert len({next(iter(c)) for c in kinds.values()}) == len(kinds)


def test_routing_map_colours_every_cell() -> None:
    """A cell's lightness rises with its share, a missing one is grey, numbers are written."""
    shares = np.array([[0.0, 0.5], [1.0, np.nan]])
    figure, ax = plotting.new_figure()
    plotting.routing_map(ax, shares, ["law", "maths"], ["alpha", "beta"])
    low, middle, high = (at(figure, ax, x - 0.4, y) for x, y in [(0, 0), (1, 0), (0, 1)])
    assert sum(low) < sum(middle) < sum(high)
    assert close(at(figure, ax, 1, 1), rgb("#DDDDDD"))
    assert {text.get_text() for text in ax.texts} == {"50", "100"}


def test_routing_shares_are_those_of_the_plan() -> None:
    """Weighted by the prompts, the rows of the shares add to 1 and the columns to the plan's."""
    tiny = mo.load("tiny")
    plan = mo.solve(tiny).plan
    shares, labels = plotting.routing_shares(plan, tiny.tables.weights)
    weights = np.array([report.share_of_prompts for report in plan.by_category])
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert weights @ shares == pytest.approx([e.share_of_prompts for e in plan.experts])
    assert labels == ["beta int8 @ slow", "gamma int8 @ slow"]


def test_budget_map_marks_what_is_not_certified() -> None:
    """Cells are coloured by value, grey without a plan, and carry a hollow circle if unproven."""
    values = np.array([[-np.inf, 0.2], [0.3, 0.4]])
    certified = np.array([[True, True], [False, True]])
    figure, ax = plotting.new_figure()
    names = {"x": "energy_j_per_prompt", "y": "delay.limit_s", "value": "correct answers"}
    plotting.budget_map(ax, [100, 200], [5, 10], values, certified, **names)
    assert close(at(figure, ax, 0, 0), rgb("#DDDDDD"))
    assert at(figure, ax, 0, 1) == WHITE
    dark, light = at(figure, ax, 1, 0), at(figure, ax, 1, 1)
    assert sum(dark) < sum(light)
    assert legend(ax) == ["not certified"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("energy (J per prompt)", "delay (s)")


def test_budget_map_refuses_other_shapes() -> None:
    """A table that is transposed is refused with both shapes."""
    ax = plotting.new_figure()[1]
    names = {"x": "a b", "y": "c d", "value": "e f"}
    with pytest.raises(InputError, match=r"must both be \(2, 3\)"):
        plotting.budget_map(ax, [1, 2, 3], [1, 2], np.ones((3, 2)), np.ones((3, 2)), **names)


def test_timeline_has_series_spans_and_events() -> None:
    """Values hold until the next time, plans in force are bands, events lines."""
    figure, ax = plotting.new_figure()
    spans = [plotting.Span(0, 5, "plan A"), plotting.Span(5, 8, "plan B"),
             plotting.Span(8, 10, "plan A")]  # fmt: skip
    plotting.timeline(
        ax, [0, 2, 10], {"uplink": [4.0, 1.0, 1.0]}, y="uplink_s", spans=spans,
        events={"re-planned": [5.0, 8.0]},
    )  # fmt: skip
    assert legend(ax) == ["uplink", "plan A", "plan B", "re-planned"]
    assert ax.lines[0].get_drawstyle() == "steps-post"
    low = ax.get_ylim()[0] + 0.02 * np.ptp(ax.get_ylim())
    bands = [at(figure, ax, x, low) for x in (3, 6.5, 9.5)]
    assert bands[0] == bands[2] != bands[1]


def test_timeline_refuses_falling_times() -> None:
    """Times that go back are refused."""
    with pytest.raises(InputError, match="rising"):
        plotting.timeline(plotting.new_figure()[1], [1, 0], {}, y="a b")


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_files_repeat_byte_for_byte(ending: str, tmp_path: Path) -> None:
    """The same plot is written as the same bytes, in every format."""
    written = [
        plotting.save(drawn_tradeoff()[0], tmp_path / f"{k}.{ending}").read_bytes() for k in (0, 1)
    ]
    assert written[0] == written[1]
    heads = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
    assert written[0].startswith(heads[ending])


def test_other_formats_are_refused(tmp_path: Path) -> None:
    """An unknown ending is refused, with the endings that are known."""
    with pytest.raises(InputError, match="svg, png, pdf"):
        plotting.save(drawn_tradeoff()[0], tmp_path / "a.gif")


#: Linear RGB to the responses of the cones and back, and what is left without one kind of them
#: (Viénot, Brettel and Mollon 1999).
CONES = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714],
                  [0.0299566, 0.184309, 1.46709]])  # fmt: skip
LACKING = {
    "protanopia": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "deuteranopia": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
}


def seen(code: str, lack: str) -> np.ndarray[Any, Any]:
    """Return a colour as somebody sees it who lacks one kind of cones, in sRGB from 0 to 1."""
    linear = (np.array(rgb(code)) / 255) ** 2.2
    left = np.linalg.solve(CONES, LACKING[lack] @ CONES @ linear)
    return np.asarray(np.clip(left, 0, 1) ** (1 / 2.2))


@pytest.mark.parametrize("lack", LACKING)
def test_colours_stay_apart_for_colour_blind_readers(lack: str) -> None:
    """Any two colours of the palette stay apart for readers without red or green cones."""
    shown = [seen(code, lack) for code in plotting.COLOURS]
    apart = [np.linalg.norm(a - b) for k, a in enumerate(shown) for b in shown[:k]]
    assert min(apart) > 0.12


@pytest.mark.parametrize("name", ["smile_ranks", "detectors_for_fleet", "sflam_round"])
def test_plan_maps_show_what_the_plan_says(name: str) -> None:
    """The drawn cells are those of the plan's view, each row and each place has its name."""
    found = mo.solve(mo.load(name), rel_gap=0.05).plan.view().map
    _, ax = plotting.new_figure()
    plotting.plan_map(ax, found, title="plan")
    assert ax.images[0].get_array().tolist() == [list(row) for row in found.rows]
    assert legend(ax) == list(found.places)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(found.names)
    used = {cell for row in found.rows for cell in row} - {-1}
    assert used == set(range(len(found.places)))
