"""What an assignment costs, which limits it uses and breaks: from the case, never from options.

It shares no table with `compile`: the comparison of both is a test of the formulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from moe2opt.placement.assignment import NOWHERE, Assignment
from moe2opt.placement.figures import Figures, TierUse, Usage
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.mode import Mode

#: Relative slack of limits that are not whole numbers, as in the canonical problems.
_SLACK = 1e-9


def evaluate(mode: Mode, assignment: Assignment) -> Figures:
    """Return what an assignment costs, computed from the case's own data."""
    case, activation = mode.case, mode.case.activation
    by_domain = np.array([mode.seconds(assignment, part) for part in activation.shares])
    mixed = activation.mixed
    held = mode.held_bytes(assignment) + case.fixed_bytes
    return Figures(
        seconds_per_token=(
            float(by_domain.max()) if activation.robust else mode.seconds(assignment, mixed)
        ),
        joules_per_token=mode.joules(assignment, mixed),
        loss_nats=mode.loss(assignment),
        bytes_by_tier=held,
        loads_per_token=mode.loads(assignment, mixed),
        uncovered_per_token=mode.uncovered(assignment),
        seconds_by_domain=by_domain,
    )


def violations(mode: Mode, assignment: Assignment, figures: Figures | None = None) -> list[str]:
    """Return in words what an assignment breaks; `figures` are its own where they are known."""
    figures = figures or evaluate(mode, assignment)
    over = [
        f"{name} would hold {used:.6g} GiB, {limit:.6g} GiB are free"
        for name, used, limit in _capacities(mode, figures)
        if not _within(used, limit)
    ]
    over += [
        f"{name} is {used:.6g}, the limit is {limit:.6g}"
        for name, used, limit in _limits(mode, assignment, figures)
        if not _within(used, limit)
    ]
    return over + mode.misplaced(assignment)


def usages(mode: Mode, assignment: Assignment, figures: Figures) -> tuple[Usage, ...]:
    """Return the use of every tier with a size and of every budget."""
    rows = [
        *((f"memory_gib[{name}]", u, limit) for name, u, limit in _capacities(mode, figures)),
        *_limits(mode, assignment, figures),
    ]
    return tuple(
        Usage(name, used, limit, used / limit if limit > 0 else None) for name, used, limit in rows
    )


def _within(used: float, limit: float) -> bool:
    return used <= limit + _SLACK * max(1.0, limit)


def _capacities(mode: Mode, figures: Figures) -> Iterator[tuple[str, float, float]]:
    """Yield name, GiB used and GiB free of each tier with a size."""
    room = mode.case.room_bytes
    for t, tier in enumerate(mode.case.topology.tiers):
        if math.isfinite(tier.capacity_bytes):
            yield tier.name, float(figures.bytes_by_tier[t] / GIB), float(room[t] / GIB)


def _limits(
    mode: Mode, assignment: Assignment, figures: Figures
) -> Iterator[tuple[str, float, float]]:
    """Yield name, use and limit of each budget."""
    for name, limit in mode.case.config.budgets:
        if limit is None:
            continue
        if name == "cache_slots":
            used = 0.0 if assignment.slots is None else float(assignment.slots.sum())
        else:
            used = figures.value(name)
        yield name, used, float(limit)


def tier_uses(mode: Mode, assignment: Assignment, figures: Figures) -> tuple[TierUse, ...]:
    """Return what an assignment puts on each tier and is served from it."""
    case = mode.case
    parts = assignment.tier.shape[2]
    stored = (assignment.stored == 1)[:, :, None]
    served = case.uses[:, :, None] / parts
    total = float((served * (assignment.tier != NOWHERE)).sum())
    found = []
    for t, tier in enumerate(case.topology.tiers):
        here = assignment.tier == t
        capacity = tier.capacity_bytes / GIB
        found.append(
            TierUse(
                name=tier.name,
                kind=tier.kind,
                device=tier.device,
                capacity_gib=capacity if math.isfinite(capacity) else None,
                margin_gib=tier.margin_bytes / GIB,
                reserved_gib=tier.reserved_bytes / GIB,
                used_gib=float(figures.bytes_by_tier[t]) / GIB,
                experts=round(float((here & stored).sum()) / parts),
                share_of_uses=float((served * here).sum()) / total if total else 0.0,
            )
        )
    return tuple(found)
