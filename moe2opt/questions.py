"""The questions that configuration files can ask: ours, and those of other packages."""

from __future__ import annotations

from dataclasses import dataclass

from moe2opt import plugins
from moe2opt.errors import InputError


@dataclass(frozen=True, slots=True)
class Question:
    """A question that configuration files can ask.

    Attributes
    ----------
    config
        ``module:class`` of its sections, a `Section` with ``problem: Literal[name]``.
    build
        ``module:function`` that turns the validated sections and the file's folder into an
        instance.
    """

    config: str
    build: str


#: The questions by the value of `problem`. A new one is one more line.
QUESTIONS: dict[str, Question] = {
    "selection": Question(
        "moe2opt.selection.sections:SelectionConfig", "moe2opt.selection.instance:build"
    ),
    "placement": Question(
        "moe2opt.placement.sections:PlacementConfig", "moe2opt.placement.question:build"
    ),
}


def question_names() -> list[str]:
    """Return the names of all questions, ours first."""
    return list(dict.fromkeys([*QUESTIONS, *plugins.names("questions")]))


def known(name: str) -> Question:
    """Return a question by its name, ours or one of another package."""
    question = QUESTIONS.get(name) or plugins.load("questions", name, Question)
    if question is None:
        raise InputError(f"there is no question '{name}'")
    return question
