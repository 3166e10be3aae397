"""The verb ``report``: compute the grid if asked, replay the certificate, write the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.flags import Json, Outside, Quiet, at_least
from moe2opt.cli.folders import spare
from moe2opt.cli.output import put, put_json
from moe2opt.cli.target import source_of
from moe2opt.errors import InputError
from moe2opt.text import many


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
    points: Annotated[
        int, typer.Option(help="Budgets on each axis.", callback=at_least(2, most=100))
    ] = 20,
    time_limit: Annotated[
        float,
        typer.Option(
            help="Seconds for each cell of the grid; it keeps its gap then.", callback=at_least(0)
        ),
    ] = 10.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here; default DIR/report.html.")
    ] = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Make one HTML page of a folder of results, to be opened without a network.

    It holds the problem in words, the plan, what is proven, how it was found, and, where the folder
    holds a grid over two budgets, an explorer. Exit code 6 when the checker rejects the result.
    """
    from moe2opt.report import write_report

    if axis and not grid:
        raise InputError("--axis: goes with --grid")
    spare(out, config, *(path for path in folder.glob("*.*") if path.suffix != ".html"))
    partly = grid and _add_grid(
        folder, config, allow_outside, axis or [], points, time_limit, quiet
    )
    page, path = write_report(folder, out, config, allow_outside=allow_outside)
    if as_json:
        put_json(
            {
                "report": str(path),
                "bytes": len(page.html.encode()),
                "tone": page.badge.tone,
                "badge": page.badge.title,
                "explorer": page.explorer,
            }
        )
    else:
        put(f"{path}: {page.badge.title}")
        if not quiet and not page.explorer and page.grid_flags:
            named = "" if config is None else f" --config {config}"
            named += " --allow-outside" if allow_outside else ""
            next_step = f"moe2opt report {folder}{named} {page.grid_flags}"
            put(f"No grid, hence no explorer. Next: {next_step}")
    if partly:
        say(f"interrupted: {folder / 'grid.json'} holds what is known so far")
        return Exit.INTERRUPTED
    return Exit.REJECTED if page.badge.tone == "bad" else Exit.OK


def _add_grid(
    folder: Path,
    config: str | None,
    allow_outside: bool,
    named: Sequence[str],
    points: int,
    time_limit_s: float,
    quiet: bool,
) -> bool:
    """Compute the grid and keep it; tell whether it was interrupted."""
    from moe2opt.report import read_folder
    from moe2opt.report.gridding import add_grid, default_axes, parse_axes
    from moe2opt.report.judging import reopened

    target: Any = reopened(read_folder(folder), config, allow_outside=allow_outside)
    if target is None:
        raise InputError(f"--grid: the configuration of {folder} is not at hand; name it: --config")
    if named:
        axes = parse_axes(named, points)
    elif source_of(target) is not None:
        axes = default_axes(target, points)
    else:
        raise InputError("--grid: name the two budgets: --axis NAME=LOW:HIGH, twice")
    total = math.prod(map(len, axes.values()))

    def progress(known: int, solved: int) -> None:
        """Say how far the grid is, ten times in all."""
        if known * 10 // total != (known - 1) * 10 // total:
            say(f"{known} of {many(total, 'cell')}, {solved} of them solved")

    found = add_grid(folder, target, axes, None if quiet else progress, time_limit_s)
    return bool(found.provenance.get("interrupted"))
