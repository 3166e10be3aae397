"""Case -> canonical problem: rows, groups and covers with their names.

Where everything is a sum over experts, or can be written so with some further columns, the problem
is a facility problem. Objectives that mix experts and budgets on other monotone functions of the
deployed set make it a monotone problem, see `moe2opt.selection.constraints.general`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.case import ENERGY, Case
from moe2opt.selection.constraints.category_sets import with_everyone, with_sets
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.selection.constraints.general import general
from moe2opt.selection.constraints.largest import with_threshold, with_thresholds
from moe2opt.selection.constraints.nonlinear import hourly, measures_of, times_add_up
from moe2opt.selection.constraints.voters import with_absent
from moe2opt.steps import step


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One budget row: its name with unit, ``(N,)`` use by each expert, and limit."""

    name: str
    costs: FloatArray
    limit: float


def compile_case(case: Case) -> Compiled:
    """Compile to: maximise the share of correct answers within the budgets.

    Values are accuracy times quality factor, 0 where the expert misses the category's deadline or
    its LLM was never tried in the category;
    weights are prompt shares; groups hold the precisions of one LLM on one server; covers ask for
    an expert that may serve in every category.

    Notes
    -----
    Where no expert at all meets a category's deadline, the deadline itself becomes a row: every
    single expert breaks it, and the cover asks for one, which is the proof of infeasibility. The
    same holds of a category where those in time were never tried.
    """
    step("the experts' values and budgets")
    scored = case.scored
    rows = list(_rows(case))
    if not rows:  # APIs alone, and no budget: a row that everybody keeps
        rows = [Row("experts", np.ones(len(case.experts)), len(case.experts))]
    covers = _covers(case)
    base = FacilityProblem(
        values=scored.values,
        costs=np.stack([row.costs for row in rows]),
        budgets=np.array([row.limit for row in rows]),
        weights=scored.weights,
        groups=case.groups,
        covers=tuple(np.array(members, dtype=np.int64) for members in covers),
    )
    names = tuple(row.name for row in rows)
    cover_names = tuple(_cover_name(case, ks) for ks in covers.values())
    step("the budgets that are no sums")
    measures = measures_of(case)
    step("the problem")
    plain = Compiled(base, names, cover_names, base, names, cover_names, measures)
    if case.sets == "per_category":
        return with_sets(case, plain)
    best_answers = case.mixture is None and case.vote is None
    if best_answers and not measures:
        return plain
    if best_answers and [m.name for m in measures] == [ENERGY]:
        return with_thresholds(case, plain)
    return general(case, plain)


def completed(case: Case, compiled: Compiled, x: IntArray) -> IntArray:
    """Return the solution of the canonical problem that deploys the experts of ``(N,)`` `x`."""
    if compiled.problem.size == len(x):
        return np.asarray(x, dtype=np.int64)
    if case.sets == "per_category":
        return with_everyone(case, x)
    if case.vote is not None:
        return with_absent(compiled, x)
    return with_threshold(case, compiled, x)


def _rows(case: Case) -> Iterator[Row]:
    memory = np.array([expert.memory_gib for expert in case.experts])
    for host in case.machines:
        yield Row(f"memory_gib[{host.name}]", memory * case.on(host.name), host.capacity_gib)
    for own in case.spendings:
        if own.counts == "all":
            yield Row(own.name, own.per_prompt, own.limit)
        elif own.counts == "one":
            over = (own.per_prompt > own.limit).astype(np.float64)
            yield Row(f"experts_over_{own.noun}", over, 0)
    per_hour = hourly(case)
    if per_hour is not None and not per_hour[3].any():
        name, limit, prices, _ = per_hour
        yield Row(name, prices, limit)
    yield from _delay_rows(case)
    if case.max_experts is not None:
        yield Row("experts", np.ones(len(case.experts)), case.max_experts)


def _delay_rows(case: Case) -> Iterator[Row]:
    if case.delay_sharing == "shared":
        if times_add_up(case):
            yield from _turn_rows(case)
        foreign = case.turns >= len(case.hosts)
        if case.delay_scope == "everywhere" and case.late[:, foreign].any():
            missed = np.minimum(np.count_nonzero(case.late, axis=0), 1) * foreign
            yield Row("experts_over_deadline", missed.astype(np.float64), 0)
    elif case.delay_scope == "everywhere" and case.late.any():
        missed = np.count_nonzero(case.late, axis=0)
        yield Row("experts_over_deadline", np.minimum(missed, 1).astype(np.float64), 0)
    if case.delay_scope == "category":
        for k in np.flatnonzero(case.late.all(axis=1)).tolist():
            name = f"delay_s[{case.categories[k]}]"
            yield Row(name, case.delay_s[k], float(case.deadline_s[k]))
        for k in np.flatnonzero(case.barred.all(axis=1) & ~case.late.all(axis=1)).tolist():
            name = f"experts_late_or_without_outcomes[{case.categories[k]}]"
            yield Row(name, np.ones(len(case.experts)), 0)


def _turn_rows(case: Case) -> Iterator[Row]:
    """Yield the summed times of the experts of one server, which take turns."""
    asked = case.delay_s
    if case.delay_scope == "category":
        asked = np.where(case.barred, 0.0, asked)
    for host in case.machines:
        for k in np.flatnonzero(np.isfinite(case.deadline_s)).tolist():
            step()
            name = f"delay_s[{host.name}, {case.categories[k]}]"
            yield Row(name, asked[k] * case.on(host.name), float(case.deadline_s[k]))


def _covers(case: Case) -> dict[tuple[int, ...], list[int]]:
    """Return the sets of experts of which one is needed, with the categories that ask for them."""
    covers: dict[tuple[int, ...], list[int]] = defaultdict(list)
    everyone = tuple(range(len(case.experts)))
    barred = case.barred if case.delay_scope == "category" else case.untried
    for k in range(len(case.categories)):
        covers[tuple(np.flatnonzero(~barred[k]).tolist()) or everyone].append(k)
    return dict(covers)


def _cover_name(case: Case, members: list[int]) -> str:
    names = ", ".join(case.categories[k] for k in members)
    limits = sorted({float(case.deadline_s[k]) for k in members})
    if case.delay_scope == "everywhere" or not np.isfinite(limits).any():
        tried = case.untried[members].any()
        return f"{names}: an expert with outcomes there" if tried else "an expert is deployed"
    within = f"{limits[0]:g} s" if len(limits) == 1 else "its deadline"
    return f"{names}: an expert within {within}"
