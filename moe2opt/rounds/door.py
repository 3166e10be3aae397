"""The door of the question ``rounds``: what the rest of moe2opt asks of it."""

from __future__ import annotations

from typing import Any

from moe2opt.canonical.question import Question, TextExport
from moe2opt.rounds.plan import ASKS, RoundPlan
from moe2opt.rounds.question import RoundInstance, build
from moe2opt.rounds.sections import RoundsConfig


def _json(plan: RoundPlan, instance: RoundInstance | None) -> TextExport:
    del instance
    return TextExport.of_json(plan.to_dict(), plan.notes)


def _axes(config: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the band, and the deadline where there is one."""
    band = config["radio"]["bandwidth_hz"]
    found = {"radio.bandwidth_hz": (band / 2, 2 * band)}
    deadline = config["objective"].get("deadline_s")
    if deadline is not None:
        found["objective.deadline_s"] = (deadline / 2, 2 * deadline)
    return found


QUESTION = Question(
    name="rounds",
    asks=ASKS,
    config=RoundsConfig,
    build=build,
    plan_from_dict=RoundPlan.from_dict,
    exporters={"json": _json},
    axes=_axes,
)
