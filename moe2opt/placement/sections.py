"""YAML sections of a placement instance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moe2opt.schema import FileName, Name, Section

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Model(Section):
    """The mixture-of-experts model: exactly one of `table`, `gguf`, `safetensors`, `hf`."""

    table: Name | None = None
    """Name of a row of the table of models."""
    models: FileName | None = None
    """Table of models (CSV), relative to this file; the built-in one when left out."""
    gguf: FileName | None = None
    """GGUF file, relative to this file; only its header is read."""
    safetensors: FileName | None = None
    """Safetensors file or folder, relative to this file; only headers are read."""
    hf: FileName | None = None
    """Folder with a Hugging Face `config.json`, relative to this file."""
    dense_bits: Annotated[float, Field(gt=0, le=64)] = 16.0
    """Bits per weight of everything that is not a routed expert (where the source is a shape)."""
    context_tokens: Annotated[int, Field(ge=0)] = 0
    """Context of all sequences together whose keys and values are reserved on the home tier; room
    alone costs no time."""
    context_depth: Annotated[int, Field(ge=0)] = 0
    """Tokens of all sequences of a batch before those that are timed, whose keys and values these
    read; at most `context_tokens`."""
    kv_bits: Annotated[float, Field(gt=0, le=64)] = 16.0
    """Bits per entry of the key-value cache."""

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        named = [k for k in ("table", "gguf", "safetensors", "hf") if getattr(self, k) is not None]
        if len(named) != 1:
            raise ValueError(
                f"give exactly one of table, gguf, safetensors and hf, got {', '.join(named) or 0}"
            )
        if self.context_depth > self.context_tokens:
            raise ValueError(
                f"context_depth: {self.context_depth} tokens have no room in context_tokens "
                f"({self.context_tokens})"
            )
        return self


class ExpertPrecision(Section):
    """A weight format that experts are offered in."""

    name: Name
    """Name of the format; the built-in table knows the common ones."""
    bits_per_weight: Annotated[float, Field(gt=0, le=64)] | None = None
    """Effective bits per weight, scales included; from the table when left out."""
    loss_nats: NonNegative | None = None
    """Rise of the logarithm of perplexity when every expert has this format; from the table when
    left out."""


class Tier(Section):
    """A memory that can hold experts."""

    name: Name
    """Name of the tier."""
    kind: Literal["gpu", "cpu", "disk", "remote"]
    """What the memory belongs to."""
    device: Name = "local"
    """Machine that the tier is part of."""
    capacity_gib: Positive | None = None
    """Size in GiB; none for no limit."""
    margin_gib: NonNegative = 0.0
    """Kept free, in GiB."""
    reserve_gib: NonNegative = 0.0
    """Taken by other things than this model, in GiB."""
    compute_gb_per_s: Positive | None = None
    """Rate in GB/s at which weights held here are used for computing; none when nothing computes
    here and experts must be copied elsewhere first (or when `rates` tells it)."""
    overhead_us: NonNegative = 0.0
    """Microseconds that every use of an expert costs here besides reading its weights."""
    power_w: NonNegative | None = None
    """Power in watts drawn while an expert is computed here."""


class Link(Section):
    """A connection between two tiers, usable both ways."""

    between: tuple[Name, Name]
    """The two tiers."""
    gb_per_s: Positive | None = None
    """Bandwidth in GB/s; from `rates` when left out."""
    latency_us: NonNegative = 0.0
    """Microseconds that each transfer costs besides its bytes."""
    joules_per_gb: NonNegative | None = None
    """Energy of a transfer in joules per GB."""


class Activation(Section):
    """How often experts are used: exactly one of `counts`, `trace`, `law`, `zipf`, `uniform`."""

    counts: FileName | None = None
    """Table (CSV or Parquet) with columns layer, expert, count and optionally domain, saliency."""
    trace: FileName | None = None
    """NPZ file with an integer array `experts` of shape (tokens, layers, k)."""
    law: FileName | None = None
    """Table (CSV) of a synthetic law per layer: columns layer, use_sigma, saliency_slope,
    saliency_sigma, saliency_share. The logarithm of use is normal with deviation use_sigma."""
    zipf: NonNegative | None = None
    """Exponent of a synthetic law: the expert of rank r is used in proportion to r ** -zipf."""
    uniform: bool = False
    """Every expert is used equally often (an assumption)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the order of the experts in the synthetic law."""
    lru: FileName | None = None
    """Table of measured LRU hit rates (layer, slots, hit_rate), for the comparison with a cache;
    a trace replaces it."""
    domains: dict[Name, Positive] | None = None
    """Weight of each input domain; all domains in proportion to their tokens when left out."""
    robust: bool = False
    """Plan for the worst of the domains instead of their mixture."""
    robust_resolution: Annotated[float, Field(gt=0, le=0.1)] = 1e-3
    """Relative step of the values that the worst case can take."""

    @model_validator(mode="after")
    def _one_source(self) -> Activation:
        named = [k for k in ("counts", "trace", "law", "zipf") if getattr(self, k) is not None]
        named += ["uniform"] * self.uniform
        if len(named) != 1:
            got = ", ".join(named) or "none"
            raise ValueError(f"give exactly one of counts, trace, law, zipf and uniform, got {got}")
        return self


class Execute(Section):
    """What `moe2opt execute` runs the plan with."""

    model: FileName | None = None
    """Folder with the weights in Hugging Face format, relative to this file; the folder of
    `model.safetensors` or `model.hf` when left out."""
    text: FileName | None = None
    """Held-out text (a file, or a folder of .txt files), relative to this file."""
    tokens: Annotated[int, Field(ge=2)] = 1024
    """Tokens that are run."""
    sequence: Annotated[int, Field(ge=2)] = 128
    """Tokens of a sequence; each starts from an empty context and empty caches."""
    repeats: Count = 3
    """Passes over the tokens; a token's time is their median."""
    tiers: dict[Name, Literal["cuda", "dram", "disk", "mmap"]] = Field(default_factory=dict)
    """Real memory that stands for a tier; by its kind when left out (gpu: cuda, or DRAM where
    there is none; cpu: dram; disk: disk, read past the page cache)."""
    policy: Literal["lru", "lfu", "pinned"] | None = None
    """Policy of cache slots; what `cache.hits` assumes when left out."""
    scratch: FileName | None = None
    """Folder on the disk that stands for disk tiers, relative to this file; the temporary folder
    when left out."""


