"""Arguments of the verb ``pareto``; what it does is in `moe2opt.cli.verbs.pareto`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.exits import guarded
from moe2opt.cli.flags import Check, Config, Json, Outside, Overrides, Quiet, Scenario, Seed


@guarded
def pareto(
    config: Config,
    x: Annotated[
        str,
        typer.Option(
            help="Budget that varies: a budget row such as energy_j_per_prompt, or a key of the "
            "configuration such as delay.limit_s.",
            show_default=False,
        ),
    ],
    y: Annotated[str | None, typer.Option(help="Second budget: a grid instead of a front.")] = None,
    points: Annotated[
        int, typer.Option(min=0, help="Points of the front, or budgets per axis of a grid; 0: all.")
    ] = 25,
    x_range: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH", help="Range of x; needed for a key, and for a grid."),
    ] = None,
    y_range: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH", help="Range of y; needed unless --y-budgets is given."),
    ] = None,
    x_budgets: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Exactly these budgets of x.")
    ] = None,
    y_budgets: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Exactly these budgets of y.")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds for each point.")] = None,
    gap: Annotated[float | None, typer.Option(help="Relative gap that is good enough.")] = None,
    seed: Seed = None,
    scenario: Scenario = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write front.json, front.csv (grid.*) and results here."),
    ] = None,
    check: Check = False,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compute the exact front of the objective over one budget, or a grid over two.

    Exit codes: 0 every point certified; 2 bad command line or file; 3 no budget has a plan; 4 a
    limit before the first plan; 5 a point is not proven optimal; 6 a check failed.
    """
    from moe2opt.cli.verbs.pareto import AxisRequest, Request, run_pareto

    axes = [AxisRequest(x, x_range, x_budgets, "x")]
    if y is not None:
        axes.append(AxisRequest(y, y_range, y_budgets, "y"))
    settings = {"time_limit_s": time_limit, "rel_gap": gap, "seed": seed}
    request = Request(
        config,
        scenario,
        overrides or [],
        allow_outside,
        tuple(axes),
        points,
        settings,
        out,
        as_json,
        quiet,
    )
    raise typer.Exit(run_pareto(request, check=check))
