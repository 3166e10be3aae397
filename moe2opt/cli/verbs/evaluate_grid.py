"""``evaluate --grid``: certified plans beside every baseline over a grid of budgets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.folders import create, writing
from moe2opt.cli.output import put
from moe2opt.result import FloatArray, InputError
from moe2opt.writing import write_frame, write_text

if TYPE_CHECKING:
    from moe2opt.pareto import Grid
    from moe2opt.selection.evaluation.grid_report import GridEvaluation

_PICTURES = ("map", "curves", "curves_reverse")

_FILES = (
    "grid.json",
    "grid_evaluation.json",
    "grid_evaluation.csv",
    "grid_sets.csv",
    *(f"grid_{name}.png" for name in _PICTURES),
)

#: Curves in one picture.
_MOST_CURVES = 5

_BOX = {"facecolor": "#00000066", "edgecolor": "none", "pad": 0.8}
_SMALL: dict[str, Any] = {"fontsize": 5.5, "color": "white", "ha": "center", "va": "center"}


def axes_of(texts: Sequence[str]) -> dict[str, list[float]]:
    """Return the budgets of each axis: ``NAME=LOW:HIGH:COUNT`` (equal ratios) or ``NAME=A,B,C``.

    Raises
    ------
    InputError
        For another form, or numbers that are none.
    """
    found: dict[str, list[float]] = {}
    for text in texts:
        name, equals, budgets = text.partition("=")
        if not equals or not name or name in found:
            raise InputError(f"--grid {text}: expected NAME=LOW:HIGH:COUNT or NAME=A,B,C, once")
        try:
            found[name] = _budgets(budgets)
        except ValueError as error:
            raise InputError(f"--grid {text}: {error}") from error
    return found


def _budgets(text: str) -> list[float]:
    if ":" not in text:
        return [float(part) for part in text.split(",")]
    if text.count(":") != 2:
        raise ValueError("expected NAME=LOW:HIGH:COUNT")
    low, high, count = text.split(":")
    if not 0 < float(low) < float(high) or not 2 <= int(count) <= 1000:
        raise ValueError("expected 0 < LOW < HIGH and 2 to 1000 budgets")
    return [float(f"{b:.6g}") for b in np.geomspace(float(low), float(high), int(count))]


def check_axes(config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise `InputError` for an axis that can be no budget, before anything is computed.

    Parameters
    ----------
    config
        The effective configuration. A name without a dot may also be a budget row; which rows there
        are is only known once the problem is built.
    names
        Names of the axes.
    """
    from moe2opt.schema.source import did_you_mean

    numbers = list(_numbers(config))
    known = dict(numbers)
    for name in names:
        hint = did_you_mean(name, [*_ROWS, *known])
        row = "." not in name or "[" in name
        if name in known or (row and name not in config):
            continue
        if name in config:
            near = [key for key in (*_ROWS, *known) if key.startswith((f"{name}.", f"{name}_"))]
            hint = f"; did you mean '{near[0]}'?" if near else hint
            raise InputError(f"--grid {name}: is no number in the configuration{hint}")
        raise InputError(f"--grid {name}: is not set as a number in this file{hint}")


#: Budget rows that most selections have.
_ROWS = ("energy_j_per_prompt",)


def _numbers(data: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a configuration with its dotted key."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _numbers(value, f"{path}.{key}" if path else str(key))
    elif isinstance(data, list | tuple):
        for k, value in enumerate(data):
            yield from _numbers(value, f"{path}.{k}")
            if isinstance(value, Mapping) and isinstance(value.get("name"), str):
                yield from _numbers(value, f"{path}.{value['name']}")
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield path, float(data)


def run_grid(
    target: Any,
    axes: dict[str, list[float]],
    out: Path | None,
    settings: dict[str, Any],
    *,
    retrain: bool,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> Exit:
    """Solve every cell, judge it on the test part, print and write the tables."""
    from moe2opt.pareto.judging import judged

    if out is not None:
        create(out, *_FILES)
    solved, done = judged(target, axes, retrain=retrain, seed=seed, **settings)
    try:
        if out is not None:
            _write(out, solved, done)
    finally:
        if as_json:
            put(json.dumps(done.to_dict(), indent=1, allow_nan=False))
        else:
            put(done.summary())
    if out is not None and not (quiet or as_json):
        put(f"\nWritten to {out}: {', '.join(sorted(p.name for p in out.glob('grid*')))}")
    if solved.provenance.get("interrupted"):
        say("interrupted: cells that were not reached have the plan and the bound known so far")
        return Exit.INTERRUPTED
    return Exit.OK


def _write(out: Path, solved: Grid, done: GridEvaluation) -> None:
    from moe2opt.plotting import save

    with writing(out, *_FILES):
        solved.save(out / "grid.json")
        text = json.dumps(done.to_dict(), indent=1, allow_nan=False)
        write_frame(out / "grid_evaluation.csv", done.to_frame())
        write_frame(out / "grid_sets.csv", chosen_sets(done))
        write_text(out / "grid_evaluation.json", text + "\n")
    if len(done.axes) == 2:
        for name, figure in pictures(done):
            save(figure, out / f"grid_{name}.png")


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
    from moe2opt.plotting import budget_map, new_figure

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
    from moe2opt.plotting import Curve, label_of, new_figure, tradeoff

    along, across, table, proven = lines
    figure, ax = new_figure(7.2, 4.6)
    shown = np.unique(np.linspace(0, len(across) - 1, _MOST_CURVES).round().astype(int))
    curves = [
        Curve(f"{label_of(other)}: {across[k]:.4g}", along, table[k], proven[k])
        for k in shown[::-1]
    ]
    tradeoff(ax, curves, x=x, y="test accuracy", percent=True, subtitle=about)
    return figure
