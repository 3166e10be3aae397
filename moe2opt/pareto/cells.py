"""Exact grids over two or more budgets, from the largest budgets down."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moe2opt.canonical import Instance, Problem
from moe2opt.pareto.family import Family, Posed
from moe2opt.pareto.ledger import Known, Ledger, settings_of
from moe2opt.pareto.model import Grid
from moe2opt.pareto.points import Axis, Cell
from moe2opt.pareto.store import Plans, kept, told
from moe2opt.result import InputError


def grid(
    target: Instance | Problem,
    axes: Mapping[str, Sequence[float]],
    *,
    on_step: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Grid:
    """Return the best objective at every combination of budgets.

    Cells are visited from the largest budgets down. A cell whose optimum follows from a relaxed
    one is not solved.

    Parameters
    ----------
    target
        An instance or a canonical problem with budgets.
    axes
        Budgets by name; names as for `pareto`. The first axis is the outer one.
    on_step, settings
        As for `pareto`.

    Raises
    ------
    InputError
        For an unknown name or budgets that are no numbers.

    Examples
    --------
    >>> import moe2opt as mo
    >>> from moe2opt.pareto import grid
    >>> p = mo.FacilityProblem(
    ...     values=[[3, 0, 2], [0, 4, 3]], costs=[[1, 2, 1], [1, 1, 3]], budgets=[9, 9])
    >>> found = grid(p, {"budgets[0]": [1, 3], "budgets[1]": [1, 2, 4]})
    >>> found.objectives.tolist(), found.certified
    ([[3.0, 3.0, 5.0], [4.0, 7.0, 7.0]], True)
    """
    if not axes:
        raise InputError("a grid needs at least one axis")
    family = Family(target, tuple(axes))
    found = tuple(family.axis(name, values) for name, values in axes.items())
    ledger = Ledger(family, settings_of(target, settings), on_step)
    indices = list(itertools.product(*(range(len(axis.values)) for axis in found)))
    known: dict[tuple[int, ...], tuple[Posed, Known]] = {}
    with ledger.listening():
        for index in reversed(indices):
            known[index] = ledger.know(_budgets(found, index))
    return grid_of(ledger, found, known)


def grid_of(
    ledger: Ledger, axes: Sequence[Axis], known: Mapping[tuple[int, ...], tuple[Posed, Known]]
) -> Grid:
    """Return the grid of what is known at each index, plans decoded."""
    plans = Plans()
    cells = [_cell(axes, plans, index, *known[index]) for index in sorted(known, reverse=True)]
    return Grid(axes=tuple(axes), cells=tuple(reversed(cells)), **kept(plans, ledger))


def _budgets(axes: Sequence[Axis], index: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(axis.values[k] for axis, k in zip(axes, index, strict=True))


def _cell(
    axes: Sequence[Axis], plans: Plans, index: tuple[int, ...], posed: Posed, known: Known
) -> Cell:
    return Cell(index=index, budgets=_budgets(axes, index), **told(plans, posed, known))
