"""Judge a plan from the case's own data: its objective, and violated requirements in words."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.selection.case import Case
from moe2opt.selection.compile import completed
from moe2opt.selection.constraints.category_sets import use_of_sets
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.selection.constraints.objectives import mixture_value
from moe2opt.selection.gated import GatedCase
from moe2opt.selection.plan import prompts
from moe2opt.selection.plan.model import DeployedExpert, GatedPlan, SelectionPlan
from moe2opt.selection.plan.parts import measurements


def evaluate(case: Case, plan: SelectionPlan) -> float:
    """Return the expected share of correct answers under the plan's own routing table.

    Where answers are worth money, less what they cost; where experts share prompts, it is the
    expectation under their weights.

    Raises
    ------
    InputError
        When the plan names an expert or a cluster that the case does not have.
    """
    indices = expert_indices(case, plan.experts)
    clusters = {name: c for c, name in enumerate(case.tables.clusters)}
    terms = []
    for route in plan.routing:
        if route.cluster not in clusters:
            raise InputError(f"plan: cluster '{route.cluster}' is not in the instance")
        if route.expert is None:
            continue
        if not 0 <= route.expert < len(indices):
            raise InputError(f"plan: routing names expert {route.expert} of {len(indices)}")
        c, i = clusters[route.cluster], indices[route.expert]
        terms.append(case.value[c, i] * case.tables.weights[c])
    if case.mixture is not None:
        return mixture_value(case.mixture, case.scored, np.array(indices, dtype=np.int64))
    return math.fsum(terms)


def evaluate_gated(case: GatedCase, plan: GatedPlan) -> float:
    """Return the objective of the plan's experts over its prompts, computed anew.

    Raises
    ------
    InputError
        When the plan names an expert that the case does not have.
    """
    indices = expert_indices(case, plan.experts)
    return prompts.evaluated(case, np.array(indices, dtype=np.int64))


def check(case: Case, compiled: Compiled, plan: SelectionPlan) -> list[str]:
    """Return what the plan violates: unknown names, routing, budgets, groups, covers, figures."""
    try:
        indices = expert_indices(case, plan.experts)
        value = evaluate(case, plan)
        asked = _asked(case, plan, indices) if case.sets == "per_category" else None
    except InputError as error:
        return [str(error)]
    faults = _routing_faults(case, plan, indices, asked)
    if len(set(indices)) < len(indices):
        return [*faults, "plan: an expert is deployed twice"]
    x = _solution(case, indices)
    used = compiled.usage_of(x) if asked is None else use_of_sets(case, compiled, x > 0, asked)
    own = dict(zip(compiled.budget_names, used.tolist(), strict=True))
    pairs = [_objective_pair(case, plan, value)]
    pairs += [(b.name, b.used, own.get(b.name, math.nan)) for b in plan.budgets]
    for stated, i in zip(plan.experts, indices, strict=True):
        expert = case.experts[i]
        energies = (stated.energy_j_per_prompt, expert.energy_j_per_prompt)
        pairs.append((f"memory_gib of {expert.label}", stated.memory_gib, expert.memory_gib))
        pairs.append((f"energy_j_per_prompt of {expert.label}", *energies))
    faults += _measured_faults(case, plan, indices)
    return [*faults, *_set_faults(case, compiled, x, used), *_figure_faults(pairs)]


def check_gated(case: GatedCase, compiled: Compiled, plan: GatedPlan) -> list[str]:
    """Return what the plan violates: unknown names, budgets, groups, covers, stated figures."""
    try:
        indices = expert_indices(case, plan.experts)
    except InputError as error:
        return [str(error)]
    if len(set(indices)) < len(indices):
        return ["plan: an expert is deployed twice"]
    x = _solution(case, indices)
    own = prompts.decode(case, compiled, completed(case, compiled, x))
    used = {b.name: b.used for b in own.budgets}
    value = prompts.evaluated(case, np.array(indices, dtype=np.int64))
    pairs = [
        _objective_pair(case, plan, value),
        ("test_accuracy", plan.test_accuracy or 0.0, own.test_accuracy or 0.0),
        *((b.name, b.used, used.get(b.name, math.nan)) for b in plan.budgets),
    ]
    faults = _set_faults(case, compiled, x, compiled.usage_of(x))
    return [*faults, *_measured_faults(case, plan, indices), *_figure_faults(pairs)]


def expert_indices(case: Case, experts: tuple[DeployedExpert, ...]) -> list[int]:
    """Return the index of each deployed expert; raise `InputError` for one that is unknown."""
    places = {(e.llm, e.precision, e.server): i for i, e in enumerate(case.experts)}
    indices = []
    for expert in experts:
        key = (expert.llm, expert.precision, expert.server)
        if key not in places:
            raise InputError(f"plan: the instance has no expert '{key[0]} {key[1]} @ {key[2]}'")
        indices.append(places[key])
    return indices


def _objective_pair(
    case: Case, plan: SelectionPlan | GatedPlan, value: float
) -> tuple[str, float, float]:
    """Return the figure of a plan that is the objective, beside the case's own."""
    if case.toll is None:
        return "predicted_accuracy", plan.predicted_accuracy, value
    net = plan.money.net if plan.money is not None else None
    return "money.net", math.nan if net is None else net, value


