"""The verb ``replay``: load configuration and trace, run the policies, print the table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.output import print_table, put
from moe2opt.config import load
from moe2opt.result import InputError
from moe2opt.writing import write_text

if TYPE_CHECKING:
    from moe2opt.replay.compare import Comparison


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``replay``.

    Attributes
    ----------
    config, trace
        Configuration and trace.
    policies
        Names, None for the default.
    against
        ``clairvoyant`` or ``none``.
    load
        Scenario, overrides, and whether paths may leave the folder.
    settings
        Settings of the replay that were given.
    duration_s
        Only the first seconds, None for all.
    repair, fresh
        Whether to repair the trace; whether not to continue an earlier run.
    out
        Folder for the files, None for none.
    as_json, quiet
        Flags.
    """

    config: str
    trace: str
    policies: list[str] | None
    against: str
    load: tuple[str | None, tuple[str, ...], bool]
    settings: dict[str, Any]
    duration_s: float | None
    repair: bool
    fresh: bool
    out: Path | None
    as_json: bool
    quiet: bool


def run_replay(request: Request) -> Exit:
    """Do what was asked and return the exit code."""
    scenario, overrides, outside = request.load
    target = load(request.config, scenario, overrides, allow_outside=outside)
    if is_token_trace(request.trace):
        return _replay_tokens(request, target)
    from moe2opt.replay.compare import InterruptedReplay, compare
    from moe2opt.replay.policies import POLICIES, ReplaySettings
    from moe2opt.replay.replay import NoPlanError
    from moe2opt.replay.trace_files import open_trace

    trace = open_trace(request.trace, repair=request.repair)
    if request.duration_s is not None:
        if not request.duration_s > 0:
            raise InputError(f"--duration {request.duration_s}: it must be positive")
        trace = trace.head(request.duration_s)
    for text in trace.repairs if not request.quiet else ():
        say(f"repaired: {text}")
    settings = {"rel_gap": _gap_of(target), **request.settings}
    try:
        comparison = compare(
            target,
            trace,
            request.policies or tuple(POLICIES),
            against=None if request.against == "none" else request.against,
            settings=ReplaySettings(**settings),
            out=request.out,
            resume=not request.fresh,
            progress=None if request.quiet else _tell,
        )
    except NoPlanError as error:
        say(str(error))
        return Exit.INFEASIBLE
    except InterruptedReplay as stopped:
        return _interrupted(request, stopped.comparison)
    if request.as_json:
        put(json.dumps(comparison.to_dict(), indent=1))
    else:
        show_comparison(comparison)
    if request.out is not None and not request.quiet:
        say(f"Written to {request.out}: summary.json, steps_POLICY.jsonl, timeline.svg")
    return Exit.OK


def _interrupted(request: Request, comparison: Comparison) -> Exit:
    """Show the policies that were finished, and say how to go on."""
    if comparison.summaries() and not request.as_json:
        show_comparison(comparison)
    done = ", ".join(comparison.summaries()) or "no policy"
    then = "run again with --out DIR to keep what is done"
    if request.out is not None:
        again = " without --fresh" if request.fresh else ""
        then = f"run again{again} to go on from {request.out}"
    say(f"interrupted; finished: {done}; {then}")
    return Exit.INTERRUPTED


def is_token_trace(spec: str) -> bool:
    """Tell whether a trace holds the experts of tokens rather than a state of the world."""
    text, _, _ = spec.partition("::")
    path = Path(text)
    if path.suffix == ".npz" or _is_builtin_of_experts(path):
        return True
    if path.suffix == ".parquet" and path.is_file():
        return _has_experts(path)
    if path.suffix != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        head = next((line for line in stream if not line.startswith("#")), "")
    return {"layer", "expert"} <= {cell.strip() for cell in head.split(",")}


def _is_builtin_of_experts(path: Path) -> bool:
    from moe2opt.replay.trace_files import builtin_expert_traces

    return not path.exists() and str(path) in builtin_expert_traces()


def _has_experts(path: Path) -> bool:
    try:
        import pyarrow.parquet as pq

        return {"layer", "expert"} <= set(pq.read_schema(path).names)
    except (ImportError, OSError, ValueError):
        return False


def _gap_of(target: Any) -> float:
    """Return the gap that the configuration asks for, 1e-3 at least: plans are made in a hurry."""
    solver = getattr(target, "solver", None)
    return max(1e-3, getattr(solver, "rel_gap", 0.0))


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


def _token_file(spec: str) -> Path:
    """Return a file, or the built-in trace of that name, with or without its suffix."""
    from moe2opt.replay.trace_files import builtin_expert_traces

    path = Path(spec)
    if path.is_file() or len(path.parts) != 1:
        return path
    return builtin_expert_traces().get(path.name.removesuffix(".npz"), path)


def _replay_tokens(request: Request, target: Any) -> Exit:
    """Replay the experts of tokens through cache policies."""
    from moe2opt.caching.policies import compare
    from moe2opt.caching.trace_reading import read_trace

    instance = getattr(target, "instance", target)
    trace = read_trace(_token_file(request.trace))
    policies = tuple(request.policies or ("static", "lru", "lfu"))
    against = None if request.against == "none" else request.against
    comparison = compare(trace, instance, policies, against)
    content = comparison.to_dict()
    if request.out is not None:
        from moe2opt.replay.journal import claim

        facts = {"instance": instance.name, "trace": trace.name}
        folder = claim(request.out, "experts of tokens", (), facts, not request.fresh)
        text = json.dumps(content, indent=1)
        write_text(folder / "summary.json", text)
    put(json.dumps(content, indent=1) if request.as_json else comparison.summary())
    return Exit.OK
