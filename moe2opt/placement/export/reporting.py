"""What a projection changed, what it costs, and what is in memory after it."""

from __future__ import annotations

from collections.abc import Sequence

from moe2opt.placement.assignment import FORMS, KEEP, Assignment
from moe2opt.placement.export.base import Report, TierCheck
from moe2opt.placement.export.judge import Judge, expert_bytes_by_tier
from moe2opt.placement.export.project import Runtime, home_of, restored
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.plan import PlacementPlan

#: From this gap on, the report points to solving at the runtime's own granularity.
_WORTH_SAYING = 0.01


def report(
    judge: Judge,
    runtime: Runtime,
    assignment: Assignment,
    *,
    notes: Sequence[str] = (),
    validated: Sequence[str] = (),
    buffers: float = 0.0,
) -> Report:
    """Return what a projection changed; `buffers` are bytes of the runtime on the home tier."""
    plan = judge.plan
    before = restored(plan)
    value = judge.value(assignment, copies=runtime.copies)
    gap = None if value is None or plan.objective_value == 0 else value / plan.objective_value - 1
    unit = runtime.unit if runtime.unit != "tensor" or assignment.tier.shape[2] == 3 else "layer"
    return Report(
        runtime=runtime.name,
        unit=unit,
        moved=int((before.tier != assignment.tier).any(axis=2).sum()),
        reformatted=int((before.precision != assignment.precision).any(axis=2).sum()),
        experts=before.form.size,
        objective=plan.objective,
        plan_value=plan.objective_value,
        projected_value=value,
        gap=gap,
        memory=memory_check(plan, assignment, buffers),
        unknown=judge.unknown if value is None else "",
        notes=(
            *lost_forms(plan, runtime),
            *notes,
            *_copies(plan, runtime),
            *_finer(plan, unit, gap),
            *(f"a requirement does not hold: {text}" for text in judge.broken(assignment)),
        ),
        validated=tuple(validated),
    )


def _copies(plan: PlacementPlan, runtime: Runtime) -> list[str]:
    """Say what the seconds of a runtime are that computes on GPUs only."""
    if runtime.copies == "none" or plan.objective != "seconds_per_token":
        return []
    if not plan.copied_of:
        return ["the plan does not tell the seconds of copies: they are those of its own places"]
    counted = {
        "used": "for each use of an expert that lies elsewhere",
        "all": "of every expert that lies elsewhere in every step, used or not",
    }[runtime.copies]
    return [
        f"{runtime.name} computes on GPUs only: the seconds as exported count one copy to the home "
        f"tier {counted}"
    ]


def memory_check(
    plan: PlacementPlan, assignment: Assignment, buffers: float = 0.0
) -> tuple[TierCheck, ...]:
    """Return use and limit of every tier."""
    held = expert_bytes_by_tier(plan, assignment)
    held[home_of(plan)] += buffers
    return tuple(
        TierCheck(
            t.name,
            float(bytes_) / GIB + t.reserved_gib,
            None if t.capacity_gib is None else t.capacity_gib - t.margin_gib,
        )
        for t, bytes_ in zip(plan.tiers, held, strict=True)
    )


def lost_forms(plan: PlacementPlan, runtime: Runtime) -> list[str]:
    """Say what of merging, pruning, caching and copying is not in the export."""
    found = []
    a = plan.assignment
    for k, form in enumerate(FORMS):
        number = int((a.form == k).sum())
        if k != KEEP and number:
            found.append(
                f"{number} experts have the form '{form}' in the plan; {runtime.name} loads the "
                "model as published, so they are exported as experts of their own"
            )
    if a.slots is not None:
        found.append(
            "the plan's cache is exported as fixed residents: the most used experts of each layer"
        )
    if a.copied is not None:
        found.append("which experts are copied and which computed in place cannot be chosen")
    return found


def _finer(plan: PlacementPlan, unit: str, gap: float | None) -> list[str]:
    """Say how to lose less: by a plan that is solved at the runtime's granularity."""
    if plan.granularity == unit or unit == "expert" or not (gap and gap > _WORTH_SAYING):
        return []
    return [f"a plan solved with `granularity: {unit}` is made for this runtime and loses no more"]
