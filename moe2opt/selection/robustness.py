"""What keeping the budgets robustly means for a plan, and what it costs in quality."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.result import InputError, IntArray, Result, Status

if TYPE_CHECKING:
    from moe2opt.selection.gated_plan import GatedPlan
    from moe2opt.selection.instance import SelectionInstance
    from moe2opt.selection.plan import SelectionPlan


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


def robustness_of(instance: SelectionInstance, x: IntArray) -> Robustness | None:
    """Return the margins of the 0/1 vector `x`; None for an instance that is not robust."""
    nominal = instance.nominal
    if nominal is None or instance.robust_quantile is None:
        return None
    chosen = np.flatnonzero(x)
    lost = np.asarray((instance.late & ~nominal.late)[:, chosen].any(axis=1))
    return Robustness(
        quantile=instance.robust_quantile,
        margins=_margins(instance, nominal, x),
        lost_categories=tuple(
            name for name, gone in zip(instance.categories, lost.tolist(), strict=True) if gone
        ),
    )


def _margins(
    instance: SelectionInstance, nominal: SelectionInstance, x: IntArray
) -> tuple[Margin, ...]:
    own, other = instance.compiled, nominal.compiled
    plain = dict(zip(other.budget_names, other.usage_of(x).tolist(), strict=True))
    rows = [
        (name, float(limit), plain[name], float(used))
        for name, limit, used in zip(own.budget_names, own.budgets, own.usage_of(x), strict=True)
        if name in plain and name.startswith(("energy", "delay", "experts_over", "waiting"))
    ]
    fullest = max((used / limit for _, limit, _, used in rows if limit > 0), default=0.0)
    return tuple(
        Margin(name, limit, before, used, limit > 0 and used / limit >= fullest - 1e-12)
        for name, limit, before, used in rows
    )


def compared(instance: SelectionInstance, plan: SelectionPlan, nominal: Result) -> SelectionPlan:
    """Return the plan with the price of robustness, from a solution of `instance.nominal`."""
    if plan.robustness is None or nominal.x is None:
        return plan
    return replace(
        plan,
        robustness=replace(
            plan.robustness,
            nominal_objective=float(nominal.objective),
            nominal_bound=float(nominal.bound),
            broken=tuple(_broken(instance, nominal.x)),
            nominal_x=tuple(nominal.x.tolist()),
        ),
    )


def compared_again(instance: SelectionInstance, plan: SelectionPlan, stored: Any) -> SelectionPlan:
    """Return a rebuilt plan with the price of robustness that a stored one tells.

    Value and faults of the plan without robustness follow from its solution. Its bound is a claim
    of the run that found it, which no certificate backs.
    """
    told = stored.get("robustness") if isinstance(stored, dict) else None
    if instance.nominal is None or not isinstance(told, dict) or told.get("nominal_x") is None:
        return plan
    problem = instance.nominal.problem()
    x = problem.vector(told["nominal_x"])
    if not problem.is_feasible(x):
        raise InputError("plan.robustness.nominal_x breaks a budget without robustness, too")
    value, bound = problem.evaluate(x), float(told["nominal_bound"])
    return compared(instance, plan, Result(Status.FEASIBLE, None, x, value, max(value, bound)))


def _broken(instance: SelectionInstance, x: IntArray) -> list[str]:
    own = instance.compiled
    x = x[: len(instance.experts)]
    names = [
        name
        for name, amount, limit in zip(own.budget_names, own.usage_of(x), own.limits, strict=True)
        if amount > limit
    ]
    served = np.asarray((~instance.late[:, np.flatnonzero(x)]).any(axis=1))
    late = [
        f"deadline of {name}"
        for name, any_in_time in zip(instance.categories, served.tolist(), strict=True)
        if not any_in_time
    ]
    return names + late


def robust_lines(plan: SelectionPlan | GatedPlan) -> list[str]:
    """Return the robustness of a plan in words; empty when there is none."""
    own = plan.robustness
    if own is None:
        return []
    lines = [f"Robust: every prediction is put at its {100 * own.quantile:g} % quantile."]
    for margin in own.margins:
        mark = "  tight" if margin.tight else ""
        lines.append(
            f"  {margin.name}: {margin.predicted:.4g} by the predictions, {margin.robust:.4g} "
            f"at the quantile, limit {margin.limit:.4g}{mark}"
        )
    if own.lost_categories:
        lines.append(f"  too late at the quantile: some expert in {', '.join(own.lost_categories)}")
    if own.nominal_objective is not None:
        lines.append(_price(plan.predicted_accuracy, own))
    return ["", *lines]


def _price(objective: float, own: Robustness) -> str:
    assert own.nominal_objective is not None
    points = 100 * (own.nominal_objective - objective)
    bound = np.inf if own.nominal_bound is None else own.nominal_bound
    proven = bound <= own.nominal_objective * (1 + 1e-6)
    least = "" if proven else "at least "
    text = (
        f"  price of robustness: {least}{points:.2f} points "
        f"({100 * own.nominal_objective:.2f} % without it, {100 * objective:.2f} % with it)"
    )
    if own.broken:
        text += f"; the plan without it would break: {', '.join(own.broken)}"
    return text
