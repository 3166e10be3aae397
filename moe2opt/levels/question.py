"""Instances: a table that compiles itself, reads solutions back as plans, and judges plans."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.content import Content
from moe2opt.errors import InputError
from moe2opt.levels.case import Case, Level, case_of
from moe2opt.levels.compile import Robust, compile_case, compile_robust
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

    @property
    def bound(self) -> str:
        """The bound that suits the problem: a threshold is one choice of many, best halved."""
        return "auto" if self.robust is None else "counts"

    @property
    def fixed_rows(self) -> tuple[int, ...]:
        """Rows that say which weights deviate: no limit of the user's."""
        return tuple(range(len(self.case.limits), len(self.row_names())))

    @cached_property
    def robust(self) -> Robust | None:
        """The problem of the worst case, None where no weight deviates or all do."""
        some = 0 < self.case.deviating < len(self.case.menus)
        return compile_robust(self.case) if some else None

    @cached_property
    def _problem(self) -> MultipleChoiceProblem:
        return compile_case(self.case) if self.robust is None else self.robust.problem

    def problem(self) -> MultipleChoiceProblem:
        """Return the canonical problem; the same object at every call."""
        return self._problem

    def _levels(self, x: IntArray) -> dict[str, Level]:
        options = self.problem().vector(x)
        if self.robust is not None:
            return self.robust.levels(options)
        menus = self.case.menus.items()
        return {group: menu[int(o)] for (group, menu), o in zip(menus, options, strict=True)}

    def tightened(self, x: IntArray) -> IntArray:
        """Return the same choices with the weights that do most harm, and no more, deviating."""
        return x if self.robust is None else self.robust.vector(self.case, self._levels(x))

    def decode(self, x: IntArray) -> LevelsPlan:
        """Return the plan that a solution stands for."""
        return plan_of(self.case, self._levels(x))

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
        """Return the name of each row: the budgets, and what makes a case the worst one."""
        return list(self.case.limits if self.robust is None else self.robust.rows)

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
