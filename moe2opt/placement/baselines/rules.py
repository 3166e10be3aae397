"""Simple rules that people use today, judged by the same figures as the plan."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.placement.assignment import Assignment, Figures, evaluate, plain
from moe2opt.placement.checks import violations
from moe2opt.result import FloatArray, IntArray

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance

#: A gap below this counts as about zero.
ABOUT_ZERO = 1e-3


@dataclass(frozen=True, slots=True)
class Baseline:
    """A rule and what it achieves.

    Attributes
    ----------
    name
        The rule.
    value
        Its figure of the objective, None where the rule does not apply.
    feasible
        Whether it keeps every capacity and budget.
    excess
        ``(value - plan) / plan`` of the objective, None without both figures.
    note
        Why it does not apply or does not fit, or what was chosen for it.
    exact
        Whether the rule is proven optimal on this instance.
    """

    name: str
    value: float | None
    feasible: bool
    excess: float | None = None
    note: str = ""
    exact: bool = False

    def against(self, value: float) -> Baseline:
        """Return the baseline with its excess over a plan's objective."""
        if self.value is None:
            return self
        difference = self.value - value
        if abs(difference) <= 1e-12 * max(abs(value), 1e-300):
            return replace(self, excess=0.0)
        return replace(self, excess=difference / abs(value) if value else math.inf)


def all_baselines(instance: PlacementInstance) -> tuple[Baseline, ...]:
    """Return every rule that makes sense for the instance."""
    config = instance.config
    if config.cache is not None:
        from moe2opt.placement.modes.cache import cache_baselines

        return tuple(cache_baselines(instance))
    if instance.piped:
        from moe2opt.placement.modes.pipeline import pipeline_baselines

        return tuple(pipeline_baselines(instance))
    found = [_judged(instance, name, rule) for name, rule in _rules(instance)]
    if config.aggregation is not None:
        from moe2opt.placement.modes.tiers import one_sided_baselines

        found += one_sided_baselines(instance)
    elif not any((config.coverage, config.split, config.prefetch, config.lots, config.pattern)):
        from moe2opt.placement.baselines.caches import policy_baselines

        found += policy_baselines(instance)
    return tuple(found)


def _rules(instance: PlacementInstance) -> Iterator[tuple[str, list[Assignment]]]:
    """Yield each rule with its candidates, one per precision, largest precision first."""
    order = np.argsort(-instance.expert_bytes)
    tiers = len(instance.topology.tiers)
    yield "all on the first tier", [_everywhere(instance, q, 0) for q in order]
    if tiers > 1:
        yield "all on the last tier", [_everywhere(instance, q, tiers - 1) for q in order]
        yield (
            "first fit in module order",
            [_filled(instance, q, _in_order(instance)) for q in order],
        )
        yield "first layers off the fast tier", [_first_layers_off(instance, q) for q in order]
        yield (
            "same number in every layer",
            [_filled(instance, q, _round_robin(instance)) for q in order],
        )
        yield "top-n by frequency", [_filled(instance, q, _by_use(instance)) for q in order]


def baseline_assignments(instance: PlacementInstance) -> Iterator[tuple[str, Assignment]]:
    """Yield the best feasible assignment of each rule that gives experts fixed places."""
    for name, candidates in _rules(instance):
        fitting = [c for c in candidates if not violations(instance, c)]
        if fitting:
            objective = instance.config.objective
            yield name, min(fitting, key=lambda c: evaluate(instance, c).value(objective))


def by_frequency(instance: PlacementInstance) -> Baseline:
    """Return what the most used experts on the first tiers achieve."""
    order = np.argsort(-instance.expert_bytes)
    candidates = [_filled(instance, int(q), _by_use(instance)) for q in order]
    return _judged(instance, "top-n by frequency", candidates)


def _judged(instance: PlacementInstance, name: str, candidates: list[Assignment]) -> Baseline:
    """Return the best feasible candidate, or the first one with what it breaks."""
    best: tuple[float, str] | None = None
    for candidate in candidates:
        figure = evaluate(instance, candidate).value(instance.config.objective)
        if not violations(instance, candidate) and (best is None or figure < best[0]):
            best = figure, _format(instance, candidate)
    if best is not None:
        return Baseline(name, best[0], True, note=best[1])
    last = candidates[-1]
    figures = evaluate(instance, last)
    return Baseline(
        name,
        _number(figures, instance),
        False,
        note=f"{_format(instance, last)}: {violations(instance, last)[0]}",
    )


def _number(figures: Figures, instance: PlacementInstance) -> float | None:
    value = figures.value(instance.config.objective)
    return value if math.isfinite(value) else None


def _format(instance: PlacementInstance, assignment: Assignment) -> str:
    return f"all at {instance.precisions[int(assignment.precision[0, 0, 0])].name}"


def _everywhere(instance: PlacementInstance, precision: int, tier: int) -> Assignment:
    shape = (*instance.shape.size, 1)
    return _completed(
        instance, np.full(shape, tier, dtype=np.int64), np.full(shape, precision, dtype=np.int64)
    )


def _filled(instance: PlacementInstance, precision: int, order: IntArray) -> Assignment:
    """Put experts in the given order into the first tier with room; the rest into the last."""
    size = float(instance.expert_bytes[precision])
    free = [tier.free_bytes for tier in instance.topology.tiers]
    room = [math.floor(min(f / size * (1 + 1e-12), len(order))) for f in free]
    tiers = np.repeat(np.arange(len(room)), room)[: len(order)]
    rest = np.full(len(order) - len(tiers), len(room) - 1)
    tier = np.empty(len(order), dtype=np.int64)
    tier[order] = np.concatenate([tiers, rest])
    shape = (*instance.shape.size, 1)
    return _completed(instance, tier.reshape(shape), np.full(shape, precision, dtype=np.int64))


def _first_layers_off(instance: PlacementInstance, precision: int) -> Assignment:
    """Put whole layers on the fast tier, the last ones first (llama.cpp's `--n-cpu-moe`)."""
    layers, experts = instance.shape.size
    size = float(instance.expert_bytes[precision]) * experts
    free = instance.topology.tiers[0].free_bytes
    on = min(layers, math.floor(free / size)) if math.isfinite(free) else layers
    tier = np.zeros((layers, experts, 1), dtype=np.int64)
    tier[: layers - on] = _next_tier(instance)
    return _completed(instance, tier, np.full_like(tier, precision))


def _next_tier(instance: PlacementInstance) -> int:
    """Return the fastest other tier that holds everything that may be left, else the last."""
    return 1 if len(instance.topology.tiers) > 1 else 0


def _completed(instance: PlacementInstance, tier: IntArray, precision: IntArray) -> Assignment:
    parts = 3 if instance.config.granularity == "tensor" else 1
    tier, precision = np.repeat(tier, parts, axis=2), np.repeat(precision, parts, axis=2)
    copied = None
    if instance.config.split is not None:
        copied = np.zeros(instance.shape.size, dtype=np.int64)
    return plain(tier, precision, copied=copied)


def _in_order(instance: PlacementInstance) -> IntArray:
    layers, experts = instance.shape.size
    return np.arange(layers * experts)


def _round_robin(instance: PlacementInstance) -> IntArray:
    """Return expert 0 of every layer, then expert 1 of every layer, and so on."""
    layers, experts = instance.shape.size
    return np.asarray(np.arange(layers * experts).reshape(layers, experts).T.ravel())


def _by_use(instance: PlacementInstance) -> IntArray:
    uses: FloatArray = instance.uses
    return np.asarray(np.argsort(-uses.ravel(), kind="stable"))
