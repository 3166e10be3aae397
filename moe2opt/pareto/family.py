"""One instance under varying budgets: what a name on an axis means, and the problem at a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from moe2opt.canonical import (
    FacilityProblem,
    Instance,
    MonotoneProblem,
    MultipleChoiceProblem,
    Problem,
)
from moe2opt.config import load
from moe2opt.pareto.points import Axis
from moe2opt.result import InputError, IntArray
from moe2opt.schema.source import did_you_mean
from moe2opt.source import Source, name_of, source_of

#: Problems whose budgets can vary.
Budgeted = FacilityProblem | MultipleChoiceProblem


@dataclass(frozen=True, slots=True)
class Posed:
    """The problem at one point.

    Attributes
    ----------
    problem
        The canonical problem with the budgets of the point.
    instance
        The instance that decodes its solutions, None for a bare problem. Its own limits on rows
        that are axes are those of the file.
    rows
        Names of the budget rows.
    """

    problem: Budgeted
    instance: Any
    rows: tuple[str, ...]

    def used(self, x: IntArray) -> dict[str, float]:
        """Return the use of every budget by a solution."""
        return dict(zip(self.rows, self.problem.usage_of(x).tolist(), strict=True))


@dataclass(slots=True)
class Family:
    """All problems that differ by the budgets of some axes.

    Attributes
    ----------
    target
        The instance or problem as given.
    names
        Names of the axes: budget rows or dotted keys of the configuration.
    """

    target: Instance | Problem
    names: tuple[str, ...]
    _loaded: dict[tuple[float, ...], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _problem_of(self.target)
        if len(set(self.names)) < len(self.names):
            raise InputError(f"an axis is named twice: {', '.join(self.names)}")
        for name in self.names:
            self.kind(name)

    @property
    def name(self) -> str:
        """Name of the instance."""
        return name_of(self.target)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What must be known to read any figure of the instance."""
        return tuple(getattr(self.target, "caveats", ()))

    def kind(self, name: str) -> Literal["row", "key"]:
        """Return what an axis is; raise `InputError` when there is no such row or key."""
        if not isinstance(name, str):
            raise InputError(f"expected the name of a budget row or a key, got {name!r:.60}")
        rows = row_names(self.target)
        if name in rows:
            return "row"
        source = source_of(self.target)
        if source is not None and _has_key(source.effective, name):
            return "key"
        hint = did_you_mean(name, list(rows))
        raise InputError(
            f"'{name}' is neither a budget row ({', '.join(rows)}) nor a key that the file gives "
            f"a value{hint}"
        )

    def axis(self, name: str, values: Sequence[float]) -> Axis:
        """Return an axis with ascending, distinct budgets."""
        try:
            ordered = np.unique(np.asarray(values, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: budgets must be numbers, got {values!r:.60}") from error
        if not len(ordered) or not np.isfinite(ordered).all():
            raise InputError(f"{name}: budgets must be finite numbers, at least one")
        return Axis(name, self.kind(name), tuple(ordered.tolist()))

    def limit(self, name: str) -> float:
        """Return the budget that the instance itself has on an axis."""
        if self.kind(name) == "row":
            row = row_names(self.target).index(name)
            return float(_problem_of(self.target).budgets[row])
        value = _key(self._source.effective, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(
                f"{name} is {value!r} in the configuration, no single budget; give budgets "
                "(--x-budgets A,B,C) or both ends (--x-range LOW:HIGH)"
            )
        return float(value)

    def posed(self, budgets: Sequence[float]) -> Posed:
        """Return the problem at a point.

        Raises
        ------
        InputError
            When the configuration does not allow a value, or a row no longer exists there.
        """
        given = dict(zip(self.names, budgets, strict=True))
        target = self._instance({n: b for n, b in given.items() if self.kind(n) == "key"})
        problem, rows = _problem_of(target), row_names(target)
        limits = problem.budgets.copy()
        for name, budget in given.items():
            if self.kind(name) != "row":
                continue
            if name not in rows:
                raise InputError(f"{name}: no such budget row at {given}")
            limits[rows.index(name)] = budget
        if (limits != problem.budgets).any():
            problem = problem.with_budgets(limits)
        bare = isinstance(target, FacilityProblem | MultipleChoiceProblem)
        return Posed(problem, None if bare else target, rows)

    @property
    def _source(self) -> Source:
        """The file: only an axis that is a key of it asks, and `kind` has found the key there."""
        source = source_of(self.target)
        assert source is not None
        return source

    def texts(self, budgets: Sequence[float]) -> list[str]:
        """Return the budgets of axes that are keys, as texts for ``--set``."""
        pairs = zip(self.names, budgets, strict=True)
        return [_text(name, value) for name, value in pairs if self.kind(name) == "key"]

    def _instance(self, keys: dict[str, float]) -> Instance | Problem:
        if not keys:
            return self.target
        known = tuple(keys.values())
        if known not in self._loaded:
            source = self._source
            texts = [_text(name, value) for name, value in keys.items()]
            self._loaded[known] = load(
                source.path,
                source.scenario,
                [*source.overrides, *texts],
                allow_outside=True,
            )
        instance: Instance = self._loaded[known]
        return instance


def _text(name: str, value: float) -> str:
    return f"{name}={value!r}"


def row_names(target: Instance | Problem) -> tuple[str, ...]:
    """Return the names of the budget rows; ``budgets[k]`` for a bare problem."""
    if isinstance(target, FacilityProblem | MultipleChoiceProblem):
        return tuple(f"budgets[{k}]" for k in range(len(target.budgets)))
    assert not isinstance(target, MonotoneProblem)
    return tuple(target.row_names())


def _problem_of(target: Instance | Problem) -> Budgeted:
    found: Any = target
    if isinstance(target, Instance):
        found = target.problem()
    if isinstance(found, FacilityProblem | MultipleChoiceProblem):
        return found
    if isinstance(found, MonotoneProblem):
        raise InputError(
            "this objective becomes a monotone problem, which has no budget rows to vary; "
            "`moe2opt sweep --over KEY=...` varies a key of the configuration instead"
        )
    raise InputError(f"expected an instance or a problem with budgets, got {type(target).__name__}")


def _has_key(data: Any, name: str) -> bool:
    try:
        _key(data, name)
    except KeyError:
        return False
    return True


def _key(data: Any, name: str) -> Any:
    """Return the value at a dotted key: names, list positions or names of list items."""
    for step in name.split("."):
        if isinstance(data, list):
            items = [d for d in data if isinstance(d, dict) and d.get("name") == step]
            if not items and step.isdigit() and int(step) < len(data):
                items = [data[int(step)]]
            data = items[0] if items else {}
            if not items:
                raise KeyError(name)
        elif isinstance(data, dict) and step in data:
            data = data[step]
        else:
            raise KeyError(name)
    return data
