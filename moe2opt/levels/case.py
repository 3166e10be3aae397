"""Everything that a plan is decided by: the menu of each group, weights, budgets and rivals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from moe2opt.beside import NOISY
from moe2opt.content import Content
from moe2opt.errors import InputError
from moe2opt.levels.sections import LevelsConfig, Value
from moe2opt.present import Measure, Sense
from moe2opt.schema import inside, rivals_of
from moe2opt.schema.csv import (
    AMOUNT,
    NAME,
    NUMBER,
    read_columns,
    read_numbers,
    same_names,
    value_columns,
)
from moe2opt.text import near, shown

#: What is true of every answer to this question.
ADDITIVE = (
    "the objective is the sum of a table: whether effects of several groups add up, only a run of "
    "the whole plan shows"
)
_ENDS = ("low", "high")


@dataclass(frozen=True, slots=True)
class Level:
    """One option of a group.

    Attributes
    ----------
    option
        Its name.
    value
        What it is worth or costs, before the weight of its group.
    standard_error
        Of the value, None where the table has none.
    uses
        Use of each resource, in the order of the budgets.
    """

    option: str
    value: float
    standard_error: float | None
    uses: tuple[float, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Case(Content):
    """Groups with their options, under shared budgets.

    Attributes
    ----------
    name
        Short name.
    menus
        Options of each group, in the order of the table.
    columns
        Names of the columns of groups and options.
    weights
        Factor of each group.
    intervals, deviating
        Ends of the interval of each factor, and how many factors at most are elsewhere in it than
        where they are said to be.
    limits
        Limit of each resource.
    measure
        Sense, unit and name of the summed value.
    rivals
        Baselines to compare with: their names, and the option of each group for plans of others.
    caveats
        What must be known to read any figure.
    """

    name: str
    menus: dict[str, tuple[Level, ...]]
    columns: tuple[str, str]
    weights: dict[str, float]
    limits: dict[str, float]
    measure: Measure
    rivals: dict[str, dict[str, str] | None]
    caveats: tuple[str, ...] = ()
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    deviating: int = 0

    @property
    def noisy(self) -> bool:
        """Whether the table has standard errors."""
        return next(iter(self.menus.values()))[0].standard_error is not None

    def worst_weight(self, group: str, level: Level) -> float:
        """Return the end of the interval of a group's factor at which an option is worth least."""
        ends = self.intervals.get(group, (self.weights[group],))
        return min(ends, key=lambda weight: self.measure.own(weight * level.value))

    def harm(self, group: str, level: Level) -> float:
        """Return by how much the sum is worse when the factor of a group deviates."""
        gone = (self.weights[group] - self.worst_weight(group, level)) * level.value
        return max(self.measure.own(gone), 0.0)

    def level(self, group: str, option: str) -> Level:
        """Return one option of a group.

        Raises
        ------
        InputError
            When there is no such group or option.
        """
        for level in self.menus.get(group, ()):
            if level.option == option:
                return level
        if group not in self.menus:
            raise InputError(f"'{shown(group)}' is no group of the table{_hint(group, self.menus)}")
        known = [level.option for level in self.menus[group]]
        raise InputError(f"{group} has no option '{shown(option)}'{_hint(option, known)}")


def _hint(word: str, known: object) -> str:
    close = near(word, list(known))  # type: ignore[call-overload]
    return f"; did you mean '{close}'?" if close else ""


