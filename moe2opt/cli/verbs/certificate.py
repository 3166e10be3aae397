"""The verb ``certificate``: a stored proof in a format that other checkers read."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from moe2opt import progress
from moe2opt.canonical import Instance
from moe2opt.cli.exits import Exit, say
from moe2opt.cli.folders import spare
from moe2opt.cli.output import put
from moe2opt.cli.verbs.check import say_rejected
from moe2opt.present import Measure
from moe2opt.result import InputError, Result
from moe2opt.verify import verify
from moe2opt.vipr import Exported, is_linear, write_vipr
from moe2opt.writing import replacing

if TYPE_CHECKING:
    from moe2opt.canonical import Problem

FORMATS = ("vipr",)

#: Characters of a proof that are copied at a time.
_BLOCK = 2**20


def run_certificate(
    path: Path,
    config: str,
    to: str,
    scenario: str | None,
    overrides: tuple[str, ...],
    allow_outside: bool,
    *,
    out: Path | None,
    time_limit_s: float | None,
    as_json: bool,
    quiet: bool,
) -> Exit:
    """Check a stored result, write its proof in another format, and return the exit code."""
    if to not in FORMATS:
        raise InputError(f"--to {to}: unknown format; choose one of {', '.join(FORMATS)}")
    if as_json and out is None:
        raise InputError("--json: the proof itself goes to stdout; name a file with --out")
    spare(out, path, config)
    found = verify(path, config, scenario, overrides, allow_outside=allow_outside)
    if not found.ok:
        say_rejected(path, found.failures)
        return Exit.REJECTED
    result, target = found.result, found.target
    assert result is not None
    assert target is not None
    problem = target.problem() if isinstance(target, Instance) else target
    exported = _exported(problem, result, out, time_limit_s, quiet)
    if as_json:
        put(json.dumps(_as_json(exported), indent=1))
    elif not quiet:
        _show(exported, out, result.measure)
    return Exit.OK


def _exported(
    problem: Problem, result: Result, out: Path | None, time_limit_s: float | None, quiet: bool
) -> Exported:
    """Write the proof to `out`, or to stdout; nothing is written when it fails."""
    if result.certificate is not None and not is_linear(result.certificate):
        if not quiet:
            say("The proof uses more than the linear formulation: proving it again without that")
        result = _solved_again(problem, result, time_limit_s, quiet)
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
    if quiet:
        return run(problem, "brb", **settings)
    with progress.on_stderr(always=True):
        return run(problem, "brb", display=True, **settings)


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
