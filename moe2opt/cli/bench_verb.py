"""Arguments of the verb ``bench``; what it does is in `moe2opt.cli.verbs.bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.exits import guarded
from moe2opt.cli.flags import Json, Quiet, gib_in_bytes


@guarded
def bench(
    suites: Annotated[
        list[str] | None,
        typer.Argument(help="Suites, problem files or built-in problems.", show_default=False),
    ] = None,
    peers: Annotated[
        str, typer.Option(metavar="A,B", help="Solvers and peers.")
    ] = "brb,highs-milp,highs-cuts",
    time_limit: Annotated[float, typer.Option(help="Seconds of each run.")] = 60.0,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 1,
    gap: Annotated[float, typer.Option(help="Relative gap that counts as closed.")] = 1e-6,
    memory_limit: Annotated[float | None, typer.Option(help="Memory of each run in GiB.")] = None,
    only: Annotated[str, typer.Option(metavar="PATTERN", help="Instances by name.")] = "*",
    most_cells: Annotated[
        int | None, typer.Option(help="Leave out instances with more experts x clusters.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Third-party data; default shared/data by the checkout."),
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="Interpreter that has the peers.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report and plots here.")
    ] = None,
    clock: Annotated[
        str, typer.Option(help="Seconds that count: wall, or processor on a busy machine.")
    ] = "wall",
    list_only: Annotated[bool, typer.Option("--list", help="List suites and peers.")] = False,
    no_certify: Annotated[bool, typer.Option("--no-certify", help="Skip the checker.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare solvers and peers on suites of instances, every run in its own process.

    Exit code 6 when a claim turned out to be wrong or a certificate was rejected.
    """
    from moe2opt.cli.verbs.bench import Request, list_bench, run_bench_verb

    if list_only:
        list_bench(as_json=as_json, data=data)
        return
    settings = {
        "time_limit_s": time_limit,
        "memory_limit_bytes": None if memory_limit is None else gib_in_bytes(memory_limit),
        "rel_gap": gap,
        "seeds": seeds,
        "only": only,
        "most_cells": most_cells,
        "python": python,
        "certify": not no_certify,
        "clock": clock,
    }
    request = Request(suites or [], peers, settings, data, out, as_json, quiet)
    raise typer.Exit(run_bench_verb(request))
