"""The verb ``check``: whether a file is right, and its problem what it claims to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from moe2opt.cli.exits import Exit, explain
from moe2opt.cli.flags import Json, Outside, Overrides, Quiet, Scenario
from moe2opt.cli.output import put, put_json
from moe2opt.cli.target import opened, problem_of, source_of
from moe2opt.errors import InputError


def check(
    configs: Annotated[list[str], typer.Argument(help="Configurations.", show_default=False)],
    scenario: Scenario = None,
    overrides: Overrides = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Validate configurations and self-test the problems they stand for.

    Without --scenario, every scenario of a file is built and tested too.
    """
    found: list[dict[str, Any]] = []
    worst = Exit.OK
    for config in configs:
        try:
            for checked in _variants(config, scenario, overrides or (), allow_outside):
                found.append(checked)
                if not (quiet or as_json):
                    _show(**checked)
        except Exception as error:  # one bad file must not hide the others
            worst = max(worst, explain(error))
    if as_json:
        put_json({"ok": worst is Exit.OK, "checked": found})
    return worst


def _variants(
    config: str, scenario: str | None, overrides: Sequence[str], allow_outside: bool
) -> Iterator[dict[str, Any]]:
    """Yield what is known of a file, without and with each of its scenarios."""
    from moe2opt.canonical.selftest import self_test, size_words
    from moe2opt.config import scenario_names

    names = (scenario,) if scenario is not None else (None, *scenario_names(config))
    for name in names:
        target: Any = opened(config, name, overrides, allow_outside)
        problem = problem_of(target)
        _check_files(config, target, allow_outside)
        try:
            pairs = self_test(problem)
        except InputError as error:
            raise InputError(f"{config}: {error}") from error
        about = "" if source_of(target) is None else target.describe()
        yield {
            "config": config,
            "scenario": name,
            "size": size_words(problem),
            "about": about,
            "pairs": pairs,
        }


def _check_files(config: str, target: object, allow_outside: bool) -> None:
    """Raise `InputError` for what the question itself finds missing."""
    from moe2opt.questions import question_of

    question = question_of(target)
    if question is None or question.checks is None:
        return
    try:
        question.checks(target, allow_outside)
    except InputError as error:
        raise InputError(f"{config}: {error}") from error


def _show(config: str, scenario: str | None, size: str, about: str, pairs: int) -> None:
    variant = "" if scenario is None else f" [{scenario}]"
    put(f"{config}{variant}: ok")
    if about:
        put(f"  {about}")
    tested = f"no counterexample in {pairs} random pairs" if pairs else "not tested (large)"
    put(f"  {size}; monotone: {tested}")
