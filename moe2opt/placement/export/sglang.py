"""SGLang: which expert is in which slot of which GPU, for ``--init-expert-location``.

Physical slot p of a layer is on GPU p // (slots / GPUs): every GPU has the same number of experts
of every layer, and all experts are on GPUs.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from moe2opt.placement.assignment import Assignment
from moe2opt.placement.export.base import Export
from moe2opt.placement.export.families import causal_only, family_of
from moe2opt.placement.export.judge import Judge, expert_bytes_by_tier, free_bytes
from moe2opt.placement.export.project import Runtime, able_tiers, best
from moe2opt.placement.export.reporting import report
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import FloatArray, InputError, IntArray

RUNTIME = Runtime("sglang", ("gpu",), "expert", "model")


def export(judge: Judge) -> tuple[Export, ...]:
    """Return the map of slots to experts for a plan."""
    plan = judge.plan
    causal_only(family_of(plan), "sglang")
    able = able_tiers(plan, RUNTIME)
    gpus = [t for t, yes in enumerate(able) if yes]
    assignment = balanced(plan, best(judge, RUNTIME), gpus)
    slots = slots_of(plan, assignment, gpus)
    text = json.dumps({"physical_to_logical_map": slots}, separators=(",", ":"))
    _check(plan, assignment, gpus, json.loads(text)["physical_to_logical_map"])
    notes = [
        "all experts are on GPUs, the same number of each layer on each: nothing is offloaded",
        "layers without experts are counted, with a plain row; that SGLang counts them so, and "
        "the whole launch, was not run",
    ]
    if len(gpus) == 1:
        notes.append("with one GPU the map is trivial: there is nothing to place")
    validated = (
        f"{plan.n_layers} rows are permutations of {len(slots[0])} experts, and each slot's GPU "
        "is the planned one",
    )
    found = report(judge, RUNTIME, assignment, notes=notes, validated=validated)
    count = len(gpus)
    launch = (
        f"python -m sglang.launch_server --model-path MODEL --tp-size {count} --ep-size {count} "
        "--init-expert-location {file}"
    )
    return (Export("sglang", "", f"{text}\n", launch, found),)


def balanced(plan: PlacementPlan, assignment: Assignment, gpus: list[int]) -> Assignment:
    """Return the placement with as many experts of each layer on every GPU.

    Of too many experts on a GPU the least used go to the GPUs that have too few.

    Raises
    ------
    InputError
        When the numbers do not divide, or a GPU cannot hold its part.
    """
    experts = assignment.form.shape[1]
    share, rest = divmod(experts, len(gpus))
    if rest:
        raise InputError(
            f"--to sglang: {experts} experts per layer do not divide by {len(gpus)} GPUs"
        )
    tier = assignment.tier.max(axis=2)
    for row, uses in enumerate(np.array(plan.uses)):
        _balance(tier[row], uses, gpus, share)
    moved = replace(assignment, tier=tier[:, :, None], precision=assignment.precision[:, :, :1])
    held, free = expert_bytes_by_tier(plan, moved), free_bytes(plan)
    for t in gpus:
        if held[t] > free[t] * (1 + 1e-9):
            raise InputError(
                f"--to sglang: {plan.tiers[t].name} would hold {held[t] / 2**30:.2f} GiB of "
                f"experts, {max(free[t], 0.0) / 2**30:.2f} GiB are free; every GPU gets the same "
                "number of experts"
            )
    return moved


def _balance(tier: IntArray, uses: FloatArray, gpus: list[int], share: int) -> None:
    """Change the tiers of the experts of one layer in place."""
    leaving: list[int] = []
    for t in gpus:
        here = np.flatnonzero(tier == t)
        order = here[np.argsort(-uses[here], kind="stable")]
        leaving += order[share:].tolist()
    for t in gpus:
        missing = share - int((tier == t).sum())
        for _ in range(max(missing, 0)):
            tier[leaving.pop(0)] = t


def slots_of(plan: PlacementPlan, assignment: Assignment, gpus: list[int]) -> list[list[int]]:
    """Return the expert in each slot for all layers of the model, ascending within a GPU."""
    experts = assignment.form.shape[1]
    rows = [list(range(experts)) for _ in range(plan.n_layers)]
    for row, layer in enumerate(plan.layers):
        here = assignment.tier[row, :, 0]
        rows[layer] = [e for t in gpus for e in np.flatnonzero(here == t).tolist()]
    return rows


def _check(
    plan: PlacementPlan, assignment: Assignment, gpus: list[int], slots: list[list[int]]
) -> None:
    table = np.array(slots)
    experts = assignment.form.shape[1]
    whole = table.shape == (plan.n_layers, experts)
    per_gpu = experts // len(gpus)
    gpu = np.array(gpus)[np.arange(experts) // per_gpu]
    planned = np.take_along_axis(assignment.tier[:, :, 0], table[list(plan.layers)], axis=1)
    if (
        not (whole and (np.sort(table, axis=1) == np.arange(experts)).all())
        or (planned != gpu).any()
    ):
        raise RuntimeError("the map for SGLang does not give the planned GPUs")
