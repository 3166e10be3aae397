"""Budget prices from certificates: lines that bound the optimum at every budget.

Multipliers bound a problem by a Lagrangian value in which the limits enter linearly. Taken over the
whole box of the problem, the value at limits b' is the value at b plus prices times (b' - b): a
bound that holds for every b'. The price is the shadow price of the relaxation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import (
    FacilityProblem,
    MultipleChoiceProblem,
    Problem,
    at_most_one_sets,
    indicators,
    merge,
    partition,
    row_count,
)
from moe2opt.result import Certificate, FloatArray, Multipliers


@dataclass(frozen=True, slots=True)
class Line:
    """An upper bound on the optimum that is linear in the budgets.

    Attributes
    ----------
    value
        Bound at the limits of the problem it comes from.
    prices
        ``(K,)`` non-negative change of the bound per unit of each budget.
    """

    value: float
    prices: FloatArray


def best_line(problem: Problem, certificate: Certificate | None) -> Line | None:
    """Return the line with the smallest value among the multipliers of a certificate.

    Prices of rounded rows count as zero, because such a row changes with the budget. The value is a
    floating-point sum: a figure to read, not a proof.
    """
    if certificate is None or certificate.claim == -math.inf:
        return None
    if len(certificate.tree) == 1 and certificate.tree[0][0] == "corner":
        return Line(certificate.claim, np.zeros(row_count(problem)))
    if isinstance(problem, FacilityProblem):
        lines = _facility_lines(problem, certificate)
    elif isinstance(problem, MultipleChoiceProblem):
        lines = [_choice_line(problem, m) for m in _choice_multipliers(problem, certificate)]
    else:
        return None
    return min(lines, key=lambda line: line.value, default=None)


def _choice_multipliers(
    problem: MultipleChoiceProblem, certificate: Certificate
) -> list[Multipliers]:
    """Return up to 64 distinct prices; the first ones are the root's."""
    rows = len(problem.limits)
    return [m for m in list(certificate.multipliers[:64]) if m.row.shape == (rows,)]


def _choice_line(problem: MultipleChoiceProblem, price: Multipliers) -> Line:
    worth = problem.flat_values - price.row @ problem.costs
    best = np.maximum.reduceat(worth, problem.offsets[:-1]).sum()
    return Line(float(best + price.row @ problem.limits), price.row)


def _facility_lines(problem: FacilityProblem, certificate: Certificate) -> list[Line]:
    merged = merge(problem, certificate.types)
    small = merged.problem
    sets = at_most_one_sets(small.groups, certificate.chains)
    parts = partition(sets, small.size)
    matrix = np.vstack([small.costs, indicators(sets, small.size)])
    limits = np.concatenate([small.limits, np.ones(len(sets))])
    covers = indicators(small.covers, small.size)
    lines = []
    for price in certificate.multipliers[:64]:
        row = price.row[: len(limits)]
        if len(price.cluster) != small.clusters or len(row) < len(limits):
            continue
        excess = np.maximum(small.weighted - price.cluster[:, None], 0.0).sum(axis=0)
        profit = excess - small.fixed - row @ matrix + price.cover @ covers
        value = price.cluster.sum() + row @ limits - price.cover.sum()
        value += sum(max(0.0, float(profit[part].max())) for part in parts)
        lines.append(Line(float(value), _unmerged(problem, certificate, row)))
    return lines


def _unmerged(problem: FacilityProblem, certificate: Certificate, row: FloatArray) -> FloatArray:
    """Return prices of the original rows from those of the merged problem."""
    typed = [k for rows in certificate.types for k in rows]
    others = [k for k in range(len(problem.budgets)) if k not in typed]
    prices = np.zeros(len(problem.budgets))
    prices[others] = row[: len(others)]
    for t, rows in enumerate(certificate.types):
        prices[list(rows)] = row[len(others) + t]
    return prices
