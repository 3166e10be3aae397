"""The verb ``export``: a plan in the words of a runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe2opt.cli.exits import Exit, say, say_rejected
from moe2opt.cli.flags import Json, Outside, Overrides, Quiet, Stored
from moe2opt.cli.folders import spare
from moe2opt.cli.output import put, put_json
from moe2opt.errors import InputError

if TYPE_CHECKING:
    from moe2opt.canonical.question import Exported
    from moe2opt.result import Result


def export(
    result: Stored,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="llama.cpp, ktransformers, sglang, vllm, accelerate, adapmoe or json; litellm for "
            "selections.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write here (litellm: a folder); default stdout."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="Configuration of the result: judge the export by its own data."),
    ] = None,
    overrides: Overrides = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Write a plan for a runtime, and say on stderr what it loses there.

    A placement is rounded to what the runtime can express; memory is checked again after that. A
    selection becomes a LiteLLM proxy, launch scripts and a router.
    """
    from moe2opt.result import encode_float
    from moe2opt.verify import UNCHECKED

    spare(out, result, config, folder=True)  # a selection becomes a folder
    stored, opened, failures = _opened(result, config, overrides or (), allow_outside)
    if failures:
        say_rejected(result, failures)
        return Exit.REJECTED
    exported = _exported(result, to, stored, opened)
    if out is not None:
        exported.write(out)
    if as_json:
        put_json(
            {
                "format": to,
                "checked": opened is not None,
                "status": str(stored.status),
                "gap_of_the_plan": encode_float(stored.gap),
                **exported.content(out),
            }
        )
        return Exit.OK
    if out is None:
        put(exported.text, end="")
    if quiet:
        return Exit.OK
    for line in exported.words(out):  # on stderr: stdout may be the file
        say(line)
    if str(stored.status) != "OPTIMAL":
        say(
            f"Note: the plan is {stored.status}, not proven optimal; "
            f"its own gap is {stored.gap:.3g}"
        )
    if opened is None:
        say(f"Note: {UNCHECKED}")
    return Exit.OK


def _opened(
    path: Path, config: str | None, overrides: Sequence[str], allow_outside: bool
) -> tuple[Result, Any, Sequence[str]]:
    """Return the result, what its configuration holds when that is named, and what is wrong.

    With a configuration the plan is the one that it makes of the solution, not the stored text.
    """
    from moe2opt.result import Result
    from moe2opt.verify import read_stored, recorded, verify

    if config is None:
        if overrides:
            raise InputError("--set: needs --config")
        return Result.load(path), None, ()
    _, own = recorded(read_stored(path))
    found = verify(path, config, None, (*own, *overrides), allow_outside=allow_outside)
    if found.foreign:
        raise InputError(f"{path}: {found.failures[0]}")
    if found.result is None or found.target is None:
        return Result.load(path), found.target, found.failures
    return found.result, found.target, found.failures


def _exported(path: Path, to: str, result: Result, opened: Any) -> Exported:
    """Return the plan in the words of the format; raise when its question has no such format."""
    from moe2opt.questions import question_of, question_of_plan
    from moe2opt.schema.source import did_you_mean

    if result.plan is None:
        raise InputError(f"{path}: there is no plan to export, the status is {result.status}")
    content = result.plan if isinstance(result.plan, dict) else result.plan.to_dict()
    named = result.provenance.get("question")
    question = question_of(opened) or question_of_plan(content, named)
    if question is None or question.plan_from_dict is None:
        raise InputError(f"{path}: no question reads this plan")
    if to not in question.exporters:
        formats = list(question.exporters)
        only = f"only to {', '.join(formats)}" if formats else "nor to anything else"
        hint = did_you_mean(to, formats)
        raise InputError(
            f"{path}: the plan answers '{question.name}'; it cannot be exported to "
            f"{to}, {only}{hint}"
        )
    try:
        plan = question.plan_from_dict(content)
        return question.exporters[to](plan, opened)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
