"""The verb ``report``: compute the grid if asked, replay the certificate, write the page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.folders import spare
from moe2opt.cli.output import put
from moe2opt.result import InputError
from moe2opt.source import source_of

if TYPE_CHECKING:
    from moe2opt.report import Report
    from moe2opt.report.reading import Evidence


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``report``.

    Attributes
    ----------
    folder, config, out
        What to read, the configuration of the run, and where to write.
    grid, axes, points, time_limit_s
        Whether to compute a grid, over which budgets, how fine, and the limit for each cell.
    as_json, quiet
        Flags.
    """

    folder: Path
    config: str | None
    grid: bool
    axes: list[str]
    points: int
    time_limit_s: float
    out: Path | None
    as_json: bool
    quiet: bool


def run_report(request: Request) -> Exit:
    """Write the page and return the exit code."""
    from moe2opt.report import read_folder, write_report

    if request.axes and not request.grid:
        raise InputError("--axis: goes with --grid")
    read = (path for path in request.folder.glob("*.*") if path.suffix != ".html")
    spare(request.out, request.config, *read)
    partly = request.grid and _add_grid(request, read_folder(request.folder))
    report, path = write_report(request.folder, request.out, request.config)
    _tell(request, report, path)
    if partly:
        say(f"interrupted: {request.folder / 'grid.json'} holds what is known so far")
        return Exit.INTERRUPTED
    return Exit.REJECTED if report.badge.tone == "bad" else Exit.OK


def _add_grid(request: Request, evidence: Evidence) -> bool:
    """Compute the grid and keep it; tell whether it was interrupted."""
    from moe2opt.report.gridding import add_grid, default_axes, parse_axes
    from moe2opt.report.judging import reopened

    target: Any = reopened(evidence, request.config)
    if target is None:
        raise InputError(
            f"--grid: the configuration of {request.folder} is not at hand; name it: --config"
        )
    if request.axes:
        axes = parse_axes(request.axes, request.points)
    elif source_of(target) is not None:
        axes = default_axes(target, request.points)
    else:
        raise InputError("--grid: name the two budgets: --axis NAME=LOW:HIGH, twice")
    total = math.prod(map(len, axes.values()))

    def progress(known: int, solved: int) -> None:
        """Say how far the grid is, ten times in all."""
        if known * 10 // total != (known - 1) * 10 // total:
            say(f"{known} of {total} cells, {solved} of them solved")

    listener = None if request.quiet else progress
    found = add_grid(request.folder, target, axes, listener, request.time_limit_s)
    return bool(found.provenance.get("interrupted"))


def _tell(request: Request, report: Report, path: Path) -> None:
    if request.as_json:
        content = {
            "report": str(path),
            "bytes": len(report.html.encode()),
            "tone": report.badge.tone,
            "badge": report.badge.title,
            "explorer": report.explorer,
        }
        put(json.dumps(content, indent=1))
        return
    put(f"{path}: {report.badge.title}")
    if not request.quiet and not report.explorer and report.grid_flags:
        named = "" if request.config is None else f" --config {request.config}"
        next_step = f"moe2opt report {request.folder}{named} {report.grid_flags}"
        put(f"No grid, hence no explorer. Next: {next_step}")
