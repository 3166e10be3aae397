"""The same policies, once by the package and once by the straightforward simulations."""

from __future__ import annotations

from typing import Any

import numpy as np
from caching.simple import Naive, frequency, priority, recency

from moe2opt.caching.adapmoe import dropped_by_gate
from moe2opt.caching.caches import Prepared
from moe2opt.caching.hobbit import importance_classes
from moe2opt.caching.policies import POLICIES, TokenReplay
from moe2opt.caching.prefetch import predictions
from moe2opt.caching.slots import allocated_slots, equal_slots, lru_curve

#: Policies that `naive` can follow.
FOLLOWED = tuple(
    name for name, policy in POLICIES.items() if policy.cache.rule in ("lru", "lfu", "priority")
)


def naive(prepared: Prepared, name: str) -> Naive:
    """Run a policy in plain Python."""
    trace, settings, policy = prepared.trace, prepared.settings, POLICIES[name]
    cache, costs = policy.cache, settings.costs
    layers, experts = trace.n_layers, trace.n_experts
    full, low = settings.slots, 0
    if policy.mixed:
        full -= round(settings.slots * settings.low_slots_share)
        low = int((settings.slots - full) * costs.expert_bytes / costs.low_bytes)
        low = min(low, layers * experts)
    rooms: Any = {"full": [full], "low": [low]}
    if cache.scope == "layer":
        slots = equal_slots(full, layers, experts)
        if cache.slots == "allocated":
            assert settings.planning is not None
            curve = lru_curve(settings.planning, between=settings.between)
            slots = allocated_slots(curve, full)
        rooms = {"full": slots.tolist(), "low": [low] * layers}
    classes = importance_classes(trace, settings) if policy.mixed else None
    if policy.gated:
        classes = dropped_by_gate(trace, settings, classes)
    ahead = predictions(policy.prefetch, trace, settings, classes) if policy.prefetch else None
    weights = np.array(settings.weights) / sum(settings.weights)
    worth = {"lru": recency, "lfu": frequency, "priority": priority(weights)}[cache.rule]
    return Naive(
        trace,
        pool=(lambda layer: layer) if cache.scope == "layer" else (lambda layer: 0),
        rooms=rooms,
        worth=worth,
        times=(costs.copy_s, costs.low_copy_s, costs.compute_s, costs.low_compute_s, costs.layer_s),
        classes=classes,
        ahead=ahead,
        between=settings.between,
        per_sequence=cache.per_sequence,
    ).run()


def counts(replay: TokenReplay) -> dict[str, int]:
    """Return what `naive` counts, from a replay; zeros left out."""
    totals = replay.totals
    found = {
        "hit": totals["hit"] + totals["low_hit"],
        "late": totals["late"] + totals["late_low"],
        "loaded full": totals["loaded"],
        "loaded low": totals["loaded_low"],
        "skipped": totals["skipped"],
        "dropped": totals["dropped"],
        "prefetched": replay.prefetches,
    }
    return {name: number for name, number in found.items() if number}
