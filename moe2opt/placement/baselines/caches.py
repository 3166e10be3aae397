"""Caches per layer as baselines: LRU and LFU with the same number of slots in every layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.placement.assignment import evaluate, plain
from moe2opt.placement.baselines.rules import Baseline
from moe2opt.placement.checks import violations
from moe2opt.result import FloatArray

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance


def policy_baselines(instance: PlacementInstance) -> Iterator[Baseline]:
    """Yield an LRU cache on the home tier in front of a tier that holds all, and the LFU residents.

    Only seconds and loads per token can be told of an LRU cache; its copies always go to the home
    tier. Each rule has the one precision within the budget of loss that suits it best.
    """
    objective = instance.config.objective
    if objective not in ("seconds_per_token", "loads_per_token") or instance.config.batch > 1:
        return
    allowed = _allowed(instance)
    if len(instance.topology.tiers) < 2 or not allowed or instance.activation.robust:
        return
    for rule in (_lru, _lfu):
        tried = [rule(instance, precision) for precision in allowed]
        yield min(tried, key=lambda found: (not found.feasible, found.value))


def _allowed(instance: PlacementInstance) -> list[int]:
    """Return the precisions within the budget of loss, the largest first."""
    limit = instance.config.budgets.loss_nats
    order = np.argsort(-instance.expert_bytes, kind="stable")
    return [int(q) for q in order if limit is None or instance.precisions[q].loss_nats <= limit]


def _slots(instance: PlacementInstance, precision: int) -> int:
    """Return the slots per layer that the home tier has room for."""
    layers, experts = instance.shape.size
    room = instance.topology.tiers[instance.topology.home].free_bytes
    size = float(instance.expert_bytes[precision])
    return min(experts, math.floor(room / size / layers)) if math.isfinite(room) else experts


def _backing(instance: PlacementInstance, precision: int) -> int:
    """Return the first tier besides home that holds all experts, else the last one."""
    size = float(instance.expert_bytes[precision]) * instance.uses.size
    tiers = instance.topology.tiers
    away = [t for t in range(len(tiers)) if t != instance.topology.home]
    return next((t for t in away if tiers[t].free_bytes >= size), away[-1])


def _lru(instance: PlacementInstance, precision: int) -> Baseline:
    slots = _slots(instance, precision)
    rates, origin = _rates(instance, slots)
    home, back = instance.topology.home, _backing(instance, precision)
    size = float(instance.expert_bytes[precision])
    copy, compute, _, _ = instance.topology.use_in(back, home, size, instance.shape.hidden)
    used = instance.activation.mixed.sum(axis=1)
    misses = float(used @ (1.0 - rates))
    seconds = instance.dense_s + misses * copy + float(used.sum()) * compute
    value = misses if instance.config.objective == "loads_per_token" else seconds
    name = instance.precisions[precision].name
    where = instance.topology.names[back]
    note = f"{slots} slots per layer at {name}, {origin}; all experts also on {where}"
    tier = instance.topology.tiers[back]
    fits = instance.shape.size[0] * instance.shape.experts * size <= tier.free_bytes
    return Baseline("LRU cache per layer", value, fits, note=note)


def _rates(instance: PlacementInstance, slots: int) -> tuple[FloatArray, str]:
    from moe2opt.placement.modes.cache import lru_hit_rates

    activation = instance.activation
    if activation.trace is not None and activation.starts is not None:
        rates = lru_hit_rates(activation.trace, activation.starts, instance.shape.experts)
        return rates[:, slots], "hits of the trace"
    if "lru" in instance.tables:
        return np.asarray(instance.tables["lru"])[:, slots], "measured hits"
    return che_hit_rates(activation.mixed, slots), "hits estimated for independent tokens (Che)"


def che_hit_rates(shares: FloatArray, slots: int) -> FloatArray:
    """Return the ``(L,)`` hit rates of LRU caches when tokens are independent (Che et al. 2002).

    An expert with share p is in the cache with probability ``1 - exp(-p t)``; t makes these add up
    to the number of slots. Real tokens resemble their predecessors, so real hit rates are higher.

    Parameters
    ----------
    shares
        ``(L, E)`` use of each expert.
    slots
        Slots of each layer.
    """
    experts = shares.shape[1]
    if slots >= experts:
        return np.ones(len(shares))
    low, high = np.zeros(len(shares)), np.full(len(shares), 1.0)
    while (np.sum(-np.expm1(-shares * high[:, None]), axis=1) < slots).any() and high.max() < 1e12:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        full = np.sum(-np.expm1(-shares * middle[:, None]), axis=1) > slots
        low, high = np.where(full, low, middle), np.where(full, middle, high)
    inside = -np.expm1(-shares * high[:, None])
    return np.asarray((shares * inside).sum(axis=1) / shares.sum(axis=1))


def _lfu(instance: PlacementInstance, precision: int) -> Baseline:
    """Return the most used experts of every layer on the home tier, the same number in each."""
    experts = instance.shape.experts
    slots = _slots(instance, precision)
    rank = np.argsort(np.argsort(-instance.uses, axis=1, kind="stable"), axis=1)
    back = _backing(instance, precision)
    tier = np.where(rank < slots, instance.topology.home, back)[:, :, None]
    parts = 3 if instance.config.granularity == "tensor" else 1
    tier = np.repeat(tier, parts, axis=2)
    assignment = plain(tier, np.full_like(tier, precision))
    broken = violations(instance, assignment)
    value = evaluate(instance, assignment).value(instance.config.objective)
    note = f"{slots} of {experts} per layer at {instance.precisions[precision].name}"
    return Baseline("LFU residents per layer", value, not broken, note="; ".join([note, *broken]))
