"""Budgets of a grid's axes as a command line writes them, judged before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from moe2opt.result import InputError
from moe2opt.schema.source import did_you_mean


def axes_of(texts: Sequence[str]) -> dict[str, list[float]]:
    """Return the budgets of each axis: ``NAME=LOW:HIGH:COUNT`` (equal ratios) or ``NAME=A,B,C``.

    Raises
    ------
    InputError
        For another form, or numbers that are none.
    """
    found: dict[str, list[float]] = {}
    for text in texts:
        name, equals, budgets = text.partition("=")
        if not equals or not name or name in found:
            raise InputError(f"--grid {text}: expected NAME=LOW:HIGH:COUNT or NAME=A,B,C, once")
        try:
            found[name] = _budgets(budgets)
        except ValueError as error:
            raise InputError(f"--grid {text}: {error}") from error
    return found


def _budgets(text: str) -> list[float]:
    if ":" not in text:
        return [float(part) for part in text.split(",")]
    if text.count(":") != 2:
        raise ValueError("expected NAME=LOW:HIGH:COUNT")
    low, high, count = text.split(":")
    if not 0 < float(low) < float(high) or not 2 <= int(count) <= 1000:
        raise ValueError("expected 0 < LOW < HIGH and 2 to 1000 budgets")
    return [float(f"{b:.6g}") for b in np.geomspace(float(low), float(high), int(count))]


def check_axes(config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise `InputError` for an axis that can be no budget, before anything is computed.

    Parameters
    ----------
    config
        The effective configuration. A name without a dot may also be a budget row; which rows there
        are is only known once the problem is built.
    names
        Names of the axes.
    """
    numbers = list(_numbers(config))
    known = dict(numbers)
    for name in names:
        hint = did_you_mean(name, [*_ROWS, *known])
        row = "." not in name or "[" in name
        if name in known or (row and name not in config):
            continue
        if name in config:
            near = [key for key in (*_ROWS, *known) if key.startswith((f"{name}.", f"{name}_"))]
            hint = f"; did you mean '{near[0]}'?" if near else hint
            raise InputError(f"--grid {name}: is no number in the configuration{hint}")
        raise InputError(f"--grid {name}: is not set as a number in this file{hint}")


#: Budget rows that most selections have.
_ROWS = ("energy_j_per_prompt",)


def _numbers(data: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a configuration with its dotted key."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _numbers(value, f"{path}.{key}" if path else str(key))
    elif isinstance(data, list | tuple):
        for k, value in enumerate(data):
            yield from _numbers(value, f"{path}.{k}")
            if isinstance(value, Mapping) and isinstance(value.get("name"), str):
                yield from _numbers(value, f"{path}.{value['name']}")
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield path, float(data)
