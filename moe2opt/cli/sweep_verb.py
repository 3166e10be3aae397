"""Arguments of the verb ``sweep``; what it does is in `moe2opt.cli.verbs.sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.exits import guarded
from moe2opt.cli.flags import Backend, Json, Outside, Quiet, Scheduler, Seed, Workers


@guarded
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
    backend: Backend = "process",
    workers: Workers = None,
    scheduler: Scheduler = None,
    solver: Annotated[str | None, typer.Option(help="Solver; default auto.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds for each cell.")] = None,
    gap: Annotated[float | None, typer.Option(help="Relative gap that is good enough.")] = None,
    seed: Seed = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Solve every combination of values in every scenario; running it again does what is missing.

    Every cell uses one thread. A cell that fails is a row with its error, and is tried again next
    time. Exit codes: 0 every cell has a result; 2 bad command line or file; 5 some cells failed;
    130 interrupted, finished cells are kept.
    """
    from moe2opt.cli.verbs.sweep import Request, run_sweep

    settings = {"solver": solver, "time_limit_s": time_limit, "rel_gap": gap, "seed": seed}
    names = None if scenarios is None else [name.strip() for name in scenarios.split(",")]
    request = Request(
        config,
        out,
        over or [],
        names,
        "dask" if scheduler is not None else backend,
        workers,
        scheduler,
        settings,
        allow_outside,
        as_json,
        quiet,
    )
    raise typer.Exit(run_sweep(request))
