"""The verb ``execute``: run a plan, show prediction and measurement side by side."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe2opt.cli.exits import Exit, say, say_rejected
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario, Stored
from moe2opt.cli.folders import create
from moe2opt.cli.output import bar, print_table, put, put_json
from moe2opt.errors import InputError
from moe2opt.writing import ours, write_text

if TYPE_CHECKING:
    from moe2opt.executor.compare.against import PlanRow
    from moe2opt.executor.compare.figures import Comparison, Row
    from moe2opt.executor.job import Wanted
    from moe2opt.placement import PlacementInstance, PlacementPlan
    from moe2opt.selection.question import GatedInstance

_JSON, _PLOT = "execute.json", "execute.svg"


def execute(
    result: Stored,
    config: Config,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Weights (Hugging Face format); default execute.model"),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Held-out text, or a folder of it; default execute.text"),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=2, help="Tokens that are run.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Passes over the tokens.")] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Run a mixture of all tiers and formats too, for `profile --from-run`.",
        ),
    ] = False,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHARE|NAME=SHARE",
            help="Exit with 5 when a prediction is further off: 0.15, or time=15%,bytes=2%,...",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="RESULT", help="Run the plan of an earlier result.json, too."),
    ] = None,
    scenario: Scenario = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write execute.json and execute.svg here.")
    ] = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Run a plan for real and compare what it takes with what was predicted.

    A placement is run with torch on the model's weights, from memory and disk as planned. A
    selection is replayed on the test part of its outcomes. Exit code 5 when --tolerance is
    exceeded.
    """
    from moe2opt.executor.compare.figures import parse_tolerances
    from moe2opt.executor.faults import require_torch
    from moe2opt.placement import PlacementInstance
    from moe2opt.selection.question import GatedInstance
    from moe2opt.verify import verify

    found = verify(result, config, scenario, overrides or (), allow_outside=allow_outside)
    if found.foreign:
        raise InputError(f"{result}: {found.failures[0]}")
    if not found.ok:
        say_rejected(result, found.failures)
        return Exit.REJECTED
    solved, instance = found.result, found.target
    assert solved is not None
    if solved.plan is None or solved.x is None:
        raise InputError(f"{result}: there is no plan to run ({solved.status})")
    if isinstance(instance, PlacementInstance):
        tolerances = parse_tolerances(tolerance or ())
        require_torch()
        from moe2opt.executor.job import Wanted

        wanted = Wanted(model, text, tokens, repeats, calibrate, allow_outside)
        plans = [(result, instance.decode(solved.x))]
        if against is not None:
            plans.append((against, _earlier(against, instance)))
        exceeded = _placement(instance, plans, wanted, tolerances, out, as_json, quiet)
    elif isinstance(instance, GatedInstance):
        for flag, value in (("--model", model), ("--text", text), ("--against", against)):
            if value is not None:
                raise InputError(f"{flag}: a selection is replayed on recorded outcomes")
        exceeded = _selection(instance, solved.x, tolerance or (), out, as_json)
    else:
        raise InputError(
            f"{config}: `execute` runs placements, and selections with "
            "`experts: {outcomes: FOLDER}`"
        )
    for words in exceeded:
        say(f"tolerance exceeded: {words}")
    return Exit.TOO_WEAK if exceeded else Exit.OK


def _earlier(path: Path, instance: PlacementInstance) -> PlacementPlan:
    """Return the plan of ``--against``, in the tiers and formats of the instance."""
    from moe2opt.executor.compare.against import stored_assignment
    from moe2opt.result import Result

    try:
        return instance.plan_of(stored_assignment(Result.load(path).plan, instance))
    except InputError as error:
        raise InputError(f"--against {path}: {error}") from error


def _placement(
    instance: PlacementInstance,
    plans: Sequence[tuple[Path, PlacementPlan]],
    wanted: Wanted,
    tolerances: dict[str, float],
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> list[str]:
    """Run the plan, and the earlier one if there is one; return which tolerances are exceeded."""
    from moe2opt.executor.compare.against import PlanRow
    from moe2opt.executor.compare.plot import plot
    from moe2opt.executor.job import execute_plan

    (path, plan), *rest = plans
    rows = []
    with _folder(out) as folder:
        with bar("Running", quiet=quiet) as on_token:
            done = execute_plan(instance, plan, wanted, on_token)
        comparison = done.comparison
        for other, earlier in rest:
            with bar("Running", quiet=quiet) as on_token:
                run = execute_plan(instance, earlier, replace(wanted, calibrate=False), on_token)
            faults = instance.check(earlier)
            rows = [PlanRow.of(str(path), comparison),
                    PlanRow.of(str(other), run.comparison, faults)]  # fmt: skip
        exceeded = comparison.exceeded(tolerances)
        content = {**done.content, "tolerances": tolerances, "exceeded": exceeded}
        if rows:
            content["plans"] = [row.to_dict() for row in rows]
        if folder is not None:
            _write(folder, content)
            plot(comparison, f"{instance.name}: predicted and measured", folder / _PLOT)
    if as_json:
        put_json(content)
    else:
        _show(comparison, out, quiet)
        _show_plans(rows)
    return exceeded


def _selection(
    instance: GatedInstance, x: Any, texts: Sequence[str], out: Path | None, as_json: bool
) -> list[str]:
    """Replay a selection; return which tolerances are exceeded."""
    from moe2opt.executor.compare.figures import parse_tolerances
    from moe2opt.executor.compare.selection import FIGURES, replayed

    tolerances = parse_tolerances(texts, FIGURES)
    with _folder(out) as folder:
        rows = replayed(instance, x)
        exceeded = [
            f"{row.name}: off by {_error_words(row)}"
            for row in rows
            if row.name in tolerances and not abs(row.error or 0.0) <= tolerances[row.name]
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
    if as_json:
        put_json(content)
    else:
        print_table(("figure", "unit", "predicted", "realised", "error"), [_cells(r) for r in rows])
        put("predicted: by the plan; realised: on the test part, routed by the gate")
    return exceeded


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


def _show(comparison: Comparison, out: Path | None, quiet: bool) -> None:
    rows = []
    for layer in comparison.layers:
        for row in (layer.time, layer.bytes, layer.hit_rate):
            rows.append((f"layer {layer.layer} {row.name}", *_cells(row)[1:]))
    rows += [_cells(row) for row in comparison.total]
    print_table(("figure", "unit", "predicted", "measured", "error"), rows)
    low, high = (1e3 * value for value in comparison.quartiles_s)
    put(f"token time: quartiles over the passes {low:.3f} and {high:.3f} ms")
    if quiet:
        return
    for note in comparison.notes:
        put(f"note: {note}")
    if out is not None:
        run = out / _JSON
        put(f"\nWritten to {out}: {_JSON}, {_PLOT}")
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
