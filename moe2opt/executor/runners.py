"""What the verb ``execute`` calls: a plan of each question run, and told as tables and JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from moe2opt.canonical.question import Order, Ran
from moe2opt.executor.compare.against import PlanRow, stored_assignment
from moe2opt.executor.compare.figures import Comparison, Row, parse_tolerances
from moe2opt.executor.compare.selection import FIGURES, replayed
from moe2opt.executor.faults import require_torch
from moe2opt.placement import PlacementInstance, PlacementPlan
from moe2opt.result import InputError, IntArray, Result
from moe2opt.selection.question import GatedInstance
from moe2opt.source import name_of
from moe2opt.view import Table, table

#: How units are shown: factor and name.
_SCALES = {"s/token": (1e3, "ms/token"), "bytes/token": (1e-6, "MB/token"), "bytes": (1e-6, "MB")}


def placement(instance: PlacementInstance, x: IntArray, order: Order) -> Ran:
    """Run a placement with torch on the model's weights, from memory and disk as planned."""
    tolerances = parse_tolerances(order.tolerance)
    require_torch()
    from moe2opt.executor.compare.plot import plot
    from moe2opt.executor.job import Wanted, execute_plan

    wanted = Wanted(
        order.model,
        order.text,
        order.tokens,
        order.repeats,
        order.calibrate,
        order.allow_outside,
    )
    earlier = None if order.against is None else _earlier(order.against, instance)
    done = execute_plan(instance, instance.decode(x), wanted, order.on_step)
    comparison, content = done.comparison, dict(done.content)
    exceeded = comparison.exceeded(tolerances)
    content |= {"tolerances": tolerances, "exceeded": exceeded}
    shown = _compared(comparison)
    if earlier is not None:
        wanted = replace(wanted, calibrate=False)
        other = execute_plan(instance, earlier, wanted, order.on_step)
        rows = [
            PlanRow.of(str(order.result), comparison),
            PlanRow.of(str(order.against), other.comparison, instance.check(earlier)),
        ]
        content["plans"] = [row.to_dict() for row in rows]
        shown += _beside(*rows)
    return Ran(
        content=content,
        shown=tuple(shown),
        notes=tuple(comparison.notes),
        exceeded=tuple(exceeded),
        follow_up="moe2opt profile --from-run {run} --out my_machine, then `rates: my_machine`",
        draw=lambda path: plot(comparison, f"{instance.name}: predicted and measured", path),
    )


def _earlier(path: Path, instance: PlacementInstance) -> PlacementPlan:
    """Return the plan of ``--against``, in the tiers and formats of the instance."""
    try:
        return instance.plan_of(stored_assignment(Result.load(path).plan, instance))
    except InputError as error:
        raise InputError(f"--against {path}: {error}") from error


def _compared(comparison: Comparison) -> list[Table | str]:
    rows = [
        (f"layer {layer.layer} {row.name}", *_cells(row)[1:])
        for layer in comparison.layers
        for row in (layer.time, layer.bytes, layer.hit_rate)
    ]
    rows += [_cells(row) for row in comparison.total]
    low, high = (1e3 * value for value in comparison.quartiles_s)
    return [
        table("", ("figure", "unit", "predicted", "measured", "error"), rows),
        f"token time: quartiles over the passes {low:.3f} and {high:.3f} ms",
    ]


def _beside(new: PlanRow, old: PlanRow) -> list[Table | str]:
    """Return the plan beside the earlier one."""
    header = ("plan", "predicted ms", "measured ms", "quartiles", "MB/token", "MB", "perplexity")
    rows = [
        (
            row.name,
            f"{1e3 * row.predicted_s:.4g}",
            f"{1e3 * row.measured_s:.4g}",
            " - ".join(f"{1e3 * value:.4g}" for value in row.quartiles_s),
            f"{1e-6 * row.bytes_per_token:.4g}",
            f"{1e-6 * row.memory_bytes:.4g}",
            f"{row.perplexity:.4g}",
        )
        for row in (new, old)
    ]
    return [
        "",
        table("", header, rows),
        f"The plan takes {new.measured_s / old.measured_s:.3f} of the time of the earlier one; "
        f"predicted {new.predicted_s / old.predicted_s:.3f}.",
        *(f"note: the earlier plan is no plan any more: {fault}" for fault in old.faults),
    ]


def selection(instance: Any, x: IntArray, order: Order) -> Ran:
    """Replay a selection on the test part of its outcomes, answered as its plan says."""
    if not isinstance(instance, GatedInstance):
        raise InputError(
            f"execute: '{name_of(instance)}': runs selections with `experts: {{outcomes: FOLDER}}`"
        )
    for flag in ("model", "text", "against"):
        if getattr(order, flag) is not None:
            raise InputError(f"--{flag}: a selection is replayed on recorded outcomes")
    tolerances = parse_tolerances(order.tolerance, FIGURES)
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
    header = ("figure", "unit", "predicted", "realised", "error")
    about = "predicted: by the plan; realised: on the test part, answered as planned"
    shown = (table("", header, [_cells(row) for row in rows]), about)
    return Ran(content=content, shown=shown, exceeded=tuple(exceeded))


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
