"""What a replay of tokens needs besides the trace: memory, link, loss, and what was learnt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from moe2opt.caching.trace import ExpertTrace
from moe2opt.placement.modes.cache import slot_limit
from moe2opt.placement.question import PlacementInstance
from moe2opt.result import InputError

#: Bytes of a low-precision copy per byte of a full one where nothing else is known: FP16 replaced
#: by INT4, as HOBBIT (arXiv 2411.01433) does.
LOW_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class TokenCosts:
    """What one copy and one use of an expert cost.

    Attributes
    ----------
    expert_bytes, low_bytes
        Size of an expert, and of its low-precision copy.
    copy_s, low_copy_s
        Seconds to copy them over the link, latency included. The link copies one at a time.
    compute_s, low_compute_s
        Seconds of one use once the weights are there.
    layer_s
        Seconds per layer besides the experts (attention, router, norms).
    low_loss_nats, drop_loss_nats
        Rise of the logarithm of perplexity if every use were served at low precision, or if all
        experts were left out. A use is charged its share: gate weight over number of layers. That
        losses add up like this is an assumption, the same as in the placement question. NaN when
        unknown; the expected loss is then NaN wherever something was not served in full.
    """

    expert_bytes: float = 1.0
    copy_s: float = 0.0
    compute_s: float = 0.0
    layer_s: float = 0.0
    low_bytes: float = LOW_SHARE
    low_copy_s: float = 0.0
    low_compute_s: float = 0.0
    low_loss_nats: float = math.nan
    drop_loss_nats: float = math.nan

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            unknown = name.endswith("_nats") and math.isnan(value)
            if not (unknown or (math.isfinite(value) and value >= 0)):
                raise InputError(f"costs.{name}: {value} is not a finite number ≥ 0")
        if not 0 < self.low_bytes <= self.expert_bytes:
            raise InputError(
                f"costs.low_bytes: {self.low_bytes:g} is not above 0 and at most expert_bytes "
                f"({self.expert_bytes:g})"
            )


def link_costs(
    expert_bytes: float,
    bytes_per_s: float,
    *,
    latency_s: float = 0.0,
    compute_bytes_per_s: float = math.inf,
    low_share: float = LOW_SHARE,
    **rest: float,
) -> TokenCosts:
    """Return the costs of experts behind one link; `rest` are further fields of `TokenCosts`.

    Raises
    ------
    InputError
        For a rate that is not positive.
    """
    rates = {"bytes_per_s": bytes_per_s, "compute_bytes_per_s": compute_bytes_per_s}
    for name, rate in rates.items():
        if not rate > 0:
            raise InputError(f"{name}: {rate} is not positive")
    low_bytes = expert_bytes * low_share
    return TokenCosts(
        expert_bytes=expert_bytes,
        copy_s=expert_bytes / bytes_per_s + latency_s,
        compute_s=expert_bytes / compute_bytes_per_s,
        low_bytes=low_bytes,
        low_copy_s=low_bytes / bytes_per_s + latency_s,
        low_compute_s=low_bytes / compute_bytes_per_s,
        **rest,
    )


@dataclass(frozen=True, slots=True, eq=False)
class TokenSettings:
    """Memory, costs and knobs that all policies of a comparison share.

    Attributes
    ----------
    slots
        Full-precision experts that fit, over all layers.
    costs
        Seconds, bytes and loss.
    planning
        Sequences to learn from: use of the experts, transitions, hit curves. Never the replayed
        ones. None when no policy learns.
    between
        What a cache holds when the next sequence begins: what it held (``kept``), or nothing
        (``empty``; every sequence is then a cold start).
    thresholds
        HOBBIT's T1 and T2 on the gate weight of the more important experts of the token.
    weights
        HOBBIT's weights of last use, uses, high-precision uses, and distance in layers.
    low_slots_share
        Share of the memory that holds low-precision copies where a policy has such a cache. This
        split is ours.
    tau
        AdapMoE's threshold on sensitivity × squared dropped weight.
    sensitivity
        ``(L,)`` sensitivities of the layers, mean 1; None for 1 everywhere.
    prefetch_accuracy
        Share of right predictions of the prefetcher that looks ahead (HOBBIT reports 96 % for the
        most important expert of the next layer).
    prefetch_experts
        Experts predicted per layer; 0 for top-k.
    seed
        Of wrong predictions.
    """

    slots: int
    costs: TokenCosts = TokenCosts()
    planning: ExpertTrace | None = None
    between: Literal["kept", "empty"] = "kept"
    thresholds: tuple[float, float] = (0.6, 0.9)
    weights: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25)
    low_slots_share: float = 0.1
    tau: float = 0.005
    sensitivity: tuple[float, ...] | None = None
    prefetch_accuracy: float = 0.96
    prefetch_experts: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        _whole("slots", self.slots)
        _whole("prefetch_experts", self.prefetch_experts)
        if self.between not in ("kept", "empty"):
            raise InputError(f"between: '{self.between}' is neither 'kept' nor 'empty'")
        _numbers("thresholds", self.thresholds, 2)
        _numbers("weights", self.weights, 4)
        if not sum(self.weights) > 0:
            raise InputError("weights: all are 0")
        for name in ("low_slots_share", "prefetch_accuracy"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}: {getattr(self, name)} is not between 0 and 1")
        _numbers("tau", (self.tau,), 1)
        if self.sensitivity is not None:
            _numbers("sensitivity", self.sensitivity, len(self.sensitivity))


def _whole(name: str, value: Any) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 0:
        raise InputError(f"{name}: {value!r} is not a whole number ≥ 0")


def _numbers(name: str, values: Any, length: int) -> None:
    if len(values) != length or not all(math.isfinite(v) and v >= 0 for v in values):
        raise InputError(f"{name}: {values!r} are not {length} finite numbers ≥ 0")


def settings_of(
    instance: PlacementInstance, planning: ExpertTrace | None = None, **knobs: Any
) -> TokenSettings:
    """Return the settings of a placement instance: slots at home, copies from the backing tier.

    The full precision is the largest on offer, the low one the smallest (a quarter of the full
    one's bytes, loss unknown, when only one is on offer). The backing tier is the instance's
    ``cache.backing``, else the first other tier that holds all experts, else the last.

    Parameters
    ----------
    instance
        Placement instance.
    planning
        Sequences to learn from.
    knobs
        Further fields of `TokenSettings`; `slots` and `costs` replace what the instance says.
    """
    full = int(np.argmax(instance.expert_bytes))
    if "slots" not in knobs:
        knobs["slots"] = slot_limit(instance, full)
    if "costs" not in knobs:
        knobs["costs"] = _costs(instance, full, _backing(instance, full))
    return TokenSettings(planning=planning, **knobs)


def _backing(instance: PlacementInstance, full: int) -> int:
    tiers, home = instance.topology.tiers, instance.topology.home
    cache = instance.config.cache
    if cache is not None:
        return instance.topology.index(cache.backing, "cache.backing")
    if len(tiers) < 2:
        raise InputError("tiers: there is no second tier to copy experts from")
    size = float(instance.expert_bytes[full]) * math.prod(instance.shape.size)
    away = [t for t in range(len(tiers)) if t != home]
    return next((t for t in away if tiers[t].free_bytes >= size), away[-1])


def _costs(instance: PlacementInstance, full: int, backing: int) -> TokenCosts:
    layers = instance.shape.size[0]
    home, hidden = instance.topology.home, instance.shape.hidden
    size = float(instance.expert_bytes[full])
    low = int(np.argmin(instance.expert_bytes))
    several = low != full
    low_size = float(instance.expert_bytes[low]) if several else LOW_SHARE * size
    copy, compute, _, _ = instance.topology.use_in(backing, home, size, hidden)
    low_copy, low_compute, _, _ = instance.topology.use_in(backing, home, low_size, hidden)
    loss = instance.precisions[low].loss_nats if several else math.nan
    pruned = instance.prune_loss_nats or math.nan
    return TokenCosts(
        size,
        copy,
        compute,
        instance.dense_s / layers,
        low_size,
        low_copy,
        low_compute,
        loss,
        pruned,
    )
