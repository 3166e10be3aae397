"""YAML sections of the question ``portfolio``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moe2opt.schema import FileName, Name, NamedPlan, Section

Amount = Annotated[float, Field(ge=0, le=1e15)]
Limit = Annotated[float, Field(ge=-1e15, le=1e15)]


class Classes(Section):
    """Whom the candidates serve."""

    column: Name
    """Column of the classes."""
    weights: FileName | dict[Name, Amount] | None = None
    """Weight of each class: a CSV with the column of the classes and a column `weight`, or the
    weights by class; all the same when left out. They are divided by their sum."""


class ClassValue(Section):
    """What a candidate is worth to a class."""

    column: Name
    """Column of the value, at least 0, that is to be large."""
    se: Name | None = None
    """Column of its standard error; when left out, the value's column with `_se` if the table has
    it."""
    unit: Annotated[str, Field(max_length=40)] = ""
    """Unit in which the mean is shown."""


class PortfolioConfig(Section):
    """Which candidates are kept, so that the best one for each class is good on average."""

    problem: Literal["portfolio"]
    """The question that this file asks."""
    name: Name
    """Short name."""
    table: FileName
    """CSV with one row per class and candidate that could serve it; columns that no key names are
    not read."""
    classes: Name | Classes = Field(alias="class")
    """Column of the classes, or more about them."""
    candidate: Name
    """Column of the candidates."""
    value: Name | ClassValue
    """Column of the value, or more about it."""
    where: dict[Name, Limit | FileName] = Field(default_factory=dict)
    """Most that a column may be for a candidate to serve a class: one limit, or a CSV with the
    column of the classes and a column of this name."""
    costs: Annotated[dict[Name, Amount | FileName], Field(min_length=1)]
    """Cost of each candidate: one for all, or a CSV with the column of the candidates and a column
    of this name."""
    budgets: Annotated[dict[Name, Amount], Field(min_length=1)]
    """Limit of each cost, summed over what is kept."""
    every_class_served: bool = False
    """Whether a candidate must be kept for every class; otherwise a class without one counts 0."""
    base: tuple[Name, ...] = ()
    """Candidates that are always there, at no cost."""
    baselines: tuple[Literal["greedy", "sorted"] | NamedPlan, ...] = ("greedy", "sorted")
    """What is printed beside the plan: the best next candidate again and again, candidates in the
    order of what each is worth alone, and choices of others."""
    notes: tuple[str, ...] = ()
    """What must be known to read the figures."""
