"""Flags and arguments that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

Config = Annotated[
    str,
    typer.Argument(
        help="YAML configuration, problem file (.json, .npz), or name of a built-in problem.",
        show_default=False,
    ),
]
Scenario = Annotated[str | None, typer.Option(help="Scenario of the configuration.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Override a value; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no hints.")]
Outside = Annotated[
    bool, typer.Option("--allow-outside", help="Let paths leave the configuration's folder.")
]
Check = Annotated[
    bool, typer.Option("--check", help="Do not solve: check what is in --out DIR again.")
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Backend = Annotated[str, typer.Option(help="serial, process, dask, or a plug-in.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per processor.")]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="tcp://HOST:PORT", help="Dask scheduler, which must be trusted."),
]


def gib_in_bytes(gib: float) -> int:
    """Return a limit of memory in bytes."""
    if not 0 < gib < 2**30:
        raise typer.BadParameter(
            f"{gib} is not a positive number of GiB", param_hint="--memory-limit"
        )
    return int(gib * 2**30)
