"""What may be spent: joules, seconds, waiting, and how long answers are taken to be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moe2opt.schema import Name, Section

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


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


class MoneyBudget(Section):
    """What prompts and deployed experts may cost, in money.

    Prices are those of the measured table (per token, per prompt, per hour) and of the servers.
    """

    currency: Literal["usd", "eur", "gbp", "chf", "jpy", "cny", "inr", "krw", "cad", "aud"] = "usd"
    """Currency of every price here; columns of the measured table start with it."""
    limit_per_prompt: NonNegative | None = None
    """Money that one prompt may cost, averaged over the prompts; none for no limit."""
    counts: Literal["all", "one", "largest"] = "all"
    """Who is paid for a prompt, as for energy: `all`, `one`, or the `largest` prices."""
    largest: Annotated[int, Field(ge=1)] | None = None
    """How many experts answer a prompt (`counts: largest`)."""
    limit_per_hour: NonNegative | None = None
    """Money that the servers in use and the deployed experts may cost per hour, whatever they
    answer; none for no limit."""
    per_kwh: NonNegative = 0.0
    """Price of a kilowatt-hour; the joules of an answer are paid with it."""
    worth_of_correct: Positive | None = None
    """What a correct answer is worth. The objective is then the share of correct answers less what
    the answers cost, in units of that worth; a prompt that is not worth its price counts 0."""

    @model_validator(mode="after")
    def _how_many(self) -> MoneyBudget:
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


class Lengths(Section):
    """How long answers are: a distribution, where single answers are not known.

    Declared lengths rise and fall together: a prompt with a long answer has one from every LLM.
    """

    distribution: Literal["lognormal", "exponential", "constant"] | None = None
    """Distribution of the length of an answer around its mean in the category; required with
    `tables`. With `experts`, the lengths of the training and validation parts are taken when it is
    left out."""
    cv: NonNegative | None = None
    """Standard deviation over mean (`lognormal`)."""
    points: Annotated[int, Field(ge=2, le=2000)] = 200
    """Equally likely lengths that stand for a distribution; most prompts of a category that are
    taken from the outcomes."""

    @model_validator(mode="after")
    def _shape(self) -> Lengths:
        if self.distribution == "lognormal" and self.cv is None:
            raise ValueError("cv: needed with distribution 'lognormal'")
        if self.distribution != "lognormal" and self.cv is not None:
            raise ValueError("cv: only goes with distribution 'lognormal'")
        return self


class Queue(Section):
    """Prompts that arrive at random times and wait for a busy server.

    M/G/1: every server works on one request at a time, first come first served.
    """

    prompts_per_s: Positive
    """Mean number of prompts per second, over all categories (Poisson arrivals)."""
    wait_limit_s: Positive
    """Longest mean wait for a server in seconds. It is added to the time of every answer, so
    that deadlines hold with it."""
    counts: Literal["all", "one"] = "one"
    """`all`: every prompt goes to every deployed expert, and those of a server take turns; `one`:
    each prompt goes to one expert, and the wait is that of the worst routing there is."""
    load_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Largest share of the prompts that one server gets (`counts: one`); 1 for no such rule."""

    @model_validator(mode="after")
    def _share(self) -> Queue:
        if self.counts == "all" and self.load_share < 1:
            raise ValueError("load_share: only goes with counts 'one'")
        return self
