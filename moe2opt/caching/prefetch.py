"""Prefetchers: which experts the next layer will want, guessed when this layer's gate has spoken.

A guess goes to the link behind the copies that the present layer waits for. What the link has
begun when the next gate speaks is finished and paid for, right or wrong; the rest is dropped. An
expert that is still on its way when it is wanted is late: the token waits for the rest of it.
Behind the last layer the first layer of the next token is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.caching.hobbit import LOW
from moe2opt.caching.settings import TokenSettings
from moe2opt.caching.trace import ByteArray, ExpertTrace, IdArray
from moe2opt.result import BoolArray, FloatArray, InputError

#: Tokens whose scores are in memory at once.
_CHUNK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """Guesses for every step, made one step earlier.

    Attributes
    ----------
    experts
        ``(tokens, L, m)`` experts, the likeliest first; -1 for no guess.
    low
        ``(tokens, L, m)`` whether a low-precision copy is enough.
    note
        What must be known about them.
    """

    experts: IdArray
    low: BoolArray
    note: str = ""


def predictions(
    kind: str, trace: ExpertTrace, settings: TokenSettings, classes: ByteArray | None = None
) -> Ahead:
    """Return the guesses of a prefetcher.

    Parameters
    ----------
    kind
        ``frequency``: the layer's most used experts; ``transition``: what usually follows the
        experts of the layer before; both learnt on the planning sequences. ``oracle``: the truth.
        ``lookahead``: the truth, but each expert is replaced by a random other one of the layer
        with probability ``1 - prefetch_accuracy``; it stands for the evaluation of the next gate
        on the present activations, which a trace cannot repeat.
    trace
        Sequences to replay.
    settings
        Planning sequences, accuracy, number of experts, seed.
    classes
        Classes of misses: those that know the experts know them, too, and ask for low precision or
        nothing accordingly.

    Raises
    ------
    InputError
        For an unknown kind, or when planning sequences are missing.
    """
    many = min(settings.prefetch_experts or trace.top_k, trace.n_experts)
    if kind in ("frequency", "transition"):
        if settings.planning is None:
            raise InputError(f"prefetch '{kind}' learns from sequences; set `planning`")
        guess = by_frequency if kind == "frequency" else by_transition
        experts = guess(settings.planning, trace, many)
        return _first_guess_removed(trace, Ahead(experts, np.zeros(experts.shape, dtype=bool)))
    if kind not in ("oracle", "lookahead"):
        raise InputError(f"prefetch: no prefetcher '{kind}'")
    accuracy = 1.0 if kind == "oracle" else settings.prefetch_accuracy
    experts = looked_ahead(trace, accuracy, settings.seed)
    low = np.zeros(experts.shape, dtype=bool)
    if classes is not None:
        experts[classes > LOW] = -1
        low = classes == LOW
    note = "" if accuracy == 1 else f"{accuracy:.0%} of the predictions are right by assumption"
    return _first_guess_removed(trace, Ahead(experts[:, :, :many], low[:, :, :many], note))


def _first_guess_removed(trace: ExpertTrace, ahead: Ahead) -> Ahead:
    """Nothing is known before the first layer of a sequence."""
    ahead.experts[trace.starts, 0] = -1
    return ahead


def by_frequency(planning: ExpertTrace, trace: ExpertTrace, many: int) -> IdArray:
    """Return the most used experts of each layer, the same for every token."""
    best = np.argsort(-planning.shares(), axis=1, kind="stable")[:, :many].astype(np.int16)
    return np.tile(best, (trace.tokens, 1, 1))


def transition_shares(planning: ExpertTrace) -> FloatArray:
    """Return the ``(L, E, E)`` share of the uses of an expert after which another one is used.

    Entry ``[l, e, f]`` is about expert f of layer l and expert e of the layer before; for the first
    layer that is the last layer of the token before in the same sequence.
    """
    layers, n = planning.n_layers, planning.n_experts
    shares = np.zeros((layers, n, n))
    for layer in range(layers):
        then = planning.experts[:, layer].astype(np.int64)
        before = planning.experts[:, layer - 1].astype(np.int64)
        if layer == 0:
            keep = ~planning.fresh[1:]
            then, before = then[1:][keep], before[:-1][keep]
        pairs = before[:, :, None] * n + then[:, None, :]
        joint = np.bincount(pairs.ravel(), minlength=n * n).reshape(n, n)
        uses = np.bincount(before.ravel(), minlength=n)[:, None]
        shares[layer] = joint / np.maximum(uses, 1)
    return shares


def by_transition(planning: ExpertTrace, trace: ExpertTrace, many: int) -> IdArray:
    """Return the experts with the largest sum of transition shares over those used before."""
    shares = transition_shares(planning)
    tokens, layers, _ = trace.experts.shape
    guesses = np.empty((tokens, layers, many), dtype=np.int16)
    for layer in range(layers):
        before = trace.experts[:, layer - 1]
        if layer == 0:
            before = np.roll(before, 1, axis=0)
        for at in range(0, tokens, _CHUNK):
            score = shares[layer][before[at : at + _CHUNK]].sum(axis=1)
            order = np.argsort(-score, axis=1, kind="stable")[:, :many]
            guesses[at : at + _CHUNK, layer] = order
    return guesses


def looked_ahead(trace: ExpertTrace, accuracy: float, seed: int) -> IdArray:
    """Return the true experts, each replaced by a random other one with ``1 - accuracy``."""
    rng = np.random.default_rng(seed)
    experts = trace.experts.copy()
    if trace.n_experts > 1:
        wrong = rng.random(experts.shape) >= accuracy
        shift = rng.integers(1, trace.n_experts, size=int(wrong.sum()))
        experts[wrong] = (experts[wrong] + shift) % trace.n_experts
    return experts


def accuracy_of(ahead: Ahead, trace: ExpertTrace) -> float:
    """Return the share of the guesses that came true."""
    made = ahead.experts >= 0
    right = (ahead.experts[:, :, :, None] == trace.experts[:, :, None, :]).any(axis=3)
    return float(right[made].mean()) if made.any() else float("nan")
