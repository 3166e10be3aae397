"""Instances: a table that compiles itself, reads solutions back as plans, and judges plans."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moe2opt.canonical import FacilityProblem
from moe2opt.content import Content
from moe2opt.portfolio.case import Case, case_of
from moe2opt.portfolio.compile import compile_case, cover_names
from moe2opt.portfolio.judge import faults, serving, total
from moe2opt.portfolio.plan import PortfolioPlan, plan_of
from moe2opt.portfolio.sections import PortfolioConfig
from moe2opt.present import Measure
from moe2opt.result import IntArray


@dataclass(frozen=True, eq=False, repr=False)
class PortfolioInstance(Content):
    """Which candidates are kept.

    Attributes
    ----------
    case
        Classes, candidates, costs and baselines.
    """

    case: Case

    @property
    def name(self) -> str:
        """Short name."""
        return self.case.name

    @property
    def measure(self) -> Measure:
        """Sense, unit and name of the mean."""
        return self.case.measure

    @property
    def caveats(self) -> tuple[str, ...]:
        """What must be known to read any figure."""
        return self.case.caveats

    @cached_property
    def _problem(self) -> FacilityProblem:
        return compile_case(self.case)

    def problem(self) -> FacilityProblem:
        """Return the canonical problem; the same object at every call."""
        return self._problem

    def decode(self, x: IntArray) -> PortfolioPlan:
        """Return the plan that a solution stands for."""
        taken = zip(self.case.candidates, self.problem().vector(x), strict=True)
        return plan_of(self.case, {name for name, kept in taken if kept})

    def evaluate(self, plan: PortfolioPlan) -> float:
        """Return the mean over classes of what is kept, from the table."""
        return total(self.case, serving(self.case, plan.kept))

    def check(self, plan: PortfolioPlan) -> list[str]:
        """Return the violated requirements in words."""
        unknown = [name for name in plan.kept if name not in self.case.candidates]
        if unknown:
            return [f"plan: '{unknown[0]}' is no candidate of the table"]
        return faults(self.case, plan.kept)

    def row_names(self) -> list[str]:
        """Return the name of each budget."""
        return list(self.case.limits)

    def cover_names(self) -> list[str]:
        """Return the name of each cover: classes that are served, candidates that are there."""
        return cover_names(self.case)

    def describe(self) -> str:
        """Return one line about the table."""
        case = self.case
        pairs = sum(map(len, case.cells.values()))
        return (
            f"{len(case.cells)} classes, {len(case.candidates)} candidates, {pairs} pairs within "
            f"the limits; mean {case.measure.label} to be large within {', '.join(case.limits)}"
        )


def build(
    config: PortfolioConfig, folder: Path, *, allow_outside: bool = False
) -> PortfolioInstance:
    """Read the tables that `config` names and return the instance."""
    return PortfolioInstance(case_of(config, folder, allow_outside=allow_outside))
