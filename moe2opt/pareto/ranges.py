"""How far a profile figure may move before a plan is no longer optimal: exact, by re-solves.

The figure scales what some experts (options) use of one budget. More use only removes solutions, so
the plan stays optimal as long as it fits. Less use only adds solutions, so there is one threshold:
the least reduction at which some better plan fits. A solve at a reduction either proves that none
does, or names one, whose own least reduction is the next to try.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem, Instance, MultipleChoiceProblem, Problem
from moe2opt.certify import certify
from moe2opt.pareto.family import Budgeted, Family, row_names
from moe2opt.pareto.ledger import settings_of
from moe2opt.result import NUMERICAL_GAP, BoolArray, InputError, IntArray, Result, Status
from moe2opt.solve import solve

#: A threshold is exact up to this relative change of the use.
_STEP = 1e-6


@dataclass(frozen=True, slots=True)
class Stability:
    """Range of one figure within which a plan stays optimal.

    Attributes
    ----------
    row
        The budget row.
    members
        Experts (options) whose use of it moves.
    objective
        Value of the plan.
    less, more
        The plan stays optimal while the figure falls by less than the share `less` and rises by
        no more than the share `more`; 0.07 is 7 %.
    next_objective
        Value of the plan that takes over when the figure falls by `less`; None when none was found
        within the range that was looked at, so that `less` is that range.
    certified
        The checker accepted the proof that nothing better fits before `less`.
    solves
        Problems solved.
    """

    row: str
    members: tuple[int, ...]
    objective: float
    less: float
    more: float
    next_objective: float | None
    certified: bool
    solves: int

    def __str__(self) -> str:
        more = "any rise" if math.isinf(self.more) else f"a rise of up to {self.more:.1%}"
        return f"optimal for {more} and a fall of less than {self.less:.1%} of {self.row}"


def stability(
    target: Instance | Problem,
    row: str,
    *,
    members: Sequence[int] | None = None,
    x: Any = None,
    most: float = 0.5,
    **settings: Any,
) -> Stability:
    """Return how far the use of a budget may move while a plan stays optimal.

    Parameters
    ----------
    target
        An instance or a canonical problem with budgets.
    row
        Name of the budget row whose figures move, all by the same factor.
    members
        Experts (facility) or positions of options (multiple choice, group after group) whose
        figures move; all by default.
    x
        The optimal plan; solved for when left out.
    most
        Largest fall that is looked at, a share below 1.
    settings
        Arguments of `moe2opt.solve`.

    Raises
    ------
    InputError
        For unknown rows or members, or when `x` is not proven optimal.

    Examples
    --------
    >>> import moe2opt as mo
    >>> from moe2opt.pareto import stability
    >>> p = mo.FacilityProblem(values=[[3, 0, 2], [0, 4, 3]], costs=[[4, 5, 4]], budgets=[8])
    >>> found = stability(p, "budgets[0]")
    >>> found.objective, round(found.less, 4), found.more, found.next_objective
    (6.0, 0.1111, 0.0, 7.0)
    """
    if not 0 < most < 1:
        raise InputError(f"most = {most} is not understood; it must lie between 0 and 1")
    family = Family(target, (row,))
    problem = family.posed((family.limit(row),)).problem
    k = row_names(target).index(row)
    chosen = settings_of(target, settings)
    moved = _mask(problem, members)
    start = _optimal(problem, x, chosen)
    assert start.x is not None
    more = _headroom(problem, k, moved, start.x)
    fall = _Fall(problem, k, moved, chosen)
    less, better, certified = fall.threshold(start, most)
    return Stability(
        row=row,
        members=tuple(np.flatnonzero(moved).tolist()),
        objective=start.objective,
        less=less,
        more=more,
        next_objective=better,
        certified=certified,
        solves=fall.solves + (x is None),
    )


def _mask(problem: Budgeted, members: Sequence[int] | None) -> BoolArray:
    moved = np.zeros(problem.costs.shape[1], dtype=bool)
    if members is None:
        return ~moved
    places = np.asarray(members, dtype=np.int64)
    if len(places) and not (places.min() >= 0 and places.max() < len(moved)):
        raise InputError(f"members: expected positions from 0 to {len(moved) - 1}")
    moved[places] = True
    return moved


def _optimal(problem: Budgeted, x: Any, settings: dict[str, Any]) -> Result:
    result = solve(problem, warm_start=x, **settings)
    if result.status is not Status.OPTIMAL:
        raise InputError(f"the plan is not proven optimal: {result}")
    if x is None:
        return result
    vector, tolerance = problem.vector(x), max(result.rel_gap, NUMERICAL_GAP)
    value = problem.evaluate(vector)
    if not problem.is_feasible(vector) or value < result.objective - tolerance * abs(value):
        raise InputError("x: the plan is not optimal at the figures as they are")
    return replace(result, x=vector, objective=value)


def _uses(problem: Budgeted, k: int, moved: BoolArray, x: IntArray) -> tuple[float, float]:
    """Return what a solution uses of the row: the part that moves, and the rest."""
    if isinstance(problem, MultipleChoiceProblem):
        places = problem.offsets[:-1] + x
    else:
        places = np.flatnonzero(x)
    own = problem.costs[k][places]
    return math.fsum(own[moved[places]]), math.fsum(own[~moved[places]])


def _headroom(problem: Budgeted, k: int, moved: BoolArray, x: IntArray) -> float:
    """Return by what share the moving part may rise until the limit."""
    part, rest = _uses(problem, k, moved, x)
    if part == 0:
        return math.inf
    return max(0.0, (float(problem.budgets[k]) - rest) / part - 1.0)


class _Fall:
    """The search for the least fall at which a better plan fits."""

    def __init__(
        self, problem: Budgeted, k: int, moved: BoolArray, settings: dict[str, Any]
    ) -> None:
        self.problem, self.k, self.moved, self.settings = problem, k, moved, settings
        self.solves = 0

    def threshold(self, start: Result, most: float) -> tuple[float, float | None, bool]:
        """Return the threshold, the value of the plan that takes over, and whether it is proven."""
        fall, least = most, most
        better: float | None = None
        while True:
            result, certified = self._at(fall, start)
            if result.x is None or result.status is not Status.OPTIMAL:
                return 0.0, better, False
            slack = max(result.rel_gap, NUMERICAL_GAP) * abs(start.objective)
            if result.objective <= start.objective + slack:
                return least, better, certified
            better = result.objective
            part, rest = _uses(self.problem, self.k, self.moved, result.x)
            # The slack of budgets may let in a plan short of its own threshold.
            needed = 1.0 - (float(self.problem.budgets[self.k]) - rest) / part
            least = max(0.0, min(needed, fall))
            fall = least - _STEP * (1.0 - least)
            if fall <= 0.0:
                return 0.0, better, certified

    def _at(self, fall: float, start: Result) -> tuple[Result, bool]:
        self.solves += 1
        problem = scaled(self.problem, self.k, self.moved, 1.0 - fall)
        result = solve(problem, warm_start=start.x, **self.settings)
        verdict = certify(problem, result)
        return result, verdict.ok and verdict.kind == "checked"


def scaled(problem: Budgeted, k: int, moved: BoolArray, factor: float) -> Budgeted:
    """Return the problem with some entries of a budget row times a factor."""
    costs = problem.costs.copy()
    costs[k, moved] *= factor
    if isinstance(problem, FacilityProblem):
        return replace(problem, costs=costs)
    cuts = problem.offsets[1:-1]
    return replace(problem, usage=tuple(np.split(costs.T, cuts)))
