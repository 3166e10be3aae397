"""What a choice of candidates gives and costs, from the table itself."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from moe2opt.beside import Use
from moe2opt.portfolio.case import Case


def serving(case: Case, kept: Collection[str]) -> dict[str, str]:
    """Return who serves each class, the first of equals; a class without one is left out."""
    found = {}
    for name, row in case.cells.items():
        able = [candidate for candidate in row if candidate in kept]
        if able:
            found[name] = max(able, key=lambda candidate: row[candidate].value)
    return found


def total(case: Case, serves: Mapping[str, str]) -> float:
    """Return the weighted mean over the classes, 0 for those that nothing serves."""
    return math.fsum(
        case.cells[name][candidate].value * case.weights[name] for name, candidate in serves.items()
    )


def used(case: Case, kept: Collection[str]) -> list[Use]:
    """Return the use of each budget."""
    return [
        Use.of(name, math.fsum(costs[one] for one in kept), case.limits[name])
        for name, costs in case.costs.items()
    ]


def faults(case: Case, kept: Collection[str]) -> list[str]:
    """Return the violated requirements in words."""
    found = [use.fault for use in used(case, kept) if use.fault]
    found += [f"base: {name} is not kept" for name in case.base if name not in kept]
    if case.every:
        serves = serving(case, kept)
        lacking = [name for name in case.cells if name not in serves]
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        found += [f"every_class_served: nothing serves {lacking[0]}{more}"] if lacking else []
    return found


def standard_error(
    case: Case, serves: Mapping[str, str], other: Mapping[str, str] | None = None
) -> float | None:
    """Return the standard error of a mean, or of its distance from another; None without any.

    Values are taken as independent; classes that the same candidate serves add nothing.
    """
    if not case.noisy:
        return None
    terms = []
    for name, row in case.cells.items():
        both = {serves.get(name)} if other is None else {serves.get(name)} ^ {other.get(name)}
        terms += [
            case.weights[name] * (row[one].standard_error or 0.0) for one in both if one is not None
        ]
    return math.hypot(*terms)
