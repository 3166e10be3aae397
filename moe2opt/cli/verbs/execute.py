"""The verb ``execute``: run a plan, show prediction and measurement side by side."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.cli.exits import Exit, say, say_rejected
from moe2opt.cli.folders import create
from moe2opt.cli.output import print_table, put
from moe2opt.result import InputError, Result
from moe2opt.verify import verify
from moe2opt.writing import ours, write_text

if TYPE_CHECKING:
    from moe2opt.executor.compare.against import PlanRow
    from moe2opt.executor.compare.figures import Comparison, Row
    from moe2opt.executor.job import Executed, Wanted
    from moe2opt.placement import PlacementInstance, PlacementPlan


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``execute``.

    Attributes
    ----------
    result, config, scenario, overrides, allow_outside
        Stored result, and what it was solved for.
    model, text, tokens, repeats, calibrate
        What overrules the configuration.
    tolerance
        Texts of ``--tolerance``.
    against
        Stored result of an earlier plan that is run too.
    out
        Folder for the files, None for none.
    as_json, quiet
        Flags.
    """

    result: Path
    config: str
    scenario: str | None
    overrides: tuple[str, ...]
    allow_outside: bool
    model: Path | None
    text: Path | None
    tokens: int | None
    repeats: int | None
    calibrate: bool
    tolerance: tuple[str, ...]
    against: Path | None
    out: Path | None
    as_json: bool
    quiet: bool


def run_execute(request: Request) -> Exit:
    """Do what was asked and return the exit code."""
    from moe2opt.placement import PlacementInstance
    from moe2opt.selection.question import GatedInstance

    found = verify(
        request.result,
        request.config,
        request.scenario,
        request.overrides,
        allow_outside=request.allow_outside,
    )
    if found.foreign:
        raise InputError(f"{request.result}: {found.failures[0]}")
    if not found.ok:
        say_rejected(request.result, found.failures)
        return Exit.REJECTED
    result, target = found.result, found.target
    assert result is not None
    if result.plan is None or result.x is None:
        raise InputError(f"{request.result}: there is no plan to run ({result.status})")
    instance = target
    if isinstance(instance, PlacementInstance):
        return _placement(request, result, instance)
    if isinstance(instance, GatedInstance):
        return _selection(request, result, instance)
    raise InputError(
        f"{request.config}: `execute` runs placements, and selections with "
        "`experts: {outcomes: FOLDER}`"
    )


def _placement(request: Request, result: Result, instance: PlacementInstance) -> Exit:
    from moe2opt.executor.compare.figures import parse_tolerances
    from moe2opt.executor.faults import require_torch

    tolerances = parse_tolerances(request.tolerance)
    require_torch()
    from moe2opt.executor.job import Wanted, execute_plan

    assert result.x is not None
    plan = instance.decode(result.x)
    wanted = Wanted(
        request.model,
        request.text,
        request.tokens,
        request.repeats,
        request.calibrate,
        request.allow_outside,
    )
    earlier = _earlier(request, instance)
    with _folder(request.out) as folder:
        with _bar(request.quiet) as on_token:
            done = execute_plan(instance, plan, wanted, on_token)
        plans = [] if earlier is None else _beside(request, instance, done, earlier, wanted)
        exceeded = done.comparison.exceeded(tolerances)
        content = {**done.content, "tolerances": tolerances, "exceeded": exceeded}
        if plans:
            content["plans"] = [row.to_dict() for row in plans]
        if folder is not None:
            _write(folder, content)
            from moe2opt.executor.compare.plot import plot

            plot(done.comparison, f"{instance.name}: predicted and measured", folder / _PLOT)
    if request.as_json:
        put(json.dumps(content, indent=1, allow_nan=False))
    else:
        _show(done.comparison, request)
        _show_plans(plans)
    for words in exceeded:
        say(f"tolerance exceeded: {words}")
    return Exit.TOO_WEAK if exceeded else Exit.OK


def _earlier(request: Request, instance: PlacementInstance) -> PlacementPlan | None:
    """Return the plan of ``--against``, in the tiers and formats of the instance."""
    from moe2opt.executor.compare.against import stored_assignment

    if request.against is None:
        return None
    try:
        return instance.plan_of(stored_assignment(Result.load(request.against).plan, instance))
    except InputError as error:
        raise InputError(f"--against {request.against}: {error}") from error


def _beside(
    request: Request,
    instance: PlacementInstance,
    done: Executed,
    earlier: PlacementPlan,
    wanted: Wanted,
) -> list[PlanRow]:
    """Run the earlier plan, too, and return both rows."""
    from moe2opt.executor.compare.against import PlanRow
    from moe2opt.executor.job import execute_plan

    with _bar(request.quiet) as on_token:
        other = execute_plan(instance, earlier, replace(wanted, calibrate=False), on_token)
    return [
        PlanRow.of(str(request.result), done.comparison),
        PlanRow.of(str(request.against), other.comparison, instance.check(earlier)),
    ]


