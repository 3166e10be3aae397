"""mixtral-offloading and AdapMoE: how many experts of each layer the GPU caches.

AdapMoE reads a list with the cache slots of every layer; all experts stay in memory of the CPU.
"""

from __future__ import annotations

import json

import numpy as np

from moe2opt.placement.export.base import Export, Report, TierCheck
from moe2opt.placement.export.judge import Judge, free_bytes
from moe2opt.placement.export.project import Runtime, able_tiers, home_of, project
from moe2opt.placement.export.reporting import lost_forms
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import InputError, IntArray

RUNTIME = Runtime("adapmoe", ("gpu", "cpu"), "expert", "model", one_gpu=True)


def export(judge: Judge) -> tuple[Export, ...]:
    """Return the list of slots for a plan."""
    plan = judge.plan
    able = able_tiers(plan, RUNTIME)
    if plan.tiers[home_of(plan)].kind != "gpu":
        raise InputError(f"--to adapmoe: the dense part is on '{plan.home}', not on a GPU")
    backing = next((t for t, yes in enumerate(able) if yes and plan.tiers[t].kind == "cpu"), None)
    if backing is None:
        raise InputError("--to adapmoe: there is no tier of kind cpu that could hold all experts")
    slots, quality = slots_of(plan)
    content = {
        "cache_strategy": slots.tolist(),
        "main_size": int(slots.sum()),
        "offload_size": int(plan.assignment.form.size - slots.sum()),
    }
    text = json.dumps(content)
    if json.loads(text)["cache_strategy"] != slots.tolist() or slots.max() > len(plan.uses[0]):
        raise RuntimeError("the list of slots is not the planned one")
    found = _report(judge, slots, quality, backing)
    return (Export("adapmoe", "", f"{text}\n", "", found),)


def slots_of(plan: PlacementPlan) -> tuple[IntArray, int]:
    """Return the ``(L,)`` slots and the format: those of the plan, or its residents per layer."""
    if plan.assignment.slots is not None:
        bits = np.array([p.bits_per_weight for p in plan.precisions])
        used = np.unique(plan.assignment.precision)
        return plan.assignment.slots, int(used[bits[used].argmax()])
    assignment = project(plan, RUNTIME)
    resident = assignment.tier[:, :, 0] == home_of(plan)
    return np.asarray(resident.sum(axis=1), dtype=np.int64), int(assignment.precision.flat[0])


def _report(judge: Judge, slots: IntArray, quality: int, backing: int) -> Report:
    plan = judge.plan
    size = plan.precisions[quality].expert_bytes
    held = np.zeros(len(plan.tiers))
    held[home_of(plan)] = float(slots.sum()) * size
    held[backing] = plan.assignment.form.size * size
    free = free_bytes(plan)
    for t in (home_of(plan), backing):
        if held[t] > free[t] * (1 + 1e-9):
            raise InputError(
                f"--to adapmoe: {plan.tiers[t].name} would hold {held[t] / GIB:.2f} GiB of "
                f"experts, {max(free[t], 0.0) / GIB:.2f} GiB are free; memory of the CPU holds all"
            )
    own = plan.assignment.slots is not None and (plan.assignment.precision == quality).all()
    notes = ["was not run: AdapMoE and mixtral-offloading are for Mixtral only"]
    if plan.assignment.slots is None:
        notes.append("fixed residents are exported as slots of a cache, which changes over time")
        notes += lost_forms(plan, RUNTIME)
    return Report(
        runtime=RUNTIME.name,
        unit="layer",
        moved=0,
        reformatted=int((plan.assignment.precision != quality).any(axis=2).sum()),
        experts=plan.assignment.form.size,
        objective=plan.objective,
        plan_value=plan.objective_value,
        projected_value=plan.objective_value if own else None,
        gap=0.0 if own else None,
        memory=tuple(
            TierCheck(
                t.name,
                float(b) / GIB + t.reserved_gib,
                None if t.capacity_gib is None else t.capacity_gib - t.margin_gib,
            )
            for t, b in zip(plan.tiers, held, strict=True)
        ),
        unknown="" if own else "a cache is not what the plan was priced for",
        notes=tuple(notes),
        validated=("the list reads back as planned, no layer has more slots than experts",),
    )
