"""Selection instance -> canonical problem: rows, groups and covers with their names.

Where everything is a sum over experts, or can be written so with some further columns, the problem
is a facility problem. Objectives that mix experts and budgets on other monotone functions of the
deployed set make it a monotone problem, see `moe2opt.selection.constraints.general`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.compiled import Compiled
from moe2opt.selection.constraints.category_sets import with_everyone, with_sets
from moe2opt.selection.constraints.general import general
from moe2opt.selection.constraints.largest import with_threshold, with_thresholds
from moe2opt.selection.constraints.nonlinear import ENERGY, measures_of, times_add_up
from moe2opt.steps import step

if TYPE_CHECKING:
    from moe2opt.selection.instance import SelectionInstance


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One budget row: its name with unit, ``(N,)`` use by each expert, and limit."""

    name: str
    costs: FloatArray
    limit: float


def compile_instance(instance: SelectionInstance) -> Compiled:
    """Compile to: maximise the share of correct answers within the budgets.

    Values are accuracy times quality factor, 0 where the expert misses the category's deadline;
    weights are prompt shares; groups hold the precisions of one LLM on one server; covers ask for
    an expert in time in every category.

    Notes
    -----
    Where no expert at all meets a category's deadline, the deadline itself becomes a row: every
    single expert breaks it, and the cover asks for one, which is the proof of infeasibility.
    """
    step("the experts' values and budgets")
    scored = instance.scored
    rows = list(_rows(instance))
    covers = _covers(instance)
    base = FacilityProblem(
        values=scored.values,
        costs=np.stack([row.costs for row in rows]),
        budgets=np.array([row.limit for row in rows]),
        weights=scored.weights,
        groups=instance.groups,
        covers=tuple(np.array(members, dtype=np.int64) for members in covers),
    )
    names = tuple(row.name for row in rows)
    cover_names = tuple(_cover_name(instance, ks) for ks in covers.values())
    step("the budgets that are no sums")
    measures = measures_of(instance)
    step("the problem")
    plain = Compiled(base, names, cover_names, base, names, cover_names, measures)
    if instance.sets == "per_category":
        return with_sets(instance, plain)
    if instance.mixture is None and not measures:
        return plain
    if instance.mixture is None and [m.name for m in measures] == [ENERGY]:
        return with_thresholds(instance, plain)
    return general(instance, plain)


def completed(instance: SelectionInstance, x: IntArray) -> IntArray:
    """Return the solution of the canonical problem that deploys the experts of ``(N,)`` `x`."""
    compiled = instance.compiled
    if compiled.problem.size == len(x):
        return np.asarray(x, dtype=np.int64)
    if instance.sets == "per_category":
        return with_everyone(instance, x)
    return with_threshold(instance, compiled, x)


def _rows(instance: SelectionInstance) -> Iterator[Row]:
    yield from _memory_rows(instance)
    yield from _energy_rows(instance)
    yield from _delay_rows(instance)
    if instance.max_experts is not None:
        yield Row("experts", np.ones(len(instance.experts)), instance.max_experts)


def _memory_rows(instance: SelectionInstance) -> Iterator[Row]:
    memory = np.array([expert.memory_gib for expert in instance.experts])
    for host in instance.hosts:
        yield Row(f"memory_gib[{host.name}]", memory * instance.on(host.name), host.capacity_gib)


def _energy_rows(instance: SelectionInstance) -> Iterator[Row]:
    limit = instance.energy_limit_j_per_prompt
    if limit is None:
        return
    if instance.energy_counts == "all":
        yield Row(ENERGY, instance.joules, limit)
    elif instance.energy_counts == "one":
        yield Row("experts_over_energy", (instance.joules > limit).astype(np.float64), 0)


def _delay_rows(instance: SelectionInstance) -> Iterator[Row]:
    if instance.delay_sharing == "shared":
        if times_add_up(instance):
            yield from _turn_rows(instance)
    elif instance.delay_scope == "everywhere" and instance.late.any():
        missed = np.count_nonzero(instance.late, axis=0)
        yield Row("experts_over_deadline", np.minimum(missed, 1).astype(np.float64), 0)
    if instance.delay_scope == "category":
        for k in np.flatnonzero(instance.late.all(axis=1)).tolist():
            name = f"delay_s[{instance.categories[k]}]"
            yield Row(name, instance.delay_s[k], float(instance.deadline_s[k]))


def _turn_rows(instance: SelectionInstance) -> Iterator[Row]:
    """Yield the summed times of the experts of one server, which take turns."""
    asked = instance.delay_s
    if instance.delay_scope == "category":
        asked = np.where(instance.late, 0.0, asked)
    for host in instance.hosts:
        for k in np.flatnonzero(np.isfinite(instance.deadline_s)).tolist():
            step()
            name = f"delay_s[{host.name}, {instance.categories[k]}]"
            yield Row(name, asked[k] * instance.on(host.name), float(instance.deadline_s[k]))


def _covers(instance: SelectionInstance) -> dict[tuple[int, ...], list[int]]:
    """Return the sets of experts of which one is needed, with the categories that ask for them."""
    covers: dict[tuple[int, ...], list[int]] = defaultdict(list)
    everyone = tuple(range(len(instance.experts)))
    for k in range(len(instance.categories)):
        in_time = tuple(np.flatnonzero(~instance.late[k]).tolist())
        serves = instance.delay_scope == "category" and in_time
        covers[in_time if serves else everyone].append(k)
    return dict(covers)


def _cover_name(instance: SelectionInstance, members: list[int]) -> str:
    names = ", ".join(instance.categories[k] for k in members)
    limits = sorted({float(instance.deadline_s[k]) for k in members})
    if instance.delay_scope == "everywhere" or not np.isfinite(limits).any():
        return "an expert is deployed"
    within = f"{limits[0]:g} s" if len(limits) == 1 else "its deadline"
    return f"{names}: an expert within {within}"
