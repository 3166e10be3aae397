"""Certified plans over a grid of budgets, judged beside every baseline on the test part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from moe2opt import progress
from moe2opt.config import LoadedInstance, load
from moe2opt.pareto.cells import grid
from moe2opt.pareto.family import Family
from moe2opt.pareto.model import Grid
from moe2opt.result import InputError
from moe2opt.selection.evaluation.grid import SolvedCell, evaluate_grid
from moe2opt.selection.evaluation.grid_report import GridEvaluation
from moe2opt.source import source_of


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
    (solved,), compared = judged_over_splits([target], axes, retrain=retrain, seed=seed, **settings)
    return solved, compared


def judged_over_splits(
    targets: Sequence[LoadedInstance],
    axes: Mapping[str, Sequence[float]],
    *,
    retrain: bool = False,
    seed: int = 0,
    **settings: Any,
) -> tuple[list[Grid], GridEvaluation]:
    """Do the same for several splits of one configuration, and pool what they say.

    Parameters
    ----------
    targets
        What `split_anew` returns.
    axes, retrain, seed, settings
        As in `judged`.

    Returns
    -------
    grids, evaluation
        The solved grid of each split, and the comparison.
    """
    total = int(np.prod([len(budgets) for budgets in axes.values()]))
    grids, families = [], []
    for target in targets:
        head = f"split {_split_seed(target)}: " if len(targets) > 1 else ""
        grids.append(grid(target, axes, on_step=_every(total, "solved", head), **settings))
        families.append(Family(target, tuple(axes)))
    cells = zip(*map(_cells, families, grids), strict=True)
    heard = _every(total, "judged")
    return grids, evaluate_grid(axes, cells, retrain=retrain, seed=seed, on_step=heard)


def split_anew(target: LoadedInstance, count: int) -> list[Any]:
    """Return the instance and others whose prompts are split by the next seeds.

    A gate of its own belongs to every split: it is read from the folder of the gate with
    ``-split-SEED`` behind its name where that exists, and trained otherwise.

    Raises
    ------
    InputError
        When the instance was not loaded from a file.
    """
    found: list[Any] = [target]
    first = _split_seed(target)
    source = source_of(target)
    if source is None:
        raise InputError("splits: the instance was not loaded from a file")
    for seed in range(first + 1, first + count):
        folder = f"{target.gate_folder.name}-split-{seed}"
        texts = [f"splits.seed={seed}", f"gate.folder={folder}"]
        overrides = [*source.overrides, *texts]
        found.append(load(source.path, source.scenario, overrides, allow_outside=True))
    return found


def _split_seed(target: Any) -> int:
    return int(target.split.seed)


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


def _every(total: int, word: str, head: str = "") -> Callable[..., None]:
    """Return a listener that writes a line now and then."""
    step = max(1, total // 20)

    def hear(known: int, _: int = 0) -> None:
        if known % step == 0 or known == total:
            progress.logger.info(f"  {head}{known} of {total} cells {word}")

    return hear
