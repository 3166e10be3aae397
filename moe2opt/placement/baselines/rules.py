"""Rules that give every expert a fixed place, judged by the same figures as the plan."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from moe2opt.placement.assignment import Assignment
from moe2opt.placement.figures import Baseline
from moe2opt.placement.judge import evaluate, violations
from moe2opt.placement.mode import Mode
from moe2opt.result import IntArray


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
    """Yield each rule with its candidates, one per precision, largest precision first."""
    case = mode.case
    layers, experts = case.shape.size
    tiers = len(case.topology.tiers)
    formats = [int(q) for q in np.argsort(-case.expert_bytes)]
    in_order = np.arange(layers * experts)

    def everywhere(tier: int) -> list[Assignment]:
        return [_one_precision(mode, np.full((layers, experts), tier), q) for q in formats]

    def filled(order: IntArray) -> list[Assignment]:
        return [_filled(mode, q, order) for q in formats]

    yield "all on the first tier", everywhere(0)
    if tiers > 1:
        yield "all on the last tier", everywhere(tiers - 1)
        yield "first fit in module order", filled(in_order)
        yield "first layers off the fast tier", [_first_layers_off(mode, q) for q in formats]
        # Expert 0 of every layer, then expert 1 of every layer, and so on.
        round_robin = in_order.reshape(layers, experts).T.ravel()
        yield "same number in every layer", filled(round_robin)
        yield "top-n by frequency", filled(np.argsort(-case.uses.ravel(), kind="stable"))


def _one_precision(mode: Mode, tier: IntArray, precision: int) -> Assignment:
    """Return experts on the given ``(L, E)`` tiers, all at one precision."""
    wide = np.asarray(tier, dtype=np.int64)[:, :, None]
    return mode.placed(wide, np.full_like(wide, precision))


def _filled(mode: Mode, precision: int, order: IntArray) -> Assignment:
    """Put experts in the given order into the first tier with room; the rest into the last."""
    case = mode.case
    size = float(case.expert_bytes[precision])
    free = [tier.free_bytes for tier in case.topology.tiers]
    room = [math.floor(min(f / size * (1 + 1e-12), len(order))) for f in free]
    tiers = np.repeat(np.arange(len(room)), room)[: len(order)]
    rest = np.full(len(order) - len(tiers), len(room) - 1)
    tier = np.empty(len(order), dtype=np.int64)
    tier[order] = np.concatenate([tiers, rest])
    return _one_precision(mode, tier.reshape(case.shape.size), precision)


def _first_layers_off(mode: Mode, precision: int) -> Assignment:
    """Put whole layers on the first tier, the last ones first (llama.cpp's `--n-cpu-moe`)."""
    layers, experts = mode.case.shape.size
    size = float(mode.case.expert_bytes[precision]) * experts
    free = mode.case.topology.tiers[0].free_bytes
    on = min(layers, math.floor(free / size)) if math.isfinite(free) else layers
    tier = np.zeros((layers, experts), dtype=np.int64)
    tier[: layers - on] = 1
    return _one_precision(mode, tier, precision)
