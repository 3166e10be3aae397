"""YAML sections of a selection instance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moe2opt.schema import Section

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]


class LlmPool(Section):
    """Which LLMs of the tables may be deployed."""

    max_params_b: Positive | None = None
    """Largest number of parameters in memory, in units of 1e9; none for no limit."""
    include: tuple[Name, ...] | None = None
    """Names to choose from; all of them when left out."""
    exclude: tuple[Name, ...] = ()
    """Names to leave out."""


class Precision(Section):
    """A weight format that every LLM is offered in."""

    name: Name
    """Name of the precision; the profile table `precisions.csv` knows fp16, q8 and q4."""
    bits_per_weight: Annotated[float, Field(gt=0, le=64)] | None = None
    """Effective bits per weight, scales included; from the profile table when left out."""
    quality_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the accuracy that remains; from the profile table (estimated) when left out."""


class Server(Section):
    """A machine, or several identical ones, that can host experts."""

    name: Name
    """Name of the server; with `count` above 1 the copies are called name-1, name-2, ..."""
    device: Name
    """Device of the profile table `devices.csv`, such as `RTX 4090`."""
    count: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many identical servers."""
    memory_gib: Positive | None = None
    """Memory for weights in GiB; from the profile table when left out."""
    reserve_gib: NonNegative = 0.0
    """Memory in GiB kept free for the system."""
    uplink_mbps: Positive
    """Rate from the user to the server in Mbit/s."""
    downlink_mbps: Positive
    """Rate from the server to the user in Mbit/s."""
    round_trip_ms: NonNegative = 0.0
    """Network round trip in milliseconds."""


class EnergyBudget(Section):
    """Energy that one prompt may cost, averaged over the prompts."""

    limit_j_per_prompt: NonNegative
    """Limit in joules per prompt."""
    counts: Literal["all", "one"] = "all"
    """`all`: worst case, every deployed expert answers (the sum of all experts stays within the
    limit); `one`: only the routed expert answers (every deployed expert stays within it)."""


class DelayBudget(Section):
    """Deadlines per category, and how the time of an expert counts."""

    limit_s: Positive | dict[Name, Positive] | None = None
    """Deadline in seconds: one number, or one per category (categories left out have none)."""
    sharing: Literal["dedicated", "shared"] = "dedicated"
    """`dedicated`: experts answer in parallel, each on its own; `shared`: the experts of a server
    take turns, so their times add up."""
    scope: Literal["category", "everywhere"] = "category"
    """What a missed deadline means. `category`: the expert does not serve that category;
    `everywhere`: it may not be deployed at all."""
    gate_s: NonNegative = 0.0
    """Seconds of the gate and of putting the answer together, added to every answer."""
    bytes_per_token: Positive = 4.0
    """Size of a token on the network in bytes."""


class SelectionConfig(Section):
    """A selection instance: which LLM experts to deploy on which server, and who answers what."""

    schema_version: Literal[1] = 1
    """Version of this file format."""
    problem: Literal["selection"]
    """The question asked."""
    name: Name
    """Short name of the instance."""
    description: str = ""
    """What the instance is about, and where its figures come from."""
    objective: Literal["expected_accuracy"] = "expected_accuracy"
    """Share of prompts expected to be answered correctly when each cluster of prompts goes to the
    best deployed expert."""
    tables: Name
    """Folder of the cluster tables, relative to this file."""
    profiles: Name | None = None
    """Folder of the profile tables, relative to this file; the built-in ones when left out."""
    llms: LlmPool = LlmPool()
    """Which LLMs may be deployed."""
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)]
    """Weight formats on offer."""
    servers: Annotated[tuple[Server, ...], Field(min_length=1)]
    """Machines that can host experts."""
    context_gib: NonNegative = 0.5
    """Memory in GiB that every deployed expert needs besides its weights (context, buffers)."""
    energy: EnergyBudget | None = None
    """Energy budget; none for no limit."""
    delay: DelayBudget = DelayBudget()
    """Deadlines."""
    max_experts: Annotated[int, Field(ge=1)] | None = None
    """Largest number of deployed experts; none for no limit."""

    @model_validator(mode="after")
    def _names_differ(self) -> SelectionConfig:
        for key, items in (("precisions", self.precisions), ("servers", self.servers)):
            names = [item.name for item in items]
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{key}: the name '{repeated[0]}' appears twice")
        return self
