"""vLLM: options that offload the experts of whole layers, by one of its two patterns."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from moe2opt.huggingface.vllm import AHEAD, Pattern, patterns
from moe2opt.placement.assignment import Assignment, plain
from moe2opt.placement.export.base import Export
from moe2opt.placement.export.families import causal_only, family_of
from moe2opt.placement.export.judge import Copies, Judge, free_bytes, seconds_tables, unused
from moe2opt.placement.export.project import Runtime, able_tiers, buffer_bytes, home_of, restored
from moe2opt.placement.export.reporting import report
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import BoolArray, InputError

RUNTIME = Runtime(
    "vllm", ("gpu", "cpu"), "layer", "model", buffer_layers=AHEAD + 1, one_gpu=True, copies="used"
)


def _copies(pattern: Pattern) -> Copies:
    """Return what is copied: ``prefetch`` takes whole layers, whichever experts are used."""
    return "all" if pattern.backend == "prefetch" else "used"


def _off(plan: PlacementPlan, pattern: Pattern) -> BoolArray:
    """Return the ``(L,)`` mask of layers whose experts are elsewhere."""
    return np.isin(plan.layers, pattern.moved)


def export(judge: Judge) -> tuple[Export, ...]:
    """Return the options of the best rule for a plan."""
    plan = judge.plan
    causal_only(family_of(plan), "vllm")
    if plan.granularity == "pipeline":
        raise InputError("--to vllm: a pipeline over devices cannot be expressed; use json")
    able = able_tiers(plan, RUNTIME)
    if plan.tiers[home_of(plan)].kind != "gpu":
        raise InputError(f"--to vllm: the dense part is on '{plan.home}', not on a GPU")
    slow = next((t for t, yes in enumerate(able) if yes and t != home_of(plan)), None)
    quality, pattern, assignment, buffers = _best_format(judge, slow)
    text = json.dumps(pattern.options, indent=1)
    layer_gib = _layer_bytes(plan, quality) / GIB
    off = _off(plan, pattern)
    if not np.array_equal(offloaded(json.loads(text), plan, layer_gib), off):
        raise RuntimeError("the options for vLLM do not offload the planned layers")
    notes = [
        "vLLM offloads experts of whole layers only, in one of two patterns; the better of both "
        "is exported",
        "was not run: the options follow the published configuration of vLLM",
    ]
    validated = (f"read back, the options offload the planned {int(off.sum())} layers",)
    runtime = replace(RUNTIME, copies=_copies(pattern))
    found = report(judge, runtime, assignment, notes=notes, validated=validated, buffers=buffers)
    launch = "vllm.LLM(model=MODEL, **json.load(open({file!r})))" if pattern.options else ""
    return (Export("vllm", "", f"{text}\n", launch, found),)


def _best_format(judge: Judge, slow: int | None) -> tuple[int, Pattern, Assignment, float]:
    """Return format, pattern, placement and buffers: with an instance, the best in its budgets."""
    plan = judge.plan
    first = _quality(plan)
    others = np.unique(restored(plan).precision).tolist() if judge.mode else []
    found: list[tuple[tuple[bool, bool, float, int], tuple[int, Pattern, Assignment, float]]] = []
    errors: list[InputError] = []
    for number in dict.fromkeys((first, *others)):
        try:
            pattern, assignment, buffers = _best(plan, slow, number)
        except InputError as error:
            errors.append(error)
            continue
        value = judge.value(assignment, copies=_copies(pattern))
        rank = (bool(judge.broken(assignment)), value is None, value or 0.0, len(found))
        found.append((rank, (number, pattern, assignment, buffers)))
    if not found:
        raise errors[0]
    return min(found, key=lambda pair: pair[0])[1]


def _best(plan: PlacementPlan, slow: int | None, quality: int) -> tuple[Pattern, Assignment, float]:
    """Return the pattern that fits and costs least, its placement, and its buffers in bytes."""
    home = home_of(plan)
    there = home if slow is None else slow
    uses, others = np.array(plan.uses).sum(axis=1), unused(plan).sum(axis=1)
    size, free = _layer_bytes(plan, quality), free_bytes(plan) * (1 + 1e-9)

    def fits(pattern: Pattern) -> bool:
        away, buffers = len(pattern.moved), RUNTIME.buffer_layers * (pattern.backend == "prefetch")
        at_home = len(plan.layers) - away + buffers
        return bool((not away or away * size <= free[there]) and at_home * size <= free[home])

    def seconds(pattern: Pattern) -> float:
        off = _off(plan, pattern)
        each, idle = (table[:, quality] for table in seconds_tables(plan, _copies(pattern)))
        used = uses @ np.where(off, each[there], each[home])
        return float(used + others @ np.where(off, idle[there], idle[home]))

    layers = plan.layers if slow is not None else ()
    known = patterns(dict.fromkeys(layers, size / GIB), plan.n_layers)
    pattern = min(filter(fits, known), key=seconds, default=None)
    if pattern is None:
        raise InputError(
            "--to vllm: no pattern of offloaded layers fits the GPU and memory of the CPU with "
            f"all experts as {plan.precisions[quality].name}"
        )
    shape = (*plan.assignment.form.shape, 1)
    tier = np.broadcast_to(np.where(_off(plan, pattern), there, home)[:, None, None], shape)
    assignment = plain(tier.astype(np.int64), np.full(shape, quality, dtype=np.int64))
    buffered = pattern.backend == "prefetch"
    return pattern, assignment, buffer_bytes(plan, RUNTIME, assignment) if buffered else 0.0


def _quality(plan: PlacementPlan) -> int:
    """Return the format with most bits that the plan uses: the checkpoint has only one."""
    used = np.unique(restored(plan).precision)
    bits = np.array([p.bits_per_weight for p in plan.precisions])
    return int(used[bits[used].argmax()])


def _layer_bytes(plan: PlacementPlan, quality: int) -> float:
    return len(plan.uses[0]) * plan.precisions[quality].expert_bytes


def offloaded(options: dict[str, Any], plan: PlacementPlan, layer_gib: float) -> BoolArray:
    """Return the ``(L,)`` mask of layers whose experts the options offload.

    ``uva`` takes parameters, two per layer (gate with up, down), while less than the limit is
    offloaded.
    """
    layers = np.array(plan.layers)
    if options.get("offload_backend") == "prefetch":
        size, number = options["offload_group_size"], options["offload_num_in_group"]
        return np.asarray(layers % size >= size - number)
    before = np.arange(len(layers))[:, None] * layer_gib + np.array([0.0, 2 / 3]) * layer_gib
    return np.asarray((before < options.get("cpu_offload_gb", 0.0)).all(axis=1))
