"""ktransformers: rules for its first engine (by layer), and a table for kt-kernel (by expert).

The rules are read in order and the first that matches a module decides. kt-kernel, used with
SGLang, keeps the experts on the GPU that are most frequent over all layers; a table of ones and
zeros as frequencies gives exactly the planned ones, as long as their number is the one asked for.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np

from moe2opt.huggingface.modules import Family
from moe2opt.placement.assignment import Assignment
from moe2opt.placement.export.base import Export
from moe2opt.placement.export.families import causal_only, family_of
from moe2opt.placement.export.judge import Judge, expert_bytes_by_tier, free_bytes
from moe2opt.placement.export.llamacpp import numbers_pattern
from moe2opt.placement.export.project import Runtime, best, home_of
from moe2opt.placement.export.reporting import report
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import BoolArray, InputError

RULES = Runtime("ktransformers", ("gpu", "cpu"), "layer", "tier", one_gpu=True)
KERNEL = Runtime("kt-kernel", ("gpu", "cpu"), "expert", "tier", one_gpu=True)
OPERATOR = "ktransformers.operators.experts.KTransformersExperts"
ON_GPU: dict[str, str] = {"generate_device": "cuda:0", "generate_op": "KExpertsMarlin"}
ON_CPU: dict[str, str] = {
    "prefill_device": "cuda:0",
    "prefill_op": "KExpertsTorch",
    "generate_device": "cpu",
    "generate_op": "KExpertsCPU",
    "out_device": "cuda:0",
}


def export(judge: Judge) -> tuple[Export, ...]:
    """Return the rules, the table and the mask for a plan."""
    plan = judge.plan
    family = family_of(plan)
    causal_only(family, "ktransformers")
    if plan.tiers[home_of(plan)].kind != "gpu":
        raise InputError(f"--to ktransformers: the dense part is on '{plan.home}', not on a GPU")
    return (_rules(judge, family), *_kernel(judge))


def _rules(judge: Judge, family: Family) -> Export:
    plan = judge.plan
    assignment = best(judge, RULES)
    on_gpu = [
        layer
        for layer, tier in zip(plan.layers, assignment.tier[:, 0, 0], strict=True)
        if tier == home_of(plan)
    ]
    rules = rules_of(family, on_gpu)
    text = _yaml(rules)
    names = {layer: module_name(family, layer) for layer in plan.layers}
    device = {layer: "cuda:0" if layer in on_gpu else "cpu" for layer in plan.layers}
    if read_rules(text, names.values()) != {names[k]: device[k] for k in plan.layers}:
        raise RuntimeError("the rules for ktransformers do not give the planned devices")
    notes = [
        "these rules are for experts only: put them before the default rule for experts in the "
        "rule file of the model; they serve the archived engine 0.x and one GPU",
        "weights on the GPU are held as the operator KExpertsMarlin holds them, whatever the "
        "format of the plan; this changes their size",
        "was not run: ktransformers is not part of the tests",
    ]
    if family.name == "Mixtral":
        notes.append("modules are named as in transformers 4: block_sparse_moe")
    validated = (
        f"the YAML parses, and the first matching rule gives each of {len(names)} expert modules "
        "the planned device",
    )
    found = report(judge, RULES, assignment, notes=notes, validated=validated)
    launch = "python -m ktransformers.local_chat --optimize_config_path {file} ..."
    return Export("ktransformers", "", text, launch, found)


def module_name(family: Family, layer: int) -> str:
    """Return the module of the experts of a layer as the engine sees it."""
    block = "block_sparse_moe" if family.name == "Mixtral" else "mlp"
    return f"model.layers.{layer}.{block}.experts"


def rules_of(family: Family, on_gpu: list[int]) -> list[dict[str, Any]]:
    """Return the rules: one for the layers on the GPU, if any, and the default."""
    end = re.escape(module_name(family, 0).removeprefix("model.layers.0"))
    rules = []
    if on_gpu:
        pattern = rf"^model\.layers\.({numbers_pattern(on_gpu)}){end}$"
        rules.append(_rule(pattern, ON_GPU))
    return [*rules, _rule(rf"^model\.layers\..*{end}$", ON_CPU)]


def _rule(pattern: str, settings: dict[str, str]) -> dict[str, Any]:
    return {
        "match": {"name": pattern},
        "replace": {"class": OPERATOR, "kwargs": dict(settings)},
        "recursive": False,
    }


def _yaml(rules: list[dict[str, Any]]) -> str:
    """Return the rules as YAML; JSON strings are YAML strings in double quotes."""
    lines = []
    for rule in rules:
        lines += [
            "- match:",
            f"    name: {json.dumps(rule['match']['name'])}",
            "  replace:",
            f"    class: {rule['replace']['class']}",
            "    kwargs:",
            *(f"      {k}: {json.dumps(v)}" for k, v in rule["replace"]["kwargs"].items()),
            "  recursive: False",
        ]
    return "\n".join(lines) + "\n"


def read_rules(text: str, modules: Any) -> dict[str, str]:
    """Return the device that generates in each module: that of the first rule that matches."""
    from ruamel.yaml import YAML

    rules = YAML(typ="safe", pure=True).load(text)
    found = {}
    for module in modules:
        rule = next(rule for rule in rules if re.match(rule["match"]["name"], module))
        found[module] = rule["replace"]["kwargs"]["generate_device"]
    return found


def _kernel(judge: Judge) -> tuple[Export, Export]:
    plan = judge.plan
    assignment, number = whole_number_per_layer(plan, best(judge, KERNEL))
    mask = mask_of(plan, assignment)
    table = {"logical_count": mask.astype(float).tolist()}
    text = json.dumps(table, separators=(",", ":"))
    total = int(mask.sum())
    again = np.array(json.loads(text)["logical_count"])
    top = np.argsort(-again, axis=None, kind="stable")[:total]
    if not mask.ravel()[top].all():
        raise RuntimeError("the table for kt-kernel does not give the planned experts")
    notes = [
        f"{number} experts per layer of {len(plan.layers)} layers: the number on the GPU is "
        "rounded down to the same number per layer on average, which is what its option takes",
        "experts on the GPU and on the CPU have one format each, set by the weights that the "
        "runtime is given",
        "was not run: that its SGLang fork reads this JSON table, and how it counts layers "
        "without experts, was not tested",
    ]
    validated = (f"the {total} largest entries of the table are the {total} planned experts",)
    found = report(judge, KERNEL, assignment, notes=notes, validated=validated)
    launch = (
        "python -m sglang.launch_server --model-path MODEL "
        f"--kt-num-gpu-experts {number} --kt-expert-placement-strategy frequency "
        "--init-expert-location {file} ..."
    )
    masked = json.dumps(mask.tolist(), separators=(",", ":"))
    mask_report = replace(found, notes=(*notes, "the mask is what the table stands for"))
    return (
        Export("ktransformers", ".kt-kernel.json", f"{text}\n", launch, found),
        Export("ktransformers", ".mask.json", f"{masked}\n", "", mask_report),
    )


def mask_of(plan: PlacementPlan, assignment: Assignment) -> BoolArray:
    """Return the ``(n_layers, E)`` mask of experts on the GPU; layers without experts have none."""
    mask = np.zeros((plan.n_layers, assignment.form.shape[1]), dtype=bool)
    mask[list(plan.layers)] = assignment.tier[:, :, 0] == home_of(plan)
    return mask


def whole_number_per_layer(plan: PlacementPlan, assignment: Assignment) -> tuple[Assignment, int]:
    """Take the least used experts off the GPU until their number divides by the layers.

    Raises
    ------
    InputError
        When the slower tier has no room for them.
    """
    home = home_of(plan)
    on_gpu = (assignment.tier[:, :, 0] == home).ravel()
    number, extra = divmod(int(on_gpu.sum()), len(plan.layers))
    if not extra:
        return assignment, number
    uses = np.where(on_gpu, np.array(plan.uses).ravel(), np.inf)
    leaving = np.unravel_index(np.argsort(uses, kind="stable")[:extra], assignment.form.shape)
    other = next((t for t, tier in enumerate(plan.tiers) if tier.kind == "cpu"), None)
    if other is None:
        raise InputError(f"--to {KERNEL.name}: there is no tier of kind cpu beside the GPU")
    tier, precision = assignment.tier.copy(), assignment.precision.copy()
    there = precision[tier == other]
    tier[leaving] = other
    if there.size:
        precision[leaving] = there[0]
    moved = replace(assignment, tier=tier, precision=precision)
    if expert_bytes_by_tier(plan, moved)[other] > free_bytes(plan)[other] * (1 + 1e-9):
        raise InputError(
            f"--to {KERNEL.name}: {plan.tiers[other].name} has no room for {extra} more"
        )
    return moved, number
