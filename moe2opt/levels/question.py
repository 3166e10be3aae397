"""Instances: a table that compiles itself, reads solutions back as plans, and judges plans."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.content import Content
from moe2opt.errors import InputError
from moe2opt.levels.case import Case, case_of
from moe2opt.levels.compile import compile_case
from moe2opt.levels.judge import faults, levels_of, total
from moe2opt.levels.plan import LevelsPlan, plan_of
from moe2opt.levels.sections import LevelsConfig
from moe2opt.present import Measure
from moe2opt.result import IntArray


@dataclass(frozen=True, eq=False, repr=False)
class LevelsInstance(Content):
    """Which option each group runs at.

    Attributes
    ----------
    case
        Menus, weights, budgets and baselines.
    """

    case: Case

    @property
    def name(self) -> str:
        """Short name."""
        return self.case.name

    @property
    def measure(self) -> Measure:
        """Sense, unit and name of the sum."""
        return self.case.measure

    @property
    def caveats(self) -> tuple[str, ...]:
        """What must be known to read any figure."""
        return self.case.caveats

    @cached_property
    def _problem(self) -> MultipleChoiceProblem:
        return compile_case(self.case)

    def problem(self) -> MultipleChoiceProblem:
        """Return the canonical problem; the same object at every call."""
        return self._problem

    def decode(self, x: IntArray) -> LevelsPlan:
        """Return the plan that a solution stands for."""
        options = self.problem().vector(x)
        menus = self.case.menus.items()
        return plan_of(
            self.case,
            {group: menu[int(o)] for (group, menu), o in zip(menus, options, strict=True)},
        )

    def evaluate(self, plan: LevelsPlan) -> float:
        """Return the canonical objective of a plan's choices, from the table."""
        return self.measure.own(total(self.case, levels_of(self.case, plan.choices)))

    def check(self, plan: LevelsPlan) -> list[str]:
        """Return the violated requirements in words."""
        try:
            return faults(self.case, levels_of(self.case, plan.choices))
        except InputError as error:
            return [f"plan: {error}"]

    def row_names(self) -> list[str]:
        """Return the name of each budget."""
        return list(self.case.limits)

    def cover_names(self) -> list[str]:
        """Return no names: nothing has to be covered."""
        return []

    def describe(self) -> str:
        """Return one line about the table."""
        menus, measure = self.case.menus, self.case.measure
        return (
            f"{len(menus)} groups, {sum(map(len, menus.values()))} options; {measure.label} to be "
            f"{'small' if measure.minimizes else 'large'} within {', '.join(self.case.limits)}"
        )


def build(config: LevelsConfig, folder: Path, *, allow_outside: bool = False) -> LevelsInstance:
    """Read the tables that `config` names and return the instance."""
    return LevelsInstance(case_of(config, folder, allow_outside=allow_outside))
