"""Single outcomes, the gate that learns from them, and who answers a prompt."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moe2opt.schema import FileName, Name, Section
from moe2opt.selection.gate.settings import Backend, Calibration, GateSettings, Head

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Experts(Section):
    """An outcome matrix, and which of its LLMs may be deployed."""

    outcomes: FileName
    """Folder of the outcome matrix, relative to this file (docs/reference/outcome-format.md)."""
    max_params_b: Positive | None = None
    """Largest number of parameters in memory, in units of 1e9; none for no limit."""
    include: tuple[Name, ...] | None = None
    """Names to choose from; all of them when left out."""
    exclude: tuple[Name, ...] = ()
    """Names to leave out."""
    features: FileName | None = None
    """File of feature vectors instead of the folder's embeddings (.npz, .parquet, .csv; relative
    to this file), `text` to hash the words of the column `question`, or `none` for the category
    alone; a vote needs none."""
    assumed_prompt_tokens: Positive | None = None
    """Length of every prompt where the folder has no column prompt_tokens; assumed, and said so."""
    assumed_output_tokens: Positive | None = None
    """Length of every answer where the folder has no output_tokens; assumed, and said so."""


class Splits(Section):
    """Shares of the prompts, drawn at random within each category."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """What the gate learns on, with the validation part where it is chosen by cross-validation."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What a gate with torch or a softmax head is chosen and calibrated on."""
    select: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """What the experts are selected on."""
    test: Share = 0.2
    """What nothing is tuned on."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the draw."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Splits:
        if abs(sum(self.shares) - 1) > 1e-9:
            raise ValueError(f"the shares sum to {sum(self.shares):g}, expected 1")
        return self

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """The four shares."""
        return (self.train, self.validation, self.select, self.test)


class GateSection(Section):
    """How the gate is trained, and where it is kept."""

    folder: FileName | None = None
    """Folder of the trained gate, relative to this file; NAME.gate when left out."""
    head: Head = "sigmoid"
    """`sigmoid`: a probability of a correct answer for each LLM; `softmax`: a distribution over
    the LLMs."""
    backend: Backend = "auto"
    """`sklearn` (the mean of every LLM, a table of categories or a linear model, whichever
    cross-validation finds enough), `torch` (one hidden layer), or `auto`: `sklearn`."""
    calibration: Calibration = "platt"
    """How scores become probabilities: `platt`, `temperature`, `isotonic` or `none`."""
    category: bool = True
    """Whether the category of a prompt is a feature."""
    hidden: Annotated[int, Field(ge=0, le=4096)] = 64
    """Width of the hidden layer (torch); 0 for none."""
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Most passes over the training prompts (torch)."""
    patience: Annotated[int, Field(ge=1, le=1_000_000)] = 6
    """Passes without progress on the validation part that end the training (torch)."""
    learning_rate: Positive = 1e-3
    """Learning rate (torch)."""
    weight_decay: NonNegative = 3.0
    """Weight decay (torch)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the hidden layer left out at each step (torch)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""

    def settings(self) -> GateSettings:
        """Return the settings of the training."""
        return GateSettings(**self.model_dump(exclude={"folder"}))


class RoutingSection(Section):
    """How single prompts are routed once the experts are deployed (`evaluate`)."""

    top_k: Annotated[int, Field(ge=1)] = 1
    """How many deployed experts answer a prompt; their answers are put to a weighted vote."""
    energy_j_per_prompt: Positive | None = None
    """Budget of expected energy for cost-aware routing, in joules per prompt; three quarters of
    what the plan's own routing uses when left out."""
    delay_s: Positive | None = None
    """Budget of expected delay for cost-aware routing, in seconds; none for no limit."""
    money_per_prompt: Positive | None = None
    """Budget of expected money for cost-aware routing, in the currency of `money`."""
    days: Literal["category", "gate"] = "category"
    """How `replay` routes the prompts of a day: by `category`; with `gate` there is also the policy
    `gated`, which trains a gate (section `gate`) every day on the outcomes that it knows by then,
    and routes single prompts by it."""


class VoteSection(Section):
    """Votes of experts that answer together (objective `vote`)."""

    weights: Literal["equal", "accuracy"] = "equal"
    """`equal`: one vote for each LLM, the most votes win; `accuracy`: votes by the log-odds of its
    accuracy in the category on the training and validation parts."""
    pool: Literal["answers", "log_probabilities"] = "answers"
    """`answers`: each LLM votes for the answer that it gave; `log_probabilities`: those of every
    answer are added, weighted alike, and the largest sum wins (a logarithmic opinion pool)."""


class MixtureSection(Section):
    """Weights of the experts that answer together (objectives `masked_softmax` and `top_k`)."""

    temperature: Annotated[float, Field(ge=0.1, le=1000)] = 1.0
    """The weights are the softmax of log(q / (1 - q)) / temperature, q the score of an expert."""
    k: Annotated[int, Field(ge=1)] | None = None
    """How many deployed experts answer a prompt (objective `top_k`); with `experts` it is
    `routing.top_k` when left out."""
