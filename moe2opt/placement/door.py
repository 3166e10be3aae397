"""The door of the placement: what the rest of moe2opt asks of it."""

from __future__ import annotations

from functools import partial
from typing import Any

from moe2opt.canonical.question import Question
from moe2opt.placement.export import FORMATS, export
from moe2opt.placement.export.exported import Exports
from moe2opt.placement.plan import PlacementPlan
from moe2opt.placement.question import PlacementInstance, build
from moe2opt.placement.reading import Reader
from moe2opt.placement.sections import PlacementConfig
from moe2opt.placement.view import ASKS
from moe2opt.result import InputError


def _exported(plan: PlacementPlan, instance: PlacementInstance | None, *, to: str) -> Exports:
    return Exports(export(plan, to, instance))


def _axes(config: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the size of the first limited tier and the quality loss, as far as there are any."""
    limits = {
        f"tiers.{k}.capacity_gib": tier.get("capacity_gib")
        for k, tier in enumerate(config.get("tiers", ()))
        if isinstance(tier.get("capacity_gib"), int | float)
    }
    first = dict(list(limits.items())[:1])
    found = {**first, "budgets.loss_nats": config.get("budgets", {}).get("loss_nats")}
    return {
        name: (limit / 2, 2.0 * limit)
        for name, limit in found.items()
        if isinstance(limit, int | float) and limit > 0
    }


def _checks(instance: PlacementInstance, allow_outside: bool) -> None:
    """Raise `InputError` when weights or text that only running a plan reads are not there."""
    reader = Reader(instance.config, instance.folder, allow_outside)
    execute = instance.config.execute
    for key, name in (("execute.model", execute.model), ("execute.text", execute.text)):
        if name is not None and not reader.path(name, key).exists():
            raise InputError(f"{key}: '{name}' does not exist")


QUESTION = Question(
    name="placement",
    asks=ASKS,
    config=PlacementConfig,
    build=build,
    plan_from_dict=PlacementPlan.from_dict,
    exporters={to: partial(_exported, to=to) for to in FORMATS},
    runner="moe2opt.executor.runners:placement",
    axes=_axes,
    checks=_checks,
)
