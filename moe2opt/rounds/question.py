"""The instance of the question ``rounds``: compiles, reads solutions back, judges plans."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.content import Content
from moe2opt.present import Measure
from moe2opt.result import IntArray
from moe2opt.rounds.case import Case, read_case
from moe2opt.rounds.compile import Compiled, clock_of, compile_case
from moe2opt.rounds.judge import Assignment, judge
from moe2opt.rounds.plan import RoundPlan, plan_of
from moe2opt.rounds.sections import RoundsConfig
from moe2opt.schema import inside


@dataclass(frozen=True, eq=False, repr=False)
class RoundInstance(Content):
    """A round to be planned.

    Attributes
    ----------
    case
        Devices, radio, work and settings.
    """

    case: Case

    #: The clock is one choice of many, best halved.
    bound = "counts"

    @property
    def fixed_rows(self) -> tuple[int, ...]:
        """Rows that make the round one: no limit of the user's."""
        return tuple(range(self.compiled.fixed))

    @property
    def name(self) -> str:
        """Short name."""
        return self.case.config.name

    @property
    def measure(self) -> Measure:
        """Seconds, joules, or a weighted sum, all of which are to be small."""
        goal = self.case.config.objective
        plain = all(device.queue == 1.0 for device in self.case.devices)
        if goal.time == 1 and not goal.energy:
            return Measure("minimize", "s", "time", least=0.0)
        if goal.energy == 1 and not goal.time and plain:
            return Measure("minimize", "J", "energy", least=0.0)
        return Measure("minimize", "", "weighted sum")

    @property
    def caveats(self) -> tuple[str, ...]:
        """What must be known to read any figure."""
        return self.case.config.notes

    @cached_property
    def compiled(self) -> Compiled:
        """The problem with what its options stand for."""
        return compile_case(self.case)

    def problem(self) -> MultipleChoiceProblem:
        """Return the canonical problem."""
        return self.compiled.problem

    def tightened(self, x: IntArray) -> IntArray:
        """Return the same choices under the soonest clock."""
        tight = np.asarray(x, dtype=np.int64).copy()
        tight[0] = clock_of(self.case, self.compiled, tight)
        return tight

    def decode(self, x: IntArray) -> RoundPlan:
        """Return the plan that a solution stands for."""
        chosen = [options[int(o)] for (_, options), o in zip(self.case.groups, x[1:], strict=True)]
        return plan_of(self.case, tuple(Assignment.of(o) for o in chosen if o.device is not None))

    def evaluate(self, plan: RoundPlan) -> float:
        """Return minus the objective of a plan, from its own assignments."""
        return -judge(self.case, plan.assignments).objective

    def check(self, plan: RoundPlan) -> list[str]:
        """Return the requirements that a plan breaks."""
        return list(judge(self.case, plan.assignments).faults)

    def row_names(self) -> list[str]:
        """Return the name of each row."""
        return list(self.compiled.rows)

    def cover_names(self) -> list[str]:
        """Return no names: nothing has to be covered."""
        return []

    def describe(self) -> str:
        """Return one line about the size."""
        config, options = self.case.config, sum(len(own) for _, own in self.case.groups)
        return (
            f"{config.work.kind}: {len(self.case.devices)} devices, {config.radio.blocks} resource "
            f"blocks, {options} ways of taking part"
        )


def build(config: RoundsConfig, folder: Path, *, allow_outside: bool = False) -> RoundInstance:
    """Return the instance of a configuration.

    Raises
    ------
    InputError
        When a table cannot be read, or nobody can do a part of the work.
    """

    def file(name: str, key: str) -> Path:
        return inside(folder, name, key, allow_outside=allow_outside)

    return RoundInstance(read_case(config, file))
