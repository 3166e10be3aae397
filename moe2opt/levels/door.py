"""The door of the question ``levels``: what the rest of moe2opt asks of it."""

from __future__ import annotations

from moe2opt.canonical.question import Question, TextExport
from moe2opt.levels.plan import ASKS, LevelsPlan
from moe2opt.levels.question import LevelsInstance, build
from moe2opt.levels.sections import LevelsConfig


def _csv(plan: LevelsPlan, instance: LevelsInstance | None) -> TextExport:
    """Return one line per group, as a named plan among the baselines is read."""
    del instance
    return TextExport.of_rows([plan.columns, *plan.choices.items()], plan.notes)


def _json(plan: LevelsPlan, instance: LevelsInstance | None) -> TextExport:
    """Return the option of each group as one object."""
    del instance
    return TextExport.of_json(plan.choices, plan.notes)


QUESTION = Question(
    name="levels",
    asks=ASKS,
    config=LevelsConfig,
    build=build,
    plan_from_dict=LevelsPlan.from_dict,
    exporters={"csv": _csv, "json": _json},
)
