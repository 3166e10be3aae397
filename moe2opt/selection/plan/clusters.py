"""From a solution to the plan where clusters of prompts go to the best expert there is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from moe2opt.result import BoolArray, IntArray
from moe2opt.selection.case import Case
from moe2opt.selection.constraints.category_sets import asked_by, use_of_sets
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.selection.plan.model import CategoryReport, CategorySet, Route, SelectionPlan, Usage
from moe2opt.selection.plan.parts import deployed, measurements, money_of, shared_out, usage

#: Index of the test split in the counts of the tables.
_TEST = 2


def decode(case: Case, compiled: Compiled, x: IntArray) -> SelectionPlan:
    """Return the plan of a solution: each cluster goes to its best deployed expert.

    Where experts share prompts, that is the leading one; shares, joules and accuracies are those
    of all that take part. With sets by category each cluster goes to the best expert that its
    category asks, and experts that none asks are left out.
    """
    x = compiled.problem.vector(x)
    if case.sets == "per_category":
        return _decode_sets(case, compiled, x)
    own = x[: len(case.experts)]
    chosen = np.flatnonzero(own)
    plan = _decode_for(case, chosen, None, usage(compiled, compiled.usage_of(own)))
    return shared_out(case, plan, chosen, case.category_of)


def _decode_sets(case: Case, compiled: Compiled, x: IntArray) -> SelectionPlan:
    asked = asked_by(case, x)
    deployed = np.asarray(asked.any(axis=0))
    chosen = np.flatnonzero(deployed)
    used = use_of_sets(case, compiled, deployed, asked)
    plan = _decode_for(case, chosen, asked, usage(compiled, used))
    place = {int(i): n for n, i in enumerate(chosen)}
    sets = tuple(
        CategorySet(name, tuple(place[int(i)] for i in np.flatnonzero(asked[k])))
        for k, name in enumerate(case.categories)
    )
    return replace(plan, sets=sets)


def _decode_for(
    case: Case, chosen: IntArray, asked: BoolArray | None, budgets: tuple[Usage, ...]
) -> SelectionPlan:
    """Return the plan that deploys `chosen`; category k asks those of ``asked[k]``, or all."""
    route = best_experts(case, chosen, asked)
    rows = np.flatnonzero(route >= 0)
    place = {int(i): k for k, i in enumerate(chosen)}
    reports = tuple(_report(case, k, route) for k in range(len(case.categories)))
    correct = sum(report.test_correct for report in reports)
    prompts = sum(report.test_prompts for report in reports)
    return SelectionPlan(
        instance=case.name,
        experts=tuple(
            deployed(case.experts[i], math.fsum(case.tables.weights[route == i])) for i in chosen
        ),
        routing=tuple(
            Route(cluster, place.get(int(i)))
            for cluster, i in zip(case.tables.clusters, route, strict=True)
        ),
        budgets=budgets,
        by_category=reports,
        # Each product is rounded once, and so is their sum.
        predicted_accuracy=math.fsum(case.quality[rows, route[rows]] * case.tables.weights[rows]),
        test_correct=correct,
        test_prompts=prompts,
        test_accuracy=correct / prompts if prompts else None,
        energy_j_per_prompt=math.fsum(r.share_of_prompts * r.energy_j_per_prompt for r in reports),
        caveats=case.caveats,
        delay_statistic=case.delay_words,
        objective=case.objective_words,
        measured=measurements(case, chosen),
        money=money_of(
            case,
            chosen,
            (route, case.category_of, case.tables.weights),
            math.fsum(case.value[rows, route[rows]] * case.tables.weights[rows]),
        ),
    )


def best_experts(case: Case, chosen: IntArray, asked: BoolArray | None = None) -> IntArray:
    """Return the ``(C,)`` expert of each cluster, -1 where no chosen one serves it.

    Ties go to the lower energy in the category, then to the lower index.
    """
    route = np.full(len(case.tables.clusters), -1, dtype=np.int64)
    able = ~case.barred if asked is None else asked & ~case.barred
    for c, k in enumerate(case.category_of):
        serving = chosen[able[k, chosen]]
        if len(serving):
            keys = (serving, case.energy_j[k, serving], -case.value[c, serving])
            route[c] = serving[np.lexsort(keys)[0]]
    return route


def _report(case: Case, k: int, route: IntArray) -> CategoryReport:
    tables = case.tables
    members = np.flatnonzero((case.category_of == k) & (route >= 0))
    total = float(tables.weights[case.category_of == k].sum())
    weights, experts = tables.weights[members] / total, route[members]
    models = case.model_of[experts]
    correct = int(tables.correct[_TEST, members, models].sum())
    prompts = int(tables.run[_TEST, members, models].sum())
    deadline = float(case.deadline_s[k])
    return CategoryReport(
        category=case.categories[k],
        share_of_prompts=total,
        predicted_accuracy=float(weights @ case.quality[members, experts]),
        test_correct=correct,
        test_prompts=prompts,
        test_accuracy=correct / prompts if prompts else None,
        energy_j_per_prompt=float(weights @ case.energy_j[k, experts]),
        delay_s=float(case.delay_s[k, experts].max()) if len(experts) else None,
        deadline_s=deadline if math.isfinite(deadline) else None,
    )
