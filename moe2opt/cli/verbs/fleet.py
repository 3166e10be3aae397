"""The verb ``fleet``: load, solve by prices, write, show."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe2opt.cli import flags
from moe2opt.cli.exits import Exit, say, say_all
from moe2opt.cli.flags import Json, Outside, Quiet, at_least
from moe2opt.cli.folders import create, writing
from moe2opt.cli.output import put, put_json
from moe2opt.errors import InputError

if TYPE_CHECKING:
    from moe2opt.fleet import Fleet, FleetResult

_FILES = ("fleet.json", "sites.csv", "proofs.jsonl.gz")


def fleet(
    config: Annotated[Path, typer.Argument(help="YAML file of a fleet.", show_default=False)],
    gap: Annotated[
        float,
        typer.Option(
            help="Relative gap that is good enough, 0.01 for 1 %.",
            callback=at_least(0, finite=True),
        ),
    ] = 1e-3,
    backend: flags.Backend = "process",
    workers: flags.Workers = None,
    scheduler: flags.Scheduler = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write fleet.json, sites.csv and all proofs here."),
    ] = None,
    check: flags.Check = False,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Plan many sites under one shared budget, and prove how good the plan is.

    Exit codes: 0 within the gap and certified; 2 bad command line or file; 3 no plan keeps the
    budget: proven; 4 no plan was found; 5 the gap is wider than asked; 6 a proof was rejected.
    """
    from moe2opt.fleet import load_fleet, save_fleet, solve_fleet

    sites = load_fleet(config, allow_outside=allow_outside)
    if check:
        return _checked(out, sites, as_json, quiet)
    if out is not None:
        create(out, *_FILES)
    if not quiet:
        say(f"{sites.name}: {len(sites.sites)} sites share {sites.limit:g} of {sites.row}")
    result = solve_fleet(
        sites,
        rel_gap=gap,
        backend="dask" if scheduler is not None else backend,
        workers=workers,
        scheduler=scheduler,
        on_round=None if quiet else _line,
    )
    try:
        if out is not None and result.rounds:
            with writing(out, *_FILES):
                save_fleet(result, sites, out)
    finally:
        if as_json:
            put_json(result.to_dict(), None)
        else:
            _print(sites, result)
    return _stopped(result) if result.stopped else _exit_of(result)


def _stopped(result: FleetResult) -> Exit:
    """Say why the search ended early; the plan and the bound so far are printed and written."""
    if result.stopped != "interrupted":
        say(f"error: {result.stopped}")
        return Exit.BAD_INPUT
    say(f"interrupted: what is known after {len(result.rounds)} prices")
    return Exit.TOO_WEAK if len(result.choice) else Exit.INTERRUPTED


def _line(known: dict[str, float]) -> None:
    say(
        f"price {known['price']:.6g}  bound {known['bound']:.8g}  plan {known['objective']:.8g}  "
        f"{known['solved']:.0f} solved  {known['time_s']:.1f} s"
    )


def _checked(out: Path | None, fleet: Fleet, as_json: bool, quiet: bool) -> Exit:
    from moe2opt.fleet import verify_fleet
    from moe2opt.fleet.checking import provisos_of_fleet

    if out is None:
        raise InputError("--check needs --out DIR, the folder to check")
    failures = verify_fleet(out, fleet)
    say_all(failures)
    provisos = () if failures else provisos_of_fleet(out)
    if as_json:
        told = {"ok": not failures, "sites": len(fleet.sites), "failures": failures}
        put_json({**told, "provisos": provisos}, None)
    elif not quiet:
        put(f"{len(fleet.sites)} sites: {'everything holds' if not failures else 'REJECTED'}")
        for proviso in provisos:
            put(f"  {proviso}")
    return Exit.REJECTED if failures else Exit.OK


def _print(fleet: Fleet, result: FleetResult) -> None:
    from moe2opt.progress import STATUS_WORDS
    from moe2opt.result import Status

    words = STATUS_WORDS[result.status].capitalize()
    if result.status is Status.INFEASIBLE:
        put(f"{words}  certificate {'checked' if result.certified else 'REJECTED'}")
        put(_why_infeasible(fleet, result))
        return
    text = result.measure.text
    gap = f"{result.gap:.3%}" if math.isfinite(result.gap) else "-"
    proof = "checked" if result.certified else "REJECTED"
    if math.isinf(result.bound):  # before the first price there is none
        proof = "none"
    put(
        f"{words}  objective {text(result.objective)}  bound {text(result.bound)}  "
        f"gap {gap}  certificate {proof}"
    )
    put(
        f"{len(fleet.sites)} sites ({len(result.distinct)} distinct), {result.solved} problems "
        f"solved; {result.used:.8g} of {result.limit:.8g} {fleet.row} x rate used; one more is "
        f"worth {result.price:.6g}"
    )
    for caveat in fleet.caveats:
        put(f"note: {caveat}")


def _why_infeasible(fleet: Fleet, result: FleetResult) -> str:
    if result.bound == -math.inf:
        return "some site has no plan even without the shared budget"
    bound = result.measure.text(result.bound)
    return (
        f"no plans keep {result.limit:.8g} of {fleet.row} x rate: at a price of {result.price:.6g} "
        f"they are worth at most {bound}, less than any plan ({result.solved} problems solved)"
    )


def _exit_of(result: FleetResult) -> Exit:
    if not result.certified:
        return Exit.REJECTED
    codes = {"OPTIMAL": Exit.OK, "INFEASIBLE": Exit.INFEASIBLE, "NO_SOLUTION": Exit.NO_PLAN}
    return codes.get(result.status, Exit.TOO_WEAK)
