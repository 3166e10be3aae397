"""Caches of experts: which experts are resident, replayed token by token.

What all of them share: the experts of a token and layer are looked up before any of them is brought
in; those of one step count as used in rank order, the last rank most recently; what a step uses is
evicted only when nothing else can go.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from moe2opt.caching import kernels
from moe2opt.caching.prefetch import Ahead
from moe2opt.caching.result import (
    DROPPED,
    LATE_LOW,
    LOADED,
    LOADED_LOW,
    LOW_HIT,
    OUTCOMES,
    SKIPPED,
    TokenReplay,
)
from moe2opt.caching.settings import TokenCosts, TokenSettings
from moe2opt.caching.slots import (
    allocated_slots,
    equal_slots,
    first_used,
    lru_curve,
    next_use_steps,
    resident_experts,
)
from moe2opt.caching.trace import ByteArray, ExpertTrace, IdArray
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray


@dataclass(frozen=True, slots=True)
class Cache:
    """How residents are chosen.

    Attributes
    ----------
    rule
        ``lru``, ``lfu``, HOBBIT's ``priority``, ``static`` (never changes), ``belady``
        (clairvoyant: the farthest next use goes; what is needed later than all residents is not
        kept at all).
    scope
        One cache per layer, or one for all.
    slots
        How slots go to layers: ``equal``, ``allocated`` (fewest misses on the planning sequences'
        LRU curves), ``frequency`` (static only: the most used experts of all layers).
    per_sequence
        Whether counts of uses restart with every sequence.
    filled
        Clairvoyant only: the cache is filled before the first token, free of charge.
    """

    rule: Literal["lru", "lfu", "priority", "static", "belady"]
    scope: Literal["layer", "global"] = "layer"
    slots: Literal["equal", "allocated", "frequency"] = "equal"
    per_sequence: bool = False
    filled: bool = False

    @property
    def learns(self) -> bool:
        """Whether planning sequences are needed."""
        return self.rule == "static" or self.slots != "equal"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A trace and settings, with what several policies need of them."""

    trace: ExpertTrace
    settings: TokenSettings

    @property
    def restart(self) -> bool:
        """Whether caches are emptied between sequences."""
        return self.settings.between == "empty"

    @cached_property
    def nexts(self) -> IntArray:
        """``(tokens, L, k)`` step of each expert's next use."""
        return next_use_steps(self.trace, self.restart)

    @cached_property
    def learnt_shares(self) -> FloatArray:
        """``(L, E)`` share of the planning tokens that use each expert."""
        return _planning(self.settings).shares()

    @cached_property
    def learnt_curve(self) -> FloatArray:
        """``(L, E + 1)`` LRU hit rates of the planning sequences by slots."""
        return lru_curve(_planning(self.settings), between=self.settings.between)


def _planning(settings: TokenSettings) -> ExpertTrace:
    if settings.planning is None:
        raise InputError("planning: there are no sequences to learn from")
    return settings.planning


