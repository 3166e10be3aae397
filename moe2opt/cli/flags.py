"""Flags and arguments that several verbs share; what only one verb has stands in its signature."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def at_least(
    least: float, *, most: float = math.inf, finite: bool = False
) -> Callable[[float | None], float | None]:
    """Return what refuses numbers outside `least` to `most`, and NaN, by the name of their flag."""
    told = f"at least {least:g}" if math.isinf(most) else f"{least:g} to {most:g}"

    def checked(value: float | None) -> float | None:
        if value is not None and (not least <= value <= most or (finite and math.isinf(value))):
            raise typer.BadParameter(f"{value:g} is not understood; it must be {told}")
        return value

    return checked


def positive(value: float | None) -> float | None:
    """Refuse what is not above 0 and finite, by the name of its flag."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is not a positive number")
    return value


def one_of(*known: str) -> Callable[[str | None], str | None]:
    """Return what refuses other words, by the name of their flag."""

    def checked(word: str | None) -> str | None:
        if word is not None and word not in known:
            raise typer.BadParameter(
                f"'{word}' is not understood; choose one of {', '.join(known)}"
            )
        return word

    return checked


def in_gib(gib: float | None) -> float | None:
    """Refuse what is no size of a memory."""
    if gib is not None and not 0 < gib < 2**30:
        raise typer.BadParameter(f"{gib} is not a positive number of GiB")
    return gib


def gib_in_bytes(gib: float | None) -> int | None:
    """Return a limit of memory in bytes, None for none."""
    return None if gib is None else int(gib * 2**30)


Config = Annotated[
    str,
    typer.Argument(
        help="YAML configuration, problem file (.json, .npz), or name of a built-in problem.",
        show_default=False,
    ),
]
Stored = Annotated[Path, typer.Argument(help="A result.json.", show_default=False)]
Scenario = Annotated[str | None, typer.Option(help="Scenario of the configuration.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Override a value; may be repeated."),
]
Outside = Annotated[
    bool, typer.Option("--allow-outside", help="Let paths leave the configuration's folder.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no hints.")]
Check = Annotated[
    bool, typer.Option("--check", help="Do not solve: check what is in --out DIR again.")
]
NoCertify = Annotated[bool, typer.Option("--no-certify", help="Skip the checker.")]
Solver = Annotated[str | None, typer.Option(help="Solver; default auto.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.", callback=at_least(0))]
Gap = Annotated[
    float | None,
    typer.Option(
        help="Relative gap that is good enough, 0.01 for 1 %, 0 for exact; else that of the file.",
        callback=at_least(0, finite=True),
    ),
]
Backend = Annotated[str, typer.Option(help="serial, process, dask, or a plug-in.")]
Workers = Annotated[
    int | None, typer.Option(help="Processes; default: one per processor.", callback=at_least(1))
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="tcp://HOST:PORT", help="Dask scheduler, which must be trusted."),
]
