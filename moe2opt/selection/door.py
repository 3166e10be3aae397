"""The door of the selection: what the rest of moe2opt asks of it."""

from __future__ import annotations

from typing import Any

from moe2opt.canonical.question import Exported, Question
from moe2opt.result import InputError
from moe2opt.selection.plan import GatedPlan, SelectionPlan
from moe2opt.selection.plan.view import ASKS
from moe2opt.selection.question import SelectionInstance, build
from moe2opt.selection.sections import SelectionConfig


def plan_from_dict(data: dict[str, Any]) -> SelectionPlan | GatedPlan:
    """Rebuild a plan of either kind; the message of a fault is that of the kind it resembles."""
    kind = GatedPlan if isinstance(data.get("routing"), dict) else SelectionPlan
    return kind.from_dict(data)


def _litellm(plan: Any, instance: SelectionInstance | None) -> Exported:
    from moe2opt.selection.export.served import served

    if isinstance(plan.routing, dict) and "vote" in plan.routing:
        raise InputError("--to litellm: sends a prompt to one expert; it cannot ask all and vote")
    return served(plan, instance)


def _axes(config: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return energy, delay and money, as far as the configuration limits them."""
    energy, delay, money = (config.get(key) or {} for key in ("energy", "delay", "money"))
    currency = money.get("currency", "usd")
    ranges = {
        "energy_j_per_prompt": (energy.get("limit_j_per_prompt"), 1 / 24, 2.5),
        "delay.limit_s": (delay.get("limit_s"), 1 / 4, 2.0),
        f"money_{currency}_per_prompt": (money.get("limit_per_prompt"), 1 / 10, 2.5),
    }
    return {
        name: (low * limit, high * limit)
        for name, (limit, low, high) in ranges.items()
        if isinstance(limit, int | float) and limit > 0
    }


QUESTION = Question(
    name="selection",
    asks=ASKS,
    config=SelectionConfig,
    build=build,
    plan_from_dict=plan_from_dict,
    exporters={"litellm": _litellm},
    runner="moe2opt.executor.runners:selection",
    axes=_axes,
)
