"""What a sweep runs: every combination of values of configuration keys, in every scenario."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from moe2opt import library
from moe2opt.config import load, scenario_names
from moe2opt.result import InputError
from moe2opt.schema import ConfigError, Section, read_file, validate
from moe2opt.schema.source import did_you_mean

#: Arguments of `moe2opt.solve` that a sweep passes on. Threads are not among them: each cell has 1.
SETTINGS = (
    "solver",
    "time_limit_s",
    "node_limit",
    "memory_limit_bytes",
    "rel_gap",
    "seed",
    "bound",
)

#: The name of the file without any scenario.
BASE = "base"


class SweepFile(Section):
    """A sweep as a file: which configuration, which values, which scenarios."""

    config: str
    """Configuration: a path relative to this file, or the name of a built-in problem."""
    over: dict[str, list[Any]] = Field(default_factory=dict)
    """Values by dotted key of the configuration; every combination is run."""
    scenarios: tuple[str, ...] = (BASE,)
    """Scenarios of the configuration; `base` is the file without any."""
    settings: dict[str, str | int | float] = Field(default_factory=dict)
    """Solver settings of every cell: solver, time_limit_s, node_limit, rel_gap, seed, bound."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A sweep.

    Attributes
    ----------
    config
        The configuration file.
    over
        Values by dotted key, as texts that ``--set`` understands.
    scenarios
        Names, `BASE` for none.
    settings
        Arguments of `moe2opt.solve`.
    allow_outside
        Whether paths may leave the folder of the configuration.
    """

    config: Path
    over: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scenarios: tuple[str, ...] = (BASE,)
    settings: dict[str, Any] = field(default_factory=dict)
    allow_outside: bool = False

    def __post_init__(self) -> None:
        known = [BASE, *scenario_names(self.config)]
        if self.over and self.config.suffix in (".json", ".npz"):
            raise InputError(f"{self.config}: a problem file has no keys to vary")
        for name in self.scenarios:
            if name not in known:
                hint = did_you_mean(name, known)
                raise InputError(f"no scenario '{name}' (scenarios: {', '.join(known)}){hint}")
        for key, values in self.over.items():
            if not values:
                raise InputError(f"{key}: no value is given")
        for name in self.settings:
            if name not in SETTINGS:
                hint = did_you_mean(name, list(SETTINGS))
                raise InputError(f"settings: '{name}' is not understood{hint}")

    def tasks(self) -> list[Task]:
        """Return all cells in order: scenarios outside, the last key running fastest."""
        return list(self._tasks())

    def _tasks(self) -> Iterator[Task]:
        for scenario in self.scenarios:
            for values in itertools.product(*self.over.values()):
                yield Task(
                    str(self.config),
                    None if scenario == BASE else scenario,
                    tuple(zip(self.over, values, strict=True)),
                    tuple(sorted(self.settings.items())),
                    self.allow_outside,
                )


@dataclass(frozen=True, slots=True)
class Task:
    """One cell: all that a worker needs to run it."""

    config: str
    scenario: str | None
    values: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, Any], ...]
    allow_outside: bool = False

    @property
    def overrides(self) -> list[str]:
        """The values as texts for ``--set``."""
        return [f"{key}={value}" for key, value in self.values]

    def coordinates(self) -> dict[str, Any]:
        """Return scenario and values as they stand in the table."""
        return {"scenario": self.scenario or BASE} | {k: _plain(v) for k, v in self.values}


def spec_of(
    config: str | Path,
    over: Mapping[str, Sequence[Any]] | Sequence[str] | None = None,
    scenarios: Sequence[str] | None = None,
    *,
    allow_outside: bool = False,
    **settings: Any,
) -> Spec:
    """Return the sweep of a configuration or of a sweep file, arguments going first.

    Parameters
    ----------
    config
        A configuration, the name of a built-in problem, or a YAML file with the keys of
        `SweepFile`.
    over
        Values by dotted key, or texts ``a.b=1,2,3``.
    scenarios
        Names of scenarios, ``base`` for none.
    allow_outside
        Whether paths may leave the folder of the configuration.
    settings
        Arguments of `moe2opt.solve`, None for those that are not given.

    Raises
    ------
    InputError
        For unreadable files, unknown scenarios or settings.
    """
    file = library.find(config)
    chosen = {name: value for name, value in settings.items() if value is not None}
    values = _texts(over)
    if isinstance(scenarios, str) or not isinstance(scenarios, Iterable | None):
        raise InputError(f"scenarios: expected a list of names, got {scenarios!r}")
    names = tuple(scenarios or ())
    stored = _sweep_file(file)
    if stored is None:
        return Spec(file, values, names or (BASE,), chosen, allow_outside)
    beside = file.parent / stored.config
    target = beside if beside.is_file() else library.find(stored.config)
    return Spec(
        target,
        _texts(stored.over) | values,
        names or stored.scenarios,
        {**stored.settings, **chosen},
        allow_outside,
    )


def _sweep_file(file: Path) -> SweepFile | None:
    """Return a sweep file, None when the file is a configuration."""
    if file.suffix in (".json", ".npz"):
        return None
    document = read_file(file)
    if not isinstance(document.data, dict) or "problem" in document.data:
        return None
    return validate(document, SweepFile) if "config" in document.data else None


def _texts(over: Mapping[str, Sequence[Any]] | Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    if over is None:
        return {}
    if isinstance(over, Mapping):
        for key, values in over.items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise InputError(f"over: {key}: expected a list of values, got {values!r}")
        return {key: tuple(json.dumps(value) for value in values) for key, values in over.items()}
    if isinstance(over, str) or not isinstance(over, Iterable):
        raise InputError(f"over: expected a dictionary or a list of texts, got {over!r}")
    found: dict[str, tuple[str, ...]] = {}
    for text in over:
        key, equals, values = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--over {text}: expected KEY=VALUE,VALUE,...")
        if key.strip() in found:
            raise InputError(f"--over {text}: '{key.strip()}' is given twice")
        if not values.strip():
            raise InputError(f"--over {text}: no value is given")
        found[key.strip()] = tuple(split_values(values))
    return found


def check_keys(tasks: Sequence[Task]) -> None:
    """Raise `ConfigError` when no cell's values are keys of the configuration.

    Only unknown keys count: another value of another key may make a key known, and a value that
    is out of range is the fault of its own cell.
    """
    first: ConfigError | None = None
    for task in tasks:
        if not task.values:
            return
        try:
            load(task.config, task.scenario, task.overrides, allow_outside=task.allow_outside)
        except ConfigError as error:
            if not any(c.message.startswith("unknown key") for c in error.complaints):
                return
            first = first or error
        except Exception:  # a fault of this cell, which becomes its row
            return
        else:
            return
    if first is not None:
        raise first


def split_values(text: str) -> list[str]:
    """Split at the commas outside brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for k, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c in "[{(":
            depth += 1
        elif c in "]})":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:k].strip())
            start = k + 1
    return [*parts, text[start:].strip()]


def _plain(text: str) -> Any:
    """Return a value as a number or text for the table."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, int | float | str | bool) or value is None else text
