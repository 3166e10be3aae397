"""The plan: which candidates are kept, whom each serves, and what rules in use would give."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moe2opt.beside import Rival, Use, figure, table_of
from moe2opt.portfolio.baselines import rivals
from moe2opt.portfolio.case import Case
from moe2opt.portfolio.judge import serving, standard_error, total, used
from moe2opt.schema import rebuilt
from moe2opt.view import Map, View, bars, number, table

if TYPE_CHECKING:
    import pandas as pd

ASKS = "Which candidates are kept, so that the best one for each class is good on average?"

#: Classes and kept candidates up to which a plan is drawn as a map.
_MAPPED = (200, 64)


@dataclass(frozen=True)
class Served:
    """Who serves a class (None for nobody), at which weight and value; `able` of the kept could."""

    name: str
    weight: float
    candidate: str | None
    value: float
    standard_error: float | None
    able: tuple[str, ...]


@dataclass(frozen=True)
class PortfolioPlan:
    """Candidates that are kept.

    Attributes
    ----------
    instance
        Name of the instance.
    quantity, unit, column
        What is averaged, its unit, and what the table calls candidates.
    kept
        Candidates that serve a class, and those that are always there.
    serves
        Who serves each class; classes that nothing serves are left out.
    total, standard_error
        The weighted mean and its standard error (None without any in the table).
    classes
        Every class.
    budgets
        Use of each budget.
    baselines
        What rules in use give on the same table.
    notes
        What must be known to read the figures.
    """

    instance: str
    quantity: str
    unit: str
    column: str
    kept: tuple[str, ...]
    serves: dict[str, str]
    total: float
    standard_error: float | None
    classes: tuple[Served, ...]
    budgets: tuple[Use, ...]
    baselines: tuple[Rival, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PortfolioPlan:
        """Rebuild a plan from `to_dict`; raise `InputError` for anything else."""
        return rebuilt(cls, data, "plan of a portfolio")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per class."""
        import pandas as pd

        return pd.DataFrame([asdict(served) for served in self.classes])

    def summary(self) -> str:
        """Return the plan in words: the mean, baselines, budgets, and whom each one serves."""
        lines = [f"{self.instance}: mean {self.quantity} {self._figure()}"]
        lines += map(str, self.baselines)
        lines += [f"{u.name}: {number(u.used)} of {number(u.limit)}" for u in self.budgets]
        for candidate in self.kept:
            whom = [name for name, server in self.serves.items() if server == candidate]
            lines.append(f"{candidate} serves {', '.join(whom) or 'nobody'}")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def view(self) -> View:
        """Return what a page shows."""
        rows = [
            (s.name, number(s.weight), s.candidate or "nobody", number(s.value))
            for s in self.classes
        ]
        return View(
            asks=ASKS,
            figures=((f"mean {self.quantity}", self._figure()), ("kept", ", ".join(self.kept))),
            bars=bars(self.budgets),
            tables=(
                table("Who serves whom", ("class", "weight", self.column, self.quantity), rows),
                table_of(self.baselines, self.quantity),
            ),
            notes=self.notes,
            map=self._map(),
        )

    def _figure(self) -> str:
        return figure(self.total, self.unit, self.standard_error)

    def _map(self) -> Map | None:
        if len(self.classes) > _MAPPED[0] or not 0 < len(self.kept) <= _MAPPED[1]:
            return None
        return Map(
            title="Who serves whom, and who could",
            label="one row per class, one cell per kept candidate",
            caption=f"Kept from left to right: {', '.join(self.kept)}.",
            axis="kept candidates",
            places=("serves", "could serve"),
            names=tuple(served.name for served in self.classes),
            rows=tuple(
                tuple(
                    0 if one == served.candidate else 1 if one in served.able else -1
                    for one in self.kept
                )
                for served in self.classes
            ),
        )


def plan_of(case: Case, chosen: set[str]) -> PortfolioPlan:
    """Return the plan of chosen candidates; those that serve nobody are not kept."""
    serves = serving(case, chosen)
    needed = {*serves.values(), *case.base}
    kept = tuple(name for name in case.candidates if name in needed)
    beside = tuple(rivals(case, kept))
    classes = []
    for name, row in case.cells.items():
        candidate = serves.get(name)
        cell = None if candidate is None else row[candidate]
        value, error = (0.0, None) if cell is None else (cell.value, cell.standard_error)
        able = tuple(one for one in kept if one in row)
        classes.append(Served(name, case.weights[name], candidate, value, error, able))
    return PortfolioPlan(
        instance=case.name,
        quantity=case.measure.quantity,
        unit=case.measure.unit,
        column=case.column,
        kept=kept,
        serves=serves,
        total=total(case, serves),
        standard_error=standard_error(case, serves),
        classes=tuple(classes),
        budgets=tuple(used(case, kept)),
        baselines=beside,
        notes=(*(rival.note for rival in beside if rival.note), *case.caveats),
    )
