"""The door of the question ``place``: what the rest of moe2opt asks of it."""

from __future__ import annotations

import json
from typing import Any

from moe2opt.canonical.question import Question, TextExport
from moe2opt.place.plan import ASKS, PlacePlan
from moe2opt.place.question import PlaceInstance, build
from moe2opt.place.sections import PlaceConfig


def _line(plan: PlacePlan, instance: PlaceInstance | None) -> TextExport:
    del instance
    return TextExport(f"{plan.command}\n", plan.notes)


def _json(plan: PlacePlan, instance: PlaceInstance | None) -> TextExport:
    del instance
    return TextExport(f"{json.dumps(plan.to_dict(), indent=1)}\n")


def _axes(config: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the context and the RAM, as far as they are given."""
    tokens = (config.get("context") or {}).get("tokens", 8192)
    return {"context.tokens": (max(256, tokens // 4), 4 * tokens)}


QUESTION = Question(
    name="place",
    asks=ASKS,
    config=PlaceConfig,
    build=build,
    plan_from_dict=PlacePlan.from_dict,
    exporters={"llama.cpp": _line, "json": _json},
    axes=_axes,
)