def case_of(config: LevelsConfig, folder: Path, *, allow_outside: bool = False) -> Case:
    """Read the tables that a configuration names.

    Raises
    ------
    InputError
        Naming the key, or file and line, at fault.
    """

    def path(name: str, key: str) -> Path:
        return inside(folder, name, key, allow_outside=allow_outside)

    value = config.value if isinstance(config.value, Value) else Value(column=config.value)
    menus = _menus(config, value, path(config.table, "table"))
    weights = dict.fromkeys(menus, 1.0)
    given = value.weights
    if isinstance(given, str):
        file = path(given, "value.weights")
        given = read_numbers(file, config.group, "weight", AMOUNT, "value.weights")
    if given is not None:
        same_names("value.weights", given, list(menus))
        weights = {group: given[group] for group in menus}
    intervals = _intervals(config, value, weights, path)
    deviating = min(len(menus) if value.deviating is None else value.deviating, len(intervals))
    sense: Sense = "minimize" if value.sense == "min" else "maximize"
    measure = Measure(sense, value.unit, value.column)
    columns = config.group, config.option
    case = Case(config.name, menus, columns, weights, dict(config.budgets), measure, {})
    plans = rivals_of(
        config.baselines, lambda name, key: _named_plan(case, config, path(name, key))
    )
    caution = f"every value is taken {value.caution:g} standard errors worse than it was measured"
    worst = f"the sum is the worst with {deviating} of the weights anywhere in their intervals"
    doubts = [
        *([caution] if value.caution else []),
        *([worst] if intervals else []),
        *([NOISY] if case.noisy else []),
    ]
    caveats = (*config.notes, ADDITIVE, *doubts)
    return replace(case, rivals=plans, caveats=caveats, intervals=intervals, deviating=deviating)


def _intervals(
    config: LevelsConfig,
    value: Value,
    weights: dict[str, float],
    path: Callable[[str, str], Path],
) -> dict[str, tuple[float, float]]:
    given, key = value.intervals, "value.intervals"
    if given is None:
        return {}
    if isinstance(given, float):
        return {name: ((1 - given) * own, (1 + given) * own) for name, own in weights.items()}
    if isinstance(given, str):
        wanted = {key: (config.group, NAME), **{f"{key}.{end}": (end, AMOUNT) for end in _ENDS}}
        rows = read_columns(path(given, key), wanted, unique=(key,))
        given = {row[key]: (row[f"{key}.low"], row[f"{key}.high"]) for row in rows}
    same_names(key, given, list(weights))
    for name, (low, high) in given.items():
        if not low <= weights[name] <= high:
            raise InputError(
                f"{key}: {name}: {low:g} to {high:g} does not hold its weight {weights[name]:g}"
            )
    return {name: given[name] for name in weights}


def _menus(config: LevelsConfig, value: Value, file: Path) -> dict[str, tuple[Level, ...]]:
    if config.group == config.option:
        raise InputError(f"option: '{shown(config.option)}' is the column of the groups")
    wanted = {"group": (config.group, NAME), "option": (config.option, NAME)}
    wanted |= value_columns(file, value.column, value.se, NUMBER)
    wanted |= {f"budgets.{name}": (name, AMOUNT) for name in config.budgets}
    rows = read_columns(file, wanted, unique=("group", "option"))
    if not rows:
        raise InputError(f"table: {file.name} has no rows")
    if value.caution and "value.se" not in wanted:
        raise InputError(f"value.caution: {file.name} has no column of standard errors")
    worse = value.caution if value.sense == "min" else -value.caution
    menus: dict[str, list[Level]] = {}
    for row in rows:
        uses = tuple(row[f"budgets.{name}"] for name in config.budgets)
        error = row.get("value.se")
        level = Level(row["option"], row["value.column"] + worse * (error or 0.0), error, uses)
        menus.setdefault(row["group"], []).append(level)
    return {group: tuple(menu) for group, menu in menus.items()}


def _named_plan(case: Case, config: LevelsConfig, file: Path) -> dict[str, str]:
    wanted = {"group": (config.group, NAME), "option": (config.option, NAME)}
    rows = read_columns(file, wanted, unique=("group",))
    choices = {row["group"]: row["option"] for row in rows}
    try:
        for group, option in choices.items():
            case.level(group, option)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    lacking = [group for group in case.menus if group not in choices]
    if lacking:
        raise InputError(f"{file}: no option for {', '.join(lacking[:5])}")
    return {group: choices[group] for group in case.menus}
