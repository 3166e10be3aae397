"""The verb ``execute``: run a plan, show prediction and measurement side by side."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe2opt.cli.exits import Exit, say, say_rejected
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario, Stored, at_least
from moe2opt.cli.folders import create
from moe2opt.cli.output import bar, print_table, put, put_json
from moe2opt.errors import InputError
from moe2opt.writing import ours, write_text

if TYPE_CHECKING:
    from moe2opt.canonical.question import Ran

_JSON, _PLOT = "execute.json", "execute.svg"


def execute(
    result: Stored,
    config: Config,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Weights (Hugging Face format); default execute.model"),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Held-out text, or a folder of it; default execute.text"),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens that are run.", callback=at_least(2))
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Passes over the tokens.", callback=at_least(1))
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Run a mixture of all tiers and formats too, for `profile --from-run`.",
        ),
    ] = False,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHARE|NAME=SHARE",
            help="Exit with 5 when a prediction is further off: 0.15, or time=15%,bytes=2%,...",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="RESULT", help="Run the plan of an earlier result.json, too."),
    ] = None,
    scenario: Scenario = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write execute.json and execute.svg here.")
    ] = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Run a plan for real and compare what it takes with what was predicted.

    A placement is run with torch on the model's weights, from memory and disk as planned. A
    selection is replayed on the test part of its outcomes. Exit code 5 when --tolerance is
    exceeded.
    """
    from moe2opt.canonical.question import Order
    from moe2opt.plugins import imported
    from moe2opt.questions import question_of
    from moe2opt.verify import verify

    found = verify(result, config, scenario, overrides or (), allow_outside=allow_outside)
    if found.foreign:
        raise InputError(f"{result}: {found.failures[0]}")
    if not found.ok:
        say_rejected(result, found.failures)
        return Exit.REJECTED
    solved, question = found.result, question_of(found.target)
    assert solved is not None
    if solved.plan is None or solved.x is None:
        raise InputError(f"{result}: there is no plan to run ({solved.status})")
    if question is None or not question.runner:
        raise InputError(f"{config}: `execute` has nothing that runs plans of this question")
    module, _, function = question.runner.partition(":")
    runner = imported(f"`execute` of '{question.name}'", module, function)
    with _folder(out) as folder:
        with bar("Running", quiet=quiet) as on_step:
            given = (against, model, text, tokens, repeats, calibrate, tuple(tolerance or ()))
            ran = runner(found.target, solved.x, Order(result, *given, allow_outside, on_step))
        written = [] if folder is None else _write(folder, ran)
    if as_json:
        put_json(ran.content)
    else:
        _show(ran, out, written, quiet)
    for words in ran.exceeded:
        say(f"tolerance exceeded: {words}")
    return Exit.TOO_WEAK if ran.exceeded else Exit.OK


@contextmanager
def _folder(out: Path | None) -> Iterator[Path | None]:
    """Give the folder for the files; one that was made for nothing is removed again."""
    if out is None:
        yield None
        return
    made = not out.exists()
    create(out, _JSON, _PLOT)
    try:
        yield out
    except BaseException:
        if made:
            shutil.rmtree(out, ignore_errors=True)
        raise


def _write(folder: Path, ran: Ran) -> list[str]:
    """Write the account and its picture; return the names of the files."""
    names = [_JSON] if ran.draw is None else [_JSON, _PLOT]
    ours(folder, names)
    text = json.dumps(ran.content, indent=1, allow_nan=False)
    write_text(folder / _JSON, text + "\n")
    if ran.draw is not None:
        ran.draw(folder / _PLOT)
    return names


def _show(ran: Ran, out: Path | None, written: list[str], quiet: bool) -> None:
    for part in ran.shown:
        if isinstance(part, str):
            put(part)
        else:
            print_table(part.header, part.rows)
    if quiet:
        return
    for note in ran.notes:
        put(f"note: {note}")
    if out is not None:
        put(f"\nWritten to {out}: {', '.join(written)}")
        if ran.follow_up:
            put(f"Next: {ran.follow_up.format(run=out / _JSON)}")
