"""What choices give and use, from the table itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

from moe2opt.beside import Use
from moe2opt.errors import InputError
from moe2opt.levels.case import Case, Level

#: The chosen option of each group.
Chosen = Mapping[str, Level]


def levels_of(case: Case, choices: Mapping[str, str]) -> dict[str, Level]:
    """Return the options that choices name; raise `InputError` where there is no such one."""
    found = {group: case.level(group, option) for group, option in choices.items()}
    lacking = [group for group in case.menus if group not in found]
    if lacking:
        raise InputError(f"no option is chosen for {', '.join(lacking[:5])}")
    return {group: found[group] for group in case.menus}


def total(case: Case, chosen: Chosen) -> float:
    """Return the weighted sum of the values, in the sense of the table."""
    return math.fsum(case.weights[group] * level.value for group, level in chosen.items())


def gained(case: Case, chosen: Chosen, other: Chosen) -> float:
    """Return by how much the first choice is better."""
    gain = total(case, chosen) - total(case, other)
    return -gain if case.measure.minimizes else gain


def used(case: Case, chosen: Chosen) -> list[Use]:
    """Return the use of each budget."""
    return [
        Use.of(name, math.fsum(level.uses[k] for level in chosen.values()), limit)
        for k, (name, limit) in enumerate(case.limits.items())
    ]


def faults(case: Case, chosen: Chosen) -> list[str]:
    """Return the budgets that are broken, in words."""
    return [use.fault for use in used(case, chosen) if use.fault]


def standard_error(case: Case, chosen: Chosen, other: Chosen | None = None) -> float | None:
    """Return the standard error of a total, or of its distance from another; None without any.

    Values are taken as independent; groups with the same option in both add nothing to a distance.
    """
    if not case.noisy:
        return None
    terms = []
    for group, level in chosen.items():
        both = {level} if other is None else {level} ^ {other[group]}
        terms += [case.weights[group] * (one.standard_error or 0.0) for one in both]
    return math.hypot(*terms)
