"""The verb ``replay``: load configuration and trace, run the policies, print the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe2opt.cli.days import is_selection, replay_days
from moe2opt.cli.exits import Exit, say
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario, positive
from moe2opt.cli.output import print_table, put, put_json
from moe2opt.cli.target import opened, source_of
from moe2opt.writing import write_text

if TYPE_CHECKING:
    from moe2opt.replay.compare import Comparison
    from moe2opt.replay.traces.trace import Trace


def replay(
    config: Config,
    trace: Annotated[
        str,
        typer.Argument(
            help="Trace: a file (FILE.parquet::NAME for one of many), a built-in trace, experts "
            "of tokens (.npz), or days of a selection (.csv).",
            show_default=False,
        ),
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Policies; default static,greedy,periodic,trigger,exact-mpc,lyapunov. For experts "
            "of tokens, default static,lru,lfu; also static-layer, lru-global, lfu-model, "
            "hobbit[-priority|-mixed|-prefetch], adapmoe[-slots|-gating|-prefetch], "
            "prefetch-frequency, prefetch-transition, prefetch-oracle, and those of --against. For "
            "days, default static,exact,thrifty,stageroute,hindsight, and with routing.days: gate "
            "also gated.",
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
    duration: Annotated[
        float | None, typer.Option(help="Only the first seconds.", callback=positive)
    ] = None,
    feedback: Annotated[
        str | None,
        typer.Option(help="Days: outcomes that a policy hears of, answers (default) or all."),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(help="Days: past prompts that a new LLM is run on; default 100.")
    ] = None,
    load_gib_per_s: Annotated[
        float | None, typer.Option(help="Days: rate at which weights are loaded; default 1.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Days: seed of which prompts come when; default 0.")
    ] = None,
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
) -> Exit:
    """Replay a trace under several policies and compare what each would have given.

    A run with --out that was stopped goes on where it was. Exit codes: 0 done; 2 bad command line
    or file; 3 proven: no plan fits the conditions at the start; 4 none was found in time.
    """
    from moe2opt.replay.compare import InterruptedReplay, compare
    from moe2opt.replay.policies import POLICIES, ReplaySettings
    from moe2opt.replay.traces.files import is_token_trace, token_file

    settings = {
        "link": link, "step_s": step, "period_s": period, "theta": theta, "horizon_s": horizon,
        "tokens_per_s": tokens_per_s, "reaction_s": reaction, "timeout_s": timeout, "start": start,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    days = {
        "feedback": feedback, "trial": trial, "load_gib_per_s": load_gib_per_s, "seed": seed,
    }  # fmt: skip
    policies = () if policy is None else tuple(name.strip() for name in policy.split(","))
    bound = None if against == "none" else against
    target = opened(config, scenario, overrides, allow_outside)
    tell = None if quiet else _tell
    of_traces = {**settings, "duration": duration, "repair": repair}
    if is_selection(target, days, of_traces):
        return replay_days(
            target, trace, policies, bound, days, allow_outside=allow_outside, out=out,
            progress=tell, as_json=as_json,
        )  # fmt: skip
    if is_token_trace(trace):
        return _replay_tokens(target, token_file(trace), policies, bound, out, fresh, as_json)
    conditions = _conditions(trace, duration, repair, quiet)
    # Plans are made in a hurry.
    source = source_of(target)
    rel_gap = max(1e-3, 0.0 if source is None else source.solver.rel_gap)
    try:
        comparison = compare(
            target,
            conditions,
            policies or tuple(POLICIES),
            against=bound,
            settings=ReplaySettings(rel_gap=rel_gap, **given),
            out=out,
            resume=not fresh,
            progress=tell,
        )
    except InterruptedReplay as stopped:
        return _interrupted(stopped.comparison, out, fresh, as_json)
    if as_json:
        put_json(comparison.to_dict(), allow_nan=True)
    else:
        show_comparison(comparison)
    if out is not None and not quiet:
        say(f"Written to {out}: summary.json, steps_POLICY.jsonl, timeline.svg")
    return Exit.OK


def _conditions(trace: str, duration: float | None, repair: bool, quiet: bool) -> Trace:
    """Open a trace, and say what of it was repaired."""
    from moe2opt.replay.traces.files import open_trace

    conditions = open_trace(trace, repair=repair)
    if duration is not None:
        conditions = conditions.head(duration)
    for text in conditions.repairs if not quiet else ():
        say(f"repaired: {text}")
    return conditions


def _interrupted(comparison: Comparison, out: Path | None, fresh: bool, as_json: bool) -> Exit:
    """Show the policies that were finished, and say how to go on."""
    if comparison.summaries() and not as_json:
        show_comparison(comparison)
    done = ", ".join(comparison.summaries()) or "no policy"
    then = "run again with --out DIR to keep what is done"
    if out is not None:
        then = f"run again{' without --fresh' if fresh else ''} to go on from {out}"
    say(f"interrupted; finished: {done}; {then}")
    return Exit.INTERRUPTED


def _tell(policy: str, done: int, total: int) -> None:
    say(f"{policy:10} {done:7}/{total} steps")


def show_comparison(comparison: Comparison) -> None:
    """Print one line per policy."""
    world = comparison.world
    made_up = "synthetic " if world.trace.synthetic else ""
    link = world.model.topology.links[world.link]
    put(
        f"{world.model.instance.name} on {made_up}trace {world.trace.name}: {len(world)} steps of "
        f"{comparison.settings.step_s:g} s, link {link.a}-{link.b}"
    )
    header = [
        "policy", "mean s", "p95 s", "p99 s", "misses", "GB moved", "J/token", "violated",
        "no plan", "switches", "regret",
    ]  # fmt: skip
    rows = [_row(name, found) for name, found in comparison.summaries().items()]
    bound = comparison.bound_s()
    print_table(header, rows)
    if bound is not None:
        put(
            f"Clairvoyant bound {bound:.4g} s per token on average: it knows every step's rate, "
            "switches for nothing, and no policy can be below it."
        )


def _row(name: str, found: dict[str, Any]) -> list[str]:
    def number(key: str, scale: float = 1.0, digits: int = 4) -> str:
        value = found[key]
        return "-" if value is None else f"{value * scale:.{digits}g}"

    regret = found["regret"]
    return [
        name,
        number("latency_mean_s"),
        number("latency_p95_s"),
        number("latency_p99_s"),
        number("misses_per_token"),
        number("bytes_moved", 1e-9),
        number("joules_per_token"),
        str(found["budget_violations"]),
        str(found["steps_without_plan"]),
        str(found["plan_switches"]),
        "-" if regret is None else f"{100 * regret:.1f} %",
    ]


def _replay_tokens(
    instance: Any,
    trace: Path,
    policies: tuple[str, ...],
    against: str | None,
    out: Path | None,
    fresh: bool,
    as_json: bool,
) -> Exit:
    """Replay the experts of tokens through cache policies."""
    from moe2opt.caching.policies import compare
    from moe2opt.caching.trace_reading import read_trace
    from moe2opt.replay.journal import claim

    tokens = read_trace(trace)
    facts = {"instance": instance.name, "trace": tokens.name}
    folder = None if out is None else claim(out, "experts of tokens", (), facts, not fresh)
    comparison = compare(tokens, instance, policies or ("static", "lru", "lfu"), against)
    content = comparison.to_dict()
    if folder is not None:
        write_text(folder / "summary.json", json.dumps(content, indent=1))
    if as_json:
        put_json(content, allow_nan=True)
    else:
        put(comparison.summary())
    return Exit.OK
