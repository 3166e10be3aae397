"""YAML sections of what is not a mean: mixtures of experts, answer lengths, queues."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moe2opt.schema import Section

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class MixtureSection(Section):
    """Weights of the experts that answer together (objectives `masked_softmax` and `top_k`)."""

    temperature: Annotated[float, Field(ge=0.1, le=1000)] = 1.0
    """The weights are the softmax of log(q / (1 - q)) / temperature, q the score of an expert."""
    k: Annotated[int, Field(ge=1)] | None = None
    """How many deployed experts answer a prompt (objective `top_k`); with `experts` it is
    `routing.top_k` when left out."""


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
