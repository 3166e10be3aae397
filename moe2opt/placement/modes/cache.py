"""Expected copies per token by number of cache slots, from formulas, tables and traces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.placement.assignment import Assignment, evaluate, plain
from moe2opt.placement.baselines.rules import Baseline
from moe2opt.placement.checks import violations
from moe2opt.placement.model.shape import ModelShape
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.schema.csv import COUNT, SHARE, Column, read_table
from moe2opt.steps import step

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance

PUBLISHED: dict[str, Column] = {
    "layer": COUNT,
    "prefetch_accuracy": SHARE,
    "single_expert_share": SHARE,
}
_MARGINAL = "marginal gain"

HIT_RATES: dict[str, Column] = {"layer": COUNT, "slots": COUNT, "hit_rate": SHARE}


def read_hits(path: Path, kind: str, shape: ModelShape) -> FloatArray:
    """Read a table for the part `cache`.

    Returns
    -------
    ndarray
        ``(2, L)`` prefetch accuracy and single-expert share for ``published``, ``(L, E + 1)`` hit
        rates for ``lru``.

    Raises
    ------
    InputError
        When rows are missing or hit rates fall with more slots.
    """
    layers, experts = shape.size
    place = {number: row for row, number in enumerate(shape.layers)}
    if kind == "published":
        table = np.full((2, layers), np.nan)
        for row in read_table(path, PUBLISHED, unique=("layer",)):
            at = _row_of(path, row["layer"], place)
            table[:, at] = row["prefetch_accuracy"], row["single_expert_share"]
    elif kind == "lru":
        table = np.full((layers, experts + 1), np.nan)
        table[:, 0] = 0.0
        for row in read_table(path, HIT_RATES, unique=("layer", "slots")):
            if row["slots"] > experts:
                raise InputError(
                    f"cache.table: {path.name}: {row['slots']} slots, {experts} experts"
                )
            table[_row_of(path, row["layer"], place), row["slots"]] = row["hit_rate"]
        if (np.diff(table, axis=1) < -1e-12).any():
            raise InputError(f"cache.table: {path.name}: a hit rate falls with more slots")
    else:
        raise InputError(f"cache.table: hits '{kind}' needs no table")
    if np.isnan(table).any():
        raise InputError(f"cache.table: {path.name}: rows are missing")
    return table


def _row_of(path: Path, layer: int, place: dict[int, int]) -> int:
    if layer not in place:
        raise InputError(f"cache.table: {path.name}: layer {layer} has no experts in the model")
    return place[layer]


def load_table(instance: PlacementInstance) -> FloatArray:
    """Return the ``(L, E + 1)`` expected copies per token of each layer by slots."""
    cache = instance.config.cache
    assert cache is not None
    layers, experts = instance.shape.size
    top_k = instance.shape.top_k
    if cache.hits == "hypergeometric":
        return np.tile(prefetched_loads(experts, top_k, 0.0, 0.0), (layers, 1))
    if cache.hits == "published":
        accuracy, single = instance.tables["cache"]
        pairs = zip(accuracy, single, strict=True)
        return np.stack([prefetched_loads(experts, top_k, a, s) for a, s in pairs])
    if cache.hits == "static":
        ranked = -np.sort(-instance.activation.mixed, axis=1)
        start = np.zeros((layers, 1))
        served = np.concatenate([start, np.cumsum(ranked, axis=1)], axis=1)
        return np.asarray(np.maximum(served[:, -1:] - served, 0.0))
    rates = instance.tables.get("cache")
    if rates is None:
        activation = instance.activation
        assert activation.trace is not None and activation.starts is not None
        rates = lru_hit_rates(activation.trace, activation.starts, experts)
    return np.asarray(top_k * (1.0 - np.asarray(rates)))


def miss_probabilities(experts: int, top_k: int, slots: int) -> FloatArray:
    """Return the ``(k + 1,)`` probability of 0..k misses when the residents are a random set.

    Hypergeometric: ``C(s, k - m) C(N - s, m) / C(N, k)`` for m misses.
    """
    ways = [math.comb(slots, top_k - m) * math.comb(experts - slots, m) for m in range(top_k + 1)]
    return np.array(ways) / math.comb(experts, top_k)


def prefetched_loads(experts: int, top_k: int, accuracy: float, single: float) -> FloatArray:
    """Return the ``(N + 1,)`` expected on-demand loads of a layer by slots.

    Parameters
    ----------
    experts, top_k
        N and k.
    accuracy
        Probability that one of the missing experts was prefetched.
    single
        Share of the tokens that use one expert only.

    Notes
    -----
    With N = 8 and k = 2 this is the function in the code of AdapMoE (PKU-SEC-Lab/AdapMoE, 2cfe8df):
    ``rho (1 - beta)(1 - s/8) + (1 - rho)[2 C0 (1 - beta) + C0 beta + C1 (1 - beta)]``. The general
    N and k are ours: m misses cost m loads, one less when the prefetch was right.
    """
    misses = np.arange(top_k + 1)
    loads = np.maximum(misses - accuracy * (misses > 0), 0.0)
    several = [float(miss_probabilities(experts, top_k, s) @ loads) for s in range(experts + 1)]
    one = (1.0 - accuracy) * (1.0 - np.arange(experts + 1) / experts)
    return np.asarray(single * one + (1.0 - single) * np.array(several))


def lru_hit_rates(trace: IntArray, starts: IntArray, experts: int) -> FloatArray:
    """Return the ``(L, E + 1)`` hit rate of an LRU cache per layer by slots.

    A cache starts empty with every sequence. A token's experts are looked up before any of them is
    brought in; those of one token count as used in rank order, the last rank most recently.

    Parameters
    ----------
    trace
        ``(tokens, L, k)`` experts.
    starts
        Positions where sequences begin.
    experts
        Number of experts per layer.
    """
    tokens, layers, top_k = trace.shape
    hits = np.zeros((layers, experts + 1))
    fresh = set(int(s) for s in starts) | {0}
    rows = np.arange(layers)[:, None]
    last = np.full((layers, experts), -1, dtype=np.int64)
    for token in range(tokens):
        step()
        if token in fresh:
            last[:] = -1
        chosen = trace[token]
        used = last[rows, chosen]
        # Depth in the stack: the experts used since, the expert itself included.
        depth = (last[:, None, :] >= used[:, :, None]).sum(axis=2)
        known = used >= 0
        np.add.at(hits, (np.broadcast_to(rows, known.shape)[known], depth[known]), 1.0)
        last[rows, chosen] = token * top_k + np.arange(top_k)
    return np.asarray(np.cumsum(hits, axis=1) / (tokens * top_k))


def static_hit_rates(learnt: FloatArray, tested: FloatArray) -> FloatArray:
    """Return ``(L, E + 1)`` hit rates on `tested` (L, E) of the experts most used in `learnt`."""
    order = np.argsort(-learnt, axis=1, kind="stable")
    ranked = np.take_along_axis(tested, order, axis=1)
    served = np.cumsum(ranked, axis=1) / tested.sum(axis=1, keepdims=True)
    return np.concatenate([np.zeros((len(learnt), 1)), served], axis=1)


def greedy_slots(table: FloatArray, total: int, least: int = 0) -> IntArray:
    """Return the slots by largest marginal gain; optimal exactly when every row is convex.

    Parameters
    ----------
    table
        ``(L, S + 1)`` loads by slots.
    total
        Slots to give out.
    least
        Slots that every layer has from the start.
    """
    slots = np.full(len(table), least, dtype=np.int64)
    gains = -np.diff(table, axis=1)
    layer = np.arange(len(table))
    for _ in range(total - int(slots.sum())):
        open_ = slots < gains.shape[1]
        gain = np.where(open_, gains[layer, np.minimum(slots, gains.shape[1] - 1)], -np.inf)
        best = int(np.argmax(gain))
        if not open_.any() or gain[best] <= 0:
            break
        slots[best] += 1
    return slots


def is_convex(table: FloatArray) -> bool:
    """Tell whether marginal gains never grow, so that `greedy_slots` is exact."""
    return bool((np.diff(table, 2, axis=1) >= -1e-12).all())


def released_slots(table: FloatArray, total: int) -> IntArray:
    """Return the allocation of AdapMoE's released dynamic programme (PKU-SEC-Lab/AdapMoE, 2cfe8df).

    A layer that is reached with slots left must take at least one; only when none are left do the
    earlier layers get nothing. That restriction is what makes it worse than the optimum.
    """
    layers, most = table.shape[0], table.shape[1] - 1
    best = np.full((layers + 1, total + 1), np.inf)
    taken = np.zeros((layers + 1, total + 1), dtype=np.int64)
    best[0, 0] = 0.0
    for row in range(1, layers + 1):
        best[row, 0] = best[row - 1, 0] + table[row - 1, 0]
        for held in range(1, total + 1):
            for k in range(1, min(most, held) + 1):
                value = best[row - 1, held - k] + table[row - 1, k]
                if value < best[row, held]:
                    best[row, held], taken[row, held] = value, k
    slots, held = np.zeros(layers, dtype=np.int64), total
    for row in range(layers, 0, -1):
        slots[row - 1] = taken[row, held]
        held -= int(slots[row - 1])
    return slots


def cache_assignment(
    instance: PlacementInstance, slots: IntArray, precision: IntArray
) -> Assignment:
    """Return the assignment of a cache: all experts in the backing tier, `slots` (L,) at home."""
    cache = instance.config.cache
    assert cache is not None
    backing = instance.topology.index(cache.backing, "cache.backing")
    shape = (*instance.shape.size, 1)
    wide = np.broadcast_to(precision[:, None, None], shape).astype(np.int64)
    return plain(np.full(shape, backing, dtype=np.int64), wide, slots=slots)


def slot_limit(instance: PlacementInstance, precision: int) -> int:
    """Return the slots that memory and budget allow together at one precision."""
    layers, experts = instance.shape.size
    free = instance.topology.tiers[instance.topology.home].free_bytes
    room = free / float(instance.expert_bytes[precision])
    budget = instance.config.budgets.cache_slots
    most = layers * experts if budget is None else min(budget, layers * experts)
    return min(most, math.floor(room * (1 + 1e-12))) if math.isfinite(room) else most


def cache_baselines(instance: PlacementInstance) -> Iterator[Baseline]:
    """Yield what simple allocations of slots achieve."""
    quality = int(np.argmax(instance.expert_bytes))
    table = instance.load_table
    layers, experts = instance.shape.size
    total = slot_limit(instance, quality)
    even = np.full(layers, min(experts, total // layers), dtype=np.int64)
    left = min(total, layers * experts) - int(even.sum())
    even[: max(0, left)] += 1
    front = np.clip(total - experts * np.arange(layers), 0, experts).astype(np.int64)
    convex = is_convex(table) and len(set(instance.expert_bytes)) == 1
    rules = {
        "no cache": np.zeros(layers, dtype=np.int64),
        "same number in every layer": np.minimum(even, experts),
        "front layers first": front,
        "released AdapMoE allocation": released_slots(table, min(total, layers * experts)),
        _MARGINAL: greedy_slots(table, total),
    }
    for name, slots in rules.items():
        assignment = cache_assignment(instance, slots, np.full(layers, quality))
        broken = violations(instance, assignment)
        value = evaluate(instance, assignment).value(instance.config.objective)
        note = broken[0] if broken else ""
        if name == _MARGINAL:
            note = note or ("exact: every curve is convex" if convex else "not exact here")
        yield Baseline(name, value, not broken, note=note, exact=convex and name == _MARGINAL)
