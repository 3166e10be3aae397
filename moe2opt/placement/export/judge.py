"""What a projected assignment is worth: from the plan alone where that is exact, else its mode.

A plan carries the seconds of one use by tier and format. They give the seconds per token of any
other placement as long as costs simply add up, which is tested on the plan's own figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moe2opt.placement.assignment import NOWHERE, PRUNE, Assignment
from moe2opt.placement.judge import evaluate, violations
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.mode import Mode
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import FloatArray

#: What a runtime copies to a GPU to compute: nothing, the experts used, all experts of a layer.
Copies = Literal["none", "used", "all"]


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """The plan and, when known, the treatment of the instance it was made for."""

    plan: PlacementPlan
    mode: Mode | None = None

    def value(self, assignment: Assignment, *, copies: Copies = "none") -> float | None:
        """Return the plan's objective for another assignment, None when it cannot be computed.

        Where the runtime copies, only GPUs compute, and seconds are those of that; a plan of an
        earlier version does not tell them.
        """
        plan = self.plan
        if copies != "none" and plan.copied_of and plan.objective == "seconds_per_token":
            return seconds(plan, assignment, copies=copies)
        if same(assignment, plan.assignment):
            return plan.objective_value
        if self.mode is not None and self.mode.by_place:
            found = evaluate(self.mode, assignment).value(plan.objective)
            return found if math.isfinite(found) else None
        if plan.objective == "memory_gib":
            before = float(expert_bytes_by_tier(plan, plan.assignment).sum())
            after = float(expert_bytes_by_tier(plan, assignment).sum())
            plain = (plan.assignment.form == 0).all()
            return plan.memory_gib + (after - before) / GIB if plain else None
        if plan.objective == "seconds_per_token" and self.additive:
            return seconds(plan, assignment)
        return None

    @property
    def unknown(self) -> str:
        """Why `value` knows no figure for another placement."""
        if self.mode is None:
            return "it needs the configuration (--config)"
        if not self.mode.by_place:
            return f"a plan with {self.mode.part} has no such figure for a fixed placement"
        return "a power or an energy is not known"

    @property
    def additive(self) -> bool:
        """Whether the plan's own seconds are the sum of its uses."""
        a = self.plan.assignment
        plain = np.isin(a.form, (0, PRUNE)).all() and a.slots is None and a.copied is None
        return bool(plain) and math.isclose(
            seconds(self.plan, a), self.plan.seconds_per_token, rel_tol=1e-6
        )

    def broken(self, assignment: Assignment) -> list[str]:
        """Return the requirements of the instance that an assignment breaks, when it is known."""
        if self.mode is None or not self.mode.by_place:
            return []
        return violations(self.mode, assignment)


def same(a: Assignment, b: Assignment) -> bool:
    """Return whether two assignments put everything in the same place and form."""

    def equal(x: object, y: object) -> bool:
        if x is None or y is None:
            return x is y
        return bool(np.all(np.equal(x, y)))  # type: ignore[call-overload]

    names = ("tier", "precision", "form", "representative", "slots", "copied")
    return all(equal(getattr(a, name), getattr(b, name)) for name in names)


def seconds_tables(plan: PlacementPlan, copies: Copies) -> tuple[FloatArray, FloatArray]:
    """Return the ``(T, Q)`` seconds of one use, and those of a step without one.

    The latter is the copy of an expert which nothing asks for, where all of a layer are copied.
    """
    table = np.array(plan.seconds_of)
    if copies == "none" or not plan.copied_of:
        return table, np.zeros_like(table)
    home = [tier.name for tier in plan.tiers].index(plan.home)
    copied = np.array(plan.copied_of)
    away = np.array([tier.kind != "gpu" for tier in plan.tiers]) & (copies == "all")
    return copied, np.where(away[:, None], copied - copied[home], 0.0)


def unused(plan: PlacementPlan) -> FloatArray:
    """Return the ``(L, E)`` steps per token in which an expert is not used."""
    return np.maximum(1.0 / plan.assumed.sequences - np.array(plan.uses), 0.0)


def seconds(plan: PlacementPlan, assignment: Assignment, *, copies: Copies = "none") -> float:
    """Return the seconds per token as a sum over uses; a pruned use costs as the cheapest one."""
    table, idle = seconds_tables(plan, copies)
    at = np.maximum(assignment.tier, 0), assignment.precision
    gone = assignment.tier == NOWHERE
    each = np.where(gone, table.min(), table[at]).mean(axis=2)
    total = np.array(plan.uses) * each
    if idle.any():
        total += unused(plan) * np.where(gone, 0.0, idle[at]).mean(axis=2)
    return plan.dense_s + math.fsum(total.ravel().tolist())


def expert_bytes_by_tier(plan: PlacementPlan, assignment: Assignment) -> FloatArray:
    """Return the ``(T,)`` bytes of experts with weights of their own."""
    sizes = np.array([p.expert_bytes for p in plan.precisions])
    held = np.zeros(len(plan.tiers))
    stored = (assignment.stored == 1)[:, :, None] & (assignment.tier != NOWHERE)
    weight = sizes[assignment.precision] / assignment.tier.shape[2]
    weight *= scale_of(plan, assignment)
    np.add.at(held, assignment.tier[stored], weight[stored])
    return held


def scale_of(plan: PlacementPlan, assignment: Assignment) -> FloatArray:
    """Return the ``(L, E, P)`` bytes of the parts of an assignment over the mean of all layers."""
    layers, _, parts = assignment.tier.shape
    if not plan.scale:
        return np.ones(assignment.tier.shape)
    table = np.array(plan.scale)
    if parts == 1:
        table = table.mean(axis=1, keepdims=True)
    at = np.arange(layers)[:, None, None], np.arange(parts) % table.shape[1]
    return np.asarray(table[(*at, assignment.precision)])


def free_bytes(plan: PlacementPlan) -> FloatArray:
    """Return the ``(T,)`` bytes that are left for experts, ``inf`` for no limit."""
    return np.array(
        [
            math.inf
            if t.capacity_gib is None
            else (t.capacity_gib - t.margin_gib - t.reserved_gib) * GIB
            for t in plan.tiers
        ]
    )
