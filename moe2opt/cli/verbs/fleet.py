"""The verb ``fleet``: load, solve by prices, write, show."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.folders import create, writing
from moe2opt.cli.output import put
from moe2opt.result import InputError, Status

if TYPE_CHECKING:
    from moe2opt.fleet import Fleet, FleetResult

_FILES = ("fleet.json", "sites.csv", "proofs.jsonl.gz")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``fleet``."""

    config: Path
    gap: float
    backend: str
    workers: int | None
    scheduler: str | None
    out: Path | None
    allow_outside: bool
    as_json: bool
    quiet: bool


def run_fleet(request: Request, *, check: bool) -> Exit:
    """Do what was asked and return the exit code."""
    from moe2opt.fleet import load_fleet, save_fleet, solve_fleet

    fleet = load_fleet(request.config, allow_outside=request.allow_outside)
    if check:
        return _checked(request, fleet)
    if request.out is not None:
        create(request.out, *_FILES)
    if not request.quiet:
        say(f"{fleet.name}: {len(fleet.sites)} sites share {fleet.limit:g} of {fleet.row}")
    result = solve_fleet(
        fleet,
        rel_gap=request.gap,
        backend=request.backend,
        workers=request.workers,
        scheduler=request.scheduler,
        on_round=None if request.quiet else _line,
    )
    known = bool(result.rounds)
    try:
        if request.out is not None and known:
            with writing(request.out, *_FILES):
                save_fleet(result, fleet, request.out)
    finally:
        _print(request, fleet, result)
    if result.stopped:
        return _stopped(result)
    return _exit_of(result)


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


def _checked(request: Request, fleet: Fleet) -> Exit:
    from moe2opt.fleet import verify_fleet
    from moe2opt.fleet.checking import provisos_of_fleet

    if request.out is None:
        raise InputError("--check needs --out DIR, the folder to check")
    failures = verify_fleet(request.out, fleet)
    for failure in failures[:20]:
        say(failure)
    provisos = () if failures else provisos_of_fleet(request.out)
    if request.as_json:
        told = {"ok": not failures, "sites": len(fleet.sites), "failures": failures}
        put(json.dumps({**told, "provisos": provisos}))
    elif not request.quiet:
        put(f"{len(fleet.sites)} sites: {'everything holds' if not failures else 'REJECTED'}")
        for proviso in provisos:
            put(f"  {proviso}")
    return Exit.REJECTED if failures else Exit.OK


def _print(request: Request, fleet: Fleet, result: FleetResult) -> None:
    if request.as_json:
        put(json.dumps(result.to_dict(), allow_nan=False))
        return
    if result.status is Status.INFEASIBLE:
        put(f"INFEASIBLE  certificate {_proof_of(result)}")
        put(_why_infeasible(fleet, result))
        return
    text = result.measure.text
    gap = f"{result.gap:.3%}" if math.isfinite(result.gap) else "-"
    put(
        f"{result.status}  objective {text(result.objective)}  bound {text(result.bound)}  "
        f"gap {gap}  certificate {_proof_of(result)}"
    )
    put(
        f"{len(fleet.sites)} sites ({len(result.distinct)} distinct), {result.solved} problems "
        f"solved; {result.used:.8g} of {result.limit:.8g} {fleet.row} x rate used; one more is "
        f"worth {result.price:.6g}"
    )
    for caveat in fleet.caveats:
        put(f"note: {caveat}")


def _proof_of(result: FleetResult) -> str:
    """Return what stands behind the bound; before the first price there is none."""
    if math.isinf(result.bound) and result.status is not Status.INFEASIBLE:
        return "none"
    return "checked" if result.certified else "REJECTED"


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
    codes = {
        Status.OPTIMAL: Exit.OK,
        Status.INFEASIBLE: Exit.INFEASIBLE,
        Status.NO_SOLUTION: Exit.NO_PLAN,
    }
    return codes.get(result.status, Exit.TOO_WEAK)
