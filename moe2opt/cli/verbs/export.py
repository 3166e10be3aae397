"""The verb ``export``: a plan in the words of a runtime."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.canonical.question import Exported
from moe2opt.cli.exits import Exit, say, say_rejected
from moe2opt.cli.folders import spare
from moe2opt.cli.output import put
from moe2opt.questions import question_of, question_of_plan
from moe2opt.result import InputError, Result, encode_float
from moe2opt.schema.source import did_you_mean
from moe2opt.verify import UNCHECKED, read_stored, recorded, verify

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``export``.

    Attributes
    ----------
    result, to, out
        Stored result, format, file to write (None for stdout).
    config, allow_outside, overrides
        Configuration of the result, None when not given; whether its paths may leave its folder;
        values to override in it, besides those that the result recorded.
    as_json, quiet
        Flags.
    """

    result: Path
    to: str
    out: Path | None
    config: str | None
    allow_outside: bool
    as_json: bool
    quiet: bool
    overrides: tuple[str, ...] = ()


def run_export(request: Request) -> Exit:
    """Do what was asked and return the exit code."""
    spare(request.out, request.result, request.config)
    result, opened, failures = _opened(request)
    if failures:
        say_rejected(request.result, failures)
        return Exit.REJECTED
    exported = _exported(request, result, opened)
    if request.out is not None:
        exported.write(request.out)
    if request.as_json:
        content = {
            "format": request.to,
            "checked": opened is not None,
            "status": str(result.status),
            "gap_of_the_plan": encode_float(result.gap),
            **exported.content(request.out),
        }
        put(json.dumps(content, indent=1, allow_nan=False))
        return Exit.OK
    if request.out is None:
        put(exported.text, end="")
    if not request.quiet:
        _explain(result, exported.words(request.out), checked=opened is not None)
    return Exit.OK


def _exported(request: Request, result: Result, opened: Any) -> Exported:
    """Return the plan in the words of the format; raise when its question has no such format."""
    if result.plan is None:
        raise InputError(
            f"{request.result}: there is no plan to export, the status is {result.status}"
        )
    content = result.plan if isinstance(result.plan, dict) else result.plan.to_dict()
    named = result.provenance.get("question")
    question = question_of(opened) or question_of_plan(content, named)
    if question is None or question.plan_from_dict is None:
        raise InputError(f"{request.result}: no question reads this plan")
    if request.to not in question.exporters:
        formats, to = list(question.exporters), request.to
        only = f"only to {', '.join(formats)}" if formats else "nor to anything else"
        hint = did_you_mean(to, formats)
        raise InputError(
            f"{request.result}: the plan answers '{question.name}'; it cannot be exported to "
            f"{to}, {only}{hint}"
        )
    try:
        plan = question.plan_from_dict(content)
        return question.exporters[request.to](plan, opened)
    except InputError as error:
        raise InputError(f"{request.result}: {error}") from error


def _explain(result: Result, words: Sequence[str], *, checked: bool) -> None:
    """Say how to use it, on stderr: stdout may be the file."""
    for line in words:
        say(line)
    if str(result.status) != "OPTIMAL":
        say(
            f"Note: the plan is {result.status}, not proven optimal; "
            f"its own gap is {result.gap:.3g}"
        )
    if not checked:
        say(f"Note: {UNCHECKED}")


def _opened(request: Request) -> tuple[Result, Any, tuple[str, ...]]:
    """Return the result, what its configuration holds when that is named, and what is wrong.

    With a configuration the plan is the one that it makes of the solution, not the stored text.
    """
    if request.config is None:
        if request.overrides:
            raise InputError("--set: needs --config")
        return Result.load(request.result), None, ()
    _, overrides = recorded(read_stored(request.result))
    found = verify(
        request.result,
        request.config,
        None,
        (*overrides, *request.overrides),
        allow_outside=request.allow_outside,
    )
    if found.foreign:
        raise InputError(f"{request.result}: {found.failures[0]}")
    if found.result is None or found.target is None:
        return Result.load(request.result), found.target, found.failures
    return found.result, found.target, found.failures
