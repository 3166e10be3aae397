"""Rules that give every expert a fixed place, judged by the same figures as the plan."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from moe2opt.placement.assignment import Assignment
from moe2opt.placement.case import Case
from moe2opt.placement.figures import Baseline
from moe2opt.placement.judge import evaluate, violations
from moe2opt.placement.mode import Mode
from moe2opt.result import FloatArray, IntArray


def fixed_places(mode: Mode) -> Iterator[Baseline]:
    """Yield what every rule achieves with the one precision that suits it best."""
    for name, candidates in _rules(mode):
        yield judged(mode, name, candidates)


def baseline_assignments(mode: Mode) -> Iterator[tuple[str, Assignment]]:
    """Yield the best feasible assignment of each rule."""
    for name, candidates in _rules(mode):
        fitting = [c for c in candidates if not violations(mode, c)]
        if fitting:
            objective = mode.case.config.objective
            yield name, min(fitting, key=lambda c: evaluate(mode, c).value(objective))


def by_frequency(mode: Mode) -> Baseline:
    """Return what the most used experts on the first tiers achieve."""
    name, candidates = list(_rules(mode))[-1]
    return judged(mode, name, candidates)


def judged(mode: Mode, name: str, candidates: list[Assignment]) -> Baseline:
    """Return the best feasible candidate, or the last one with what it breaks.

    Each candidate has one precision.
    """
    found: list[Baseline] = []
    for candidate in candidates:
        figures = evaluate(mode, candidate)
        value = figures.value(mode.case.config.objective)
        broken = violations(mode, candidate, figures)
        precision = mode.case.precisions[int(candidate.precision[0, 0, 0])].name
        note = ": ".join([f"all at {precision}", *broken[:1]])
        known = value if math.isfinite(value) else None
        found.append(Baseline(name, known, not broken, note=note))
    fitting = [rule for rule in found if rule.feasible and rule.value is not None]
    return min(fitting, key=lambda rule: rule.value or 0.0, default=found[-1])


def _rules(mode: Mode) -> Iterator[tuple[str, list[Assignment]]]:
    """Yield each rule with its candidates, one per precision, largest precision first.

    What a rule puts somewhere is what the plan may: experts, or whole layers.
    """
    case = mode.case
    layers, experts = case.shape.size
    tiers = len(case.topology.tiers)
    formats = [int(q) for q in np.argsort(-case.expert_bytes)]
    whole = case.config.granularity != "expert"
    in_order = np.arange(layers if whole else layers * experts)
    uses = case.uses.sum(axis=1) if whole else case.uses.ravel()

    def everywhere(tier: int) -> list[Assignment]:
        return [_one_precision(mode, np.full((layers, experts), tier), q) for q in formats]

    def filled(order: IntArray) -> list[Assignment]:
        return [_filled(mode, q, order) for q in formats]

    yield "all on the first tier", everywhere(0)
    if tiers > 1:
        yield "all on the last tier", everywhere(tiers - 1)
        yield "first fit in module order", filled(in_order)
        yield "first layers off the fast tier", [_first_layers_off(mode, q) for q in formats]
        if not whole:
            # Expert 0 of every layer, then expert 1 of every layer, and so on.
            yield "same number in every layer", filled(in_order.reshape(layers, experts).T.ravel())
        yield "top-n by frequency", filled(np.argsort(-uses, kind="stable"))


def _one_precision(mode: Mode, tier: IntArray, precision: int) -> Assignment:
    """Return experts on the given ``(L, E)`` tiers, all at one precision."""
    wide = np.asarray(tier, dtype=np.int64)[:, :, None]
    return mode.placed(wide, np.full_like(wide, precision))


def by_cost(case: Case, precision: int) -> IntArray:
    """Return the tiers from the cheapest use to the dearest; equal ones stay in their order."""
    thrifty = case.config.objective == "joules_per_token"
    cost = case.use.joules if thrifty else case.use.seconds
    return np.asarray(np.argsort(cost[:, precision], kind="stable"))


def _filled(mode: Mode, precision: int, order: IntArray) -> Assignment:
    """Put units in the given order into the cheapest tier that still has room.

    A unit is an expert or a layer, by their number; what fits nowhere goes to the last tier.
    """
    case = mode.case
    layers, experts = case.shape.size
    size = np.repeat(_layer_bytes(case, precision) / experts, experts)
    if len(order) == layers:
        size = size.reshape(layers, experts).sum(axis=1)
    ranked = by_cost(case, precision)
    free = np.array([case.topology.tiers[t].free_bytes for t in ranked]) * (1 + 1e-12)
    at, tier = 0, np.full(len(order), ranked[-1], dtype=np.int64)
    for unit in order:
        while at < len(free) and size[unit] > free[at]:
            at += 1
        if at == len(free):
            break
        free[at] -= size[unit]
        tier[unit] = ranked[at]
    wide = np.repeat(tier.reshape(layers, -1), experts // (len(order) // layers), axis=1)
    return _one_precision(mode, wide, precision)


def _layer_bytes(case: Case, precision: int) -> FloatArray:
    """Return the ``(L,)`` bytes of all experts of each layer."""
    each = case.expert_bytes[precision] * case.scale[:, :, precision].mean(axis=1)
    return np.asarray(each * case.shape.experts)


def _first_layers_off(mode: Mode, precision: int) -> Assignment:
    """Put whole layers on the first tier, the last ones first (llama.cpp's `--n-cpu-moe`)."""
    case = mode.case
    experts = case.shape.experts
    needed = np.cumsum(_layer_bytes(case, precision)[::-1])[::-1]
    off = needed > case.topology.tiers[0].free_bytes * (1 + 1e-12)
    tier = np.repeat(off.astype(np.int64)[:, None], experts, axis=1)
    return _one_precision(mode, tier, precision)
