"""YAML sections of the parts of a placement problem that can be switched on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moe2opt.schema import FileName, Name, Section

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

Form = Literal["merge", "prune", "share", "distil"]


class Aggregation(Section):
    """Fewer experts per layer: how many are kept, and what becomes of the others."""

    keep: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Numbers of experts that a layer may keep; the full number is always offered."""
    forms: Annotated[tuple[Form, ...], Field(min_length=1)] = ("merge",)
    """`merge`: groups become one expert; `prune`: the least salient are dropped; `share`: a group
    shares a base, each member keeps a low-rank residual; `distil`: groups become one trained expert
    whose loss is in `distil_loss`."""
    groups: Literal["dendrogram", "medians"] = "dendrogram"
    """How groups are found: a frequency-weighted dendrogram, or representatives (p-median)."""
    distances: FileName | None = None
    """NPZ file with an array `distances` of shape (layers, experts, experts), relative to this
    file; a synthetic one from `seed` when left out."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the synthetic distances."""
    loss_nats: Positive = 1.0
    """Rise of the logarithm of perplexity per unit of use-weighted mean distance."""
    prune_loss_nats: Positive = 1.0
    """Rise of the logarithm of perplexity if all saliency were pruned."""
    rank_share: Share = 0.125
    """Size of a low-rank residual as a share of an expert."""
    rank_loss_share: Share = 0.5
    """Share of the merging loss that remains when residuals are kept."""
    distil_loss: dict[int, NonNegative] = Field(default_factory=dict)
    """Loss in nats of distilling every layer to this number of experts (a table, not a model)."""


class Cache(Section):
    """Slots per layer on the home tier; every expert also lives in the backing tier."""

    backing: Name
    """Tier that holds all experts."""
    hits: Literal["hypergeometric", "published", "lru", "static"] = "hypergeometric"
    """Where hit rates come from: random residents; a table of prefetch accuracy and single-expert
    share per layer; the trace under LRU per layer; the most used experts."""
    table: FileName | None = None
    """Table for `published` (layer, prefetch_accuracy, single_expert_share) or `lru` (layer, slots,
    hit_rate), relative to this file; a trace replaces it for `lru`."""
    least: Annotated[int, Field(ge=0)] = 0
    """Least number of slots of a layer."""
    most: Annotated[int, Field(ge=0)] | None = None
    """Largest number of slots of a layer; all experts when left out."""


class Coverage(Section):
    """A layer of a token is covered when all experts that it asks for are resident."""

    tier: Name
    """Tier of the residents."""
    backing: Name
    """Tier of the others."""
    sync_us: NonNegative = 0.0
    """Microseconds that an uncovered layer costs besides its copies."""


class Prefetch(Section):
    """Copies of the next layer's experts overlap with computing the present one.

    All experts of a layer have one precision.
    """

    accuracy: Share
    """Share of the needed copies that are predicted."""
    window_us: NonNegative
    """Microseconds of computing per layer behind which copies can hide."""
    wasted: bool = True
    """Whether wrong predictions occupy the link too."""


class Split(Section):
    """Experts outside the fast tier are computed in place or copied, both side by side."""

    fast: Name
    """Tier of the residents, to which experts are copied."""
    slow: Name
    """Tier of the others, which also computes."""
    steps: Annotated[int, Field(ge=10, le=100_000)] = 2000
    """Resolution of the balance for layers with more than 16 experts."""


class Lots(Section):
    """Semi-continuous numbers: none of a layer's experts in a tier, or at least a share.

    All experts of a layer have one precision.
    """

    tier: Name
    """Tier that the rule is about."""
    least_share: Share = 0.0
    """Least share of a layer's experts there, unless there are none."""
    step: Count = 1
    """Numbers in the tier are multiples of this, or all experts of a layer. So are those in every
    other tier but one, which takes the rest: the last, or the one before it if `tier` is last."""


class Pattern(Section):
    """Whole layers by a rule that a runtime can express."""

    kind: Literal["contiguous", "first", "last", "periodic", "pipeline"]
    """`contiguous`: one run of layers on the fast tier; `first` and `last`: the first or last ones
    are off it; `periodic`: the last m of every n layers are off it; `pipeline`: consecutive runs on
    the given tiers, which work at the same time on different batches."""
    fast: Name | None = None
    """Fast tier; the first one when left out."""
    slow: Name | None = None
    """Tier of the other layers; the second one when left out."""
    stages: tuple[Name, ...] = ()
    """Tiers of a pipeline, in order."""
    longest_period: Count = 16
    """Largest n of `periodic`."""
    measure: Literal["slowest", "sum"] = "slowest"
    """What a pipeline makes small: the slowest stage, or the sum of the stages and hand-overs."""
