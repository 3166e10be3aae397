"""vLLM: options that offload the experts of whole layers, by one of its two rules.

``uva`` leaves the parameters named by ``cpu_offload_params`` in memory of the CPU, in the order of
modules, until ``cpu_offload_gb`` are reached: the first layers. ``prefetch`` offloads the last
``offload_num_in_group`` of every ``offload_group_size`` layers and copies them ahead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moe2opt.placement.assignment import Assignment, plain
from moe2opt.placement.export.base import Export
from moe2opt.placement.export.families import causal_only, family_of
from moe2opt.placement.export.judge import Copies, Judge, free_bytes, seconds_tables, unused
from moe2opt.placement.export.project import Runtime, able_tiers, buffer_bytes, home_of, restored
from moe2opt.placement.export.reporting import report
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import BoolArray, InputError

#: Layers that ``prefetch`` copies ahead; it needs room for them and the one in use.
AHEAD = 1
RUNTIME = Runtime(
    "vllm", ("gpu", "cpu"), "layer", "model", buffer_layers=AHEAD + 1, one_gpu=True, copies="used"
)

#: Share of a layer that is left out of the limit, so that the last layer is still begun.
_LESS = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Options and the ``(L,)`` mask of layers that they offload."""

    options: dict[str, Any]
    off: BoolArray
    buffered: bool

    @property
    def copies(self) -> Copies:
        """What it copies: ``prefetch`` whole layers, whichever experts the router chose."""
        return "all" if self.buffered else "used"


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
    quality, rule, assignment, buffers = _best_format(judge, slow)
    text = json.dumps(rule.options, indent=1)
    layer_gib = _layer_bytes(plan, quality) / GIB
    if not np.array_equal(offloaded(json.loads(text), plan, layer_gib), rule.off):
        raise RuntimeError("the options for vLLM do not offload the planned layers")
    notes = [
        "vLLM offloads experts of whole layers only, in one of two patterns; the better of both "
        "is exported",
        "was not run: the options follow the published configuration of vLLM",
    ]
    validated = (f"read back, the options offload the planned {int(rule.off.sum())} layers",)
    runtime = replace(RUNTIME, copies=rule.copies)
    found = report(judge, runtime, assignment, notes=notes, validated=validated, buffers=buffers)
    launch = "vllm.LLM(model=MODEL, **json.load(open({file!r})))" if rule.options else ""
    return (Export("vllm", "", f"{text}\n", launch, found),)


def _best_format(judge: Judge, slow: int | None) -> tuple[int, Rule, Assignment, float]:
    """Return format, rule, placement and buffers: with an instance, the best within its budgets."""
    plan = judge.plan
    first = _quality(plan)
    others = np.unique(restored(plan).precision).tolist() if judge.mode else []
    found: list[tuple[tuple[bool, bool, float, int], tuple[int, Rule, Assignment, float]]] = []
    errors: list[InputError] = []
    for number in dict.fromkeys((first, *others)):
        try:
            rule, assignment, buffers = _best(plan, slow, number)
        except InputError as error:
            errors.append(error)
            continue
        value = judge.value(assignment, copies=rule.copies)
        rank = (bool(judge.broken(assignment)), value is None, value or 0.0, len(found))
        found.append((rank, (number, rule, assignment, buffers)))
    if not found:
        raise errors[0]
    return min(found, key=lambda pair: pair[0])[1]


def _best(plan: PlacementPlan, slow: int | None, quality: int) -> tuple[Rule, Assignment, float]:
    """Return the rule that fits and costs least, its placement, and its buffers in bytes."""
    home = home_of(plan)
    there = home if slow is None else slow
    uses, others = np.array(plan.uses).sum(axis=1), unused(plan).sum(axis=1)

    def seconds(rule: Rule) -> float:
        each, idle = (table[:, quality] for table in seconds_tables(plan, rule.copies))
        used = uses @ np.where(rule.off, each[there], each[home])
        return float(used + others @ np.where(rule.off, idle[there], idle[home]))

    fitting = [
        (seconds(rule), k, rule)
        for k, rule in enumerate(rules(plan, quality, allow=slow is not None))
        if _fits(plan, rule, quality, there)
    ]
    if not fitting:
        raise InputError(
            "--to vllm: no pattern of offloaded layers fits the GPU and memory of the CPU with "
            f"all experts as {plan.precisions[quality].name}"
        )
    rule = min(fitting, key=lambda f: f[:2])[2]
    shape = (*plan.assignment.form.shape, 1)
    tier = np.broadcast_to(np.where(rule.off, there, home)[:, None, None], shape)
    assignment = plain(tier.astype(np.int64), np.full(shape, quality, dtype=np.int64))
    buffers = buffer_bytes(plan, RUNTIME, assignment) if rule.buffered else 0.0
    return rule, assignment, buffers


def _quality(plan: PlacementPlan) -> int:
    """Return the format with most bits that the plan uses: the checkpoint has only one."""
    used = np.unique(restored(plan).precision)
    bits = np.array([p.bits_per_weight for p in plan.precisions])
    return int(used[bits[used].argmax()])


def _layer_bytes(plan: PlacementPlan, quality: int) -> float:
    return len(plan.uses[0]) * plan.precisions[quality].expert_bytes


def _fits(plan: PlacementPlan, rule: Rule, quality: int, there: int) -> bool:
    free = free_bytes(plan)
    number = int(rule.off.sum())
    size = _layer_bytes(plan, quality)
    at_home = len(rule.off) - number + (RUNTIME.buffer_layers if rule.buffered else 0.0)
    slack = 1 + 1e-9
    if number and number * size > free[there] * slack:
        return False
    return bool(at_home * size <= free[home_of(plan)] * slack)


def rules(plan: PlacementPlan, quality: int, *, allow: bool) -> Iterator[Rule]:
    """Yield every rule: nothing offloaded, the first layers, the last ones of each group."""
    count = len(plan.layers)
    yield Rule({}, np.zeros(count, dtype=bool), buffered=False)
    if not allow:
        return
    layer_gib = _layer_bytes(plan, quality) / GIB
    for number in range(1, count + 1):
        options = {
            "offload_backend": "uva",
            "cpu_offload_gb": round((number - _LESS) * layer_gib, 6),
            "cpu_offload_params": ["experts"],
        }
        yield Rule(options, np.arange(count) < number, buffered=False)
    layers = np.array(plan.layers)
    for size in range(1, plan.n_layers + 1):
        for number in range(1, size + 1):
            options = {
                "offload_backend": "prefetch",
                "offload_group_size": size,
                "offload_num_in_group": number,
                "offload_prefetch_step": AHEAD,
                "offload_params": ["experts"],
            }
            yield Rule(options, layers % size >= size - number, buffered=True)


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
