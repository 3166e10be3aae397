"""Arguments of the verb ``fleet``; what it does is in `moe2opt.cli.verbs.fleet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.exits import guarded
from moe2opt.cli.flags import Backend, Check, Json, Outside, Quiet, Scheduler, Workers


@guarded
def fleet(
    config: Annotated[Path, typer.Argument(help="YAML file of a fleet.", show_default=False)],
    gap: Annotated[
        float, typer.Option(help="Relative gap that is good enough, 0.01 for 1 %.")
    ] = 1e-3,
    backend: Backend = "process",
    workers: Workers = None,
    scheduler: Scheduler = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write fleet.json, sites.csv and all proofs here."),
    ] = None,
    check: Check = False,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Plan many sites under one shared budget, and prove how good the plan is.

    Exit codes: 0 within the gap and certified; 2 bad command line or file; 3 no plan keeps the
    budget: proven; 4 no plan was found; 5 the gap is wider than asked; 6 a proof was rejected.
    """
    from moe2opt.cli.verbs.fleet import Request, run_fleet

    where = "dask" if scheduler is not None else backend
    request = Request(config, gap, where, workers, scheduler, out, allow_outside, as_json, quiet)
    raise typer.Exit(run_fleet(request, check=check))
