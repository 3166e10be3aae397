"""Groups of experts of a layer: who stands for whom when fewer experts are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.placement.assignment import DISTIL, FORMS, KEEP, MERGE, PRUNE, SHARE
from moe2opt.placement.case import Case
from moe2opt.result import FloatArray, IntArray
from moe2opt.steps import step


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """What becomes of the experts of one layer.

    Attributes
    ----------
    form, representative
        ``(E,)`` form of each expert and the expert that serves in its place.
    loss_nats
        Loss of the aggregation alone, without rounding of the weights.
    """

    form: IntArray
    representative: IntArray
    loss_nats: float


def groupings(case: Case, layer: int) -> Iterator[Grouping]:
    """Yield everything that may become of a layer: nothing first, then every form and number."""
    aggregation = case.config.aggregation
    experts = case.shape.experts
    own = np.arange(experts)
    yield Grouping(np.full(experts, KEEP), own, 0.0)
    if aggregation is None:
        return
    forms = [FORMS.index(form) for form in aggregation.forms]
    numbers = sorted({g for g in aggregation.keep if g < experts}, reverse=True)
    merging = [form for form in forms if form != PRUNE]
    groups = _representatives(case, layer, numbers) if merging else {}
    for number in numbers:
        for form in forms:
            if form == PRUNE:
                yield _pruned(case, layer, number)
            elif form != DISTIL or number in aggregation.distil_loss:
                yield _grouped(case, layer, groups[number], form)


def _pruned(case: Case, layer: int, number: int) -> Grouping:
    saliency = case.activation.saliency[layer]
    dropped = np.argsort(saliency, kind="stable")[: len(saliency) - number]
    form = np.full(len(saliency), KEEP)
    form[dropped] = PRUNE
    loss = float(saliency[dropped].sum()) * case.prune_loss_nats
    return Grouping(form, np.arange(len(saliency)), loss)


def _grouped(case: Case, layer: int, representative: IntArray, form: int) -> Grouping:
    aggregation = case.config.aggregation
    assert aggregation is not None
    own = np.arange(len(representative))
    forms = np.where(representative == own, KEEP, form)
    if form == DISTIL:
        share = case.merge_weight[layer].sum() / case.merge_weight.sum()
        number = len(np.unique(representative))
        return Grouping(forms, representative, float(share * aggregation.distil_loss[number]))
    paid = case.merge_weight[layer] * case.distances[layer][own, representative]
    factor = aggregation.rank_loss_share if form == SHARE else 1.0
    assert form in (MERGE, SHARE)
    return Grouping(forms, representative, factor * float(paid.sum()))


def _representatives(case: Case, layer: int, numbers: Sequence[int]) -> dict[int, IntArray]:
    aggregation = case.config.aggregation
    assert aggregation is not None
    use = np.maximum(case.activation.mixed[layer], 1e-12)
    distance = case.distances[layer]
    if aggregation.groups == "dendrogram":
        return dendrogram(distance, use, numbers)
    return medians(distance, use, numbers)


def dendrogram(
    distance: FloatArray, use: FloatArray, numbers: Sequence[int]
) -> dict[int, IntArray]:
    """Return the representatives of each cut of a use-weighted average-linkage tree.

    Two groups are joined whose use-weighted mean distance is least; a group's representative is the
    member with the least use-weighted distance to all members.

    Parameters
    ----------
    distance
        ``(E, E)`` symmetric distances.
    use
        ``(E,)`` weights.
    numbers
        Numbers of groups to report.
    """
    members: list[list[int]] = [[e] for e in range(len(use))]
    weight = use.astype(np.float64).copy()
    apart = distance.astype(np.float64).copy()
    np.fill_diagonal(apart, np.inf)
    found: dict[int, IntArray] = {}
    for count in range(len(use), 0, -1):
        step()
        if count in numbers:
            found[count] = _central(distance, use, [m for m in members if m])
        if count == 1:
            break
        i, j = divmod(int(np.argmin(apart)), len(use))
        i, j = min(i, j), max(i, j)
        joined = (weight[i] * apart[i] + weight[j] * apart[j]) / (weight[i] + weight[j])
        apart[i], apart[:, i] = joined, joined
        apart[i, i] = np.inf
        apart[j], apart[:, j] = np.inf, np.inf
        weight[i] += weight[j]
        members[i] += members[j]
        members[j] = []
    return found


def medians(distance: FloatArray, use: FloatArray, numbers: Sequence[int]) -> dict[int, IntArray]:
    """Return representatives by greedy addition and swaps (a heuristic for the p-median).

    `median_problem` gives the same question to an exact solver.
    """
    found: dict[int, IntArray] = {}
    chosen: list[int] = []
    nearest = np.full(len(use), np.inf)
    for count in range(1, max(numbers, default=0) + 1):
        cost = use @ np.minimum(nearest[:, None], distance)
        cost[chosen] = np.inf
        chosen.append(int(np.argmin(cost)))
        nearest = np.minimum(nearest, distance[:, chosen[-1]])
        if count in numbers:
            kept = np.array(_swapped(distance, use, list(chosen)), dtype=np.int64)
            found[count] = kept[np.argmin(distance[:, kept], axis=1)]
            found[count][kept] = kept
    return found


def _swapped(distance: FloatArray, use: FloatArray, chosen: list[int]) -> list[int]:
    """Exchange one representative at a time as long as that helps, a bounded number of times."""
    best = float(use @ distance[:, chosen].min(axis=1))
    for _ in range(10):
        improved = False
        for k in range(len(chosen)):
            step()
            others = [c for c in chosen if c != chosen[k]]
            near = distance[:, others].min(axis=1) if others else np.full(len(use), np.inf)
            cost = use @ np.minimum(near[:, None], distance)
            cost[others] = np.inf
            if cost.min() < best - 1e-12:
                chosen[k], best, improved = int(np.argmin(cost)), float(cost.min()), True
        if not improved:
            break
    return chosen


def median_problem(case: Case, layer: int, number: int) -> FacilityProblem:
    """Return the exact p-median of a layer: at most `number` representatives.

    The value of a set is the use-weighted distance that it saves against the largest distance; its
    optimum, subtracted from the total, is the least use-weighted distance.
    """
    distance = case.distances[layer]
    saved = float(distance.max()) - distance
    return FacilityProblem(
        values=saved,
        costs=np.ones((1, len(distance))),
        budgets=np.array([float(number)]),
        weights=case.activation.mixed[layer],
    )


def _central(distance: FloatArray, use: FloatArray, groups: Sequence[Sequence[int]]) -> IntArray:
    representative = np.empty(len(use), dtype=np.int64)
    for group in groups:
        inside = np.array(group)
        cost = use[inside] @ distance[np.ix_(inside, inside)]
        representative[inside] = inside[int(np.argmin(cost))]
    return representative
