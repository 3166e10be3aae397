"""A compiled selection instance: the canonical problem, and the budgets in the instance's terms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import FacilityProblem, Problem
from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.constraints.measures import Measure


@dataclass(frozen=True, eq=False)
class Compiled:
    """The canonical problem, and the budgets of the instance in its own terms.

    Attributes
    ----------
    problem
        What is solved; its first N variables say which experts are deployed.
    row_names, cover_names
        Names of its budget rows and covers.
    base
        The part of it that is linear in the experts: objective of the best one, rows, groups.
    base_names, base_covers
        Names of the rows and covers of `base`.
    measures
        The other budgets.
    """

    problem: Problem
    row_names: tuple[str, ...]
    cover_names: tuple[str, ...]
    base: FacilityProblem
    base_names: tuple[str, ...]
    base_covers: tuple[str, ...]
    measures: tuple[Measure, ...] = ()

    @property
    def budget_names(self) -> tuple[str, ...]:
        """Names of all budgets of the instance."""
        return (*self.base_names, *(measure.name for measure in self.measures))

    @property
    def budgets(self) -> FloatArray:
        """Their limits."""
        return np.array([*self.base.budgets, *(measure.limit for measure in self.measures)])

    @property
    def limits(self) -> FloatArray:
        """Their limits with the numerical slack."""
        return np.array([*self.base.limits, *(measure.allowed for measure in self.measures)])

    @property
    def size(self) -> int:
        """Number of experts N."""
        return self.base.size

    @property
    def clusters(self) -> int:
        """Number of rows of the objective C."""
        return self.base.clusters

    @property
    def groups(self) -> tuple[IntArray, ...]:
        """At most one expert of each."""
        return self.base.groups

    @property
    def weighted(self) -> FloatArray:
        """``(C, N)`` values of the best expert times weights."""
        return self.base.weighted

    def usage_of(self, x: IntArray) -> FloatArray:
        """Return what the experts of a solution use; further variables are ignored."""
        chosen = np.asarray(x)[: self.base.size]
        used = [measure.use(chosen > 0) for measure in self.measures]
        return np.array([*self.base.usage_of(chosen), *used])

    def is_feasible(self, x: IntArray) -> bool:
        """Tell whether a set of experts keeps all budgets, groups and covers."""
        return bool((self.usage_of(x) <= self.limits).all()) and bool(self.base.is_feasible(x))