class Prune(Section):
    """Dropping experts altogether."""

    loss_nats: Positive
    """Rise of the logarithm of perplexity if all saliency were pruned; a pruned expert costs its
    share of the saliency. Its tokens go to other experts: its uses are charged like those of an
    expert on the fastest tier."""
    max_share: Share = 0.5
    """Only this share of the experts of a layer, the least salient ones, may be pruned."""


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
    share per layer; the trace under LRU per layer; the most used experts, as tokens of a trace use
    them that did not choose them."""
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


class Budgets(Section):
    """Limits on what is not the objective; none for no limit."""

    seconds_per_token: Positive | None = None
    """Seconds per token."""
    joules_per_token: Positive | None = None
    """Joules per token."""
    loss_nats: NonNegative | None = None
    """Rise of the logarithm of perplexity."""
    memory_gib: Positive | None = None
    """GiB of experts over all tiers together, dense part and context included."""
    cache_slots: Annotated[int, Field(ge=0)] | None = None
    """Cache slots over all layers."""


Objective = Literal[
    "seconds_per_token", "joules_per_token", "loss_nats", "memory_gib", "loads_per_token",
    "uncovered_per_token",
]  # fmt: skip


#: Sections that choose or shape the treatment of a layer.
PARTS = ("aggregation", "cache", "coverage", "split", "pattern", "prefetch", "lots")


class PlacementConfig(Section):
    """A placement instance: which tier, precision and form each expert of one model gets."""

    schema_version: Literal[1] = 1
    """Version of this file format."""
    problem: Literal["placement"]
    """The question asked."""
    name: Name
    """Short name of the instance."""
    description: str = ""
    """What the instance is about, and where its figures come from."""
    synthetic: tuple[Name, ...] = ()
    """What in this instance is synthetic or assumed; shown with every plan."""
    objective: Objective = "seconds_per_token"
    """What is made as small as possible."""
    model: Model
    """The model."""
    precisions: Annotated[tuple[ExpertPrecision, ...], Field(min_length=1)]
    """Weight formats on offer."""
    precision_table: FileName | None = None
    """Table of precisions (CSV), relative to this file; the built-in one when left out."""
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1)]
    """Memories, the fastest first."""
    links: tuple[Link, ...] = ()
    """Connections between tiers."""
    home: Name | None = None
    """Tier of the dense part and the context; the first tier that computes when left out."""
    activation: Activation
    """How often experts are used."""
    batch: Count = 1
    """Tokens decoded together; an expert is used once for all tokens that ask for it."""
    granularity: Literal["expert", "tensor", "layer"] = "expert"
    """What is placed as one piece."""
    prune: Prune | None = None
    """Dropping experts; none for keeping all."""
    aggregation: Aggregation | None = None
    """Merging experts; none for keeping all apart."""
    cache: Cache | None = None
    """Slots per layer instead of fixed residents."""
    coverage: Coverage | None = None
    """Residents chosen so that most tokens find all their experts."""
    prefetch: Prefetch | None = None
    """Copies that overlap with computing."""
    split: Split | None = None
    """Two machines that work side by side."""
    lots: Lots | None = None
    """Least number of experts of a layer in a tier."""
    pattern: Pattern | None = None
    """Whole layers by a rule: contiguous, periodic, pipeline."""
    budgets: Budgets = Budgets()
    """Limits."""
    rates: FileName | None = None
    """Profile folder of this machine, relative to this file: measured seconds of experts take the
    place of typed bandwidths (`moe2opt profile --from-run`)."""
    execute: Execute = Execute()
    """How plans are run."""

    @model_validator(mode="after")
    def _names_differ(self) -> PlacementConfig:
        for key, items in (("precisions", self.precisions), ("tiers", self.tiers)):
            names = [item.name for item in items]
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{key}: the name '{repeated[0]}' appears twice")
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that are switched on, in the order of `PARTS`."""
        return tuple(name for name in PARTS if getattr(self, name) is not None)

    @property
    def piped(self) -> bool:
        """Whether the plan is a pipeline, whose stages hold their own dense parts."""
        return self.pattern is not None and self.pattern.kind == "pipeline"
