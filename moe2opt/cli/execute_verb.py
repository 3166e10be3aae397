"""Arguments of the verb ``execute``; what it does is in `moe2opt.cli.verbs.execute`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.exits import guarded
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario


@guarded
def execute(
    result: Annotated[Path, typer.Argument(help="A result.json.", show_default=False)],
    config: Config,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Weights (Hugging Face format); default execute.model"),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Held-out text, or a folder of it; default execute.text"),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=2, help="Tokens that are run.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Passes over the tokens.")] = None,
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
) -> None:
    """Run a plan for real and compare what it takes with what was predicted.

    A placement is run with torch on the model's weights, from memory and disk as planned. A
    selection is replayed on the test part of its outcomes. Exit code 5 when --tolerance is
    exceeded.
    """
    from moe2opt.cli.verbs.execute import Request, run_execute

    request = Request(
        result,
        config,
        scenario,
        tuple(overrides or ()),
        allow_outside,
        model,
        text,
        tokens,
        repeats,
        calibrate,
        tuple(tolerance or ()),
        against,
        out,
        as_json,
        quiet,
    )
    raise typer.Exit(run_execute(request))
