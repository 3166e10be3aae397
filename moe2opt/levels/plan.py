"""The plan: which option each group runs at, what that takes, and what rules in use would give."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moe2opt.beside import Rival, Use, figure, table_of
from moe2opt.levels.baselines import rivals
from moe2opt.levels.case import Case, Level
from moe2opt.levels.judge import nominal, standard_error, total, used, weights_of
from moe2opt.schema import rebuilt
from moe2opt.view import Map, View, bars, number, table

if TYPE_CHECKING:
    import pandas as pd

ASKS = "Which option does each group run at, so that the sum of the values is best within budgets?"

#: Groups and options up to which a plan is drawn as a map.
_MAPPED = (200, 64)


@dataclass(frozen=True)
class Choice:
    """The option of one group, its weight, and its figures in the table.

    The weight is that of the worst case; `deviates` says that it is not the one that was given.
    """

    group: str
    option: str
    weight: float
    value: float
    standard_error: float | None
    uses: dict[str, float]
    deviates: bool = False


@dataclass(frozen=True)
class LevelsPlan:
    """One option per group.

    Attributes
    ----------
    instance
        Name of the instance.
    quantity, unit
        What is summed, and its unit.
    columns
        What the table calls groups and options.
    choices
        Option of each group.
    total, standard_error
        The weighted sum, in the worst case of weights that deviate, and its standard error (None
        without any in the table).
    groups
        The chosen rows of the table.
    budgets
        Use of each budget.
    baselines
        What rules in use give on the same table.
    options
        All options, in the order of the table.
    notes
        What must be known to read the figures.
    nominal
        The sum at the weights as they are given, where some may deviate.
    """

    instance: str
    quantity: str
    unit: str
    columns: tuple[str, str]
    choices: dict[str, str]
    total: float
    standard_error: float | None
    groups: tuple[Choice, ...]
    budgets: tuple[Use, ...]
    baselines: tuple[Rival, ...]
    options: tuple[str, ...]
    notes: tuple[str, ...] = ()
    nominal: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LevelsPlan:
        """Rebuild a plan from `to_dict`; raise `InputError` for anything else."""
        return rebuilt(cls, data, "plan of levels")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per group."""
        import pandas as pd

        rows = [asdict(choice) for choice in self.groups]
        return pd.DataFrame([row | row.pop("uses") for row in rows])

    def summary(self) -> str:
        """Return the plan in words: the sum, baselines, budgets, and the option of each group."""
        lines = [f"{self.instance}: {self.quantity} {self._figure()}"]
        if self.nominal is not None:
            off = ", ".join(c.group for c in self.groups if c.deviates) or "none"
            lines.append(f"at the given weights {number(self.nominal)}; at worst deviate: {off}")
        lines += map(str, self.baselines)
        lines += [f"{u.name}: {number(u.used)} of {number(u.limit)}" for u in self.budgets]
        lines += [f"{c.group}: {c.option} ({number(c.value)})" for c in self.groups]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def view(self) -> View:
        """Return what a page shows."""
        header = [*self.columns, "weight", "value", *(u.name for u in self.budgets)]
        rows = [
            (c.group, c.option, *map(number, (c.weight, c.value, *c.uses.values())))
            for c in self.groups
        ]
        figures = [(self.quantity, self._figure())]
        if self.nominal is not None:
            figures.append(("at the given weights", number(self.nominal)))
        return View(
            asks=ASKS,
            figures=tuple(figures),
            bars=bars(self.budgets),
            tables=(
                table("The plan", header, rows),
                table_of(self.baselines, self.quantity),
            ),
            notes=self.notes,
            map=self._map(),
        )

    def _figure(self) -> str:
        return figure(self.total, self.unit, self.standard_error)

    def _map(self) -> Map | None:
        if len(self.groups) > _MAPPED[0] or len(self.options) > _MAPPED[1]:
            return None
        return Map(
            title="Which option each group has",
            label="one row per group, one cell per option; the chosen one is coloured",
            caption=f"Options from left to right: {', '.join(self.options)}.",
            axis="options",
            places=("chosen",),
            names=tuple(choice.group for choice in self.groups),
            rows=tuple(
                tuple(0 if option == choice.option else -1 for option in self.options)
                for choice in self.groups
            ),
        )


def plan_of(case: Case, chosen: dict[str, Level]) -> LevelsPlan:
    """Return the plan of the chosen options, with figures from the table."""
    beside = tuple(rivals(case, chosen))
    notes = [rival.note for rival in beside if rival.note]
    weights = weights_of(case, chosen)
    return LevelsPlan(
        instance=case.name,
        quantity=case.measure.quantity,
        unit=case.measure.unit,
        columns=case.columns,
        choices={group: level.option for group, level in chosen.items()},
        total=total(case, chosen),
        standard_error=standard_error(case, chosen),
        groups=tuple(
            Choice(
                group=group,
                option=level.option,
                weight=weights[group],
                value=level.value,
                standard_error=level.standard_error,
                uses=dict(zip(case.limits, level.uses, strict=True)),
                deviates=weights[group] != case.weights[group],
            )
            for group, level in chosen.items()
        ),
        budgets=tuple(used(case, chosen)),
        baselines=beside,
        options=tuple(
            dict.fromkeys(level.option for menu in case.menus.values() for level in menu)
        ),
        notes=(*notes, *case.caveats),
        nominal=nominal(case, chosen) if case.intervals else None,
    )
