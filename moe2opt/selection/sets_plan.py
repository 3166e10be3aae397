"""The plan of an instance with one set of experts for each category."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.result import BoolArray, InputError, IntArray
from moe2opt.selection.constraints.category_sets import asked_by, use_of_sets
from moe2opt.selection.evaluation.evaluate import (
    budget_faults,
    evaluate_plan,
    expert_indices,
    figure_faults,
    routing_faults,
    set_faults,
)
from moe2opt.selection.plan import CategorySet, SelectionPlan, decode_for, usage

if TYPE_CHECKING:
    from moe2opt.selection.instance import SelectionInstance


def decode_sets(instance: SelectionInstance, x: IntArray) -> SelectionPlan:
    """Return the plan of a solution: each cluster goes to the best expert its category asks.

    Experts that no category asks are left out.
    """
    asked = asked_by(instance, instance.problem().vector(x))
    deployed = np.asarray(asked.any(axis=0))
    plan = decode_for(
        instance,
        np.flatnonzero(deployed),
        asked,
        usage(instance, use_of_sets(instance, deployed, asked)),
    )
    place = {int(i): n for n, i in enumerate(np.flatnonzero(deployed))}
    sets = tuple(
        CategorySet(name, tuple(place[int(i)] for i in np.flatnonzero(asked[k])))
        for k, name in enumerate(instance.categories)
    )
    return replace(plan, sets=sets)


def check_sets(instance: SelectionInstance, plan: SelectionPlan) -> list[str]:
    """Return what the plan violates: unknown names, budgets, groups, covers, routing."""
    try:
        indices = expert_indices(instance, plan.experts)
        evaluate_plan(instance, plan)
        asked = _asked(instance, plan, indices)
    except InputError as error:
        return [str(error)]
    if len(set(indices)) < len(indices):
        return ["plan: an expert is deployed twice"]
    deployed = np.zeros(len(instance.experts), dtype=bool)
    deployed[indices] = True
    used = use_of_sets(instance, deployed, asked)
    faults = [
        *routing_faults(instance, plan, indices),
        *_unasked(instance, plan, indices, asked),
        *budget_faults(instance, used),
        *set_faults(instance, deployed.astype(np.int64)),
    ]
    own = dict(zip(instance.compiled.budget_names, used.tolist(), strict=True))
    return faults + figure_faults(instance, plan, indices, own)


def _asked(instance: SelectionInstance, plan: SelectionPlan, indices: list[int]) -> BoolArray:
    """Return ``(K, N)`` who is asked according to the plan."""
    if [own.category for own in plan.sets] != list(instance.categories):
        raise InputError("plan: the sets must list every category once, in order")
    asked = np.zeros(instance.late.shape, dtype=bool)
    for k, own in enumerate(plan.sets):
        for n in own.experts:
            if not 0 <= n < len(indices):
                raise InputError(f"plan: the set of {own.category} names expert {n}")
            asked[k, indices[n]] = True
    return asked


def _unasked(
    instance: SelectionInstance, plan: SelectionPlan, indices: list[int], asked: BoolArray
) -> list[str]:
    return [
        f"cluster {route.cluster}: {instance.experts[indices[route.expert]].label} is not asked"
        for route, k in zip(plan.routing, instance.category_of.tolist(), strict=True)
        if route.expert is not None and not asked[k, indices[route.expert]]
    ]
