"""The verb ``solve``: load, run, certify, write, show."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt import progress
from moe2opt.cli.exits import Exit, Require, exit_of, say
from moe2opt.cli.folders import create, write_config, writing
from moe2opt.cli.output import put
from moe2opt.cli.show import names_of, show_result
from moe2opt.config import LoadedInstance, load
from moe2opt.result import Conflict, InputError, ProgressEvent, Result, encode_float
from moe2opt.solve import run
from moe2opt.writing import write_text

if TYPE_CHECKING:
    from moe2opt.canonical import Problem
    from moe2opt.certify import Verdict

#: Files of a solved problem besides its configuration.
_FILES = ("result.json", "certificate.npz", "log.jsonl")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``solve``.

    Attributes
    ----------
    config, scenario, overrides, allow_outside
        What to load.
    settings
        Arguments of `moe2opt.solve`, None where not given.
    out
        Folder for the files, None for none.
    certify, as_json, quiet
        Flags.
    """

    config: str
    scenario: str | None
    overrides: list[str]
    allow_outside: bool
    settings: dict[str, Any]
    out: Path | None
    certify: bool
    as_json: bool
    quiet: bool


def run_solve(request: Request, gap: float | None, require: Require | None) -> Exit:
    """Do what was asked and return the exit code."""
    with ExitStack() as stack:
        if not request.quiet:
            stack.enter_context(progress.on_stderr(always=True))
            progress.logger.info(f"Reading {request.config}")
        target = load(
            request.config,
            request.scenario,
            request.overrides,
            allow_outside=request.allow_outside,
        )
        if request.out is not None:
            create(request.out, *_FILES)
        events: list[ProgressEvent] = []
        listener = events.append
        result = run(target, display=not request.quiet, on_progress=listener, **request.settings)
        fault = _written(request, target, result, events)
        aborted, verdict = False, None
        try:
            verdict = _certified(target, result) if request.certify else None
        except KeyboardInterrupt:
            aborted = True
            say("interrupted: the certificate is not checked")
        _report(result, verdict)
    _print(request, target, result, verdict, kept=request.out is not None and fault is None)
    if fault is not None:
        raise fault
    return Exit.INTERRUPTED if aborted else exit_of(result, verdict, gap, require)


def _written(
    request: Request,
    target: LoadedInstance | Problem,
    result: Result,
    events: Sequence[ProgressEvent],
) -> InputError | None:
    """Write the files at once; what prevents that must not prevent printing, so it is returned."""
    if request.out is None:
        return None
    try:
        with writing(request.out, *_FILES):
            write_config(request.out, target)
            write_text(request.out / "log.jsonl", progress.log_text(events, result.measure))
            result.save(request.out / "result.json")
    except InputError as error:
        return error
    return None


def _certified(target: LoadedInstance | Problem, result: Result) -> Verdict:
    from moe2opt.certify import certify

    return certify(target, result)


def _report(result: Result, verdict: Verdict | None) -> None:
    checked = None if verdict is None else verdict.ok
    failures = () if verdict is None else verdict.failures
    progress.logger.info(progress.report(result, checked=checked, failures=failures))


def _print(
    request: Request,
    target: LoadedInstance | Problem,
    result: Result,
    verdict: Verdict | None,
    *,
    kept: bool,
) -> None:
    if request.as_json:
        put(json.dumps(as_json(target, result, verdict), indent=1, allow_nan=False))
        return
    show_result(target, result, verdict)
    if not request.quiet:
        put(_next_step(request, result, kept))


def as_json(
    target: LoadedInstance | Problem, result: Result, verdict: Verdict | None
) -> dict[str, Any]:
    """Return the object that ``solve --json`` prints."""
    content = replace(result, certificate=None).to_dict()
    content["certificate"] = _certificate(target, result, verdict)
    if result.x is not None and result.plan is None:
        content["plan"] = {"x": result.x.tolist()}
    name = target.name if isinstance(target, LoadedInstance) else None
    finite: dict[str, Any] = _finite({"name": name, **content})
    return finite


def _certificate(
    target: LoadedInstance | Problem, result: Result, verdict: Verdict | None
) -> dict[str, Any]:
    certificate = result.certificate
    checked = verdict is not None and verdict.ok and verdict.kind == "checked"
    kind = "claimed" if certificate is None else "checked" if checked else "checkable"
    return {
        "kind": kind,
        "checked": checked,
        "claim": None if certificate is None else encode_float(certificate.claim),
        "leaves": None if certificate is None else certificate.leaves,
        "digest": None if certificate is None else certificate.digest,
        "failures": [] if verdict is None else list(verdict.failures),
        "conflict": _conflict(target, None if certificate is None else certificate.conflict),
    }


def _conflict(target: LoadedInstance | Problem, conflict: Conflict | None) -> dict[str, Any] | None:
    """Return a conflict in the names of the instance, without its proofs."""
    if conflict is None:
        return None
    names = names_of(target)
    return {
        "budgets": [names.rows[row] for row in conflict.rows],
        "covers": [names.covers[cover] for cover in conflict.covers],
        "smallest": conflict.smallest,
        "relaxations": {names.rows[r.row]: r.limit for r in conflict.relaxations},
    }


def _finite(value: Any) -> Any:
    """Replace infinite numbers by ``inf`` and NaN by null, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else encode_float(value)
    return value


def _next_step(request: Request, result: Result, kept: bool) -> str:
    """Return what the user can do next."""
    again = f"moe2opt solve {request.config}"
    if result.status == "INFEASIBLE":
        return f"\nNext: raise one of these limits in the file or with --set, then {again}"
    if "problem" not in result.provenance:
        return f"\nNext: {again} with a larger limit; compiling takes most of it"
    if result.x is None:
        return (
            "\nThis does not mean that no plan exists. Next: a larger --time-limit or "
            "--node-limit, or --solver greedy for a quick plan"
        )
    if request.out is not None and kept:
        verify = f"moe2opt verify {request.out / 'result.json'} {request.config}"
        return f"\nWritten to {request.out}. Check it again: {verify}"
    if result.status == "FEASIBLE" and result.limit is not None:
        return f"\nNext: {again} with a larger --time-limit; --out DIR saves the result"
    return f"\nNext: {again} --out DIR saves the result and its certificate"
