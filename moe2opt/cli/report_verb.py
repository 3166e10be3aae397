"""The verb ``report``: a folder of results as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.exits import guarded
from moe2opt.cli.flags import Json, Quiet


@guarded
def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder that solve, pareto or replay wrote with --out.",
            show_default=False,
        ),
    ],
    config: Annotated[
        str | None,
        typer.Option(
            help="Configuration of the run, to replay its certificate; "
            "default: the built-in problem of that name."
        ),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Compute the grid of the explorer and keep it in DIR.")
    ] = False,
    axis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW:HIGH",
            help="A budget of the grid and its range; twice. Default: energy and delay, or memory "
            "and quality loss.",
        ),
    ] = None,
    points: Annotated[int, typer.Option(min=2, max=100, help="Budgets on each axis.")] = 20,
    time_limit: Annotated[
        float, typer.Option(min=0, help="Seconds for each cell of the grid; it keeps its gap then.")
    ] = 10.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here; default DIR/report.html.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make one HTML page of a folder of results, to be opened without a network.

    It holds the problem in words, the plan, what is proven, how it was found, and, where the folder
    holds a grid over two budgets, an explorer. Exit code 6 when the checker rejects the result.
    """
    from moe2opt.cli.verbs.report import Request, run_report

    request = Request(folder, config, grid, axis or [], points, time_limit, out, as_json, quiet)
    raise typer.Exit(run_report(request))
