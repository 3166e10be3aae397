"""What plans of both kinds are put together from."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.case import Case
from moe2opt.selection.catalogue import Expert
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.selection.constraints.objectives import mixture_weights
from moe2opt.selection.plan.model import (
    DeployedExpert,
    GatedPlan,
    Measurements,
    Money,
    SelectionPlan,
    Usage,
)

#: Rows of a measured table that a plan holds where they are about single prompts.
_MOST_ROWS = 1000

_Plan = TypeVar("_Plan", SelectionPlan, GatedPlan)


def deployed(expert: Expert, share_of_prompts: float) -> DeployedExpert:
    """Return an expert as plans show it."""
    return DeployedExpert(
        llm=expert.llm,
        precision=expert.precision,
        server=expert.server,
        memory_gib=expert.memory_gib,
        energy_j_per_prompt=expert.energy_j_per_prompt,
        share_of_prompts=share_of_prompts,
        power_scope=expert.power_scope,
    )


def money_of(
    case: Case, chosen: IntArray, rows: tuple[IntArray, IntArray, FloatArray], net: float
) -> Money | None:
    """Return what a plan costs; None where money does not matter.

    `rows` are expert (-1 for none), category and weight of each row of the objective, whose value
    is `net`. Where experts share prompts or vote, all that take part are paid.
    """
    if case.money is None or case.price is None:
        return None
    answer, category, weights = rows
    if case.vote is not None:
        paid = case.price[category][:, chosen].sum(axis=1)
    elif case.mixture is None:
        paid = np.where(answer >= 0, case.price[category, np.maximum(answer, 0)], 0.0)
    else:
        taking = mixture_weights(case.mixture, case.scored, chosen) > 0
        paid = np.where(taking, case.price[category][:, chosen], 0.0).sum(axis=1)
    own = [category == k for k in range(len(case.categories))]
    return Money(
        currency=case.money.currency,
        per_prompt=math.fsum(paid * weights),
        per_hour=hourly_price(case, chosen),
        by_expert=tuple(case.experts[i].money_per_prompt for i in chosen),
        by_category=tuple(_mean(paid[k], weights[k]) if k.any() else None for k in own),
        net=None if case.toll is None else net,
    )


def hourly_price(case: Case, chosen: IntArray) -> float:
    """Return the money per hour of the chosen experts and, once each, of their servers."""
    experts = [case.experts[i] for i in chosen]
    used = {expert.server for expert in experts}
    rents = [host.money_per_hour for host in case.hosts if host.name in used]
    return math.fsum([*rents, *(expert.money_per_hour for expert in experts)])


def measurements(case: Case, chosen: IntArray) -> Measurements | None:
    """Return the measured table as plans show it; None without one."""
    measured = case.measured
    if measured is None:
        return None
    table, experts = measured.table, [case.experts[i] for i in chosen]
    places = {(expert.llm, expert.precision, expert.server) for expert in experts}
    told = [
        (row.typed, not places.isdisjoint(about))
        for row, about in zip(table.rows, measured.about, strict=True)
        if row.prompt is None or len(table.rows) <= _MOST_ROWS
    ]
    return Measurements(
        file=table.name,
        sha256=table.sha256,
        count=len(table.rows),
        columns=table.columns,
        rows=tuple(typed for typed, _ in told),
        used=tuple(used for _, used in told),
        basis=tuple(expert.basis for expert in experts),
    )


def usage(compiled: Compiled, used: FloatArray) -> tuple[Usage, ...]:
    """Return the use of every budget row with its name and limit."""
    names = compiled.budget_names
    return tuple(
        Usage(name, u, b, u / b if b > 0 else None)
        for name, u, b in zip(names, used.tolist(), compiled.budgets.tolist(), strict=True)
    )


def shared_out(case: Case, plan: _Plan, chosen: IntArray, category: IntArray) -> _Plan:
    """Return the plan with the shares, joules and accuracies of all experts that take part.

    `category` is that of each row of the objective. Without a mixture the plan stays as it is.
    """
    if case.mixture is None:
        return plan
    scored = case.scored
    weights = mixture_weights(case.mixture, scored, chosen)
    correct = (weights * scored.values[:, chosen]).sum(axis=1)
    joules = np.where(weights > 0, case.energy_j[category][:, chosen], 0.0).sum(axis=1)
    reports = []
    for k, report in enumerate(plan.by_category):
        own = category == k
        if not own.any():
            reports.append(report)
            continue
        serving = chosen[(weights[own] > 0).any(axis=0)]
        last = float(case.delay_s[k, serving].max()) if len(serving) else None
        reports.append(
            replace(
                report,
                predicted_accuracy=_mean(correct[own], scored.weights[own]),
                energy_j_per_prompt=_mean(joules[own], scored.weights[own]),
                delay_s=last,
            )
        )
    shares = (weights * scored.weights[:, None]).sum(axis=0).tolist()
    parts = zip(plan.experts, shares, strict=True)
    return replace(
        plan,
        experts=tuple(replace(expert, share_of_prompts=share) for expert, share in parts),
        by_category=tuple(reports),
        predicted_accuracy=math.fsum(correct * scored.weights),
        energy_j_per_prompt=math.fsum(joules * scored.weights),
    )


def _mean(values: FloatArray, weights: FloatArray) -> float:
    return float((values * weights).sum() / weights.sum())
