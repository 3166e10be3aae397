"""The door of the question ``place``: what the rest of moe2opt asks of it."""

from __future__ import annotations

from functools import partial
from typing import Any

from moe2opt.canonical.question import Question, TextExport
from moe2opt.errors import InputError
from moe2opt.place.case import Case
from moe2opt.place.plan import ASKS, PlacePlan
from moe2opt.place.question import PlaceInstance, build
from moe2opt.place.runtimes.plan import RuntimePlan
from moe2opt.place.runtimes.question import RUNTIMES, RuntimeInstance, fastest
from moe2opt.place.sections import PlaceConfig

AnyPlan = PlacePlan | RuntimePlan
AnyInstance = PlaceInstance | RuntimeInstance


def _line(plan: AnyPlan, instance: AnyInstance | None) -> TextExport:
    del instance
    if isinstance(plan, RuntimePlan):
        raise InputError(f"--to llama.cpp: the plan is one for {plan.runtime}: --to {plan.runtime}")
    return TextExport(f"{plan.command}\n", plan.notes)


def _json(plan: AnyPlan, instance: AnyInstance | None) -> TextExport:
    del instance
    return TextExport.of_json(plan.to_dict())


def _for(plan: AnyPlan, instance: AnyInstance | None, runtime: str) -> TextExport:
    """Return the command of a runtime, or the file that it reads; it is found anew if need be."""
    if not isinstance(plan, RuntimePlan) or plan.runtime != runtime:
        if instance is None:
            raise InputError(
                f"--to {runtime}: it places by rules of its own: name the configuration (--config)"
            )
        config = instance.case.config.model_copy(update={"runtime": runtime})
        plan = fastest(Case(config, instance.case.model, instance.case.machine))
    text = "".join(plan.files.values()) or f"{plan.command}\n"
    told = (f"run: {plan.command}",) if plan.files else ()
    return TextExport(text, (*told, *plan.notes))


def _plan(content: dict[str, Any]) -> AnyPlan:
    return (RuntimePlan if "runtime" in content else PlacePlan).from_dict(content)


def _axes(config: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the context and the RAM, as far as they are given."""
    tokens = (config.get("context") or {}).get("tokens", 8192)
    return {"context.tokens": (max(256, tokens // 4), 4 * tokens)}


QUESTION = Question(
    name="place",
    asks=ASKS,
    config=PlaceConfig,
    build=build,
    plan_from_dict=_plan,
    exporters={
        "llama.cpp": _line,
        **{name: partial(_for, runtime=name) for name in RUNTIMES},
        "json": _json,
    },
    axes=_axes,
)
