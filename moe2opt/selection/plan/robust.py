"""What keeping the budgets robustly means for a plan, and what it costs in quality."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from moe2opt.canonical import Problem
from moe2opt.result import InputError, IntArray, Result, Status
from moe2opt.selection.case import Case
from moe2opt.selection.constraints.compiled import Compiled

#: A plan with a field `robustness`.
_Plan = TypeVar("_Plan", bound=Any)


@dataclass(frozen=True, slots=True)
class Margin:
    """One budget at the predictions themselves and at their quantile.

    Attributes
    ----------
    name
        Budget row.
    limit, predicted, robust
        Its limit, and what the plan uses at the predictions and at the quantile.
    tight
        Whether no budget is fuller at the quantile.
    """

    name: str
    limit: float
    predicted: float
    robust: float
    tight: bool


@dataclass(frozen=True, slots=True)
class Robustness:
    """Robust budgets of a plan.

    Attributes
    ----------
    quantile
        Probability that a single prediction is not exceeded.
    margins
        The budgets that depend on predictions.
    lost_categories
        Categories that some deployed expert serves in time by the predictions, but not at the
        quantile.
    nominal_objective, nominal_bound
        Best objective without robustness, and its proven bound; None before `compared`.
    broken
        Budgets and deadlines that the best plan without robustness breaks at the quantile.
    nominal_x
        That plan, in the variables of the problem without robustness.
    """

    quantile: float
    margins: tuple[Margin, ...]
    lost_categories: tuple[str, ...]
    nominal_objective: float | None = None
    nominal_bound: float | None = None
    broken: tuple[str, ...] = ()
    nominal_x: tuple[int, ...] | None = None

    @property
    def tight(self) -> tuple[str, ...]:
        """Names of the fullest budgets."""
        return tuple(margin.name for margin in self.margins if margin.tight)


def with_margins(
    plan: _Plan, case: Case, own: Compiled, nominal: Case, other: Compiled, x: IntArray
) -> _Plan:
    """Return the plan of `x` with the margins of its budgets between the predictions and quantiles.

    `own` and `other` are the robust `case` and the `nominal` one compiled.
    """
    assert case.robust_quantile is not None
    x = own.problem.vector(x)[: len(case.experts)]
    chosen = np.flatnonzero(x)
    lost = np.asarray((case.late & ~nominal.late)[:, chosen].any(axis=1))
    plain = dict(zip(other.budget_names, other.usage_of(x).tolist(), strict=True))
    rows = [
        (name, float(limit), plain[name], float(used))
        for name, limit, used in zip(own.budget_names, own.budgets, own.usage_of(x), strict=True)
        if name in plain and name.startswith(("energy", "delay", "experts_over", "waiting"))
    ]
    fullest = max((used / limit for _, limit, _, used in rows if limit > 0), default=0.0)
    margins = tuple(
        Margin(name, limit, before, used, limit > 0 and used / limit >= fullest - 1e-12)
        for name, limit, before, used in rows
    )
    names = zip(case.categories, lost.tolist(), strict=True)
    gone = tuple(name for name, is_gone in names if is_gone)
    return replace(plan, robustness=Robustness(case.robust_quantile, margins, gone))


def compared(plan: _Plan, case: Case, own: Compiled, nominal: Result) -> _Plan:
    """Return the plan with the price of robustness, from a solution of the case without it."""
    if plan.robustness is None or nominal.x is None:
        return plan
    return replace(
        plan,
        robustness=replace(
            plan.robustness,
            nominal_objective=float(nominal.objective),
            nominal_bound=float(nominal.bound),
            broken=tuple(_broken(case, own, nominal.x)),
            nominal_x=tuple(nominal.x.tolist()),
        ),
    )


def compared_again(plan: _Plan, case: Case, own: Compiled, nominal: Problem, stored: Any) -> _Plan:
    """Return a rebuilt plan with the price of robustness that a stored one tells.

    Value and faults of the plan without robustness follow from its solution of the problem
    `nominal`. Its bound is a claim of the run that found it, which no certificate backs.
    """
    told = stored.get("robustness") if isinstance(stored, dict) else None
    if not isinstance(told, dict) or told.get("nominal_x") is None:
        return plan
    x = nominal.vector(told["nominal_x"])
    if not nominal.is_feasible(x):
        raise InputError("plan.robustness.nominal_x breaks a budget without robustness, too")
    value, bound = nominal.evaluate(x), float(told["nominal_bound"])
    return compared(plan, case, own, Result(Status.FEASIBLE, None, x, value, max(value, bound)))


def _broken(case: Case, own: Compiled, x: IntArray) -> list[str]:
    x = x[: len(case.experts)]
    used = zip(own.budget_names, own.usage_of(x), own.limits, strict=True)
    served = np.asarray((~case.barred[:, np.flatnonzero(x)]).any(axis=1))
    return [
        *(name for name, amount, limit in used if amount > limit),
        *(f"deadline of {name}" for name, s in zip(case.categories, served, strict=True) if not s),
    ]
