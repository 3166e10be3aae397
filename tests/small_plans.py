"""Placement plans made by hand, without solving anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from moe2opt.placement import Assignment, PlacementPlan
from moe2opt.placement.assignment import plain
from moe2opt.placement.export.judge import expert_bytes_by_tier, seconds
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.plan import PrecisionInfo, TierUse

MakePlan = Callable[..., PlacementPlan]
EXPERT_GIB = 0.125


def tier(name: str, kind: str, capacity_gib: float | None, **more: Any) -> TierUse:
    """Return a tier in the machine ``local`` unless told otherwise."""
    rest = {"device": "local", "margin_gib": 0.0, "reserved_gib": 0.0, "used_gib": 0.0}
    return TierUse(
        name=name, kind=kind, capacity_gib=capacity_gib, experts=0, share_of_uses=0.0,
        **{**rest, **more},
    )  # fmt: skip


GPU = tier("vram", "gpu", 4.0, reserved_gib=1.0, margin_gib=0.5)
CPU = tier("dram", "cpu", 16.0)
DISK = tier("nvme", "disk", None)


def make_plan(
    where: Any,
    *,
    tiers: tuple[TierUse, ...] = (GPU, CPU),
    formats: Any = None,
    model: str = "Mixtral-tiny",
    first_layer: int = 0,
    **changes: Any,
) -> PlacementPlan:
    """Return the plan with experts in tiers `where` (L, E) or (L, E, 3); uses fall by expert."""
    where = np.asarray(where, dtype=np.int64)
    where = where[:, :, None] if where.ndim == 2 else where
    layers, experts, _ = where.shape
    precision = np.zeros_like(where) if formats is None else _wide(formats, where)
    uses = np.linspace(1.0, 0.1, layers * experts).reshape(layers, experts)
    speed = np.arange(1, len(tiers) + 1)[:, None] ** 3 * np.array([[2e-4, 1e-4]])
    plan = PlacementPlan(
        instance="hand-made",
        model=model,
        layers=tuple(range(first_layer, first_layer + layers)),
        n_layers=first_layer + layers,
        top_k=2,
        granularity="tensor" if where.shape[2] == 3 else "expert",
        precisions=(
            PrecisionInfo("q8_0", 8.5, EXPERT_GIB * GIB),
            PrecisionInfo("q4_0", 4.25, EXPERT_GIB * GIB / 2),
        ),
        tiers=tiers,
        home=tiers[0].name,
        assignment=plain(where, precision),
        objective="seconds_per_token",
        objective_value=1.0,
        seconds_per_token=1.0,
        joules_per_token=None,
        loss_nats=0.0,
        memory_gib=0.0,
        loads_per_token=0.0,
        uncovered_per_token=None,
        uses=tuple(map(tuple, uses.tolist())),
        seconds_of=tuple(map(tuple, speed.tolist())),
        dense_s=0.001,
        budgets=(),
        baselines=(),
    )
    plan = replace(plan, **changes)
    return priced(plan)


def _wide(formats: Any, where: np.ndarray) -> np.ndarray:
    table = np.asarray(formats, dtype=np.int64)
    table = table[:, :, None] if table.ndim == 2 else table
    return np.broadcast_to(table, where.shape).copy()


def priced(plan: PlacementPlan, assignment: Assignment | None = None) -> PlacementPlan:
    """Return the plan with its figures computed from its own table."""
    plan = plan if assignment is None else replace(plan, assignment=assignment)
    value = seconds(plan, plan.assignment)
    total = float(expert_bytes_by_tier(plan, plan.assignment).sum()) / GIB
    figures: dict[str, Any] = {"seconds_per_token": value, "memory_gib": total + 1.0}
    return (
        replace(plan, objective_value=figures[plan.objective], **figures)
        if (plan.objective in figures)
        else replace(plan, **figures)
    )
