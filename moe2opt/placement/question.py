"""The question of placement: an instance that compiles, judges and decodes, and its building."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.placement.assignment import Assignment
from moe2opt.placement.case import Case
from moe2opt.placement.checks import check_case
from moe2opt.placement.compile import Compiled, compiled
from moe2opt.placement.figures import Baseline, Figures
from moe2opt.placement.judge import evaluate, violations
from moe2opt.placement.machine.topology import build_topology
from moe2opt.placement.mode import Mode
from moe2opt.placement.modes import mode_of
from moe2opt.placement.plan import PlacementPlan, plan_of
from moe2opt.placement.reading import Reader
from moe2opt.placement.sections import PlacementConfig
from moe2opt.present import Measure
from moe2opt.result import IntArray
from moe2opt.source import Source


@dataclass(frozen=True, eq=False, repr=False)
class PlacementInstance(Case):
    """Which tier, precision and form each expert of one model gets.

    Attributes
    ----------
    config
        The YAML sections.
    shape, precisions, topology, activation
        Model, Q weight formats, T tiers, use of the experts.
    folder
        Folder that the paths of the configuration are relative to.
    notes
        What must be known about the data.
    rates
        Measured seconds of this machine, None without them.
    tables
        Tables of the parts that are switched on.
    source
        The file that it was loaded from, set by `moe2opt.load`; a variant of it has none.
    """

    source: Source | None = field(default=None, init=False)

    def __getstate__(self) -> dict[str, Any]:
        # What was compiled reads solutions with functions that do not travel; it comes again.
        return {name: value for name, value in self.__dict__.items() if name != "compiled"}

    @cached_property
    def mode(self) -> Mode:
        """How the layers are treated."""
        return mode_of(self)

    @cached_property
    def compiled(self) -> Compiled:
        """The canonical problem, the names of its rows, and how to read its solutions."""
        return compiled(self.mode)

    @cached_property
    def baselines(self) -> tuple[Baseline, ...]:
        """What simple rules achieve."""
        return tuple(self.mode.baselines())

    def problem(self) -> MultipleChoiceProblem:
        """Return the multiple-choice problem; the same object at every call."""
        return self.compiled.problem

    def decode(self, x: IntArray) -> PlacementPlan:
        """Return the plan that the option indices `x` stand for."""
        return self.plan_of(self.compiled.read(self.problem().vector(x)))

    def plan_of(self, assignment: Assignment) -> PlacementPlan:
        """Return the plan of any assignment."""
        return plan_of(self.mode, assignment, self.baselines)

    def tightened(self, x: IntArray) -> IntArray:
        """Return a robust solution with the least worst case that its plan allows; else `x`."""
        if not self.activation.robust:
            return x
        at = np.flatnonzero(self.problem().values[-1] == self.evaluate(self.decode(x)))
        least = np.append(x[:-1], at[:1]) if len(at) else x
        return least if self.problem().is_feasible(least) else x

    def figures(self, plan: PlacementPlan) -> Figures:
        """Return what a plan costs, computed from the instance's own data."""
        return evaluate(self.mode, plan.assignment)

    def evaluate(self, plan: PlacementPlan) -> float:
        """Return minus the objective's figure: problems are maximised, costs are not wanted."""
        figure = self.figures(plan).value(self.config.objective)
        return -self.compiled.rounded(figure)

    def check(self, plan: PlacementPlan) -> list[str]:
        """Return the violated requirements in words; empty for a valid plan."""
        return violations(self.mode, plan.assignment)

    @property
    def measure(self) -> Measure:
        """Sense and unit of the objective: a cost, in the unit of its figure."""
        return _MEASURES[self.config.objective]

    def row_names(self) -> list[str]:
        """Return the name (with unit) of each budget row."""
        return list(self.compiled.row_names)

    def cover_names(self) -> list[str]:
        """Return no names: a placement has no covers."""
        return []

    def describe(self) -> str:
        """Return one line about the size of the instance."""
        layers, experts = self.shape.size
        kind = "synthetic use: " if self.activation.synthetic else ""
        return (
            f"{kind}{self.shape.name}, {layers} layers x {experts} experts, "
            f"top-{self.shape.top_k}, "
            f"{len(self.topology.tiers)} tiers, {len(self.precisions)} precisions, "
            f"minimise {self.config.objective}"
        )


_MEASURES = {
    name: Measure("minimize", unit, quantity, least=0.0)
    for name, unit, quantity in (
        ("seconds_per_token", "s per token", "time"),
        ("joules_per_token", "J per token", "energy"),
        ("loss_nats", "nats", "quality loss"),
        ("memory_gib", "GiB", "memory"),
        ("loads_per_token", "loads per token", "loads"),
        ("uncovered_per_token", "layers per token", "uncovered layers"),
    )
}


def build(
    config: PlacementConfig, folder: Path, *, allow_outside: bool = False
) -> PlacementInstance:
    """Read what `config` names and return the instance.

    Parameters
    ----------
    config
        Validated configuration.
    folder
        Folder of the YAML file; paths are relative to it.
    allow_outside
        Whether paths may leave that folder.

    Raises
    ------
    InputError
        For unreadable sources, unknown names, or capacities that cannot hold what they must.
    """
    reader = Reader(config, folder, allow_outside)
    shape = reader.shape()
    context = shape.context_bytes(config.model.context_tokens, config.batch)
    precisions = reader.precisions(shape)
    rates = reader.rates(shape, precisions)
    working = 0.0 if rates is None else rates.working_bytes
    table = shape.table_bytes if shape.table_in_ram and not config.piped else 0.0
    reserved = 0.0 if config.piped else shape.dense_bytes - table + context + working
    instance = PlacementInstance(
        config=config,
        shape=shape,
        precisions=precisions,
        topology=build_topology(config.tiers, config.links, config.home, reserved, rates, table),
        activation=reader.activation(shape),
        folder=folder,
        notes=tuple(reader.notes(shape, rates)),
        rates=rates,
        tables=reader.tables(shape),
    )
    check_case(instance.mode)
    return instance
