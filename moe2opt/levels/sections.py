"""YAML sections of the question ``levels``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moe2opt.schema import FileName, Name, NamedPlan, Section

Amount = Annotated[float, Field(ge=0, le=1e15)]
Share = Annotated[float, Field(ge=0, le=1)]


class Value(Section):
    """What is summed over the groups."""

    column: Name
    """Column of the value."""
    sense: Literal["max", "min"] = "max"
    """Whether it is to be large (`max`) or small (`min`)."""
    se: Name | None = None
    """Column of its standard error; when left out, the value's column with `_se` if the table has
    it."""
    caution: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Standard errors by which every value is taken worse than it was measured: a plan that is
    best in the worst case of intervals that wide. Needs a column of standard errors."""
    weights: FileName | dict[Name, Amount] | None = None
    """One factor per group: a CSV with the column of the groups and a column `weight`, or the
    factors by group; all 1 when left out."""
    intervals: Share | FileName | dict[Name, tuple[Amount, Amount]] | None = None
    """Where the weight of each group may really lie: a share of it up and down, a CSV with the
    column of the groups and the columns `low` and `high`, or both ends by group. The plan is then
    the best in the worst case."""
    deviating: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """How many weights at most are elsewhere in their intervals at once (Bertsimas and Sim's
    budget of uncertainty); all of them when left out."""
    unit: Annotated[str, Field(max_length=40)] = ""
    """Unit in which the sum is shown."""

    @model_validator(mode="after")
    def _intervals(self) -> Value:
        if self.deviating is not None and self.intervals is None:
            raise ValueError("deviating: there are no intervals in which weights could deviate")
        return self


class LevelsConfig(Section):
    """Which option does each group run at, so that the sum of the values is best within budgets."""

    problem: Literal["levels"]
    """The question that this file asks."""
    name: Name
    """Short name."""
    table: FileName
    """CSV with one row per option of a group; columns that no key names are not read."""
    group: Name
    """Column of the groups."""
    option: Name
    """Column of the options."""
    value: Name | Value
    """Column of a value that is to be large, or more about it."""
    budgets: Annotated[dict[Name, Amount], Field(min_length=1)]
    """Limit of each used resource, by its column: the sum over groups may be that large."""
    baselines: tuple[Literal["uniform", "greedy"] | NamedPlan, ...] = ("uniform", "greedy")
    """What is printed beside the plan: the best option that all groups can share, the marginal
    greedy rule, and plans of others."""
    notes: tuple[str, ...] = ()
    """What must be known to read the figures."""
