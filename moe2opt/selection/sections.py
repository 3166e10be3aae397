"""YAML sections of a selection instance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from moe2opt.schema import FileName, Name, Section
from moe2opt.selection.agreement import complaints_of
from moe2opt.selection.gate_sections import Experts, GateSection, RoutingSection, Splits
from moe2opt.selection.load_sections import Lengths, MixtureSection, Queue
from moe2opt.selection.serving_section import Serving

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


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
    engine: Name | None = None
    """Engine that runs it, such as `llama.cpp` or `vLLM`; the usual one of the format when left
    out."""


class Server(Section):
    """A machine, or several identical ones, that can host experts."""

    name: Name
    """Name of the server; with `count` above 1 the copies are called name-1, name-2, ..."""
    device: Name
    """Device of the profile table `devices.csv`, such as `RTX 4090`."""
    count: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many identical servers."""
    power_mode: Name | None = None
    """Power mode of the device, such as `15W`; its usual one when left out."""
    power_cap_w: Positive | None = None
    """Power cap in watts; none when left out. A lower cap takes longer."""
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
    counts: Literal["all", "one", "largest"] = "all"
    """`all`: worst case, every deployed expert answers (the sum of all experts stays within the
    limit); `one`: only the routed expert answers (every deployed expert stays within it);
    `largest`: some of them answer (the sum of the costliest ones stays within it)."""
    largest: Annotated[int, Field(ge=1)] | None = None
    """How many experts answer a prompt (`counts: largest`)."""

    @model_validator(mode="after")
    def _how_many(self) -> EnergyBudget:
        if self.counts == "largest" and self.largest is None:
            raise ValueError("largest: needed with counts 'largest'")
        if self.counts != "largest" and self.largest is not None:
            raise ValueError("largest: only goes with counts 'largest'")
        return self


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
    statistic: Literal["mean", "quantile", "cvar"] = "mean"
    """What of the time of an answer keeps the deadline, over the lengths of the answers: its
    `mean`, a `quantile`, or `cvar`, the mean of the slowest answers beyond that quantile."""
    level: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Level of the quantile or of CVaR, such as 0.95."""
    counts: Literal["one", "all"] = "one"
    """`one`: the deadline holds for each expert that serves a category; `all`: all deployed
    experts answer every prompt, and it holds for the last of their answers."""

    @model_validator(mode="after")
    def _agree(self) -> DelayBudget:
        if self.statistic != "mean" and self.level is None:
            raise ValueError(f"level: needed with statistic '{self.statistic}'")
        if self.statistic == "mean" and self.level is not None:
            raise ValueError("level: only goes with statistic 'quantile' or 'cvar'")
        if self.counts == "all" and self.scope == "category" and "scope" in self.model_fields_set:
            raise ValueError("scope: 'category' does not go with counts 'all': everybody answers")
        return self


class Robust(Section):
    """Keep energy and delay budgets although seconds and joules are predictions.

    Every prediction has an interval from its hold-out errors; the budgets are then met with each
    prediction at a quantile above its value. More robust is never better and never needs less.
    """

    quantile: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    """Probability that a single prediction is not exceeded, such as 0.9; 0.5 is the prediction."""
    interval: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Instead of `quantile`: the upper end of the two-sided interval of this probability."""

    @property
    def level(self) -> float:
        """The quantile that is asked for."""
        return (1 + (self.interval or 0.0)) / 2 if self.quantile is None else self.quantile

    @model_validator(mode="after")
    def _one_of_both(self) -> Robust:
        if (self.quantile is None) == (self.interval is None):
            raise ValueError("give either `quantile` or `interval`, and not both")
        return self


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
    objective: Literal["expected_accuracy", "expected_max", "masked_softmax", "top_k"] | None = None
    """Share of prompts expected to be answered correctly. `expected_accuracy` (with `tables`): each
    cluster of prompts goes to the best deployed expert; `expected_max` (with `experts`): each
    prompt of the selection part goes to the deployed expert that the gate rates highest;
    `masked_softmax`: all deployed experts share every prompt by the gate's weights; `top_k`: the
    best k of them do."""
    mixture: MixtureSection = MixtureSection()
    """Weights of experts that answer together (`masked_softmax`, `top_k`)."""
    sets: Literal["one", "per_category"] = "one"
    """`one`: every category asks all deployed experts; `per_category`: each category asks experts
    of its own among the deployed ones, and energy counts these only (with `tables`)."""
    experts: Experts | None = None
    """Outcome matrix to learn a gate from, instead of `tables` and `llms`."""
    tables: Annotated[FileName | None, Field(validate_default=True)] = None
    """Folder of the cluster tables, relative to this file; required without `experts`."""
    splits: Splits = Splits()
    """How the prompts of the outcome matrix are split (with `experts`)."""
    gate: GateSection = GateSection()
    """The gate (with `experts`)."""
    routing: RoutingSection = RoutingSection()
    """Routing of single prompts (with `experts`)."""
    serving: Serving = Serving()
    """Hosts and weight files for `moe2opt export`; no part of the problem."""
    profiles: FileName | Annotated[tuple[FileName, ...], Field(min_length=1)] | None = None
    """Folder of the profile tables, relative to this file; the built-in ones when left out. A list
    joins folders, `builtin` standing for the built-in tables: the first folder that knows a device
    gives all of its rows."""
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
    lengths: Lengths | None = None
    """Lengths of single answers, for quantiles, CVaR and queues."""
    queue: Queue | None = None
    """Waiting at a load; none for one request at a time."""
    robust: Robust | None = None
    """Keep the budgets robustly; the predictions themselves count when left out."""
    max_experts: Annotated[int, Field(ge=1)] | None = None
    """Largest number of deployed experts; none for no limit."""

    @field_validator("tables")
    @classmethod
    def _source(cls, tables: str | None, others: ValidationInfo) -> str | None:
        # Faulty `experts` are no longer among the others; then they are told, and nothing else.
        if tables is None and "experts" in others.data and others.data["experts"] is None:
            raise PydanticCustomError("missing", "Field required")
        return tables

    @model_validator(mode="after")
    def _one_source(self) -> SelectionConfig:
        if self.tables is not None and self.experts is not None:
            raise ValueError("tables: give either `tables` or `experts`, and not both")
        source, objective = ("tables", "expected_accuracy")
        if self.experts is not None:
            source, objective = ("experts", "expected_max")
            if "llms" in self.model_fields_set:
                raise ValueError("llms: with `experts`, max_params_b, include and exclude go there")
        elif extra := {"splits", "gate", "routing"} & self.model_fields_set:
            raise ValueError(f"{min(extra)}: needs `experts`")
        if self.objective not in (None, objective, "masked_softmax", "top_k"):
            raise ValueError(f"objective: '{self.objective}' does not go with `{source}`")
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> SelectionConfig:
        for complaint in complaints_of(self):
            raise ValueError(complaint)
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> SelectionConfig:
        for key, items in (("precisions", self.precisions), ("servers", self.servers)):
            names = [item.name for item in items]
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{key}: the name '{repeated[0]}' appears twice")
        return self
