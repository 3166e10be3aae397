"""Our own format: the whole plan by name, nothing lost, for other programs to read."""

from __future__ import annotations

import json
from typing import Any

from moe2opt.placement.assignment import FORMS
from moe2opt.placement.export.base import Export, Report
from moe2opt.placement.export.judge import Judge
from moe2opt.placement.export.reporting import memory_check
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import IntArray

FORMAT = "moe2opt-placement"
VERSION = 1


def export(judge: Judge) -> tuple[Export, ...]:
    """Return the plan as JSON: layers of experts by name, and the plan itself."""
    plan = judge.plan
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model": plan.model,
        "top_k": plan.top_k,
        "home": plan.home,
        "layers": [_layer(plan, row) for row in range(len(plan.layers))],
        "plan": plan.to_dict(),
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    again = PlacementPlan.from_dict(json.loads(text)["plan"])
    if json.dumps(again.to_dict()) != json.dumps(plan.to_dict()):
        raise RuntimeError("the exported plan reads back as another one")
    found = Report(
        runtime="json",
        unit="tensor" if plan.assignment.tier.shape[2] == 3 else "expert",
        moved=0,
        reformatted=0,
        experts=plan.assignment.form.size,
        objective=plan.objective,
        plan_value=plan.objective_value,
        projected_value=plan.objective_value,
        gap=0.0,
        memory=memory_check(plan, plan.assignment),
        validated=("the file reads back as the same plan",),
    )
    return (Export("json", "", f"{text}\n", "", found),)


def _layer(plan: PlacementPlan, row: int) -> dict[str, Any]:
    a = plan.assignment
    # A pruned expert has the tier -1: the last name.
    tiers = [*(tier.name for tier in plan.tiers), None]
    formats = [precision.name for precision in plan.precisions]

    def named(table: IntArray, names: list[Any]) -> list[Any]:
        """Return one name per expert, or a list of three where tensors are apart."""
        rows = [[names[k] for k in entry] for entry in table.tolist()]
        return [entry[0] if len(entry) == 1 else entry for entry in rows]

    content: dict[str, Any] = {
        "layer": plan.layers[row],
        "tier": named(a.tier[row], tiers),
        "format": named(a.precision[row], formats),
        "form": [FORMS[k] for k in a.form[row].tolist()],
        "served_by": a.representative[row].tolist(),
    }
    if a.slots is not None:
        content["slots"] = int(a.slots[row])
    if a.copied is not None:
        content["copied"] = [bool(c) for c in a.copied[row].tolist()]
    return content
