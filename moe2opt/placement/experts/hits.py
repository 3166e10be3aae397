"""Hits and expected copies per token by number of cache slots, from formulas, tables and traces."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from moe2opt.placement.model.shape import ModelShape
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.schema.csv import COUNT, SHARE, Column, read_table
from moe2opt.steps import step

PUBLISHED: dict[str, Column] = {
    "layer": COUNT,
    "prefetch_accuracy": SHARE,
    "single_expert_share": SHARE,
}

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


#: Parts of a trace of which each is held out once.
_FOLDS = 20


def held_out_hit_rates(trace: IntArray, starts: IntArray, experts: int) -> FloatArray:
    """Return ``(L, E + 1)`` hit rates of the most used experts on tokens that did not choose them.

    The experts that a trace uses most are used less by other tokens: on the same ones they promise
    up to a few points too much. So whole sequences, or stretches of a short trace, are held out in
    turn. On gpt-oss-20b, learnt on 199 sequences and replayed on as many others, the rest of the
    excess is 0.2 to 0.5 points; learnt on 20 to 40 sequences it is 1 point too low on average.

    Parameters
    ----------
    trace, starts, experts
        As for `lru_hit_rates`.
    """
    tokens, layers, _ = trace.shape
    begins = np.unique(np.clip([0, *starts.tolist()], 0, tokens - 1))
    if len(begins) < _FOLDS:
        begins = np.unique(np.linspace(0, tokens, _FOLDS, endpoint=False).astype(np.int64))
    sequence = np.searchsorted(begins, np.arange(tokens), side="right") - 1
    uses = np.zeros((_FOLDS, layers, experts))
    fold = np.broadcast_to((sequence % _FOLDS)[:, None, None], trace.shape)
    rows = np.broadcast_to(np.arange(layers)[None, :, None], trace.shape)
    np.add.at(uses, (fold, rows, trace), 1.0)
    whole = uses.sum(axis=0)
    parts = [own for own in uses if own.any()]
    if len(parts) < 2:
        return static_hit_rates(whole, whole)
    weights = np.array([own.sum() for own in parts])
    rates = np.stack([static_hit_rates(whole - own, own) for own in parts])
    return np.asarray(np.tensordot(weights / weights.sum(), rates, axes=1))


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
