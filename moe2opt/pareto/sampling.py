"""Exact two-objective fronts by epsilon-constraint, refined where least is known.

The best objective is a staircase over the budget. A solved budget b gives a plan that uses u <= b:
the staircase is flat on [u, b]. What is unknown between two steps lies in a rectangle; the largest
rectangle is looked into next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem, Instance, Problem, just_below
from moe2opt.pareto.family import Family, Posed, row_names
from moe2opt.pareto.ledger import Known, Ledger, settings_of
from moe2opt.pareto.model import Front
from moe2opt.pareto.points import FrontPoint
from moe2opt.pareto.prices import best_line
from moe2opt.pareto.store import Plans, kept, told
from moe2opt.result import InputError, Status

#: Problems looked at per point that is asked for.
_MOST_PER_POINT = 4


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the staircase: from `budget` up to `flat_to` the optimum is `objective`."""

    budget: float
    flat_to: float
    posed: Posed
    known: Known

    @property
    def objective(self) -> float:
        """Its value."""
        return self.known.objective


def pareto(
    target: Instance[Any] | Problem,
    x: str,
    points: int | None = 25,
    *,
    low: float | None = None,
    high: float | None = None,
    budgets: Sequence[float] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Front:
    """Return the exact front of the objective over one budget.

    Parameters
    ----------
    target
        An instance or a canonical problem with budgets.
    x
        Name of a budget row (``energy_j_per_prompt``; ``budgets[0]`` for a bare problem), or a
        dotted key of the configuration (``delay.limit_s``).
    points
        Number of points for the adaptive search; None for every point there is (budget rows only).
    low, high
        Range of the budget. By default from the least budget with a plan to the least budget with
        the best plan; needed for a key.
    budgets
        Exactly these budgets instead.
    on_step
        Called after every problem with the number of problems known and of problems solved.
    settings
        Arguments of `moe2opt.solve` for each point: ``time_limit_s``, ``rel_gap``, ``seed``, ...

    Returns
    -------
    Front
        Points in ascending order of the budget. For a budget row each is a step of the staircase:
        its budget is what its plan uses (without `budgets`).

    Raises
    ------
    InputError
        For an unknown name, or a range that is missing or empty.

    Examples
    --------
    >>> import moe2opt as mo
    >>> p = mo.FacilityProblem(values=[[3, 0, 2], [0, 4, 3]], costs=[[1, 2, 1]], budgets=[9])
    >>> front = mo.pareto(p, x="budgets[0]", points=None)
    >>> [(point.budget, point.objective, point.certified) for point in front]
    [(0.0, 0.0, True), (1.0, 5.0, True), (2.0, 6.0, True), (3.0, 7.0, True)]
    """
    _check_numbers(points, low, high)
    family = Family(target, (x,))
    ledger = Ledger(family, settings_of(target, settings), on_step)
    with ledger.listening():
        if budgets is not None:
            found = [_step_at(ledger, b) for b in reversed(family.axis(x, budgets).values)]
            return front_of(ledger, found[::-1], complete=False)
        search = _Search(ledger, x, points)
        if family.kind(x) == "key":
            search.sample(*_range(family, x, low, high))
        else:
            search.staircase(low, high)
    return front_of(ledger, search.steps, complete=search.complete)


def _check_numbers(points: Any, low: Any, high: Any) -> None:
    if points is not None and (not isinstance(points, Integral) or int(points) < 1):
        raise InputError(f"points = {points!r} is not understood; it must be at least 1")
    for name, end in (("low", low), ("high", high)):
        if end is not None and not isinstance(end, Real):
            raise InputError(f"{name} = {end!r} is not understood; it must be a number")


def _range(family: Family, x: str, low: float | None, high: float | None) -> tuple[float, float]:
    high = family.limit(x) if high is None else high
    if low is None or not low < high:
        raise InputError(f"{x}: give a range with low < high (high = {high:g}), or budgets")
    return low, high


def _step_at(ledger: Ledger, budget: float) -> Step:
    posed, known = ledger.know((budget,))
    return Step(budget, budget, posed, known)


class _Search:
    """Steps found so far, in ascending order of the budget."""

    def __init__(self, ledger: Ledger, x: str, points: int | None) -> None:
        self.ledger, self.x, self.points = ledger, x, points
        self.steps: list[Step] = []
        self.complete = False
        self.asked = 0
        self.row = -1
        if ledger.family.kind(x) == "row":
            self.row = row_names(ledger.family.target).index(x)

    # ------------------------------------------------------------------ a key: sampled

    def sample(self, low: float, high: float) -> None:
        """Look at both ends, then halve the interval that hides most."""
        if self.points is None:
            raise InputError(f"{self.x} is a key of the configuration: give a number of points")
        self.steps = [_step_at(self.ledger, high)]
        if self.points > 1:
            self.steps.insert(0, _step_at(self.ledger, low))
        while len(self.steps) < self.points:
            gaps = [
                (b.budget - a.budget) * (1e-9 + _rise(a, b))
                for a, b in zip(self.steps, self.steps[1:], strict=False)
            ]
            k = int(np.argmax(gaps))
            middle = (self.steps[k].budget + self.steps[k + 1].budget) / 2
            self.steps.insert(k + 1, _step_at(self.ledger, middle))

    # ------------------------------------------------------------------ a budget row: exact

    def staircase(self, low: float | None, high: float | None) -> None:
        """Find the top and the bottom of the staircase, then what lies between."""
        top = self._ask(self._everything() if high is None else high)
        if top.known.x is None:
            self.steps = [top]
            return
        self.steps = [top]
        if self.points == 1:
            return
        grounded = self._bottom(-math.inf if low is None else low)
        while self._wanted():
            interval = self._largest()
            if interval is None:
                optimal = all(s.known.status is Status.OPTIMAL for s in self.steps)
                self.complete = grounded and optimal
                return
            self._look_into(interval)

    def _everything(self) -> float:
        """Return a budget that no solution exceeds."""
        problem = self.ledger.family.posed((0.0,)).problem
        costs = problem.costs[self.row]
        if isinstance(problem, FacilityProblem):
            return float(costs.sum())
        return float(np.maximum.reduceat(costs, problem.offsets[:-1]).sum())

    def _ask(self, budget: float) -> Step:
        """Return the step at a budget, moved down to what its plan uses."""
        self.asked += 1
        posed, known = self.ledger.know((budget,))
        if known.x is None:
            return Step(budget, budget, posed, known)
        used = min(budget, posed.used(known.x)[self.x])
        return Step(used, budget, self.ledger.family.posed((used,)), known)

    def _bottom(self, low: float) -> bool:
        """Add the step at the least budget with a plan, or at `low` if that is larger.

        Returns
        -------
        bool
            Whether nothing lies below; False where the least budget was not found.
        """
        first = self._ask(max(low, 0.0))
        if first.known.x is None:
            least = self._least(first)
            if least is None:
                return False
            if least >= self.steps[-1].budget:
                return True
            first = self._ask(least)
        if first.known.x is not None:
            self._add(first)
        return first.known.x is not None

    def _least(self, infeasible: Step) -> float | None:
        """Return the least budget with a plan, from the proof that a smaller one has none."""
        result = self.ledger.proofs[infeasible.known.proof].result
        conflict = None if result.certificate is None else result.certificate.conflict
        relaxations = () if conflict is None else conflict.relaxations
        return next((r.limit for r in relaxations if r.row == self.row), None)

    def _wanted(self) -> bool:
        if self.ledger.interrupted:
            return False
        if self.points is None:
            return True
        most = _MOST_PER_POINT * self.points
        return len(self.steps) < self.points and self.asked < most

    def _largest(self) -> int | None:
        """Return the step whose right side hides the largest rectangle, None if none is left."""
        sizes = [self._unknown(a, b) for a, b in zip(self.steps, self.steps[1:], strict=False)]
        if not sizes or max(sizes) <= 0.0:
            return None
        return int(np.argmax(sizes))

    def _look_into(self, k: int) -> None:
        """Ask for the middle of what is unknown, or, for all points, right below a step."""
        left, right = self.steps[k], self.steps[k + 1]
        below = self._below(right)
        budget = below if self.points is None else (left.flat_to + right.budget) / 2
        self._add(self._ask(min(below, budget)))

    def _below(self, step: Step) -> float:
        """Return the largest budget that counts as smaller than a step's."""
        return just_below(step.posed.problem, self.row, step.budget)

    def _unknown(self, left: Step, right: Step) -> float:
        """Return the area of what is unknown between two steps."""
        width = self._below(right) - left.flat_to
        return width * max(0.0, _rise(left, right)) if width > 0 else 0.0

    def _add(self, step: Step) -> None:
        """Insert a step; one that is no better than its left neighbour only lengthens that."""
        at = next((k for k, s in enumerate(self.steps) if s.budget > step.budget), len(self.steps))
        left = self.steps[at - 1] if at else None
        if left is not None and _same(left, step):
            flat = max(left.flat_to, step.flat_to)
            self.steps[at - 1] = Step(left.budget, flat, left.posed, left.known)
            return
        self.steps.insert(at, step)
        while at + 1 < len(self.steps) and _same(step, self.steps[at + 1]):
            right = self.steps.pop(at + 1)
            step = Step(step.budget, max(step.flat_to, right.flat_to), step.posed, step.known)
            self.steps[at] = step


def _rise(left: Step, right: Step) -> float:
    rise = right.objective - left.objective
    return rise if math.isfinite(rise) else abs(right.objective)


def _same(left: Step, right: Step) -> bool:
    """Tell whether nothing is gained from one step to the next."""
    if left.known.x is None or right.known.x is None:
        return False
    return right.objective <= left.objective + 1e-12 * abs(left.objective)


def front_of(ledger: Ledger, steps: Sequence[Step], *, complete: bool) -> Front:
    """Return the front of the steps, plans decoded and prices added."""
    family = ledger.family
    x = family.names[0]
    plans = Plans()
    points = tuple(_point(ledger, plans, k, step) for k, step in enumerate(steps))
    axis = family.axis(x, [step.budget for step in steps])
    return Front(x=axis, points=points, complete=complete, **kept(plans, ledger))


def _point(ledger: Ledger, plans: Plans, k: int, step: Step) -> FrontPoint:
    known = step.known
    line = price = None
    if known.proof >= 0:
        proof = ledger.proofs[known.proof]
        line = best_line(proof.problem, proof.result.certificate)
    if line is not None and step.posed.rows and ledger.family.kind(ledger.family.names[0]) == "row":
        price = float(line.prices[step.posed.rows.index(ledger.family.names[0])])
    return FrontPoint(
        index=(k,),
        budgets=(step.budget,),
        value_per_unit=price,
        **told(plans, step.posed, known),
    )
