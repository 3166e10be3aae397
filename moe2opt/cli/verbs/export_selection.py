"""``export`` for selections: a folder that an operator runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.folders import writing
from moe2opt.cli.output import put
from moe2opt.profiles import BUILTIN, read_profiles
from moe2opt.result import InputError, Result, encode_float
from moe2opt.selection.evaluation.evaluate import expert_indices
from moe2opt.selection.export import (
    Deployment,
    RoutingTable,
    check_serving,
    deployments,
    litellm_files,
    table_of,
    table_of_plan,
    within_sets,
)
from moe2opt.selection.export.litellm_files import KEY, MASTER_KEY, PROXY, START
from moe2opt.selection.gate import Gate
from moe2opt.selection.gated import GatedInstance
from moe2opt.selection.gated_plan import GatedPlan
from moe2opt.selection.instance import SelectionInstance
from moe2opt.selection.plan import SelectionPlan
from moe2opt.selection.sections import Serving
from moe2opt.verify import UNCHECKED
from moe2opt.writing import replacing


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that is written.

    Attributes
    ----------
    table, placed, serving
        Routing table, deployments, and the section that they come from.
    files
        Text of each file.
    gate
        The gate that goes beside them; None routes by category.
    notes
        What the operator must know.
    """

    table: RoutingTable
    placed: tuple[Deployment, ...]
    serving: Serving
    files: dict[str, str]
    gate: Gate | None
    notes: tuple[str, ...]

    @property
    def placeholders(self) -> list[str]:
        """What is still to fill in."""
        return list(dict.fromkeys(what for d in self.placed for what in d.placeholders))


def export_selection(
    plan: dict[str, Any], instance: SelectionInstance | None, serving: Serving
) -> Prepared:
    """Prepare the files of a stored plan.

    Parameters
    ----------
    plan
        Content of the plan.
    instance
        Its instance; None leaves the gate and the prices out.
    serving
        Hosts, ports and files.

    Raises
    ------
    InputError
        When the plan deploys nothing, is no selection plan, or names what the instance lacks.
    """
    experts = plan.get("experts") or ()
    if not experts:
        raise InputError("the plan deploys no expert; there is nothing to serve")
    if instance is not None:
        check_serving(serving, instance)
    placed = deployments(experts, serving, _formats())
    names = [deployment.name for deployment in placed]
    if instance is None:
        table, gate = table_of_plan(plan, names), None
    else:
        kind = GatedPlan if isinstance(instance, GatedInstance) else SelectionPlan
        chosen = expert_indices(instance, kind.from_dict(plan).experts)
        table = table_of(instance, _array(chosen), names)
        gate = instance.gate if isinstance(instance, GatedInstance) else None
    table = within_sets(table, plan.get("sets") or ())
    files = litellm_files(table, placed, serving, gated=gate is not None)
    return Prepared(table, placed, serving, files, gate, tuple(_notes(plan, instance, table)))


def run_export_selection(
    prepared: Prepared,
    result: Result,
    out: Path | None,
    *,
    as_json: bool,
    quiet: bool,
    checked: bool,
) -> Exit:
    """Write the folder, or print the proxy configuration, and say what is left to do."""
    if out is not None:
        _write(out, prepared)
    if as_json:
        content = _as_json(prepared, result, out) | {"checked": checked}
        put(json.dumps(content, indent=1, allow_nan=False))
        return Exit.OK
    if out is None:
        put(prepared.files[PROXY], end="")
    if not quiet:
        _show(prepared, result, out)
        if not checked:
            say(f"Note: {UNCHECKED}")
    return Exit.OK


def _array(indices: Sequence[int]) -> Any:
    import numpy as np

    return np.asarray(indices, dtype=np.int64)


def _formats() -> dict[str, str]:
    """Return the usual weight format of each precision, such as Q4_K_M for q4."""
    return {row["precision"]: row["quant"] for row in read_profiles(BUILTIN).precisions}


def _notes(
    plan: dict[str, Any], instance: SelectionInstance | None, table: RoutingTable
) -> list[str]:
    notes = _about_routing(plan, instance, table)
    if plan.get("objective", "best expert") != "best expert":
        notes.append(f"the objective is '{plan['objective']}'; the router asks the best one only")
    return notes


def _about_routing(
    plan: dict[str, Any], instance: SelectionInstance | None, table: RoutingTable
) -> list[str]:
    gated = isinstance(plan.get("routing"), dict)
    if instance is None:
        missing = "gate, prices, hosts and files are" if gated else "hosts and files are"
        return [f"without --config, {missing} left out: requests are routed by category"]
    if not gated:
        return ["there is no gate: requests are routed by category, not by cluster"]
    if not table.price_per_j and not table.price_per_s:
        return ["no prices: `routing` has no budget that binds; ties go to the cheaper expert"]
    prices = f"{table.price_per_j:.3g} per joule, {table.price_per_s:.3g} per second"
    return [f"prices of routing, in expected score: {prices}"]


def _write(out: Path, prepared: Prepared) -> None:
    with writing(out, *prepared.files, *(["gate"] if prepared.gate is not None else [])):
        for name, text in prepared.files.items():
            with replacing(out / name) as beside:
                beside.write_text(text, encoding="utf-8")
                if name.endswith(".sh"):
                    beside.chmod(0o755)
        if prepared.gate is not None:
            prepared.gate.save(out / "gate")


def _as_json(prepared: Prepared, result: Result, out: Path | None) -> dict[str, Any]:
    return {
        "format": "litellm",
        "status": str(result.status),
        "gap_of_the_plan": encode_float(result.gap),
        "out": None if out is None else str(out),
        "files": prepared.files,
        "gate": prepared.gate is not None,
        "deployments": [
            {
                "name": d.name,
                "llm": d.llm,
                "precision": d.precision,
                "server": d.server,
                "api_base": d.api_base,
                "launch": d.command(prepared.serving),
            }
            for d in prepared.placed
        ],
        "placeholders": prepared.placeholders,
        "notes": list(prepared.notes),
    }


def _show(prepared: Prepared, result: Result, out: Path | None) -> None:
    """Say what to run and what is missing, on stderr: stdout may be the file."""
    import shlex

    for deployment in prepared.placed:
        say(f"Run on {deployment.server}: {shlex.join(deployment.command(prepared.serving))}")
    for note in prepared.notes:
        say(f"Note: {note}")
    for what in prepared.placeholders:
        say(f"To fill in: {what}")
    if str(result.status) != "OPTIMAL":
        say(f"Note: the plan is {result.status}; its own gap is {result.gap:.3g}")
    if out is None:
        say("With --out DIR the router, its table, the gate and the launch scripts are written too")
        return
    gate = ", gate/" if prepared.gate is not None else ""
    say(f"Written to {out}: {', '.join(prepared.files)}{gate}")
    say(f"Keys: {KEY} for the servers and the proxy, {MASTER_KEY} for its clients")
    say(f"Run beside the servers: {shlex.join([str(out / START)])}")
