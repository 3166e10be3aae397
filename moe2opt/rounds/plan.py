"""The plan: who does what in the round, what that takes, and what rules in use would have given."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moe2opt.beside import Rival, table_of
from moe2opt.content import Content
from moe2opt.rounds.baselines import rivals
from moe2opt.rounds.case import Case
from moe2opt.rounds.judge import Assignment, judge
from moe2opt.schema import rebuilt
from moe2opt.view import Bar, Map, View, number, table

if TYPE_CHECKING:
    import pandas as pd

ASKS = "Who does what in a round on one radio, so that it costs least time or energy?"


#: Cells into which a round is cut to be drawn.
_CELLS = 120


@dataclass(frozen=True, eq=False, repr=False)
class RoundPlan(Content):
    """A round.

    Attributes
    ----------
    instance, kind
        Name of the instance, and kind of its work.
    time_s, energy_j
        When the round ends, and the joules of all devices.
    objective
        What the question minimises.
    micro_batches
        Into how many parts the batch of a pipeline is cut; None for other work.
    resource_blocks
        How many blocks are in use, and how many there are.
    assignments
        What each device that takes part does.
    baselines
        What rules in use give, by the same formulas.
    notes
        What must be known.
    """

    instance: str
    kind: str
    time_s: float
    energy_j: float
    objective: float
    micro_batches: int | None
    resource_blocks: tuple[int, int]
    assignments: tuple[Assignment, ...]
    baselines: tuple[Rival, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RoundPlan:
        """Rebuild a plan from `to_dict`; raise `InputError` for anything else."""
        return rebuilt(cls, data, "plan of rounds")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per device that takes part."""
        import pandas as pd

        return pd.DataFrame([asdict(own) for own in self.assignments]).dropna(axis=1, how="all")

    def summary(self) -> str:
        """Return the plan in words."""
        used, there = self.resource_blocks
        parts = "" if self.micro_batches is None else f", in {self.micro_batches} parts"
        lines = [
            f"{self.instance}: the round ends after {number(self.time_s)} s and takes "
            f"{number(self.energy_j)} J; {used} of {there} resource blocks{parts}",
            *(" ".join(f"{cell:<14}" for cell in row).rstrip() for row in (_HEADER, *self._rows())),
            *map(str, self.baselines),
        ]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def view(self) -> View:
        """Return what a page shows."""
        used, there = self.resource_blocks
        figures = (("time", f"{number(self.time_s)} s"), ("energy", f"{number(self.energy_j)} J"))
        band = Bar("resource blocks", str(used), str(there), used / there)
        return View(
            asks=ASKS,
            figures=figures,
            bars=(band,),
            tables=(
                table("Who does what", _HEADER, self._rows()),
                table_of(self.baselines, "objective"),
            ),
            notes=self.notes,
            map=self._gantt(),
        )

    def _gantt(self) -> Map:
        """Return when each device computes and sends: of a pipeline, part after part."""
        parts = self.micro_batches or 1
        turns = parts if self.micro_batches is None else parts + len(self.assignments) - 1
        turn_s = self.time_s / turns
        waits = turn_s - max(own.compute_s + own.upload_s for own in self.assignments) / parts
        waits = 0.0 if self.micro_batches is None else waits

        def cell(position: int, own: Assignment, at_s: float) -> int:
            first = 0 if self.micro_batches is None else position
            turn, done_s = divmod(at_s, turn_s)
            if not first <= turn < first + parts:
                return -1
            computed_s = waits + own.compute_s / parts
            return (
                0
                if done_s < computed_s
                else 1
                if done_s < computed_s + own.upload_s / parts
                else -1
            )

        middles = [self.time_s * (k + 0.5) / _CELLS for k in range(_CELLS)]
        return Map(
            title="Who computes and sends when",
            label="one row per device, time from left to right",
            caption=f"{_CELLS} cells of {number(self.time_s / _CELLS)} s.",
            axis="time",
            places=("computes", "sends"),
            names=tuple(own.device for own in self.assignments),
            rows=tuple(
                tuple(cell(k, own, at_s) for at_s in middles)
                for k, own in enumerate(self.assignments)
            ),
        )

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (own.device, own.work, f"{own.power_w:g}", str(own.resource_blocks),
             number(own.compute_s), number(own.upload_s), number(own.energy_j))
            for own in self.assignments
        ]  # fmt: skip


_HEADER = ("device", "work", "power (W)", "blocks", "computes (s)", "sends (s)", "energy (J)")


def plan_of(case: Case, assignments: tuple[Assignment, ...]) -> RoundPlan:
    """Return the plan of assignments."""
    found, config = judge(case, assignments), case.config
    beside = tuple(rivals(case, found.objective))
    slowest = max(own.compute_s + own.upload_s for own in assignments)
    return RoundPlan(
        instance=config.name,
        kind=config.work.kind,
        time_s=found.time_s,
        energy_j=found.energy_j,
        objective=found.objective,
        micro_batches=case.micro_batches(slowest, len(assignments)),
        resource_blocks=(sum(own.resource_blocks for own in assignments), config.radio.blocks),
        assignments=assignments,
        baselines=beside,
        notes=(*(rival.note for rival in beside if rival.note), *config.notes),
    )
