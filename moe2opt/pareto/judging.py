"""Certified plans over a grid of budgets, judged beside every baseline on the test part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from moe2opt import progress
from moe2opt.config import LoadedInstance
from moe2opt.pareto.cells import grid
from moe2opt.pareto.family import Family
from moe2opt.pareto.model import Grid
from moe2opt.selection.evaluation.grid import SolvedCell, evaluate_grid
from moe2opt.selection.evaluation.grid_report import GridEvaluation


def judged(
    target: LoadedInstance,
    axes: Mapping[str, Sequence[float]],
    *,
    retrain: bool = False,
    seed: int = 0,
    **settings: Any,
) -> tuple[Grid, GridEvaluation]:
    """Solve every combination of budgets, and compare the plans with the baselines.

    Parameters
    ----------
    target
        What `moe2opt.load` returned for a configuration with `experts.outcomes`.
    axes
        Budgets of each axis, a budget row or a key of the configuration.
    retrain, seed
        As in `moe2opt.selection.evaluation.grid.evaluate_grid`.
    settings
        As for `moe2opt.pareto.grid`.
    """
    total = int(np.prod([len(budgets) for budgets in axes.values()]))
    solved = grid(target, axes, on_step=_every(total, "solved"), **settings)
    cells, heard = _cells(Family(target, tuple(axes)), solved), _every(total, "judged")
    return solved, evaluate_grid(axes, cells, retrain=retrain, seed=seed, on_step=heard)


def _cells(family: Family, solved: Grid) -> Iterator[SolvedCell]:
    """Yield each solved cell with its problem and its instance."""
    for cell in solved:
        posed = family.posed(cell.budgets)
        yield SolvedCell(
            budgets=cell.budgets,
            instance=posed.instance,
            problem=posed.problem,  # type: ignore[arg-type]
            x=None if cell.x is None else np.array(cell.x, dtype=np.int64),
            status=cell.status,
            certified=cell.certified,
            objective=cell.objective,
            bound=cell.bound,
        )


def _every(total: int, word: str) -> Callable[..., None]:
    """Return a listener that writes a line now and then."""
    step = max(1, total // 20)

    def hear(known: int, _: int = 0) -> None:
        if known % step == 0 or known == total:
            progress.logger.info(f"  {known} of {total} cells {word}")

    return hear
