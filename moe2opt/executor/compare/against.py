"""A plan beside an earlier one: both run on the same text, with the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from moe2opt.executor.compare.figures import Comparison
from moe2opt.placement import PlacementInstance
from moe2opt.placement.assignment import NOWHERE, Assignment
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import InputError, IntArray


@dataclass(frozen=True, slots=True)
class PlanRow:
    """What a plan was predicted to take and took.

    Attributes
    ----------
    name
        Which plan.
    predicted_s, measured_s, quartiles_s
        Seconds per token, and the quartiles of the mean over the passes.
    bytes_per_token, memory_bytes, perplexity
        As measured.
    faults
        Which budgets and capacities it does not keep, in words.
    """

    name: str
    predicted_s: float
    measured_s: float
    quartiles_s: tuple[float, float]
    bytes_per_token: float
    memory_bytes: float
    perplexity: float
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, comparison: Comparison, faults: Sequence[str] = ()) -> PlanRow:
        """Return the row of a plan that was run."""
        measured = {row.name: row.measured for row in comparison.total}
        return cls(
            name,
            comparison.row("time").predicted or 0.0,
            measured["time"] or 0.0,
            comparison.quartiles_s,
            measured["bytes"] or 0.0,
            measured["memory"] or 0.0,
            measured["perplexity"] or 0.0,
            tuple(faults),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return asdict(self)


def stored_assignment(content: object, instance: PlacementInstance) -> Assignment:
    """Return the assignment of a stored plan in the tiers and formats of `instance`.

    Parameters
    ----------
    content
        ``plan`` of a result file; its tiers and formats are found again by name.
    instance
        The same model on the same tiers; rates, budgets and formats on offer may differ.

    Raises
    ------
    InputError
        When it is no placement plan, or one of another model, or of tiers or formats that the
        instance does not have.
    """
    if not isinstance(content, Mapping):
        raise InputError("there is no plan to run")
    plan = PlacementPlan.from_dict(dict(content))
    a = plan.assignment
    if a.form.shape != instance.shape.size:
        layers, experts = instance.shape.size
        raise InputError(
            f"it places {a.form.shape[0]} layers of {a.form.shape[1]} experts, the configuration "
            f"{layers} of {experts}"
        )
    parts = 3 if instance.config.granularity == "tensor" else 1
    if not a.tier.shape == a.precision.shape == (*instance.shape.size, parts):
        raise InputError("one places whole experts, the other their matrices apart")
    if (a.slots is None) != (instance.config.cache is None):
        raise InputError("one has a cache, the other has none")
    tiers = [tier.name for tier in plan.tiers]
    formats = [precision.name for precision in plan.precisions]
    return replace(
        a,
        tier=_renumbered(a.tier, tiers, instance.topology.names, "tier"),
        precision=_renumbered(
            a.precision, formats, [p.name for p in instance.precisions], "format"
        ),
    )


def _renumbered(
    numbers: IntArray, names: list[str], known: list[str] | tuple[str, ...], what: str
) -> IntArray:
    """Return numbers of `names` as numbers of the same names in `known`."""
    used = np.unique(numbers[numbers != NOWHERE]).tolist()
    if used and not 0 <= used[0] <= used[-1] < len(names):
        raise InputError(f"not a placement plan: a {what} has no name")
    if missing := [names[k] for k in used if names[k] not in known]:
        raise InputError(f"the configuration has no {what} '{missing[0]}'")
    place = np.full(len(names) + 1, NOWHERE)
    for k in used:
        place[k] = list(known).index(names[k])
    return np.asarray(place[numbers])
