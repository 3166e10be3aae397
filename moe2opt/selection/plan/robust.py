"""What keeping the budgets robustly means for a plan, and what it costs in quality."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from moe2opt.canonical import Problem
from moe2opt.result import Certificate, InputError, IntArray, Result, Status
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
        Best objective without robustness, and its bound; None before `compared`, and a bound that
        is infinite.
    broken
        Budgets and deadlines that the best plan without robustness breaks at the quantile.
    nominal_x
        That plan, in the variables of the problem without robustness.
    nominal_certificate
        Proof of its bound, as `Certificate.to_dict` gives it; None where the solver gives none or
        it is too large for a plan, so that the bound is a claim.
    """

    quantile: float
    margins: tuple[Margin, ...]
    lost_categories: tuple[str, ...]
    nominal_objective: float | None = None
    nominal_bound: float | None = None
    broken: tuple[str, ...] = ()
    nominal_x: tuple[int, ...] | None = None
    nominal_certificate: dict[str, Any] | None = None

    @property
    def tight(self) -> tuple[str, ...]:
        """Names of the fullest budgets."""
        return tuple(margin.name for margin in self.margins if margin.tight)

    @property
    def nominal(self) -> Result | None:
        """What the solver said of the problem without robustness; None before `compared`."""
        if self.nominal_x is None or self.nominal_objective is None:
            return None
        proof = self.nominal_certificate
        return Result(
            status=Status.FEASIBLE,
            limit=None,
            x=np.array(self.nominal_x),
            objective=self.nominal_objective,
            bound=np.inf if self.nominal_bound is None else self.nominal_bound,
            certificate=None if proof is None else Certificate.from_dict(proof),
        )


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


def compared(plan: _Plan, case: Case, own: Compiled, nominal: Result | None) -> _Plan:
    """Return the plan with the price of robustness, from a solution of the case without it."""
    if plan.robustness is None or nominal is None or nominal.x is None:
        return plan
    proof = nominal.certificate
    return replace(
        plan,
        robustness=replace(
            plan.robustness,
            nominal_objective=float(nominal.objective),
            nominal_bound=float(nominal.bound) if np.isfinite(nominal.bound) else None,
            broken=tuple(_broken(case, own, nominal.x)),
            nominal_x=tuple(nominal.x.tolist()),
            nominal_certificate=None if proof is None or proof.is_large else proof.to_dict(),
        ),
    )


def compared_again(plan: _Plan, case: Case, own: Compiled, nominal: Problem, stored: Any) -> _Plan:
    """Return a rebuilt plan with the price of robustness that a stored one tells.

    Value and faults of the plan without robustness follow from its solution of the problem
    `nominal`. Whether its certificate proves its bound is for `moe2opt.verify` to say.
    """
    told = stored.get("robustness") if isinstance(stored, dict) else None
    if not isinstance(told, dict) or told.get("nominal_x") is None:
        return plan
    x = nominal.vector(told["nominal_x"])
    if not nominal.is_feasible(x):
        raise InputError("plan.robustness.nominal_x breaks a budget without robustness, too")
    value = nominal.evaluate(x)
    bound = told["nominal_bound"]
    price = replace(
        plan.robustness,
        nominal_x=tuple(x.tolist()),
        nominal_objective=value,
        nominal_bound=None if bound is None else max(value, float(bound)),
        nominal_certificate=told.get("nominal_certificate"),
    )
    return compared(plan, case, own, price.nominal)


def _broken(case: Case, own: Compiled, x: IntArray) -> list[str]:
    x = x[: len(case.experts)]
    used = zip(own.budget_names, own.usage_of(x), own.limits, strict=True)
    served = np.asarray((~case.barred[:, np.flatnonzero(x)]).any(axis=1))
    return [
        *(name for name, amount, limit in used if amount > limit),
        *(f"deadline of {name}" for name, s in zip(case.categories, served, strict=True) if not s),
    ]
