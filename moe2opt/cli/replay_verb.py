"""Arguments of the verb ``replay``; what it does is in `moe2opt.cli.verbs.replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.exits import guarded
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario


@guarded
def replay(
    config: Config,
    trace: Annotated[
        str,
        typer.Argument(
            help="Trace: a file (FILE.parquet::NAME for one of many), a built-in trace, or experts "
            "of tokens (.npz).",
            show_default=False,
        ),
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Policies; default static,periodic,trigger,exact-mpc,lyapunov. For experts of "
            "tokens, default static,lru,lfu; also static-layer, lru-global, lfu-model, "
            "hobbit[-priority|-mixed|-prefetch], adapmoe[-slots|-gating|-prefetch], "
            "prefetch-frequency, prefetch-transition, prefetch-oracle, and those of --against.",
        ),
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            help="Bound to compare with: clairvoyant or none; for experts of tokens also belady "
            "(the same as clairvoyant), belady-global, belady-filled."
        ),
    ] = "clairvoyant",
    link: Annotated[
        str | None,
        typer.Option(metavar="A-B", help="Link of the trace; default the slowest between devices."),
    ] = None,
    step: Annotated[float | None, typer.Option(help="Seconds of a step; default 1.")] = None,
    period: Annotated[
        float | None, typer.Option(help="Seconds between plans of periodic; default 30.")
    ] = None,
    theta: Annotated[
        float | None, typer.Option(help="Relative change that triggers; default 0.3.")
    ] = None,
    horizon: Annotated[
        float | None, typer.Option(help="Seconds that a plan should last; default 10.")
    ] = None,
    tokens_per_s: Annotated[
        float | None, typer.Option(help="Tokens per second; default that of the first plan.")
    ] = None,
    reaction: Annotated[
        float | None, typer.Option(help="Seconds until a decision takes effect; default 0.2.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds after which a use is served from a store; default 1."),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="First plan: for the trace's mean, or nominal.")
    ] = None,
    duration: Annotated[float | None, typer.Option(help="Only the first seconds.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair gaps and wrong values of the trace.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Replace a run in --out, or go on with it.")
    ] = False,
    scenario: Scenario = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write logs, summary and timeline here.")
    ] = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Replay a trace under several policies and compare what each would have given.

    A run with --out that was stopped goes on where it was. Exit codes: 0 done; 2 bad command line
    or file; 3 no plan fits the conditions at the start.
    """
    from moe2opt.cli.verbs.replay import Request, run_replay

    settings = {
        "link": link,
        "step_s": step,
        "period_s": period,
        "theta": theta,
        "horizon_s": horizon,
        "tokens_per_s": tokens_per_s,
        "reaction_s": reaction,
        "timeout_s": timeout,
        "start": start,
    }
    load = (scenario, tuple(overrides or ()), allow_outside)
    given = {name: value for name, value in settings.items() if value is not None}
    policies = None if policy is None else [name.strip() for name in policy.split(",")]
    request = Request(
        config, trace, policies, against, load, given, duration, repair, fresh, out, as_json, quiet
    )
    raise typer.Exit(run_replay(request))
