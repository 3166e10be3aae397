"""The questions that configuration files can ask: ours, and those of other packages."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from moe2opt import plugins
from moe2opt.canonical.question import Question as Question
from moe2opt.errors import DAMAGE, InputError
from moe2opt.source import source_of

#: The door of each question by the value of `problem`. A new one is one more line; another package
#: adds one by an entry point of the group ``moe2opt.questions`` that names its door.
QUESTIONS: dict[str, str | Question] = {
    "selection": "moe2opt.selection.door:QUESTION",
    "placement": "moe2opt.placement.door:QUESTION",
    "place": "moe2opt.place.door:QUESTION",
    "levels": "moe2opt.levels.door:QUESTION",
    "portfolio": "moe2opt.portfolio.door:QUESTION",
    "rounds": "moe2opt.rounds.door:QUESTION",
}


def question_names() -> list[str]:
    """Return the names of all questions, ours first."""
    return list(dict.fromkeys([*QUESTIONS, *plugins.names("questions")]))


def known(name: str) -> Question:
    """Return a question by its name, ours or one of another package.

    Raises
    ------
    InputError
        When there is none, it cannot be loaded, or it calls itself otherwise.
    """
    found = QUESTIONS.get(name) or plugins.load("questions", name, Question)
    if found is None:
        raise InputError(f"there is no question '{name}'")
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = plugins.imported(f"the question '{name}'", module, attribute)
    question: Question = found
    if question.name != name:
        raise InputError(f"the question '{name}' calls itself '{question.name}'")
    return question


def question_of(target: Any) -> Question | None:
    """Return the question that a loaded instance answers; None for one made in code."""
    source = source_of(target)
    return None if source is None else known(source.question)


def question_of_plan(plan: Mapping[str, Any], name: str | None = None) -> Question | None:
    """Return the question that a stored plan answers, None where no question reads it.

    Parameters
    ----------
    plan
        What ``to_dict`` made of the plan.
    name
        Name of its question where the file says it; older files do not.
    """
    if name is not None:
        return known(name) if name in question_names() else None
    for candidate in question_names():
        with suppress(*DAMAGE):
            question = known(candidate)
            if question.plan_from_dict is not None:
                question.plan_from_dict(dict(plan))
                return question
    return None
