"""Caches per layer as baselines: LRU and LFU with the same number of slots in every layer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from moe2opt.placement.case import Case
from moe2opt.placement.experts.hits import che_hit_rates, lru_hit_rates
from moe2opt.placement.figures import Baseline
from moe2opt.placement.judge import evaluate, violations
from moe2opt.placement.mode import Mode
from moe2opt.result import FloatArray


def cached_layers(mode: Mode) -> Iterator[Baseline]:
    """Yield an LRU cache on the home tier in front of a tier that holds all, and the LFU residents.

    Only seconds and loads per token can be told of an LRU cache; its copies always go to the home
    tier. Each rule has the one precision within the budget of loss that suits it best.
    """
    case = mode.case
    config = case.config
    if config.objective not in ("seconds_per_token", "loads_per_token") or config.batch > 1:
        return
    limit = config.budgets.loss_nats
    order = np.argsort(-case.expert_bytes, kind="stable")
    allowed = [int(q) for q in order if limit is None or case.precisions[q].loss_nats <= limit]
    if len(case.topology.tiers) < 2 or not allowed or case.activation.robust:
        return
    for rule in (_lru, _lfu):
        tried = [rule(mode, precision) for precision in allowed]
        yield min(tried, key=lambda found: (not found.feasible, found.value))


def _slots(case: Case, precision: int) -> int:
    """Return the slots per layer that the home tier has room for."""
    layers, experts = case.shape.size
    room = case.topology.tiers[case.topology.home].free_bytes
    size = float(case.expert_bytes[precision])
    return min(experts, math.floor(room / size / layers)) if math.isfinite(room) else experts


def _backing(case: Case, precision: int) -> int:
    """Return the first tier besides home that holds all experts, else the last one."""
    size = float(case.expert_bytes[precision]) * case.uses.size
    tiers = case.topology.tiers
    away = [t for t in range(len(tiers)) if t != case.topology.home]
    return next((t for t in away if tiers[t].free_bytes >= size), away[-1])


def _lru(mode: Mode, precision: int) -> Baseline:
    case = mode.case
    slots = _slots(case, precision)
    rates, origin = _rates(case, slots)
    home, back = case.topology.home, _backing(case, precision)
    size = float(case.expert_bytes[precision])
    copy, compute, _, _ = case.topology.use_in(back, home, size, case.shape.hidden)
    used = case.activation.mixed.sum(axis=1)
    misses = float(used @ (1.0 - rates))
    seconds = case.dense_s + misses * copy + float(used.sum()) * compute
    value = misses if case.config.objective == "loads_per_token" else seconds
    name = case.precisions[precision].name
    where = case.topology.names[back]
    note = f"{slots} slots per layer at {name}, {origin}; all experts also on {where}"
    tier = case.topology.tiers[back]
    fits = case.shape.size[0] * case.shape.experts * size <= tier.free_bytes
    return Baseline("LRU cache per layer", value, fits, note=note, moves=True)


def _rates(case: Case, slots: int) -> tuple[FloatArray, str]:
    activation = case.activation
    if activation.trace is not None and activation.starts is not None:
        rates = lru_hit_rates(activation.trace, activation.starts, case.shape.experts)
        return rates[:, slots], "hits of the trace"
    if "lru" in case.tables:
        return np.asarray(case.tables["lru"])[:, slots], "measured hits"
    return che_hit_rates(activation.mixed, slots), "hits estimated for independent tokens (Che)"


def _lfu(mode: Mode, precision: int) -> Baseline:
    """Return the most used experts of every layer on the home tier, the same number in each."""
    case = mode.case
    experts = case.shape.experts
    slots = _slots(case, precision)
    rank = np.argsort(np.argsort(-case.uses, axis=1, kind="stable"), axis=1)
    back = _backing(case, precision)
    tier = np.where(rank < slots, case.topology.home, back)[:, :, None]
    assignment = mode.placed(tier, np.full_like(tier, precision))
    figures = evaluate(mode, assignment)
    broken = violations(mode, assignment, figures)
    value = figures.value(case.config.objective)
    note = f"{slots} of {experts} per layer at {case.precisions[precision].name}"
    return Baseline("LFU residents per layer", value, not broken, note="; ".join([note, *broken]))
