"""The verb ``solve``: load, run, certify, write, show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe2opt.cli import flags
from moe2opt.cli.exits import Exit, Require, exit_of, say
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario, at_least, one_of
from moe2opt.cli.folders import create, write_config, writing
from moe2opt.cli.output import put, put_json
from moe2opt.cli.target import opened, told
from moe2opt.errors import InputError
from moe2opt.writing import write_text

if TYPE_CHECKING:
    from moe2opt.result import ProgressEvent, Result

#: Files of a solved problem besides its configuration.
_FILES = ("result.json", "certificate.npz", "log.jsonl")


def solve(
    config: Config,
    solver: flags.Solver = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds.", callback=at_least(0))] = None,
    gap: flags.Gap = None,
    seed: flags.Seed = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the solver.", callback=at_least(1))
    ] = None,
    node_limit: Annotated[int | None, typer.Option(help="Nodes.", callback=at_least(0))] = None,
    memory_limit: Annotated[
        float | None, typer.Option(help="Memory in GiB.", callback=flags.in_gib)
    ] = None,
    bound: Annotated[str | None, typer.Option(help="Bound of the solver brb.")] = None,
    proof: Annotated[
        str | None,
        typer.Option(
            help="any, or linear for one that `certificate` can export.",
            callback=one_of("any", "linear"),
        ),
    ] = None,
    scenario: Scenario = None,
    overrides: Overrides = None,
    require: Annotated[
        Require | None, typer.Option(help="Exit with 5 unless the plan is at least this.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write result, log and configuration here.")
    ] = None,
    no_certify: flags.NoCertify = False,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Find the best plan, prove it, and print it.

    Exit codes: 0 plan delivered and certified; 2 bad command line or file; 3 proven infeasible;
    4 limit without a plan; 5 weaker than --require or --gap asked; 6 certification failed;
    70 internal error; 130 interrupted without a plan.
    """
    from moe2opt import progress
    from moe2opt.certify import certify
    from moe2opt.cli import show
    from moe2opt.solve import run

    settings: dict[str, Any] = {
        "solver": solver,
        "time_limit_s": time_limit,
        "rel_gap": gap,
        "seed": seed,
        "threads": threads,
        "node_limit": node_limit,
        "memory_limit_bytes": flags.gib_in_bytes(memory_limit),
        "bound": bound,
        "proof": proof,
    }
    with told(quiet, config) as tell:
        target = opened(config, scenario, overrides, allow_outside)
        if out is not None:
            create(out, *_FILES)
        events: list[ProgressEvent] = []
        result = run(target, display=not quiet, on_progress=events.append, **settings)
        fault = None if out is None else _written(out, target, result, events)
        aborted, verdict = False, None
        try:
            verdict = None if no_certify else certify(target, result)
        except KeyboardInterrupt:
            aborted = True
            say("interrupted: the certificate is not checked")
        checked = None if verdict is None else verdict.ok
        failures = () if verdict is None else verdict.failures
        tell(progress.report(result, checked=checked, failures=failures))
    if as_json:
        put_json(show.as_json(target, result, verdict))
    else:
        show.show_result(target, result, verdict)
        if not quiet:
            put(_next_step(config, result, out if fault is None else None))
    if fault is not None:
        raise fault
    return Exit.INTERRUPTED if aborted else exit_of(result, verdict, gap, require)


def _written(
    out: Path, target: object, result: Result, events: Sequence[ProgressEvent]
) -> InputError | None:
    """Write the files at once; what prevents that must not prevent printing, so it is returned."""
    from moe2opt.progress import log_text

    try:
        with writing(out, *_FILES):
            write_config(out, target)
            write_text(out / "log.jsonl", log_text(events, result.measure))
            result.save(out / "result.json")
    except InputError as error:
        return error
    return None


def _next_step(config: str, result: Result, kept: Path | None) -> str:
    """Return what the user can do next."""
    again = f"moe2opt solve {config}"
    if result.status == "INFEASIBLE":
        return f"\nNext: raise one of these limits in the file or with --set, then {again}"
    if "problem" not in result.provenance:
        return f"\nNext: {again} with a larger limit; compiling takes most of it"
    if result.x is None:
        return (
            "\nThis does not mean that no plan exists. Next: a larger --time-limit or "
            "--node-limit, or --solver greedy for a quick plan"
        )
    if kept is not None:
        verify = f"moe2opt verify {kept / 'result.json'} {config}"
        return f"\nWritten to {kept}. Check it again: {verify}"
    if result.status == "FEASIBLE" and result.limit is not None:
        return f"\nNext: {again} with a larger --time-limit; --out DIR saves the result"
    return f"\nNext: {again} --out DIR saves the result and its certificate"
