"""What an assignment costs and uses, and what simple rules achieve beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from moe2opt.result import FloatArray

#: A gap below this counts as about zero.
ABOUT_ZERO = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What an assignment costs.

    Attributes
    ----------
    seconds_per_token, joules_per_token
        Dense part included; joules are NaN where a power is unknown.
    loss_nats
        Rise of the logarithm of perplexity.
    bytes_by_tier
        ``(T,)`` bytes held, dense part and context included.
    loads_per_token
        Copies of experts to the place where they are computed.
    uncovered_per_token
        Layers per token whose experts are not all resident; NaN without the part `coverage`.
    seconds_by_domain
        ``(D,)`` seconds per token in each domain.
    """

    seconds_per_token: float
    joules_per_token: float
    loss_nats: float
    bytes_by_tier: FloatArray
    loads_per_token: float
    uncovered_per_token: float
    seconds_by_domain: FloatArray

    @property
    def memory_gib(self) -> float:
        """GiB over all tiers."""
        return float(self.bytes_by_tier.sum()) / 2**30

    def value(self, metric: str) -> float:
        """Return the figure of a metric's name."""
        return float(getattr(self, metric))


@dataclass(frozen=True, slots=True)
class TierUse:
    """A tier as the plan uses it.

    Attributes
    ----------
    name, kind, device
        As configured; kind is ``gpu``, ``cpu``, ``disk`` or ``remote``.
    capacity_gib
        Size, None for no limit.
    margin_gib, reserved_gib
        Kept free; dense part, context and other things (part of `used_gib` only where it is ours).
    used_gib
        What the plan puts there, dense part and context included on the home tier.
    experts
        Experts stored there.
    share_of_uses
        Share of all uses of experts that are served from there.
    """

    name: str
    kind: str
    device: str
    capacity_gib: float | None
    margin_gib: float
    reserved_gib: float
    used_gib: float
    experts: int
    share_of_uses: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of one budget; `share` is used / limit (None for a limit of zero)."""

    name: str
    used: float
    limit: float
    share: float | None


@dataclass(frozen=True, slots=True)
class PrecisionInfo:
    """A weight format of the plan: name, bits per weight, bytes of one expert."""

    name: str
    bits_per_weight: float
    expert_bytes: float


@dataclass(frozen=True, slots=True)
class Assumed:
    """What a plan assumes of the run: `context_tokens` of room, `kv_bits` a value, sequences."""

    context_tokens: int = 0
    kv_bits: float = 16.0
    sequences: int = 1


@dataclass(frozen=True, slots=True)
class Baseline:
    """A rule and what it achieves.

    Attributes
    ----------
    name
        The rule.
    value
        Its figure of the objective, None where the rule does not apply.
    feasible
        Whether it keeps every capacity and budget.
    excess
        ``(value - plan) / plan`` of the objective, None without both figures or where the plan's is
        0.
    note
        Why it does not apply or does not fit, or what was chosen for it.
    exact
        Whether the rule is proven optimal on this instance.
    moves
        Whether it moves experts at run time.
    """

    name: str
    value: float | None
    feasible: bool
    excess: float | None = None
    note: str = ""
    exact: bool = False
    moves: bool = False

    def against(self, value: float) -> Baseline:
        """Return the baseline with its excess over a plan's objective."""
        if self.value is None:
            return self
        difference = self.value - value
        if abs(difference) <= 1e-12 * max(abs(value), 1e-300):
            return replace(self, excess=0.0)
        return replace(self, excess=difference / abs(value) if value else None)
