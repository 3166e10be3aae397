"""Synthetic traces of experts, which always say that they are synthetic."""

from __future__ import annotations

import numpy as np

from moe2opt.caching.trace import ExpertTrace
from moe2opt.result import FloatArray


def synthetic_trace(
    *,
    sequences: int = 12,
    tokens: int = 60,
    layers: int = 8,
    experts: int = 16,
    top_k: int = 4,
    spread: float = 0.8,
    topic: float = 0.8,
    memory: float = 1.5,
    seed: int = 0,
) -> ExpertTrace:
    """Draw a trace whose experts have favourites, per model and per sequence, and a short memory.

    The score of an expert is normal with the standard deviation `spread` for the model plus `topic`
    for the sequence, plus `memory` if the token before used it, plus Gumbel noise for every token;
    the k best are used and share the gate weight by a softmax of their scores.

    Parameters
    ----------
    sequences, tokens, layers, experts, top_k
        Sizes; `tokens` are those of each sequence.
    spread, topic, memory
        Strength of the favourites and of the memory.
    seed
        Seed.
    """
    rng = np.random.default_rng(seed)
    chosen = np.empty((sequences * tokens, layers, top_k), dtype=np.int64)
    gates = np.empty(chosen.shape)
    row = np.arange(layers)[:, None]
    model = spread * rng.standard_normal((layers, experts))
    for sequence in range(sequences):
        favourites = model + topic * rng.standard_normal((layers, experts))
        used = np.zeros((layers, experts))
        for token in range(tokens):
            score = favourites + memory * used + rng.gumbel(size=(layers, experts))
            best = np.argsort(-score, axis=1, kind="stable")[:, :top_k]
            at = sequence * tokens + token
            chosen[at], gates[at] = best, _softmax(score[row, best])
            used[:] = 0.0
            used[row, best] = 1.0
    return ExpertTrace(
        experts=chosen,
        n_experts=experts,
        starts=tokens * np.arange(sequences),
        gates=gates,
        name="synthetic",
        source=f"moe2opt.caching.synthetic, seed {seed}",
        synthetic=True,
    )


def _softmax(score: FloatArray) -> FloatArray:
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))