def prepare(trace: ExpertTrace, settings: TokenSettings) -> Prepared:
    """Return what the policies share, after checking that trace and settings fit together.

    Raises
    ------
    InputError
        For planning sequences of another model, too many slots, or sensitivities of other layers.
    """
    size = (trace.n_layers, trace.n_experts)
    most = trace.n_layers * trace.n_experts
    if settings.slots > most:
        raise InputError(f"slots: {settings.slots} slots, but the model has {most} experts")
    other = settings.planning
    if other is not None and (other.n_layers, other.n_experts, other.top_k) != (*size, trace.top_k):
        raise InputError(
            f"planning: {other.describe()} does not have the layers and experts of "
            f"{trace.describe()}"
        )
    if settings.sensitivity is not None and len(settings.sensitivity) != trace.n_layers:
        raise InputError(
            f"sensitivity: {len(settings.sensitivity)} values for {trace.n_layers} layers"
        )
    return Prepared(trace, settings)


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What became of every expert of every token.

    Attributes
    ----------
    outcome
        ``(tokens, L, k)`` positions in `OUTCOMES`.
    prefetched
        ``(L, 3)`` as in `TokenReplay`.
    seconds
        ``(tokens,)`` seconds of each token.
    """

    outcome: ByteArray
    prefetched: IntArray
    seconds: FloatArray


def run(
    prepared: Prepared,
    policy: str,
    cache: Cache,
    classes: ByteArray | None = None,
    ahead: Ahead | None = None,
    *,
    mixed: bool = False,
) -> TokenReplay:
    """Replay and count; parameters as `steps_of`, `policy` is the name for the result."""
    steps = steps_of(prepared, cache, classes, ahead, mixed=mixed)
    return _counted(prepared, policy, steps, "" if ahead is None else ahead.note)


def steps_of(
    prepared: Prepared,
    cache: Cache,
    classes: ByteArray | None = None,
    ahead: Ahead | None = None,
    *,
    mixed: bool = False,
) -> Steps:
    """Replay with a cache, classes of misses and predictions.

    Parameters
    ----------
    prepared
        Trace and settings.
    cache
        How residents are chosen.
    classes
        ``(tokens, L, k)`` what is asked for on a miss: in full (0), at low precision (1), nothing
        (2); 3 for experts that are not wanted. None: all in full.
    ahead
        Predictions; None for none.
    mixed
        Whether part of the memory holds low-precision copies.
    """
    trace, settings = prepared.trace, prepared.settings
    shape = trace.experts.shape
    asked = np.zeros(shape, dtype=np.uint8) if classes is None else classes
    pools, caps = _pools(prepared, cache, mixed)
    law = (_rules(prepared, cache), _weights(cache, settings), caps, _times(settings.costs))
    state = _fresh_state(trace, caps)
    nexts = prepared.nexts if cache.rule == "belady" else np.zeros((0, 0, 0), dtype=np.int64)
    guess = _no_prediction(*shape[:2]) if ahead is None else (ahead.experts, ahead.low)
    steps = Steps(np.zeros(shape, dtype=np.uint8), state[-1], np.zeros(trace.tokens))
    kernels.replay_steps(
        trace.experts,
        asked,
        trace.fresh,
        pools,
        _initial(prepared, cache),
        nexts,
        *guess,
        law,
        state,
        steps.outcome,
        steps.seconds,
    )
    return steps


def _rules(prepared: Prepared, cache: Cache) -> IntArray:
    modes = {"static": kernels.FIXED, "belady": kernels.CLAIRVOYANT, "lru": kernels.RECENT}
    mode = modes.get(cache.rule, kernels.SCORED)
    size = (prepared.trace.n_experts, prepared.trace.n_layers)
    return np.array([mode, cache.per_sequence, prepared.restart, *size], dtype=np.int64)


def _fresh_state(
    trace: ExpertTrace, caps: IntArray
) -> tuple[IntArray, FloatArray, IntArray, IntArray, IntArray]:
    width = trace.n_layers * trace.n_experts
    ints = np.zeros((kernels.INT_ROWS, width), dtype=np.int64)
    ints[:2] = -1
    ints[-1] = np.arange(width) // trace.n_experts
    reals = np.zeros((kernels.REAL_ROWS, width))
    members = np.zeros((2, caps.shape[1], max(1, int(caps.max()))), dtype=np.int64)
    filled = np.zeros(caps.shape, dtype=np.int64)
    return ints, reals, members, filled, np.zeros((trace.n_layers, 3), dtype=np.int64)


def _pools(prepared: Prepared, cache: Cache, mixed: bool) -> tuple[IntArray, IntArray]:
    """Return the cache of each layer, and the slots of the full and the low caches."""
    trace, settings = prepared.trace, prepared.settings
    layers, experts = trace.n_layers, trace.n_experts
    full, low = settings.slots, 0
    if mixed:
        costs = settings.costs
        given = settings.slots * settings.low_slots_share
        full = settings.slots - round(given)
        low = min(
            layers * experts, int((settings.slots - full) * costs.expert_bytes / costs.low_bytes)
        )
    if cache.scope == "global":
        return np.zeros(layers, dtype=np.int64), np.array([[full], [low]], dtype=np.int64)
    pools = np.arange(layers, dtype=np.int64)
    if cache.slots == "frequency":
        resident = resident_experts(prepared.learnt_shares, full, per_layer=False)
        slots = resident.sum(axis=1)
    elif cache.slots == "allocated":
        slots = allocated_slots(prepared.learnt_curve, full)
    else:
        slots = equal_slots(full, layers, experts)
    return pools, np.stack([slots, equal_slots(low, layers, experts)]).astype(np.int64)


def _weights(cache: Cache, settings: TokenSettings) -> FloatArray:
    weights = np.array((0.0, 1.0, 0.0, 0.0) if cache.rule == "lfu" else settings.weights)
    return np.asarray(weights / weights.sum())


def _times(costs: TokenCosts) -> FloatArray:
    return np.array(
        [costs.copy_s, costs.low_copy_s, costs.compute_s, costs.low_compute_s, costs.layer_s]
    )


def _no_prediction(tokens: int, layers: int) -> tuple[IdArray, BoolArray]:
    shape = (tokens, layers, 0)
    return np.zeros(shape, dtype=np.int16), np.zeros(shape, dtype=bool)


def _initial(prepared: Prepared, cache: Cache) -> BoolArray:
    """Return the ``(1 or S, L * E)`` experts that are there from the start."""
    trace, settings = prepared.trace, prepared.settings
    if cache.rule == "static":
        per_layer = cache.slots == "equal"
        resident = resident_experts(prepared.learnt_shares, settings.slots, per_layer=per_layer)
        return resident.reshape(1, -1)
    if cache.filled:
        return first_used(trace, settings.slots, prepared.restart)
    return np.zeros((1, trace.n_layers * trace.n_experts), dtype=bool)


def _counted(prepared: Prepared, policy: str, steps: Steps, note: str) -> TokenReplay:
    trace, costs = prepared.trace, prepared.settings.costs
    kinds = len(OUTCOMES)
    rows = np.arange(trace.n_layers)[None, :, None] * kinds + steps.outcome
    counts = np.bincount(rows.ravel(), minlength=trace.n_layers * kinds)
    outcomes = counts.reshape(trace.n_layers, kinds).astype(np.int64)
    full = int(outcomes[:, LOADED].sum() + steps.prefetched[:, 0].sum())
    low = int(outcomes[:, LOADED_LOW].sum() + steps.prefetched[:, 1].sum())
    weights = _served_weights(trace, steps.outcome)
    return TokenReplay(
        policy=policy,
        trace=trace.name,
        tokens=trace.tokens,
        outcomes=outcomes,
        prefetched=steps.prefetched,
        bytes_moved=full * costs.expert_bytes + low * costs.low_bytes,
        expected_loss_nats=_loss(weights, costs),
        low_weight=weights[0],
        dropped_weight=weights[1],
        seconds=steps.seconds,
        note=note,
    )


def _served_weights(trace: ExpertTrace, outcome: ByteArray) -> tuple[float, float]:
    """Return the mean share of the gate weight served at low precision, and not served."""
    lows = np.isin(outcome, (LOW_HIT, LATE_LOW, LOADED_LOW))
    gone = np.isin(outcome, (SKIPPED, DROPPED))
    if not lows.any() and not gone.any():
        return 0.0, 0.0
    if trace.gates is None:
        return float("nan"), float("nan")
    steps = trace.tokens * trace.n_layers
    return float(trace.gates[lows].sum() / steps), float(trace.gates[gone].sum() / steps)


def _loss(weights: tuple[float, float], costs: TokenCosts) -> float:
    """Return the expected loss; what is not served matters only where something was not served."""
    rises = (costs.low_loss_nats, costs.drop_loss_nats)
    return sum(float(w * rise) for w, rise in zip(weights, rises, strict=True) if w != 0)
