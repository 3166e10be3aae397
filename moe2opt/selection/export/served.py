"""A selection as a folder that an operator runs: proxy, router, gate and launch scripts."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.profiles import BUILTIN, read_profiles
from moe2opt.result import InputError
from moe2opt.selection.case import Case
from moe2opt.selection.export.litellm_files import (
    KEY,
    MASTER_KEY,
    PROXY,
    START,
    Deployment,
    check_serving,
    deployments,
    litellm_files,
)
from moe2opt.selection.export.routing_table import (
    RoutingTable,
    table_of,
    table_of_plan,
    within_sets,
)
from moe2opt.selection.gate import Gate
from moe2opt.selection.gated import GatedCase
from moe2opt.selection.judge import expert_indices
from moe2opt.selection.plan import GatedPlan
from moe2opt.selection.sections import Serving
from moe2opt.source import source_of
from moe2opt.writing import replacing, writing


@dataclass(frozen=True, slots=True)
class Served:
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

    @property
    def text(self) -> str:
        """The configuration of the proxy."""
        return self.files[PROXY]

    def write(self, out: Path) -> None:
        """Write the folder."""
        with writing(out, *self.files, *(["gate"] if self.gate is not None else [])):
            for name, text in self.files.items():
                with replacing(out / name) as beside:
                    beside.write_text(text, encoding="utf-8")
                    if name.endswith(".sh"):
                        beside.chmod(0o755)
            if self.gate is not None:
                self.gate.save(out / "gate")

    def content(self, out: Path | None) -> dict[str, Any]:
        """Return files, deployments, and what is still to fill in."""
        return {
            "out": None if out is None else str(out),
            "files": self.files,
            "gate": self.gate is not None,
            "deployments": [
                {
                    "name": d.name,
                    "llm": d.llm,
                    "precision": d.precision,
                    "server": d.server,
                    "api_base": d.api_base,
                    "launch": d.command(self.serving),
                }
                for d in self.placed
            ],
            "placeholders": self.placeholders,
            "notes": list(self.notes),
        }

    def words(self, out: Path | None) -> list[str]:
        """Return what to run and what is missing."""
        lines = [
            *(f"Run on {d.server}: {shlex.join(d.command(self.serving))}" for d in self.placed),
            *(f"Note: {note}" for note in self.notes),
            *(f"To fill in: {what}" for what in self.placeholders),
        ]
        if out is None:
            also = "the router, its table, the gate and the launch scripts are written too"
            return [*lines, f"With --out DIR {also}"]
        gate = ", gate/" if self.gate is not None else ""
        return [
            *lines,
            f"Written to {out}: {', '.join(self.files)}{gate}",
            f"Keys: {KEY} for the servers and the proxy, {MASTER_KEY} for its clients",
            f"Run beside the servers: {shlex.join([str(out / START)])}",
        ]


def served(plan: Any, instance: Case | None) -> Served:
    """Prepare the files of a plan.

    Parameters
    ----------
    plan
        A `SelectionPlan` or a `GatedPlan`.
    instance
        Its instance, whose file may say hosts, ports and files in its section ``serving``; None
        leaves the gate and the prices out.

    Raises
    ------
    InputError
        When the plan deploys nothing, or names what the instance lacks.
    """
    if not plan.experts:
        raise InputError("the plan deploys no expert; there is nothing to serve")
    content, source = plan.to_dict(), source_of(instance)
    serving = Serving.model_validate({} if source is None else source.effective.get("serving", {}))
    if instance is not None:
        check_serving(serving, instance)
    # The usual weight format of each precision, such as Q4_K_M for q4.
    formats = {row["precision"]: row["quant"] for row in read_profiles(BUILTIN).precisions}
    placed = deployments(content["experts"], serving, formats)
    names = [deployment.name for deployment in placed]
    gate = instance.gate if isinstance(instance, GatedCase) else None
    if instance is None:
        table = table_of_plan(content, names)
    else:
        chosen = np.asarray(expert_indices(instance, plan.experts), dtype=np.int64)
        table = table_of(instance, chosen, names)
    table = within_sets(table, content.get("sets") or ())
    files = litellm_files(table, placed, serving, gated=gate is not None)
    return Served(table, placed, serving, files, gate, tuple(_notes(plan, instance, table)))


def _notes(plan: Any, instance: Case | None, table: RoutingTable) -> list[str]:
    gated = isinstance(plan, GatedPlan)
    if instance is None:
        missing = "gate, prices, hosts and files are" if gated else "hosts and files are"
        notes = [f"without --config, {missing} left out: requests are routed by category"]
    elif not gated:
        notes = ["there is no gate: requests are routed by category, not by cluster"]
    elif not table.price_per_j and not table.price_per_s:
        notes = ["no prices: `routing` has no budget that binds; ties go to the cheaper expert"]
    else:
        prices = f"{table.price_per_j:.3g} per joule, {table.price_per_s:.3g} per second"
        notes = [f"prices of routing, in expected score: {prices}"]
    if plan.objective != "best expert":
        notes.append(f"the objective is '{plan.objective}'; the router asks the best one only")
    return notes
