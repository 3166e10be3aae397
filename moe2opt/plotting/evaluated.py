"""A grid of certified plans judged on the test part: the deployed sets, a map and curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.plotting.curves import Curve, tradeoff
from moe2opt.plotting.maps import budget_map
from moe2opt.plotting.style import label_of, new_figure
from moe2opt.result import FloatArray

if TYPE_CHECKING:
    from moe2opt.selection.evaluation.grid_report import GridEvaluation

#: Curves in one picture.
_MOST_CURVES = 5

_BOX = {"facecolor": "#00000066", "edgecolor": "none", "pad": 0.8}
_SMALL: dict[str, Any] = {"fontsize": 5.5, "color": "white", "ha": "center", "va": "center"}


def chosen_sets(done: GridEvaluation) -> Any:
    """Return the deployed set of every cell as a table; equal sets have equal numbers."""
    import pandas as pd

    numbers = {
        deployed: k for k, deployed in enumerate(dict.fromkeys(c.deployed for c in done.planned))
    }
    rows = [
        {
            **{f"budget {n}": b for n, b in zip(done.axes, cell.budgets, strict=True)},
            "set": numbers.get(cell.deployed),
            "deployed": "; ".join(cell.deployed),
            "objective": cell.objective if cell.has_plan else np.nan,
            "test_accuracy": cell.accuracy,
            "status": cell.status,
            "certified": cell.certified,
        }
        for cell in done.cells
    ]
    return pd.DataFrame(rows).astype({"set": "Int64"})


def pictures(done: GridEvaluation) -> Iterator[tuple[str, Any]]:
    """Yield a map of budget × budget and the two families of trade-off curves, with their names."""
    first, second = (sorted({cell.budgets[k] for cell in done.cells}) for k in (0, 1))
    shape = (len(first), len(second))
    accuracy = np.array([cell.accuracy for cell in done.cells]).reshape(shape)
    proven = np.array([cell.certified for cell in done.cells]).reshape(shape)
    about = f"{done.instance}, test part; plans certified on the selection part"
    numbered = f"{about}; numbers: deployed set (grid_sets.csv)"
    figure, ax = new_figure(7.2, 5.2)
    budget_map(ax, second, first, accuracy, proven, x=done.axes[1], y=done.axes[0],
               value="test accuracy", percent=True, subtitle=numbered)  # fmt: skip
    _number_sets(ax, done, shape)
    yield "map", figure
    for name, table, certified, (x, other), (along, across) in (
        ("curves", accuracy, proven, (1, 0), (second, first)),
        ("curves_reverse", accuracy.T, proven.T, (0, 1), (first, second)),
    ):
        lines = (np.array(along), np.array(across), table, certified)
        yield name, _curves(done, lines, done.axes[x], done.axes[other], about)


def _number_sets(ax: Any, done: GridEvaluation, shape: tuple[int, ...]) -> None:
    """Write the number of the deployed set into every cell."""
    table = chosen_sets(done)["set"].to_numpy(dtype=np.float64, na_value=np.nan).reshape(shape)
    for (row, column), number in np.ndenumerate(table):
        if np.isfinite(number):
            ax.text(column, row, f"{number:.0f}", bbox=_BOX, **_SMALL)


def _curves(
    done: GridEvaluation,
    lines: tuple[FloatArray, FloatArray, FloatArray, Any],
    x: str,
    other: str,
    about: str,
) -> Any:
    """Return accuracy against one budget, at some budgets of the other axis."""
    along, across, table, proven = lines
    figure, ax = new_figure(7.2, 4.6)
    shown = np.unique(np.linspace(0, len(across) - 1, _MOST_CURVES).round().astype(int))
    curves = [
        Curve(f"{label_of(other)}: {across[k]:.4g}", along, table[k], proven[k])
        for k in shown[::-1]
    ]
    tradeoff(ax, curves, x=x, y="test accuracy", percent=True, subtitle=about)
    return figure
