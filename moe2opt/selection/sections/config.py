"""The whole file of a selection, and which of its sections go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from moe2opt.schema import FileName, Name, Section
from moe2opt.schema.source import did_you_mean
from moe2opt.selection.sections.budgets import (
    DelayBudget,
    EnergyBudget,
    Lengths,
    MoneyBudget,
    Queue,
    Robust,
)
from moe2opt.selection.sections.gate import (
    Experts,
    GateSection,
    MixtureSection,
    RoutingSection,
    Splits,
    VoteSection,
)
from moe2opt.selection.sections.machines import (
    LlmPool,
    MeasuredSection,
    Precision,
    Server,
    Serving,
)

NonNegative = Annotated[float, Field(ge=0)]

#: Precision of an LLM behind an API: nobody says which it is.
API = "api"


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
    objective: (
        Literal["expected_accuracy", "expected_max", "masked_softmax", "top_k", "vote"] | None
    ) = None
    """Share of prompts expected to be answered correctly. `expected_accuracy` (with `tables`): each
    cluster of prompts goes to the best deployed expert; `expected_max` (with `experts`): each
    prompt of the selection part goes to the deployed expert that the gate rates highest;
    `masked_softmax`: all deployed experts share every prompt by the gate's weights; `top_k`: the
    best k of them do; `vote` (with `experts`): all deployed experts answer each prompt and vote."""
    mixture: MixtureSection = MixtureSection()
    """Weights of experts that answer together (`masked_softmax`, `top_k`)."""
    vote: VoteSection = VoteSection()
    """Votes of experts that answer together (`vote`)."""
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
    measured: FileName | MeasuredSection | None = None
    """Table of measured seconds, joules and tokens, or its file alone. It goes before the profiles,
    without any fit."""
    llms: LlmPool = LlmPool()
    """Which LLMs may be deployed."""
    precisions: tuple[Precision, ...] = ()
    """Weight formats on offer; at least one, unless all servers are APIs."""
    servers: Annotated[tuple[Server, ...], Field(min_length=1)]
    """Machines that can host experts."""
    fixed: dict[Name, Name | Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )
    """Servers that an LLM is fixed to, by its name: it runs nowhere else. The name of an entry with
    `count` means all of its copies."""
    context_gib: NonNegative = 0.5
    """Memory in GiB that every deployed expert needs besides its weights (context, buffers)."""
    energy: EnergyBudget | None = None
    """Energy budget; none for no limit."""
    money: MoneyBudget | None = None
    """Prices and budgets of money; none where money does not matter."""
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

    @property
    def measured_section(self) -> MeasuredSection | None:
        """The measured table and how it is used; None without one."""
        found = self.measured
        return MeasuredSection(file=found) if isinstance(found, str) else found

    @property
    def mixes(self) -> bool:
        """Whether several experts may answer a prompt together under the objective."""
        return self.objective in ("masked_softmax", "top_k")

    @property
    def all_answer(self) -> bool:
        """Whether a prompt is answered when the last deployed expert has answered it."""
        return self.delay.counts == "all" or self.objective == "vote"

    @property
    def answering(self) -> int | None:
        """How many experts answer a prompt under the objective `top_k`, None if unknown."""
        if self.mixture.k is None and self.experts is not None:
            return self.routing.top_k
        return self.mixture.k

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
        if self.objective == "vote" and self.experts is None:
            raise ValueError("objective: 'vote' needs single outcomes: `experts`, not `tables`")
        if self.objective not in (None, objective, "masked_softmax", "top_k", "vote"):
            raise ValueError(f"objective: '{self.objective}' does not go with `{source}`")
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> SelectionConfig:
        for complaint in (
            *_of_mixture(self), *_of_vote(self), *_of_lengths(self), *_of_sets(self),
            *_of_money(self),
        ):  # fmt: skip
            raise ValueError(complaint)
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> SelectionConfig:
        for key, items in (("precisions", self.precisions), ("servers", self.servers)):
            names = [item.name for item in items]
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{key}: the name '{repeated[0]}' appears twice")
        if API in [item.name for item in self.precisions]:
            raise ValueError(f"precisions: '{API}' is what LLMs behind an API have")
        if not self.precisions and not all(server.api for server in self.servers):
            raise ValueError("precisions: required key is missing, or names no weight format")
        offered = [item.name for item in self.precisions]
        for k, server in enumerate(self.servers):
            for name in server.precisions or ():
                if name not in offered:
                    hint = did_you_mean(name, offered)
                    raise ValueError(f"servers.{k}.precisions: '{name}' is not on offer{hint}")
        known = {name for server in self.servers for name in server.names}
        for llm, wanted in self.fixed.items():
            for name in (wanted,) if isinstance(wanted, str) else wanted:
                if name not in known:
                    hint = did_you_mean(name, sorted(known))
                    raise ValueError(f"fixed.{llm}: there is no server '{name}'{hint}")
        return self

    def may_hold(self, server: Server, copy: str, llm: str, precision: str) -> bool:
        """Tell whether a single server, the `copy` of an entry, may hold an LLM at a precision.

        An API holds LLMs at the precision `API` alone, and no other server does.
        """
        wanted = self.fixed.get(llm)
        places = (wanted,) if isinstance(wanted, str) else wanted
        return (
            server.api == (precision == API)
            and (server.llms is None or llm in server.llms)
            and (server.precisions is None or precision in server.precisions)
            and (places is None or server.name in places or copy in places)
        )


def _of_mixture(config: SelectionConfig) -> Iterator[str]:
    """Yield what does not go together about mixtures; a complaint starts with the key at fault."""
    if config.objective != "top_k" and config.mixture.k is not None:
        yield "mixture.k: only goes with objective 'top_k'"
    if not config.mixes and config.mixture.model_fields_set:
        key = min(config.mixture.model_fields_set)
        yield f"mixture.{key}: only goes with objective 'masked_softmax' or 'top_k'"
    if config.objective != "top_k":
        return
    if config.answering is None:
        yield "mixture.k: needed with objective 'top_k'"
    elif "top_k" in config.routing.model_fields_set and config.answering != config.routing.top_k:
        yield f"mixture.k: {config.mixture.k}, but routing.top_k is {config.routing.top_k}"


def _of_vote(config: SelectionConfig) -> Iterator[str]:
    """Yield what a vote, in which every expert answers, does not go with."""
    if config.objective != "vote":
        if config.vote.model_fields_set:
            key = min(config.vote.model_fields_set)
            yield f"vote.{key}: only goes with objective 'vote'"
        return
    queue = config.queue
    for key, budget in (("energy", config.energy), ("money", config.money)):
        if budget is not None and budget.counts != "all":
            yield f"{key}.counts: '{budget.counts}', but in a vote all experts answer"
    if "counts" in config.delay.model_fields_set and config.delay.counts == "one":
        yield "delay.counts: 'one', but in a vote all experts answer"
    if queue is not None and queue.counts != "all":
        yield f"queue.counts: '{queue.counts}', but in a vote all experts answer"
    for key in ("gate", "routing"):
        if key in config.model_fields_set:
            yield f"{key}: nothing is routed in a vote"


def _of_lengths(config: SelectionConfig) -> Iterator[str]:
    """Yield a complaint where lengths of single answers are needed and not known."""
    if config.experts is not None or (config.lengths and config.lengths.distribution):
        return
    if config.lengths:
        yield "lengths.distribution: required with `tables`, which hold mean lengths only"
    elif wanting := next(_length_users(config), None):
        yield f"lengths: needed for {wanting}; the tables hold mean lengths only"


def _length_users(config: SelectionConfig) -> Iterator[str]:
    if config.delay.statistic != "mean":
        yield f"delay.statistic '{config.delay.statistic}'"
    if config.all_answer:
        yield "delay.counts 'all'"
    if config.queue is not None:
        yield "queue"


def _of_sets(config: SelectionConfig) -> Iterator[str]:
    """Yield what sets by category do not go with: what is no sum over experts."""
    if config.sets != "per_category":
        return
    energy = config.energy.counts if config.energy else "all"
    money = config.money.counts if config.money else "all"
    others = (
        (config.experts is not None, "`experts`"),
        (config.mixes, f"objective '{config.objective}'"),
        (money != "all", f"money.counts '{money}'"),
        (rented(config), "money.limit_per_hour"),
        (energy != "all", f"energy.counts '{energy}'"),
        (config.delay.scope == "everywhere", "delay.scope 'everywhere'"),
        (config.delay.counts == "all", "delay.counts 'all'"),
        (config.queue is not None, "queue"),
        (config.robust is not None, "robust"),
    )
    for clashes, what in others:
        if clashes:
            yield f"sets: 'per_category' does not go with {what}"


def _of_money(config: SelectionConfig) -> Iterator[str]:
    """Yield what does not go together about money and APIs."""
    money = config.money
    for k, server in enumerate(config.servers):
        if server.api and server.llms is None and config.measured is None:
            yield f"servers.{k}.llms: needed: which LLMs does the API offer?"
        if money is None and server.money_per_hour:
            yield f"servers.{k}.money_per_hour: needs `money`"
    if money is None and config.routing.money_per_prompt is not None:
        yield "routing.money_per_prompt: needs `money`"
    if money is None:
        return
    if (config.mixes or config.objective == "vote") and money.worth_of_correct is not None:
        yield f"money.worth_of_correct: does not go with objective '{config.objective}'"


def rented(config: SelectionConfig) -> bool:
    """Whether servers are paid by the hour, and the hours are limited."""
    paid = any(s.money_per_hour and s.billed == "deployed" for s in config.servers)
    return paid and config.money is not None and config.money.limit_per_hour is not None


def unusual(config: SelectionConfig) -> Iterator[str]:
    """Yield what may keep an instance from being a sum over experts, by its keys."""
    if config.mixes:
        yield f"objective '{config.objective}'"
    if config.energy is not None and config.energy.counts == "largest":
        yield "energy.counts 'largest'"
    if config.money is not None and config.money.counts == "largest":
        yield "money.counts 'largest'"
    if rented(config):
        yield "money.limit_per_hour"
    if config.objective == "vote":
        yield "objective 'vote'"
    elif config.delay.counts == "all":
        yield "delay.counts 'all'"
    if config.delay.sharing == "shared" and config.delay.statistic != "mean":
        yield f"delay.statistic '{config.delay.statistic}' on shared servers"
    if config.queue is not None:
        yield "queue"


def notes_of(config: SelectionConfig) -> Iterator[str]:
    """Yield what is assumed about lengths, queues and mixtures."""
    lengths = config.lengths
    wanting = next(_length_users(config), None)
    if lengths and lengths.distribution and wanting:
        spread = "" if lengths.cv is None else f", standard deviation {lengths.cv:g} of the mean"
        yield (
            f"answer lengths are assumed {lengths.distribution}{spread}, "
            "long for all LLMs on the same prompts"
        )
    if config.queue is not None:
        yield (
            f"every answer is taken to wait {config.queue.wait_limit_s:g} s, the longest mean wait "
            "allowed; quantiles do not cover how single waits vary"
        )
    if config.mixes:
        yield "the test figures are those of the leading expert of each prompt, not of the mixture"
