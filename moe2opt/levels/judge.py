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


def deviating(case: Case, chosen: Chosen) -> set[str]:
    """Return the groups whose weights do most harm when they deviate."""
    worst = sorted(chosen, key=lambda group: -case.harm(group, chosen[group]))
    return set(worst[: case.deviating])


def weights_of(case: Case, chosen: Chosen) -> dict[str, float]:
    """Return the weight of each group in the worst case of a choice."""
    off = deviating(case, chosen)
    return {
        group: case.worst_weight(group, level) if group in off else case.weights[group]
        for group, level in chosen.items()
    }


def total(case: Case, chosen: Chosen) -> float:
    """Return the weighted sum of the values in its worst case, in the sense of the table."""
    weights = weights_of(case, chosen)
    return math.fsum(weights[group] * level.value for group, level in chosen.items())


def nominal(case: Case, chosen: Chosen) -> float:
    """Return the sum at the weights as they are given."""
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

    Values are taken as independent; groups with the same option and weight in both add nothing to a
    distance.
    """
    if not case.noisy:
        return None
    own = weights_of(case, chosen)
    others = {} if other is None else weights_of(case, other)
    terms = []
    for group, level in chosen.items():
        weights = {level: own[group]}
        if other is not None:
            weights[other[group]] = weights.get(other[group], 0.0) - others[group]
        terms += [weight * (one.standard_error or 0.0) for one, weight in weights.items()]
    return math.hypot(*terms)
