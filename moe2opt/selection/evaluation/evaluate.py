"""Judge a plan from the instance's own data: objective and violated requirements in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.selection.constraints.objectives import mixture_value

if TYPE_CHECKING:
    from moe2opt.selection.instance import SelectionInstance
    from moe2opt.selection.plan import DeployedExpert, SelectionPlan


def evaluate_plan(instance: SelectionInstance, plan: SelectionPlan) -> float:
    """Return the expected share of correct answers under the plan's own routing table.

    Where experts share prompts, it is the expectation under their weights.

    Raises
    ------
    InputError
        When the plan names an expert or a cluster that the instance does not have.
    """
    indices = expert_indices(instance, plan.experts)
    if instance.mixture is not None:
        chosen = np.array(indices, dtype=np.int64)
        return mixture_value(instance.mixture, instance.scored, chosen)
    clusters = {name: c for c, name in enumerate(instance.tables.clusters)}
    terms = []
    for route in plan.routing:
        if route.cluster not in clusters:
            raise InputError(f"plan: cluster '{route.cluster}' is not in the instance")
        if route.expert is not None:
            c, i = clusters[route.cluster], _routed(indices, route.expert)
            terms.append(instance.quality[c, i] * instance.tables.weights[c])
    return math.fsum(terms)


def check_plan(instance: SelectionInstance, plan: SelectionPlan) -> list[str]:
    """Return what the plan violates: unknown names, budgets, groups, covers, routing."""
    try:
        indices = expert_indices(instance, plan.experts)
        evaluate_plan(instance, plan)
    except InputError as error:
        return [str(error)]
    violations = routing_faults(instance, plan, indices)
    if len(set(indices)) < len(indices):
        return [*violations, "plan: an expert is deployed twice"]
    x = np.zeros(len(instance.experts), dtype=np.int64)
    x[indices] = 1
    used, names = instance.compiled.usage_of(x), instance.compiled.budget_names
    faults = violations + budget_faults(instance, used) + set_faults(instance, x)
    own = dict(zip(names, used.tolist(), strict=True))
    return faults + figure_faults(instance, plan, indices, own)


def expert_indices(instance: SelectionInstance, experts: tuple[DeployedExpert, ...]) -> list[int]:
    """Return the index of each deployed expert; raise `InputError` for one that is unknown."""
    places = {(e.llm, e.precision, e.server): i for i, e in enumerate(instance.experts)}
    indices = []
    for expert in experts:
        key = (expert.llm, expert.precision, expert.server)
        if key not in places:
            raise InputError(f"plan: the instance has no expert '{key[0]} {key[1]} @ {key[2]}'")
        indices.append(places[key])
    return indices


def _routed(indices: list[int], expert: int) -> int:
    if not 0 <= expert < len(indices):
        raise InputError(f"plan: routing names expert {expert} of {len(indices)}")
    return indices[expert]


def routing_faults(
    instance: SelectionInstance, plan: SelectionPlan, indices: list[int]
) -> list[str]:
    """Return the clusters that nobody answers, or nobody in time."""
    if [route.cluster for route in plan.routing] != list(instance.tables.clusters):
        return ["plan: the routing table must list every cluster once, in order"]
    faults = []
    for c, route in enumerate(plan.routing):
        k = int(instance.category_of[c])
        if route.expert is None:
            faults.append(f"cluster {route.cluster}: nobody answers")
        elif instance.late[k, indices[route.expert]]:
            label = instance.experts[indices[route.expert]].label
            faults.append(f"cluster {route.cluster}: {label} misses the deadline")
    return faults


def budget_faults(instance: SelectionInstance, used: FloatArray) -> list[str]:
    """Return in words which budgets the use of each of them exceeds."""
    own = instance.compiled
    return [
        f"{name}: {amount:.6g} used, the limit is {limit:.6g}"
        for name, amount, limit, allowed in zip(
            own.budget_names, used, own.budgets, own.limits, strict=True
        )
        if amount > allowed
    ]


def figure_faults(
    instance: SelectionInstance, plan: SelectionPlan, indices: list[int], used: dict[str, float]
) -> list[str]:
    """Compare the figures that the plan states with the instance's own."""
    pairs = [("predicted_accuracy", plan.predicted_accuracy, evaluate_plan(instance, plan))]
    pairs += [(b.name, b.used, used.get(b.name, math.nan)) for b in plan.budgets]
    for stated, i in zip(plan.experts, indices, strict=True):
        own = instance.experts[i]
        pairs.append((f"memory_gib of {own.label}", stated.memory_gib, own.memory_gib))
        energies = (stated.energy_j_per_prompt, own.energy_j_per_prompt)
        pairs.append((f"energy_j_per_prompt of {own.label}", *energies))
    return [
        f"{name}: the plan states {stated:.6g}, the instance has {own:.6g}"
        for name, stated, own in pairs
        if not math.isclose(stated, own, rel_tol=1e-9, abs_tol=1e-9)
    ]


def set_faults(instance: SelectionInstance, x: IntArray) -> list[str]:
    """Return the groups with two experts and the covers with none, in words."""
    base, names = instance.compiled.base, instance.compiled.base_covers
    crowded = [group for group in base.groups if x[group].sum() > 1]
    faults = [f"{instance.experts[g[0]].llm}: two precisions on one server" for g in crowded]
    covers = zip(names, base.covers, strict=True)
    return faults + [f"not met: {name}" for name, cover in covers if not x[cover].any()]
