"""Bisection of continuous boxes: the optimum to its gap, honest bounds, limits and messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from continuous import BoxLimits, bisected, solve_box
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Difference, polynomials

from moe2opt.result import InputError, Limit

ORIGIN = (0, 0)
SQUARE = ([0.0, 0.0], [4.0, 4.0])


def parabola(x: Any, y: Any) -> Any:
    """Return x (2 - x) in one variable: its maximum over [0, 2] is 1, at 1."""
    return (x * (2 - y))[:, 0]


@settings(max_examples=40)
@given(polynomials(ORIGIN), polynomials(ORIGIN), st.sampled_from((1, 7)))
def test_no_grid_point_is_better(gain: Any, price: Any, batch: int) -> None:
    """The value is within the gap of every point of a grid, and the bound above all of them."""
    function = Difference(gain, price)
    low, high = np.array(SQUARE)[:, None, :]
    abs_gap = 0.1 + 0.05 * (function(high, low) - function(low, high))[0]
    result = solve_box(function, *SQUARE, abs_gap=abs_gap, batch=batch)
    axis = np.linspace(0, 4, 33)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    best = function(grid, grid).max()
    assert result.gap <= abs_gap
    assert result.objective >= best - abs_gap
    assert result.bound >= best - 1e-9
    assert result.objective == function(result.x[None], result.x[None])[0]
    assert (result.x >= 0).all()
    assert (result.x <= 4).all()


@pytest.mark.parametrize("abs_gap", [1e-1, 1e-3, 1e-5])
def test_the_gap_asked_for_is_reached(abs_gap: float) -> None:
    """The maximum of a parabola is met from below within each gap, and bounded from above."""
    result = solve_box(parabola, [0.0], [2.0], abs_gap=abs_gap)
    assert result.limit is None
    assert 1 - abs_gap <= result.objective <= 1 <= result.bound <= result.objective + abs_gap


def test_a_smaller_gap_takes_more_iterations() -> None:
    """Iterations grow with the precision, also past the first allocation of boxes."""
    counts = [
        solve_box(parabola, [0.0], [2.0], abs_gap=gap).iterations for gap in (1e-1, 1e-3, 1e-5)
    ]
    assert counts == sorted(counts)
    assert counts[-1] > 200


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("iterations", [1, 2, 10])
def test_iterations_are_counted_and_limited(batch: int, iterations: int) -> None:
    """A limit is met exactly, whatever the batch, and leaves a true bound."""
    limits = BoxLimits(iteration_limit=iterations)
    result = solve_box(parabola, [0.0], [2.0], abs_gap=1e-6, batch=batch, limits=limits)
    assert (result.iterations, result.limit) == (iterations, Limit.NODES)
    assert result.objective <= 1 <= result.bound
    assert result.gap > 1e-6


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (BoxLimits(time_limit_s=0), Limit.TIME),
        (BoxLimits(memory_limit_bytes=1), Limit.MEMORY),
    ],
)
def test_other_limits_stop_after_the_whole_box(limits: BoxLimits, limit: Limit) -> None:
    """A limit that is hit at once leaves the bound of the whole node and its lower corner."""
    result = solve_box(parabola, [0.0], [2.0], limits=limits)
    assert (result.limit, result.iterations, result.open_boxes) == (limit, 1, 1)
    assert (result.objective, result.bound) == (0.0, 4.0)


def test_a_point_is_its_own_optimum() -> None:
    """A box without extent needs no bisection."""
    result = solve_box(parabola, [0.5], [0.5])
    assert (result.iterations, result.objective, result.bound) == (1, 0.75, 0.75)


def test_a_jump_ends_the_run_with_an_open_gap() -> None:
    """Where F is not continuous the boxes shrink to the grid of floats, and the gap says so."""

    def spike(x: Any, y: Any) -> Any:
        return ((x >= 0.3) * 1.0 - (y > 0.3))[:, 0]

    result = solve_box(spike, [0.0], [1.0], abs_gap=0.1)
    assert result.limit is None
    assert result.iterations < 100
    assert result.bound == 1.0


def test_the_first_longest_edge_is_halved() -> None:
    """Halves share the middle of the longest edge, the first one among equals."""
    boxes = np.array([[[0.0, 0.0, 0.0], [1.0, 4.0, 4.0]], [[1.0, 1.0, 1.0], [3.0, 2.0, 2.0]]])
    below, above = np.split(bisected(boxes), 2)
    assert below[:, 0].tolist() == boxes[:, 0].tolist()
    assert above[:, 1].tolist() == boxes[:, 1].tolist()
    assert below[:, 1].tolist() == [[1, 2, 4], [2, 2, 2]]
    assert above[:, 0].tolist() == [[0, 2, 0], [2, 1, 1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lower": [3.0]}, r"lower\[0\] = 3 exceeds upper\[0\] = 2"),
        ({"upper": [2.0, 2.0]}, r"upper: shape \(2,\) does not match the shape of lower = \(1,\)"),
        ({"upper": [np.inf]}, r"upper\[0\] is inf; every entry must be finite"),
        ({"lower": [], "upper": []}, "lower: the box has no dimension"),
        ({"abs_gap": 0.0}, "abs_gap = 0.0 is not understood; it must be positive"),
        ({"batch": 0}, "batch = 0 is not understood; it must be at least 1"),
        ({"objective": lambda x, y: x}, r"objective returned shape \(2, 1\) for 2 points"),
        ({"objective": lambda x, y: x[:, 0] * np.nan}, r"objective returned nan at x = \[2.0\]"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    """The message names the argument and the entry at fault."""
    with pytest.raises(InputError, match=message):
        solve_box(**{"objective": parabola, "lower": [0.0], "upper": [2.0], **change})
