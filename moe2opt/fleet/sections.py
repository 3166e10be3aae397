"""A fleet as a file: kinds of sites, how many of each, and the budget that couples them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from moe2opt.schema import FileName, Name, Section

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Between(Section):
    """A range from which every site draws its own value, uniformly."""

    low: Positive
    """Smallest value."""
    high: Positive
    """Largest value."""

    @model_validator(mode="after")
    def _ordered(self) -> Between:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} exceeds high {self.high:g}")
        return self


class Vary(Section):
    """How far the figures of a site differ from those of its configuration (synthetic)."""

    use: Share = 0.0
    """Every expert's (option's) use of the shared budget times 1 ± this share."""
    quality: Share = 0.0
    """Every value times 1 ± this share."""
    limits: Share = 0.0
    """Every budget of the site times 1 ± this share."""


class SiteKind(Section):
    """Sites that share a configuration."""

    name: Name
    """Name of the kind."""
    config: FileName
    """Configuration: a path relative to this file, or the name of a built-in problem."""
    scenario: Name | None = None
    """Scenario of the configuration."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Values by dotted key of the configuration."""
    count: Annotated[int, Field(ge=1, le=1_000_000)]
    """Number of sites."""
    rate: Positive | Between = 1.0
    """Prompts (tokens) per second: weight of the site in objective and shared budget."""
    vary: Vary = Vary()
    """How sites differ; identical ones are solved once."""


class FleetFile(Section):
    """Many sites, each with a problem of its own, under one shared budget."""

    fleet: Literal[1]
    """Version of this file format."""
    name: Name
    """Name of the fleet."""
    row: Name
    """Budget row of the sites that is shared, such as energy_j_per_prompt."""
    limit: Positive
    """Shared budget: the sum over sites of rate times use; joules per prompt at prompts per second
    give watts."""
    sites: Annotated[tuple[SiteKind, ...], Field(min_length=1)]
    """The kinds of sites."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of rates and variations."""