def _measured_faults(case: Case, plan: SelectionPlan | GatedPlan, indices: list[int]) -> list[str]:
    """Return whether the plan tells another measured table than the case has."""
    own = measurements(case, np.array(indices, dtype=np.int64))
    return [] if plan.measured == own else ["plan: measured: not the table of the instance"]


def _solution(case: Case, indices: list[int]) -> IntArray:
    x = np.zeros(len(case.experts), dtype=np.int64)
    x[indices] = 1
    return x


def _asked(case: Case, plan: SelectionPlan, indices: list[int]) -> BoolArray:
    """Return ``(K, N)`` who is asked according to the plan."""
    if [own.category for own in plan.sets] != list(case.categories):
        raise InputError("plan: the sets must list every category once, in order")
    asked = np.zeros(case.barred.shape, dtype=bool)
    for k, own in enumerate(plan.sets):
        for n in own.experts:
            if not 0 <= n < len(indices):
                raise InputError(f"plan: the set of {own.category} names expert {n}")
            asked[k, indices[n]] = True
    return asked


def _routing_faults(
    case: Case, plan: SelectionPlan, indices: list[int], asked: BoolArray | None
) -> list[str]:
    """Return the clusters that nobody answers, nobody in time, or somebody who is not asked."""
    if [route.cluster for route in plan.routing] != list(case.tables.clusters):
        return ["plan: the routing table must list every cluster once, in order"]
    faults, unasked = [], []
    for route, k in zip(plan.routing, case.category_of.tolist(), strict=True):
        if route.expert is None:
            faults.append(f"cluster {route.cluster}: nobody answers")
            continue
        i = indices[route.expert]
        if case.late[k, i]:
            faults.append(f"cluster {route.cluster}: {case.experts[i].label} misses the deadline")
        if case.untried[k, i]:
            faults.append(f"cluster {route.cluster}: {case.experts[i].llm} was never tried there")
        if asked is not None and not asked[k, i]:
            unasked.append(f"cluster {route.cluster}: {case.experts[i].label} is not asked")
    return faults + unasked


def _set_faults(case: Case, compiled: Compiled, x: IntArray, used: FloatArray) -> list[str]:
    """Return the budgets exceeded, the groups with two experts and the covers with none."""
    base = compiled.base
    budgets = zip(compiled.budget_names, used, compiled.budgets, compiled.limits, strict=True)
    covers = zip(compiled.base_covers, base.covers, strict=True)
    crowded = (case.experts[group[0]].llm for group in base.groups if x[group].sum() > 1)
    twice = (
        "two precisions on one server" if case.vote is None else "deployed twice, but votes once"
    )
    return [
        *(
            f"{name}: {amount:.6g} used, the limit is {limit:.6g}"
            for name, amount, limit, allowed in budgets
            if amount > allowed
        ),
        *(f"{llm}: {twice}" for llm in crowded),
        *(f"not met: {name}" for name, cover in covers if not x[cover].any()),
    ]


def _figure_faults(pairs: Iterable[tuple[str, float, float]]) -> list[str]:
    """Compare figures that a plan states with the case's own."""
    return [
        f"{name}: the plan states {stated:.6g}, the instance has {own:.6g}"
        for name, stated, own in pairs
        if not math.isclose(stated, own, rel_tol=1e-9, abs_tol=1e-9)
    ]
