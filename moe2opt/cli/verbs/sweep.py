"""The verb ``sweep``: run what is missing, show how far it is, print the table."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.output import print_table, put

if TYPE_CHECKING:
    from moe2opt.sweep import Sweep

#: Rows of the table that is printed.
_MOST_ROWS = 40

#: Columns of the table that is printed, after the coordinates.
_SHOWN = ("status", "objective", "gap", "certified", "solve_s")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``sweep``."""

    config: str
    out: Path
    over: list[str]
    scenarios: list[str] | None
    backend: str
    workers: int | None
    scheduler: str | None
    settings: dict[str, Any]
    allow_outside: bool
    as_json: bool
    quiet: bool


def run_sweep(request: Request) -> Exit:
    """Do what was asked and return the exit code."""
    from moe2opt.sweep import sweep

    with _bar(quiet=request.quiet) as on_step:
        found = sweep(
            request.config,
            request.over,
            request.scenarios,
            out=request.out,
            backend=request.backend,
            workers=request.workers,
            scheduler=request.scheduler,
            allow_outside=request.allow_outside,
            on_step=on_step,
            **request.settings,
        )
    for row in found.failures:
        say(f"failed: {_coordinates(row)}: {row.get('error')}")
    _print(request, found)
    if found.missing:
        total = len(found) + found.missing
        say(f"interrupted: {len(found)} of {total} cells done; run again to resume")
        return Exit.INTERRUPTED
    return Exit.TOO_WEAK if found.failures else Exit.OK


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback that moves a bar on a terminal, and prints tenths elsewhere."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        shown = [-1]

        def tenths(done: int, total: int) -> None:
            if done * 10 // total > shown[0]:
                shown[0] = done * 10 // total
                say(f"{done} of {total} cells")

        yield tenths
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        "cells", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task("cells", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _coordinates(row: dict[str, Any]) -> str:
    names = list(row)[: list(row).index("status")]
    return ", ".join(f"{name}={row[name]}" for name in names)


def _print(request: Request, found: Sweep) -> None:
    counts = Counter(row["status"] for row in found.rows)
    if request.as_json:
        content = {
            "cells": len(found),
            "reused": found.reused,
            "missing": found.missing,
            "statuses": dict(sorted(counts.items())),
            "out": str(found.folder),
            "rows": list(found.rows),
        }
        put(json.dumps(content, allow_nan=False))
        return
    if not found.rows:
        return
    first = found.rows[0]
    names = [*list(first)[: list(first).index("status")], *_SHOWN]
    rows = [[_text(row.get(name)) for name in names] for row in found.rows[:_MOST_ROWS]]
    print_table(names, rows)
    words = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    put(f"{len(found)} cells: {words}; {found.reused} were there before")
    if not request.quiet:
        put(f"Written to {found.folder}: sweep.csv, cells/")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
