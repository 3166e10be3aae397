"""Exact three-objective fronts: every best combination of two budgets and the objective.

Solving at budgets (b, c) gives a plan that uses (u, v). Whatever else is best within these budgets
and not beaten by this plan uses less than u of the one or less than v of the other: two smaller
problems, until nothing is left. Earlier proofs settle most of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.canonical import Instance, Problem, just_below
from moe2opt.pareto.family import Family, row_names
from moe2opt.pareto.indicators import hypervolume, is_nondominated
from moe2opt.pareto.ledger import Ledger, settings_of
from moe2opt.pareto.points import Cell, frame_of
from moe2opt.pareto.store import Plans, kept, told
from moe2opt.present import PLAIN, Measure
from moe2opt.result import InputError, Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Surface:
    """A three-objective front.

    Attributes
    ----------
    name
        Name of the instance.
    axes
        Names of the two budget rows.
    points
        What no other plan beats in both budgets and in the objective; the budgets of a point are
        what its plan uses.
    plans
        Distinct plans, which points refer to.
    complete
        Nothing is missing.
    caveats, provenance, results, measure
        As in `Front`.
    """

    name: str
    axes: tuple[str, str]
    points: tuple[Cell, ...]
    plans: tuple[dict[str, Any], ...] = ()
    complete: bool = False
    caveats: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    results: tuple[Result, ...] = field(default=(), repr=False, compare=False)
    measure: Measure = PLAIN

    def __len__(self) -> int:
        return len(self.points)

    @property
    def certified(self) -> bool:
        """Whether every point is certified."""
        return all(point.certified for point in self.points)

    def hypervolume(self, reference: Sequence[float]) -> float:
        """Return the volume up to a reference: worst use of both budgets, worst objective."""
        *worst, objective = reference
        table = np.array([[*p.budgets, -p.objective] for p in self.points]).reshape(-1, 3)
        return hypervolume(table, (*worst, -objective))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per point."""
        return frame_of(list(self.axes), self.points, self.measure)


def surface(
    target: Instance | Problem,
    x: str,
    y: str,
    *,
    most: int = 10_000,
    on_step: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Surface:
    """Return the exact front of the objective over two budget rows.

    Parameters
    ----------
    target
        An instance or a canonical problem with budgets.
    x, y
        Names of budget rows.
    most
        Largest number of problems looked at (settled or solved); then the front is not complete.
    on_step, settings
        As for `pareto`.

    Raises
    ------
    InputError
        For a name that is no budget row.

    Examples
    --------
    >>> import moe2opt as mo
    >>> from moe2opt.pareto import surface
    >>> p = mo.FacilityProblem(
    ...     values=[[3, 0, 2], [0, 4, 3]], costs=[[1, 2, 1], [1, 1, 3]], budgets=[9, 9])
    >>> found = surface(p, "budgets[0]", "budgets[1]")
    >>> [(*point.budgets, point.objective) for point in found.points][:3]
    [(0.0, 0.0, 0.0), (1.0, 1.0, 3.0), (1.0, 3.0, 5.0)]
    >>> found.complete, found.certified
    (True, True)
    """
    family = Family(target, (x, y))
    rows = row_names(target)
    for name in (x, y):
        if family.kind(name) != "row":
            raise InputError(f"{name} is a key of the configuration; `grid` takes those")
    ledger = Ledger(family, settings_of(target, settings), on_step)
    places = (rows.index(x), rows.index(y))
    with ledger.listening():
        points, plans, complete = _explored(ledger, places, most)
    return Surface(axes=(x, y), points=points, complete=complete, **kept(plans, ledger))


def _explored(
    ledger: Ledger, places: tuple[int, int], most: int
) -> tuple[tuple[Cell, ...], Plans, bool]:
    """Return the points, their plans, and whether everything was looked at."""
    plans, found = Plans(), dict[tuple[float, ...], Cell]()
    problem = ledger.family.posed((0.0, 0.0)).problem
    pending = [tuple(float(problem.costs[k].sum()) for k in places)]
    seen, closed = set(pending), True
    while pending and len(seen) <= most and not ledger.interrupted:
        budgets = pending.pop(0)
        cell = _cell(ledger, plans, budgets, len(found))
        closed &= cell.status in ("OPTIMAL", "INFEASIBLE")
        if cell.x is None:
            continue
        if cell.budgets not in found or found[cell.budgets].objective < cell.objective:
            found[cell.budgets] = cell
        for k in range(2):
            below = just_below(problem, places[k], cell.budgets[k])
            smaller = tuple(below if j == k else b for j, b in enumerate(budgets))
            if below >= 0.0 and smaller not in seen:
                seen.add(smaller)
                pending.append(smaller)
    cells = sorted(found.values(), key=lambda cell: cell.budgets)
    table = np.array([[*c.budgets, -c.objective] for c in cells]).reshape(-1, 3)
    kept = is_nondominated(table)
    return (
        tuple(c for c, keep in zip(cells, kept, strict=True) if keep),
        plans,
        (closed and not pending),
    )


def _cell(ledger: Ledger, plans: Plans, budgets: tuple[float, ...], number: int) -> Cell:
    posed, known = ledger.know(budgets)
    content = told(plans, posed, known)
    pairs = zip(ledger.family.names, budgets, strict=True)
    used = tuple(content["used"].get(name, budget) for name, budget in pairs)
    return Cell(index=(number,), budgets=used, **content)