def _selection(request: Request, result: Result, instance: Any) -> Exit:
    from moe2opt.executor.compare.selection import FIGURES, replayed

    given = {"--model": request.model, "--text": request.text, "--against": request.against}
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name}: a selection is replayed on recorded outcomes")
    assert result.x is not None
    tolerances = _selection_tolerances(request.tolerance, FIGURES)
    with _folder(request.out) as folder:
        rows = replayed(instance, result.x)
        errors = {row.name: row.error for row in rows}
        exceeded = [
            f"{name}: off by {_error_words(row)}"
            for row in rows
            for name, limit in tolerances.items()
            if row.name == name and not abs(errors[name] or 0.0) <= limit
        ]
        content = {
            "format": "moe2opt replay",
            "format_version": 1,
            "instance": instance.name,
            "total": {row.name: row.to_dict() for row in rows},
            "exceeded": exceeded,
        }
        if folder is not None:
            _write(folder, content)
    if request.as_json:
        put(json.dumps(content, indent=1, allow_nan=False))
    else:
        print_table(("figure", "unit", "predicted", "realised", "error"), [_cells(r) for r in rows])
        put("predicted: by the plan; realised: on the test part, routed by the gate")
    for words in exceeded:
        say(f"tolerance exceeded: {words}")
    return Exit.TOO_WEAK if exceeded else Exit.OK


def _selection_tolerances(texts: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    from moe2opt.executor.compare.figures import parse_tolerances

    return parse_tolerances(texts, names)


def run_calibration(
    paths: Sequence[Path], out: Path | None, device: str | None, *, as_json: bool, quiet: bool
) -> Exit:
    """Write what runs measured as a profile (``profile --from-run``)."""
    from moe2opt.executor.calibrate import profile_from_runs

    if out is None:
        raise InputError("--from-run: --out DIR says where the profile goes")
    written, rows = profile_from_runs(paths, out, device)
    if as_json:
        content = {"written": [str(path) for path in written], "rows": rows}
        put(json.dumps(content, indent=1, allow_nan=False))
        return Exit.OK
    header = ("quantity", "memory", "computed in", "format", "us", "quartiles", "uses")
    print_table(
        header,
        [
            (
                row["quantity"],
                row["memory"] or "-",
                row["place"],
                row["precision"] or "-",
                f"{row['us']:.4g}",
                f"{row['low_us']:.4g} - {row['high_us']:.4g}",
                str(row["count"]),
            )
            for row in rows
        ],
    )
    if not quiet:
        put(f"Written: {', '.join(path.name for path in written)} in {out}")
        put(f"Next: `rates: {out}` in a placement file, then moe2opt solve it again")
    return Exit.OK


_JSON, _PLOT = "execute.json", "execute.svg"


@contextmanager
def _folder(out: Path | None) -> Iterator[Path | None]:
    """Give the folder for the files; one that was made for nothing is removed again."""
    if out is None:
        yield None
        return
    made = not out.exists()
    create(out, _JSON, _PLOT)
    try:
        yield out
    except BaseException:
        if made:
            shutil.rmtree(out, ignore_errors=True)
        raise


def _write(folder: Path, content: dict[str, Any]) -> None:
    """Write the account."""
    ours(folder, (_JSON, _PLOT))
    text = json.dumps(content, indent=1, allow_nan=False)
    write_text(folder / _JSON, text + "\n")


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Give a listener that moves a bar on stderr; None when nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("Running"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")

        def moved(done: int, total: int) -> None:
            if done % 16 == 0 or done == total:
                bar.update(task, completed=done, total=total)

        yield moved


def _show(comparison: Comparison, request: Request) -> None:
    rows = []
    for layer in comparison.layers:
        for row in (layer.time, layer.bytes, layer.hit_rate):
            rows.append((f"layer {layer.layer} {row.name}", *_cells(row)[1:]))
    rows += [_cells(row) for row in comparison.total]
    print_table(("figure", "unit", "predicted", "measured", "error"), rows)
    low, high = (1e3 * value for value in comparison.quartiles_s)
    put(f"token time: quartiles over the passes {low:.3f} and {high:.3f} ms")
    if request.quiet:
        return
    for note in comparison.notes:
        put(f"note: {note}")
    if request.out is not None:
        run = request.out / _JSON
        put(f"\nWritten to {request.out}: {_JSON}, {_PLOT}")
        put(f"Next: moe2opt profile --from-run {run} --out my_machine, then `rates: my_machine`")


def _show_plans(plans: Sequence[PlanRow]) -> None:
    """Print the plan beside the earlier one."""
    if not plans:
        return
    header = ("plan", "predicted ms", "measured ms", "quartiles", "MB/token", "MB", "perplexity")
    put()
    print_table(
        header,
        [
            (
                row.name,
                f"{1e3 * row.predicted_s:.4g}",
                f"{1e3 * row.measured_s:.4g}",
                " - ".join(f"{1e3 * value:.4g}" for value in row.quartiles_s),
                f"{1e-6 * row.bytes_per_token:.4g}",
                f"{1e-6 * row.memory_bytes:.4g}",
                f"{row.perplexity:.4g}",
            )
            for row in plans
        ],
    )
    new, old = plans
    put(
        f"The plan takes {new.measured_s / old.measured_s:.3f} of the time of the earlier one; "
        f"predicted {new.predicted_s / old.predicted_s:.3f}."
    )
    for fault in old.faults:
        put(f"note: the earlier plan is no plan any more: {fault}")


_SCALES = {"s/token": (1e3, "ms/token"), "bytes/token": (1e-6, "MB/token"), "bytes": (1e-6, "MB")}


def _cells(row: Row) -> tuple[str, ...]:
    scale, unit = _SCALES.get(row.unit, (1.0, row.unit))
    figures = (
        "-" if value is None else f"{scale * value:.4g}" for value in (row.predicted, row.measured)
    )
    return row.name, unit or "-", *figures, _error_words(row)


def _error_words(row: Row) -> str:
    if row.error is None:
        return "-"
    return f"{row.error:+.4f}" if row.name == "hit_rate" else f"{100 * row.error:+.1f} %"
