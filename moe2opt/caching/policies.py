"""Policies for the experts of a token stream, by name, replayed on real traces.

One interface: `replay` runs one policy, `compare` several on the same trace, memory and link.
`POLICIES` holds them by name. A policy joins a cache (`moe2opt.caching.caches`), a rule for misses
(`moe2opt.caching.hobbit`), a gate (`moe2opt.caching.adapmoe`) and a prefetcher
(`moe2opt.caching.prefetch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from moe2opt.caching.adapmoe import dropped_by_gate
from moe2opt.caching.caches import Cache, Prepared, prepare, run
from moe2opt.caching.hobbit import importance_classes
from moe2opt.caching.prefetch import predictions
from moe2opt.caching.result import TokenComparison as TokenComparison
from moe2opt.caching.result import TokenReplay as TokenReplay
from moe2opt.caching.settings import TokenCosts as TokenCosts
from moe2opt.caching.settings import TokenSettings as TokenSettings
from moe2opt.caching.settings import link_costs as link_costs
from moe2opt.caching.settings import settings_of as settings_of
from moe2opt.caching.trace import ExpertTrace
from moe2opt.placement.question import PlacementInstance
from moe2opt.result import InputError
from moe2opt.schema.source import did_you_mean

#: The clairvoyant policies.
CLAIRVOYANT = ("belady", "belady-global", "belady-filled")


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """What a policy is made of.

    Attributes
    ----------
    cache
        How residents are chosen.
    mixed
        Whether a miss is loaded in full, at low precision, or skipped, by HOBBIT's rule.
    gated
        Whether AdapMoE's rule leaves experts out.
    prefetch
        How the next layer's experts are predicted, if at all.
    about
        One line for lists.
    """

    cache: Cache
    mixed: bool = False
    gated: bool = False
    prefetch: Literal["", "frequency", "transition", "lookahead", "oracle"] = ""
    about: str = ""

    @property
    def learns(self) -> bool:
        """Whether planning sequences are needed."""
        return self.cache.learns or self.prefetch in ("frequency", "transition")

    @property
    def needs_gates(self) -> bool:
        """Whether the trace must have gate weights."""
        return self.mixed or self.gated


_LRU = Cache("lru")
_HOBBIT = Cache("priority", scope="global", per_sequence=True)
_ADAPMOE = Cache("lru", slots="allocated")

POLICIES: dict[str, TokenPolicy] = {
    "static": TokenPolicy(Cache("static", slots="frequency"), about="the most used experts stay"),
    "static-layer": TokenPolicy(
        Cache("static"), about="the most used experts stay, the same number in every layer"
    ),
    "lru": TokenPolicy(_LRU, about="least recently used goes, same slots in every layer"),
    "lru-global": TokenPolicy(Cache("lru", scope="global"), about="one LRU cache for all layers"),
    "lfu": TokenPolicy(
        Cache("lfu", per_sequence=True), about="least used in this sequence goes, per layer"
    ),
    "lfu-model": TokenPolicy(Cache("lfu"), about="least used since the start goes, per layer"),
    "hobbit-priority": TokenPolicy(_HOBBIT, about="HOBBIT's four-term priority, one cache"),
    "hobbit-mixed": TokenPolicy(
        Cache("lru", scope="global"), mixed=True, about="HOBBIT's mixed-precision misses on LRU"
    ),
    "hobbit-prefetch": TokenPolicy(
        Cache("lru", scope="global"), prefetch="lookahead", about="HOBBIT's look-ahead on LRU"
    ),
    "hobbit": TokenPolicy(
        _HOBBIT,
        mixed=True,
        prefetch="lookahead",
        about="HOBBIT: priority, mixed misses, look-ahead",
    ),
    "adapmoe-slots": TokenPolicy(_ADAPMOE, about="AdapMoE's slots per layer, LRU"),
    "adapmoe-gating": TokenPolicy(_LRU, gated=True, about="AdapMoE's sensitivity gating on LRU"),
    "adapmoe-prefetch": TokenPolicy(
        _LRU, prefetch="lookahead", about="look-ahead of one layer on per-layer LRU"
    ),
    "adapmoe": TokenPolicy(
        _ADAPMOE, gated=True, prefetch="lookahead", about="AdapMoE: slots, gating, look-ahead"
    ),
    "prefetch-frequency": TokenPolicy(
        _LRU, prefetch="frequency", about="LRU, copies the next layer's most used experts"
    ),
    "prefetch-transition": TokenPolicy(
        _LRU, prefetch="transition", about="LRU, copies what usually follows this layer's experts"
    ),
    "prefetch-oracle": TokenPolicy(
        _LRU, prefetch="oracle", about="LRU, knows the next layer's experts"
    ),
    "belady": TokenPolicy(
        Cache("belady"), about="clairvoyant: the farthest next use goes, per layer"
    ),
    "belady-global": TokenPolicy(
        Cache("belady", scope="global"), about="clairvoyant, one cache for all layers"
    ),
    "belady-filled": TokenPolicy(
        Cache("belady", scope="global", filled=True), about="clairvoyant, filled before the start"
    ),
}


def policy_named(name: str) -> TokenPolicy:
    """Return a policy.

    Raises
    ------
    InputError
        For an unknown name, with a guess at what was meant.
    """
    if name not in POLICIES:
        hint = did_you_mean(name, list(POLICIES)) or f" (policies: {', '.join(POLICIES)})"
        raise InputError(f"policy: no policy '{name}'{hint}")
    return POLICIES[name]


def replay(trace: ExpertTrace, settings: TokenSettings, policy: str) -> TokenReplay:
    """Replay a trace under one policy.

    Parameters
    ----------
    trace
        Sequences that nothing was learnt from.
    settings
        Slots, costs and knobs.
    policy
        A name in `POLICIES`.

    Raises
    ------
    InputError
        For an unknown policy, or when it needs planning sequences or gate weights that are missing.
    """
    return replay_prepared(prepare(trace, settings), policy)


def replay_prepared(prepared: Prepared, policy: str) -> TokenReplay:
    """Replay under one policy what `prepare` made, so that several policies share the work."""
    parts = policy_named(policy)
    trace, settings = prepared.trace, prepared.settings
    if parts.learns and settings.planning is None:
        raise InputError(f"policy '{policy}' learns from sequences; set `planning`")
    if parts.needs_gates and trace.gates is None:
        raise InputError(f"policy '{policy}' needs gate weights; {trace.name} has none")
    classes = importance_classes(trace, settings) if parts.mixed else None
    if parts.gated:
        classes = dropped_by_gate(trace, settings, classes)
    ahead = predictions(parts.prefetch, trace, settings, classes) if parts.prefetch else None
    return run(prepared, policy, parts.cache, classes, ahead, mixed=parts.mixed)


def compare(
    trace: ExpertTrace,
    instance_or_settings: PlacementInstance | TokenSettings,
    policies: Sequence[str] = ("static", "lru", "lfu"),
    against: str | None = "belady",
    *,
    planning: ExpertTrace | None = None,
) -> TokenComparison:
    """Replay a trace under several policies.

    Parameters
    ----------
    trace
        Sequences to replay.
    instance_or_settings
        A placement instance (slots that fit at home, copies from its backing tier), or settings.
    policies
        Names in `POLICIES`.
    against
        Clairvoyant policy to compare with: ``belady``, ``belady-global``, ``belady-filled``, or
        ``clairvoyant`` for the first; None for no comparison.
    planning
        Sequences to learn from, where the settings have none. None with policies that learn: every
        second sequence of `trace` is learnt from, and only the others are replayed.

    Returns
    -------
    TokenComparison
        ``to_frame()`` has one row per policy.

    Raises
    ------
    InputError
        As `replay`.
    """
    names = [*dict.fromkeys(policies)]
    clairvoyant = "belady" if against == "clairvoyant" else against
    if clairvoyant is not None and clairvoyant not in CLAIRVOYANT:
        raise InputError(
            f"against: '{against}' is none of clairvoyant, {', '.join(CLAIRVOYANT)}, none"
        )
    parts = [policy_named(name) for name in names]
    notes: list[str] = []
    learnt = planning
    if isinstance(instance_or_settings, TokenSettings):
        learnt = instance_or_settings.planning if planning is None else planning
    if learnt is None and any(part.learns for part in parts):
        learnt, trace = trace.halves()
        notes.append("learnt from every second sequence; only the others were replayed")
    settings = _settings(trace, instance_or_settings, learnt)
    prepared = prepare(trace, settings)
    replays = tuple(replay_prepared(prepared, name) for name in names)
    bound = None if clairvoyant is None else replay_prepared(prepared, clairvoyant)
    if trace.synthetic:
        notes.append("the trace is SYNTHETIC")
    return TokenComparison(trace.describe(), replays, bound, tuple(notes))


def _settings(
    trace: ExpertTrace,
    instance_or_settings: PlacementInstance | TokenSettings,
    planning: ExpertTrace | None,
) -> TokenSettings:
    if isinstance(instance_or_settings, TokenSettings):
        return replace(instance_or_settings, planning=planning)
    if not hasattr(instance_or_settings, "topology"):
        raise InputError(
            f"{instance_or_settings.name} is no placement problem; experts of tokens can only be "
            "replayed on the tiers of one"
        )
    layers, experts = instance_or_settings.shape.size
    if (trace.n_layers, trace.n_experts) != (layers, experts):
        raise InputError(
            f"the trace does not fit the model: {trace.describe()}; "
            f"{instance_or_settings.shape.name} has {layers} layers x {experts} experts"
        )
    return settings_of(instance_or_settings, planning)
