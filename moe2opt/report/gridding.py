"""The grid behind the explorer: which two budgets, over which range, and its computation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem, Problem
from moe2opt.config import LoadedInstance
from moe2opt.pareto import Grid, grid
from moe2opt.questions import question_of
from moe2opt.result import InputError
from moe2opt.source import name_of, source_of
from moe2opt.writing import check_ours

#: Name of the file that holds the grid in a folder of results.
FILE = "grid.json"


def default_axes(target: LoadedInstance, points: int) -> dict[str, tuple[float, ...]]:
    """Return two budgets of an instance and `points` limits of each around the present ones.

    Its question says which; else they are its first two budget rows.

    Raises
    ------
    InputError
        When the instance does not limit two of them.
    """
    ranges = _ranges(target)
    if len(ranges) < 2:
        raise InputError(
            f"{name_of(target)}: has not two budgets for the explorer; name them: "
            "--axis NAME=LOW:HIGH, twice"
        )
    return {name: between(*ranges[name], points) for name in list(ranges)[:2]}


def flags_of(target: LoadedInstance | Problem | None) -> str:
    """Return the flags of ``moe2opt report`` that compute a grid, empty when none do.

    Parameters
    ----------
    target
        What the results were made for, None when it is not at hand.
    """
    known: Any = target
    bare = not hasattr(known, "problem")
    problem = known if bare else known.problem()
    if not isinstance(problem, FacilityProblem | MultipleChoiceProblem):
        return ""
    if bare and len(problem.budgets) < 2:
        return ""
    by_default = not bare and len(_ranges(known)) >= 2
    return "--grid" if by_default else "--grid --axis NAME=LOW:HIGH --axis NAME=LOW:HIGH"


def _ranges(target: Any) -> dict[str, tuple[float, float]]:
    """Return names (rows or dotted keys) and ranges of budgets worth exploring."""
    source, question = source_of(target), question_of(target)
    if source is not None and question is not None and question.axes is not None:
        return question.axes(source.effective)
    problem = target.problem()
    if not isinstance(problem, FacilityProblem | MultipleChoiceProblem):
        return {}
    limits = zip(target.row_names(), problem.budgets.tolist(), strict=True)
    return {name: (limit / 2, 2.0 * limit) for name, limit in limits if 0 < limit < np.inf}


def between(low: float, high: float, points: int) -> tuple[float, ...]:
    """Return budgets from `low` to `high` at equal ratios, of three digits each.

    Raises
    ------
    InputError
        When they are not positive and rising, or `points` is less than 2.
    """
    if not 0 < low < high < np.inf or points < 2:
        raise InputError(f"a range of budgets is LOW:HIGH with 0 < LOW < HIGH, not {low}:{high}")
    return tuple(float(f"{value:.3g}") for value in np.geomspace(low, high, points))


def parse_axes(texts: Sequence[str], points: int) -> dict[str, tuple[float, ...]]:
    """Return the axes of texts ``NAME=LOW:HIGH``.

    Raises
    ------
    InputError
        When there are not two, or one is not understood.
    """
    axes = {}
    for text in texts:
        name, _, limits = text.rpartition("=")
        low, _, high = limits.partition(":")
        try:
            axes[name] = between(float(low), float(high), points)
        except ValueError as error:
            raise InputError(f"--axis {text}: expected NAME=LOW:HIGH") from error
    if len(axes) != 2:
        raise InputError(f"--axis: the explorer has two budgets, got {len(axes)}")
    return axes


def add_grid(
    folder: Path,
    target: LoadedInstance | Problem,
    axes: dict[str, tuple[float, ...]],
    on_step: Callable[[int, int], None] | None = None,
    time_limit_s: float | None = None,
) -> Grid:
    """Compute a grid over two budgets and write it into a folder of results.

    The limit is for each cell; a cell that it stops keeps its gap.
    """
    check_ours(folder, [FILE])
    found = grid(target, axes, on_step=on_step, time_limit_s=time_limit_s)
    found.save(folder / FILE)
    return found
