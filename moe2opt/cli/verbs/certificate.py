"""The verb ``certificate``: a stored proof in a format that other checkers read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from moe2opt.cli.exits import Exit, say, say_rejected
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario, Stored, at_least
from moe2opt.cli.folders import spare
from moe2opt.cli.output import put, put_json
from moe2opt.cli.target import problem_of, told
from moe2opt.errors import InputError
from moe2opt.writing import replacing

if TYPE_CHECKING:
    from moe2opt.canonical import Problem
    from moe2opt.present import Measure
    from moe2opt.result import Result
    from moe2opt.vipr import Exported

FORMATS = ("vipr",)

#: Characters of a proof that are copied at a time.
_BLOCK = 2**20


def certificate(
    result: Stored,
    config: Config,
    to: Annotated[str, typer.Option(help="Format: vipr (VIPR 1.0).")] = "vipr",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here; default stdout.")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Seconds for a new proof where one is needed.", callback=at_least(0)),
    ] = None,
    scenario: Scenario = None,
    overrides: Overrides = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Write a result's proof in an open format that checkers of other authors read.

    The result is checked first (exit code 6 when it is rejected). A proof that uses more than the
    linear formulation is replaced by a new one, found from the same solution.
    """
    from moe2opt.verify import verify
    from moe2opt.vipr import is_linear

    if to not in FORMATS:
        raise InputError(f"--to {to}: unknown format; choose one of {', '.join(FORMATS)}")
    if as_json and out is None:
        raise InputError("--json: the proof itself goes to stdout; name a file with --out")
    spare(out, result, config)
    found = verify(result, config, scenario, overrides or (), allow_outside=allow_outside)
    if not found.ok:
        say_rejected(result, found.failures)
        return Exit.REJECTED
    proven, problem = found.result, problem_of(found.target)
    assert proven is not None
    if proven.certificate is not None and not is_linear(proven.certificate):
        if not quiet:
            say("The proof uses more than the linear formulation: proving it again without that")
        proven = _solved_again(problem, proven, time_limit, quiet)
    exported = _written(problem, proven, out)
    if as_json:
        put_json(_as_json(exported))
    elif not quiet:
        _show(exported, out, proven.measure)
    return Exit.OK


def _written(problem: Problem, result: Result, out: Path | None) -> Exported:
    """Write the proof to `out`, or to stdout; nothing is written when it fails."""
    import tempfile  # not quick to load

    from moe2opt.vipr import write_vipr

    if out is None:
        with tempfile.TemporaryFile("w+", encoding="ascii") as file:
            exported = write_vipr(problem, result, cast("TextIO", file))
            file.seek(0)
            for block in iter(lambda: file.read(_BLOCK), ""):
                put(block, end="")
        return exported
    with replacing(out, "--out ") as beside, beside.open("w", encoding="ascii") as stream:
        return write_vipr(problem, result, stream)


def _solved_again(
    problem: Problem, result: Result, time_limit_s: float | None, quiet: bool
) -> Result:
    """Return a result with the same solution whose proof is linear, and a bound as good."""
    from moe2opt.solve import run

    settings: dict[str, Any] = {
        "rel_gap": max(result.gap, result.rel_gap) if result.x is not None else 0.0,
        "warm_start": result.x,
        "time_limit_s": time_limit_s,
        "proof": "linear",
    }
    with told(quiet):
        return run(problem, "brb", display=not quiet, **settings)


def _as_json(exported: Exported) -> dict[str, Any]:
    return {
        "format": "vipr",
        "infeasible": exported.infeasible,
        "lower": None if exported.lower is None else str(exported.lower),
        "upper": None if exported.upper is None else str(exported.upper),
        "variables": exported.variables,
        "constraints": exported.constraints,
        "derivations": exported.derivations,
    }


def _show(exported: Exported, out: Path | None, measure: Measure) -> None:
    """Say on stderr what the file proves; stdout may be the file."""
    if measure.minimizes:
        say("  its problem is maximised: the values in it are minus those of the question")
    where = "stdout" if out is None else str(out)
    say(
        f"{where}: VIPR proof, {exported.variables} variables, {exported.constraints} constraints, "
        f"{exported.derivations} derivations"
    )
    if exported.upper is None:
        say("  it proves that no solution exists")
    elif exported.lower is None:
        say(f"  it proves that {measure.limit_words(float(exported.upper))}")
    else:
        low, high = (measure.text(float(end)) for end in (exported.lower, exported.upper))
        exact = "exactly " if exported.lower == exported.upper else f"between {low} and "
        say(f"  it proves that the optimum is {exact}{high}")
