"""The verb ``export``: a plan in the words of a runtime."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.cli.exits import Exit, say, say_rejected
from moe2opt.cli.folders import spare
from moe2opt.cli.output import put
from moe2opt.config import LoadedInstance
from moe2opt.placement import PlacementInstance, PlacementPlan
from moe2opt.placement.export import FORMATS, Export
from moe2opt.placement.export import export as export_plan
from moe2opt.result import InputError, Result, encode_float
from moe2opt.verify import UNCHECKED, read_stored, recorded, verify
from moe2opt.writing import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Formats of plans that answer the other question.
SELECTION_FORMATS = ("litellm",)


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
    checked = opened is not None
    if _selects(result) and request.to in SELECTION_FORMATS:
        return _run_selection(request, result, opened)
    plan = _plan(request, result)
    instance = getattr(opened, "instance", None)
    instance = instance if isinstance(instance, PlacementInstance) else None
    exports = export_plan(plan, request.to, instance)
    files = [] if request.out is None else _write(request.out, exports)
    if request.as_json:
        content = _as_json(request, result, exports, files, checked=checked)
        put(json.dumps(content, indent=1, allow_nan=False))
        return Exit.OK
    if request.out is None:
        for part in exports:
            put(part.text, end="")
    if not request.quiet:
        _show(result, exports, files)
        if not checked:
            say(f"Note: {UNCHECKED}")
    return Exit.OK


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


def _content(result: Result) -> dict[str, Any]:
    """Return the plan as a dictionary, empty when there is none."""
    if result.plan is None or isinstance(result.plan, dict):
        return result.plan or {}
    content: dict[str, Any] = result.plan.to_dict()
    return content


def _selects(result: Result) -> bool:
    content = _content(result)
    return "experts" in content and "assignment" not in content


def _run_selection(request: Request, result: Result, opened: Any) -> Exit:
    """Export a selection."""
    from moe2opt.cli.verbs.export_selection import export_selection, run_export_selection
    from moe2opt.selection.instance import SelectionInstance
    from moe2opt.selection.sections import Serving

    instance, serving = None, Serving()
    if isinstance(opened, LoadedInstance) and isinstance(opened.instance, SelectionInstance):
        instance = opened.instance
        serving = Serving.model_validate(opened.effective.get("serving", {}))
    try:
        prepared = export_selection(_content(result), instance, serving)
    except InputError as error:
        raise InputError(f"{request.result}: {error}") from error
    flags = {
        "as_json": request.as_json,
        "quiet": request.quiet,
        "checked": opened is not None,
    }
    return run_export_selection(prepared, result, request.out, **flags)


def _plan(request: Request, result: Result) -> PlacementPlan:
    """Return the placement of a result; raise when there is none or the format is not for it."""
    if result.plan is None:
        raise InputError(
            f"{request.result}: there is no plan to export, the status is {result.status}"
        )
    content = _content(result)
    if "assignment" not in content:
        raise InputError(
            f"{request.result}: the plan answers a selection, not a placement; it cannot be "
            f"exported to {request.to}, only to {', '.join(SELECTION_FORMATS)}"
        )
    if request.to in SELECTION_FORMATS:
        raise InputError(
            f"--to {request.to}: this format is for results of a selection; for a placement choose "
            f"one of {', '.join(FORMATS)}"
        )
    try:
        return PlacementPlan.from_dict(content)
    except InputError as error:
        raise InputError(f"{request.result}: {error}") from error


def _write(out: Path, exports: Sequence[Export]) -> list[Path]:
    """Write every text; further ones go beside the first, with their suffix."""
    files = [out if not e.suffix else out.with_name(f"{out.stem}{e.suffix}") for e in exports]
    for file, part in zip(files, exports, strict=True):
        write_text(file, part.text, "--out ")
    return files


def _as_json(
    request: Request,
    result: Result,
    exports: Sequence[Export],
    files: Sequence[Path],
    *,
    checked: bool,
) -> dict[str, Any]:
    names = _names(exports, files)
    return {
        "format": request.to,
        "checked": checked,
        "status": str(result.status),
        "gap_of_the_plan": encode_float(result.gap),
        "exports": [
            {
                "file": name,
                "text": part.text,
                "launch": _launch(part, name),
                "report": part.report.to_dict(),
                **part.extras,
            }
            for part, name in zip(exports, names, strict=True)
        ],
    }


def _names(exports: Sequence[Export], files: Sequence[Path]) -> list[str | None]:
    return [str(file) for file in files] if files else [None for _ in exports]


def _launch(part: Export, name: str | None) -> str:
    """Return how to use a text; its name is quoted for the shell or for Python."""
    file = name or f"FILE{part.suffix}"
    quoted = {"{file}": shlex.quote(file), "{file!r}": repr(file)}
    return re.sub(r"\{file(!r)?\}", lambda found: quoted[found[0]], part.launch)


def _show(result: Result, exports: Sequence[Export], files: Sequence[Path]) -> None:
    """Say what was lost, on stderr: stdout may be the file."""
    names = _names(exports, files)
    for part, name in zip(exports, names, strict=True):
        if name is not None:
            say(f"\n{name}")
        if part.launch:
            say(f"Run: {_launch(part, name)}")
        say(part.report.summary())
    if str(result.status) != "OPTIMAL":
        say(
            f"Note: the plan is {result.status}, not proven optimal; "
            f"its own gap is {result.gap:.3g}"
        )
