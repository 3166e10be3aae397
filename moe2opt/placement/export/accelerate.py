"""Hugging Face accelerate: a ``device_map`` for transformers.

Every module is named and none lies within another: transformers does not load weights to disk from
a map with nested names. transformers 5 holds the experts of a layer in one module; only Switch
Transformers have a module per expert.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from moe2opt.huggingface.modules import Family, block_of, expert_module, placed_modules, trunk
from moe2opt.placement.assignment import Assignment
from moe2opt.placement.export.base import Export
from moe2opt.placement.export.families import family_of
from moe2opt.placement.export.judge import Judge
from moe2opt.placement.export.project import Runtime, able_tiers, best, buffer_bytes, home_of
from moe2opt.placement.export.reporting import report
from moe2opt.placement.plan import PlacementPlan

RUNTIME = Runtime(
    "accelerate", ("gpu", "cpu", "disk"), "layer", "model", buffer_layers=1.0, copies="all"
)

Device = int | str


def export(judge: Judge) -> tuple[Export, ...]:
    """Return the device map for a plan."""
    plan = judge.plan
    family = family_of(plan)
    runtime = RUNTIME
    if family.encoder_decoder:
        share = 1.0 / len(plan.uses[0])
        runtime = replace(RUNTIME, unit="expert", buffer_layers=share, copies="used")
    assignment = best(judge, runtime)
    mapping = device_map(plan, family, assignment)
    text = json.dumps(mapping, indent=1)
    names = {int(t): device_of(plan, int(t)) for t in np.unique(assignment.tier)}
    planned = [[names[t] for t in row] for row in assignment.tier[:, :, 0].tolist()]
    if placed(json.loads(text), plan, family) != planned:
        raise RuntimeError("the device map does not give the planned devices")
    away = bool((assignment.tier != home_of(plan)).any())
    buffers = buffer_bytes(plan, runtime, assignment) if away else 0.0
    validated = (
        f"read back, the map gives each of {assignment.form.size} experts the planned device once",
    )
    notes = _notes(plan, family, away=away)
    found = report(judge, runtime, assignment, notes=notes, validated=validated, buffers=buffers)
    launch = (
        "AutoModelForCausalLM.from_pretrained(MODEL, device_map=json.load(open({file!r})), "
        "offload_folder='offload')"
    )
    if family.encoder_decoder:
        launch = launch.replace("CausalLM", "Seq2SeqLM")
    return (Export("accelerate", "", f"{text}\n", launch, found),)


def _notes(plan: PlacementPlan, family: Family, *, away: bool) -> list[str]:
    notes = []
    if not family.encoder_decoder:
        notes.append(
            "transformers 5 keeps all experts of a layer in one module: single experts cannot be "
            "placed"
        )
    if away:
        notes.append(
            "experts elsewhere are copied to the device of the dense part for every use (memory "
            "for one piece is reserved), which the plan's seconds for memory of the CPU may not "
            "assume"
        )
    if not family.name:
        notes.append(f"'{plan.model}' is of no known family: module names are assumed")
    if len(plan.precisions) > 1:
        notes.append("the map sets no format: the weights must be stored in the one counted here")
    return notes


def device_of(plan: PlacementPlan, tier: int) -> Device:
    """Return how accelerate calls a tier: a GPU's number, ``cpu`` or ``disk``."""
    able = able_tiers(plan, RUNTIME)
    kinds = [t.kind for t in plan.tiers]
    if kinds[tier] != "gpu":
        return kinds[tier]
    return [t for t, kind in enumerate(kinds) if kind == "gpu" and able[t]].index(tier)


def device_map(plan: PlacementPlan, family: Family, assignment: Assignment) -> dict[str, Device]:
    """Return the map from modules to devices; a layer is taken apart only where it must be."""
    home = home_of(plan)
    main = device_of(plan, home)
    mapping: dict[str, Device] = dict.fromkeys(trunk(family), main)
    rows = {layer: row for row, layer in enumerate(plan.layers)}
    for layer in range(plan.n_layers):
        tiers = assignment.tier[rows[layer], :, 0].tolist() if layer in rows else [home]
        experts = [device_of(plan, t) for t in tiers]
        mapping |= placed_modules(family, plan.n_layers, layer, main, experts)
    return mapping


def placed(mapping: dict[str, Device], plan: PlacementPlan, family: Family) -> list[list[Device]]:
    """Return the device of every expert: that of the one name in the map that contains it."""
    found = []
    for layer, uses in zip(plan.layers, plan.uses, strict=True):
        module, block = (
            expert_module(family, plan.n_layers, layer),
            block_of(family, plan.n_layers, layer),
        )
        row = []
        for e in range(len(uses)):
            names = [n for n in (block, module, f"{module}.expert_{e}") if n in mapping]
            row += [mapping[name] for name in names]
        found.append(row)
    return found
