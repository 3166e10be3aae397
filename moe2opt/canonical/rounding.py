r"""Rounded budget rows: what whole items say that their total size does not.

Let the chosen items fit into bins of capacity b. Counted in parts of :math:`b/(k+1)`, each item
takes strictly more than :math:`\lceil (k+1) s_i / b \rceil - 1` of them, so the items of one bin,
whose sizes sum to at most :math:`k+1` parts, satisfy

.. math:: \sum_i \big(\lceil (k+1) s_i / b \rceil - 1\big) \le k.

This is a Chvatal-Gomory cut (with strict rounding); for k = 1 it says that of the items larger than
half a bin only one fits. A plain budget row is one bin; a row of merged servers (see
`moe2opt.canonical.types`) is as many as it has rows, and the inequalities of its bins are summed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from moe2opt.canonical.types import Merged
from moe2opt.result import FloatArray, IntArray

#: Largest k.
MOST_PARTS = 24

#: Largest k for a single budget row of counted options.
MOST_COUNTED = 100_000

#: A row is worth adding when its left side exceeds the right one by this share.
_VIOLATION = 1e-3


def rounded_row(merged: Merged, row: int, parts: int) -> tuple[FloatArray, float]:
    """Return coefficients and limit of a rounded row, in exact arithmetic.

    Parameters
    ----------
    merged
        Problem in which interchangeable rows are merged.
    row
        Budget row of the merged problem.
    parts
        The k of the formula, at least 1.

    Raises
    ------
    ValueError
        When there is no such row, or nothing to round.
    """
    if not 0 <= row < len(merged.problem.limits) or not 1 <= parts <= MOST_PARTS:
        raise ValueError(f"no rounded row of budget row {row} in {parts} parts")
    bins, capacity = bins_of(merged, row)
    if capacity <= 0:
        raise ValueError(f"budget row {row} has no capacity to round")
    return rounded_sizes(merged.problem.costs[row], capacity, parts), float(parts * bins)


def rounded_sizes(sizes: FloatArray, capacity: float, parts: int) -> FloatArray:
    """Return by how many parts of ``capacity / (parts + 1)`` each size counts, less one.

    Of items whose exact sizes sum to at most `capacity` these numbers sum to at most `parts`.
    """
    known, place = np.unique(sizes, return_inverse=True)
    exact = [Fraction(float(size)) for size in known]
    return _in_parts(exact, Fraction(capacity), parts)[place]


def rounded_budget(costs: FloatArray, limit: float, parts: int) -> tuple[FloatArray, float]:
    """Return coefficients and limit of a rounded row of one budget row, in exact arithmetic.

    Parameters
    ----------
    costs
        Use of the budget by each option.
    limit
        What usage, once rounded, does not exceed.
    parts
        The k of the formula, at least 1.

    Raises
    ------
    ValueError
        When there is nothing to round.
    """
    if not 1 <= parts <= MOST_COUNTED or not 0 < limit < math.inf:
        raise ValueError(f"no rounded row of a budget of {limit} in {parts} parts")
    return rounded_sizes(costs, math.nextafter(limit, math.inf), parts), float(parts)


def rounded_net(
    costs: FloatArray, starts: IntArray, sizes: IntArray, limit: float, parts: int
) -> tuple[FloatArray, float]:
    """Return a rounded row of what options use of a budget beyond the least of their class.

    What the groups of a class use anyway leaves a smaller budget and often fewer sizes.

    Parameters
    ----------
    costs
        Use of the budget by each option of each class.
    starts, sizes
        First option of each class and the end; number of groups of each class.
    limit, parts
        See `rounded_budget`.

    Raises
    ------
    ValueError
        When there is nothing to round.
    """
    least = np.minimum.reduceat(costs, starts[:-1])
    if not 1 <= parts <= MOST_COUNTED or not math.isfinite(limit):
        raise ValueError(f"no rounded row of a budget of {limit} in {parts} parts")
    used = sum(Fraction(float(m)) * int(n) for m, n in zip(least, sizes, strict=True))
    capacity = Fraction(math.nextafter(limit, math.inf)) - used
    if capacity <= 0:
        raise ValueError("a budget that the least use of all classes exhausts cannot be rounded")
    pairs = np.stack([costs, np.repeat(least, np.diff(starts))])
    known, place = np.unique(pairs, axis=1, return_inverse=True)
    net = [Fraction(float(a)) - Fraction(float(b)) for a, b in known.T]
    return _in_parts(net, capacity, parts)[place.ravel()], float(parts)


def _in_parts(sizes: Sequence[Fraction], capacity: Fraction, parts: int) -> FloatArray:
    """Return by how many parts of ``capacity / (parts + 1)`` each size counts, less one."""
    part = capacity / (parts + 1)
    # What is larger than a bin is never chosen; a larger coefficient would say no more.
    taken = [min(parts + 1, max(0, math.ceil(size / part) - 1)) for size in sizes]
    return np.array(taken, dtype=np.float64)


def bins_of(merged: Merged, row: int) -> tuple[int, float]:
    """Return how many bins a budget row stands for and what no bin's exact content exceeds."""
    plain = len(merged.problem.limits) - len(merged.types)
    if row < plain:
        capacity = float(merged.problem.limits[row])
        bins = 1
    else:
        capacity, bins = float(merged.limits[row - plain]), len(merged.types[row - plain])
    # Usage is compared after rounding, so the exact sum may lie half a unit above the limit.
    return bins, math.nextafter(capacity, math.inf) if capacity > 0 else 0.0


def violated_rows(merged: Merged, choice: FloatArray) -> list[tuple[int, int]]:
    """Return budget rows and numbers of parts whose rounded rows a fractional choice violates.

    Parameters
    ----------
    merged
        Problem in which interchangeable rows are merged.
    choice
        ``(N,)`` fractional choice.

    Returns
    -------
    list
        Pairs for `rounded_row`, the most violated first.
    """
    found = []
    for row, costs in enumerate(merged.problem.costs):
        bins, capacity = bins_of(merged, row)
        if capacity <= 0 or costs.max(initial=0.0) * (MOST_PARTS + 1) <= capacity:
            continue
        shares = np.minimum(costs, 2.0 * capacity) / capacity
        for parts in range(1, MOST_PARTS + 1):
            taken = np.maximum(np.ceil((parts + 1) * shares - 1e-9) - 1.0, 0.0)
            excess = float(taken @ choice) / (parts * bins) - 1.0
            if excess > _VIOLATION:
                found.append((excess, row, parts))
    return [(row, parts) for _, row, parts in sorted(found, reverse=True)]
