r"""The energy of the k costliest experts as a facility problem.

For a set S and any :math:`t \ge 0`, the sum of the k largest joules is at most
:math:`k t + \sum_{i \in S} (e_i - t)^+`, with equality when t is the k-th largest (0 when there are
fewer). So it is within E exactly if *some* t among 0 and the joules of the experts keeps

.. math:: \sum_{i \in S} (e_i - t)^+ \le E - k t .

Every such t gets a column without value and a row. Exactly one of the columns is chosen (they are
a group and a cover); its row holds, and every other row is relaxed by the most that a set within
the budget can exceed it by.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.canonical.validate import BUDGET_TOLERANCE
from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.case import Case
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.selection.constraints.measures import Measure


def with_thresholds(case: Case, plain: Compiled) -> Compiled:
    """Return the compiled instance with its budget of the k largest joules as rows."""
    base, (measure,) = plain.base, plain.measures
    energy, k = case.joules, case.energy_largest
    thresholds = _thresholds(case, energy, measure)
    rows, limits, names = _rows(case, energy, k, thresholds, measure)
    extra = len(thresholds)
    columns = np.arange(base.size, base.size + extra)
    first, last = necessary_rows(energy, k, measure.allowed)
    problem = FacilityProblem(
        values=_padded(base.values, extra),
        costs=np.concatenate([_padded(base.costs, extra), rows, _padded(first, extra)]),
        budgets=np.concatenate([base.budgets, limits, last]),
        weights=base.weights,
        groups=(*base.groups, columns),
        covers=(*base.covers, columns),
    )
    limit = measure.limit
    bounds = [f"experts[{k} largest, above {limit / r:.6g} J]" for r in range(1, k + 1)]
    costly = f"{measure.name}[{k} largest, experts above {limit / k:.6g} J]"
    row_names = (*plain.row_names, *names, costly, *bounds)
    # A clash between the rows of thresholds names this cover, which says what they stand for.
    own_words = f"{measure.name}: the {k} largest together at most {limit:.6g} J"
    covers = (*plain.cover_names, own_words)
    return replace(plain, problem=problem, row_names=row_names, cover_names=covers)


def necessary_rows(energy_j: FloatArray, k: int, limit: float) -> tuple[FloatArray, FloatArray]:
    """Return rows and limits that every set within the budget of its k largest joules keeps.

    Fewer than r experts need more than ``limit / r`` for each r up to k; so those above
    ``limit / k`` are among the k largest, and their sum is within the limit.
    """
    costly = np.where(energy_j > limit / k, energy_j, 0.0)
    counts = [(energy_j > limit / r).astype(np.float64) for r in range(1, k + 1)]
    return np.stack([costly, *counts]), np.array([limit, *range(k)], dtype=np.float64)


def with_threshold(case: Case, plain: Compiled, x: IntArray) -> IntArray:
    """Return the vector of the canonical problem that deploys the experts of `x`."""
    problem, (measure,) = plain.problem, plain.measures
    energy, k = case.joules, case.energy_largest
    ordered = np.sort(energy[np.asarray(x) > 0])
    threshold = float(ordered[-k]) if len(ordered) >= k else 0.0
    known = _thresholds(case, energy, measure)
    column = int(np.argmin(np.abs(known - threshold)))
    vector = np.zeros(problem.size, dtype=np.int64)
    vector[: len(x)] = x
    vector[len(x) + column] = 1
    return vector


def _thresholds(case: Case, energy: FloatArray, measure: Measure) -> FloatArray:
    """Return the values that the k-th largest joules of a set within the budget can have."""
    if _most_experts(case) <= case.energy_largest:
        return np.zeros(1)
    return np.unique([0.0, *energy[case.energy_largest * energy <= measure.allowed]])


def _rows(
    case: Case,
    energy: FloatArray,
    k: int,
    thresholds: FloatArray,
    measure: Measure,
) -> tuple[FloatArray, FloatArray, list[str]]:
    """Return costs over experts and thresholds, limits and names of the threshold rows."""
    most = _most_experts(case)
    costs, limits, names = [], [], []
    for j, t in enumerate(thresholds.tolist()):
        above = np.maximum(energy - t, 0.0)
        limit = measure.limit - k * t
        relief = _relief(above, limit, k, t, measure, most)
        column = np.zeros(len(thresholds))
        column[j] = relief
        costs.append(np.concatenate([above, column]))
        # The row's own slack grows with its limit; the budget's must not.
        wider = max(1.0, limit + relief) - max(1.0, measure.limit)
        limits.append(limit + relief - BUDGET_TOLERANCE * wider)
        names.append(f"{measure.name}[{k} largest, above {t:.6g} J]")
    return np.stack(costs), np.array(limits), names


def _relief(
    above: FloatArray, limit: float, k: int, t: float, measure: Measure, most: int
) -> float:
    """Return by how much a set within the budget can exceed the row of a threshold.

    With n experts above t: up to k of them take E in total, so k t is left; the others are at most
    the k-th largest each, which is at most E / k.
    """
    others = max(0, min(most, int(np.count_nonzero(above))) - k)
    share = max(0.0, measure.allowed / k - t)
    everything = float(above.sum()) - limit
    return max(0.0, min(everything, max(k * t, others * share)) * (1 + 1e-9))


def _most_experts(case: Case) -> int:
    """Return a number of experts that no plan exceeds."""
    memory = np.array([expert.memory_gib for expert in case.experts])
    count = 0
    for host in case.hosts:
        own = np.sort(memory[case.on(host.name)])
        count += int((np.cumsum(own) <= host.capacity_gib * (1 + 1e-6)).sum())
    return min(count, case.max_experts or count)


def _padded(table: FloatArray, extra: int) -> FloatArray:
    return np.hstack([table, np.zeros((len(table), extra))])
