"""When one problem restricts another: what a bound on the larger problem says of the smaller."""

from __future__ import annotations

from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem
from moe2opt.result import IntArray


def is_restriction(small: Any, large: Any) -> bool:
    """Tell whether every solution of `small` solves `large` and is worth at least as much there.

    Then any upper bound on `large` holds for `small`, and if `large` has no solution, `small` has
    none. Compared are the arrays themselves, not how they came about: values, opening costs, use
    and limits of budgets, groups, covers. False also means "not seen to be one".

    Parameters
    ----------
    small, large
        Facility or multiple-choice problems in the same variables.
    """
    if small is large:
        return True
    if isinstance(small, FacilityProblem) and isinstance(large, FacilityProblem):
        return (
            small.values.shape == large.values.shape
            and _at_most(small.weighted, large.weighted)
            and _at_most(large.fixed, small.fixed)
            and _rows_hold(small, large)
            and _groups_hold(small, large)
            and _covers_hold(small, large)
        )
    if isinstance(small, MultipleChoiceProblem) and isinstance(large, MultipleChoiceProblem):
        return (
            np.array_equal(small.offsets, large.offsets)
            and _at_most(small.flat_values, large.flat_values)
            and _rows_hold(small, large)
        )
    return False


def _at_most(small: Any, large: Any) -> bool:
    return small is large or bool((small <= large).all())


def _rows_hold(small: Any, large: Any) -> bool:
    """Tell whether each budget row of `large` follows from one of `small`."""
    limits = large.limits
    if small.costs.shape == large.costs.shape and _at_most(large.costs, small.costs):
        return bool((small.limits <= limits).all())
    return all(
        any(
            limit <= limits[k] and (cost >= large.costs[k]).all()
            for cost, limit in zip(small.costs, small.limits, strict=True)
        )
        for k in range(len(limits))
    )


def _groups_hold(small: FacilityProblem, large: FacilityProblem) -> bool:
    """Tell whether each group of `large` lies in one of `small`."""
    if _same_sets(small.groups, large.groups):
        return True
    own = [set(group.tolist()) for group in small.groups]
    return all(any(members >= set(group.tolist()) for members in own) for group in large.groups)


def _covers_hold(small: FacilityProblem, large: FacilityProblem) -> bool:
    """Tell whether each cover of `large` contains one of `small`."""
    if _same_sets(small.covers, large.covers):
        return True
    own = [set(cover.tolist()) for cover in small.covers]
    return all(any(members <= set(cover.tolist()) for members in own) for cover in large.covers)


def _same_sets(one: tuple[IntArray, ...], other: tuple[IntArray, ...]) -> bool:
    return one is other or (
        len(one) == len(other)
        and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    )
