"""The verb ``sweep``: run what is missing, show how far it is, print the table."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe2opt.cli import flags
from moe2opt.cli.exits import Exit, say, say_all
from moe2opt.cli.flags import Json, Outside, Quiet, at_least
from moe2opt.cli.output import bar, print_table, put, put_json
from moe2opt.errors import InputError
from moe2opt.text import many

if TYPE_CHECKING:
    from moe2opt.sweep import Checked, Sweep

#: Rows of the table that is printed.
_MOST_ROWS = 40

#: Columns of the table that is printed, after the coordinates.
_SHOWN = ("status", "objective", "gap", "certified", "solve_s")


def sweep(
    config: Annotated[
        str,
        typer.Argument(
            help="YAML configuration, name of a built-in problem, or sweep file.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the results.", show_default=False)
    ],
    over: Annotated[
        list[str] | None,
        typer.Option(metavar="A.B=1,2,3", help="Values of a key; may be repeated."),
    ] = None,
    scenarios: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="Scenarios; base is the file without any."),
    ] = None,
    overrides: flags.Overrides = None,
    backend: flags.Backend = "process",
    workers: flags.Workers = None,
    scheduler: flags.Scheduler = None,
    solver: flags.Solver = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds for each cell.", callback=at_least(0))
    ] = None,
    gap: flags.Gap = None,
    seed: flags.Seed = None,
    check: flags.Check = False,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Solve every combination of values in every scenario; running it again does what is missing.

    Every cell uses one thread. A cell that fails is a row with its error, and is tried again next
    time. Exit codes: 0 every cell has a result; 2 bad command line or file; 5 some cells failed;
    6 a check failed; 130 interrupted, finished cells are kept.
    """
    from moe2opt.sweep import sweep as run_sweep
    from moe2opt.sweep import verify_sweep

    names = None if scenarios is None else [name.strip() for name in scenarios.split(",")]
    asked: dict[str, Any] = {
        "allow_outside": allow_outside,
        "solver": solver,
        "time_limit_s": time_limit,
        "rel_gap": gap,
        "seed": seed,
    }
    values = [*_single(overrides or ()), *(over or ())]
    if check:
        return _checked(verify_sweep(out, config, values, names, **asked), as_json, quiet)
    with _progress(quiet) as on_step:
        found = run_sweep(
            config,
            values,
            names,
            out=out,
            backend="dask" if scheduler is not None else backend,
            workers=workers,
            scheduler=scheduler,
            on_step=on_step,
            **asked,
        )
    for row in found.failures:
        words = ", ".join(f"{name}={row[name]}" for name in _coordinates(row))
        say(f"failed: {words}: {row.get('error')}")
    if as_json:
        put_json(_as_json(found), None)
    elif found.rows:
        _show(found, quiet)
    if found.missing:
        total = len(found) + found.missing
        say(f"interrupted: {len(found)} of {many(total, 'cell')} done; run again to resume")
        return Exit.INTERRUPTED
    return Exit.TOO_WEAK if found.failures else Exit.OK


def _single(overrides: Sequence[str]) -> Sequence[str]:
    """Return overrides, which are keys of one value; raise `InputError` for several or none."""
    from moe2opt.sweep.spec import split_values

    for text in overrides:
        key, _, value = text.partition("=")
        if not (key.strip() and value.strip()) or len(split_values(value)) > 1:
            raise InputError(f"--set {text}: expected KEY=VALUE; several values go with --over")
    return overrides


def _checked(found: Checked, as_json: bool, quiet: bool) -> Exit:
    say_all(found.failures)
    if as_json:
        put_json({"ok": not found.failures, **asdict(found)}, None)
    elif not quiet:
        verdict = "REJECTED" if found.failures else "every one holds"
        put(f"{many(found.cells, 'cell')}: {verdict}")
        for proviso in found.provisos:
            put(f"  {proviso}")
    return Exit.REJECTED if found.failures else Exit.OK


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback that moves a bar on a terminal, and prints tenths elsewhere."""
    if not quiet and not sys.stderr.isatty():
        shown = [-1]

        def tenths(done: int, total: int) -> None:
            if done * 10 // total > shown[0]:
                shown[0] = done * 10 // total
                say(f"{done} of {many(total, 'cell')}")

        yield tenths
        return
    with bar("cells", quiet=quiet) as move:
        yield move and (lambda done, total: move(done, total, f"{done}/{total}"))


def _coordinates(row: dict[str, Any]) -> list[str]:
    return list(row)[: list(row).index("status")]


def _counts(found: Sweep) -> dict[str, int]:
    return dict(sorted(Counter(row["status"] for row in found.rows).items()))


def _as_json(found: Sweep) -> dict[str, Any]:
    return {
        "cells": len(found),
        "reused": found.reused,
        "missing": found.missing,
        "statuses": _counts(found),
        "out": str(found.folder),
        "rows": list(found.rows),
    }


def _show(found: Sweep, quiet: bool) -> None:
    from moe2opt.present import Measure
    from moe2opt.progress import STATUS_WORDS
    from moe2opt.result import Status

    def text(name: str, value: Any) -> str:
        if value is None:
            return "-"
        if name == "status":
            return STATUS_WORDS[Status(value)]
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    names = [*_coordinates(found.rows[0]), *_SHOWN]
    unit = next((Measure(unit=row["unit"]).suffix for row in found.rows if "unit" in row), "")
    header = [f"objective ({unit})" if unit and name == "objective" else name for name in names]
    rows = [[text(name, row.get(name)) for name in names] for row in found.rows[:_MOST_ROWS]]
    print_table(header, rows)
    words = ", ".join(f"{n} {STATUS_WORDS[Status(status)]}" for status, n in _counts(found).items())
    cells = f"{len(found)} {'cell' if len(found) == 1 else 'cells'}"
    put(f"{cells}: {words}; {found.reused} were there before")
    if not quiet:
        put(f"Written to {found.folder}: sweep.csv, cells/")
