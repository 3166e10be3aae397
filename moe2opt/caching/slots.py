"""Slots of caches: how many each layer gets, what is in them at first, hit rates by slots."""

from __future__ import annotations

import numpy as np

from moe2opt.caching.stack_kernels import next_uses, stack_depths
from moe2opt.caching.trace import ExpertTrace, IdArray
from moe2opt.result import BoolArray, FloatArray, IntArray


def equal_slots(total: int, layers: int, most: int) -> IntArray:
    """Return `total` slots shared equally; the first layers get what is left over."""
    slots = np.full(layers, total // layers, dtype=np.int64)
    slots[: total - int(slots.sum())] += 1
    return np.minimum(slots, most)


def allocated_slots(hit_rates: FloatArray, total: int) -> IntArray:
    """Return the slots per layer with the most hits, by dynamic programming (exact).

    Parameters
    ----------
    hit_rates
        ``(L, E + 1)`` hit rates by slots; they need not be concave.
    total
        Slots to give out.
    """
    layers, most = hit_rates.shape[0], hit_rates.shape[1] - 1
    best = np.full((layers + 1, total + 1), -np.inf)
    taken = np.zeros((layers + 1, total + 1), dtype=np.int64)
    best[0] = 0.0
    for row in range(layers):
        for slots in range(min(most, total) + 1):
            value = best[row, : total + 1 - slots] + hit_rates[row, slots]
            better = value > best[row + 1, slots:] + 1e-15
            best[row + 1, slots:][better] = value[better]
            taken[row + 1, slots:][better] = slots
    slots_of, left = np.zeros(layers, dtype=np.int64), total
    for row in range(layers, 0, -1):
        slots_of[row - 1] = taken[row, left]
        left -= int(slots_of[row - 1])
    return slots_of


def resident_experts(shares: FloatArray, slots: int, *, per_layer: bool) -> BoolArray:
    """Return the ``(L, E)`` most used experts: over all layers, or the same number in each."""
    layers, experts = shares.shape
    if not per_layer:
        order = np.argsort(-shares.ravel(), kind="stable")[:slots]
        resident = np.zeros(layers * experts, dtype=bool)
        resident[order] = True
        return resident.reshape(layers, experts)
    rank = np.argsort(np.argsort(-shares, axis=1, kind="stable"), axis=1)
    return np.asarray(rank < equal_slots(slots, layers, experts)[:, None])


def next_use_steps(trace: ExpertTrace, restart: bool) -> IntArray:
    """Return the ``(tokens, L, k)`` step (token times L plus layer) of each expert's next use."""
    return next_uses(trace.experts, trace.fresh, restart, trace.n_experts)


def lru_curve(trace: ExpertTrace, *, between: str = "empty") -> FloatArray:
    """Return the ``(L, E + 1)`` hit rate of an LRU cache per layer by slots, from stack depths."""
    layers = [
        _depths(trace.experts[:, [layer]], trace, between == "empty")
        for layer in range(trace.n_layers)
    ]
    return np.cumsum(layers, axis=1) / (trace.tokens * trace.top_k)


def global_lru_curve(trace: ExpertTrace, *, between: str = "kept") -> FloatArray:
    """Return the ``(L * E + 1,)`` hit rate of one LRU cache for all layers by slots."""
    found = _depths(trace.experts, trace, between == "empty")
    return np.asarray(np.cumsum(found) / trace.experts.size)


def lru_cliff(trace: ExpertTrace) -> int:
    """Return the most slots with which one LRU cache for all layers cannot hit at all.

    Between two uses of an expert all other layers use their k experts, so that it has gone unless
    more than ``(L - 1) * k`` fit.
    """
    return (trace.n_layers - 1) * trace.top_k


def _depths(experts: IdArray, trace: ExpertTrace, restart: bool) -> IntArray:
    experts = np.ascontiguousarray(experts)
    last = np.full(experts.shape[1] * trace.n_experts, -1, dtype=np.int64)
    tree = np.zeros(experts.size + 1, dtype=np.int64)
    return stack_depths(experts, trace.fresh, restart, trace.n_experts, last, tree)


def first_used(trace: ExpertTrace, slots: int, restart: bool) -> BoolArray:
    """Return per sequence (or for the whole trace) the `slots` experts that are used first."""
    width = trace.n_layers * trace.n_experts
    ends = np.append(trace.starts[1:], trace.tokens) if restart else [trace.tokens]
    begins = trace.starts if restart else [0]
    filled = np.zeros((len(begins), width), dtype=bool)
    base = np.arange(trace.n_layers)[None, :, None] * trace.n_experts
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        ids = (trace.experts[begin:end] + base).ravel()
        experts, first = np.unique(ids, return_index=True)
        filled[row, experts[np.argsort(first)][:slots]] = True
    return filled
