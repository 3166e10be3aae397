"""What plain arithmetic and a greedy plan say about a linear problem before HiGHS is asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem
from moe2opt.result import NUMERICAL_GAP, BoolArray, IntArray
from moe2opt.solvers.base import Search, Stop
from moe2opt.solvers.choice.heuristics import greedy_choice, improving_choice
from moe2opt.solvers.facility.heuristics import greedy_facility, improving_facility
from moe2opt.solvers.linear.formulations import LinearProblem
from moe2opt.solvers.tuning import Tuning

#: Relative to the sum of the largest values: objectives closer than this count as equal.
RESOLUTION = 1e-12

#: Costs of one budget that differ by more than this factor may vanish in the tolerances of HiGHS.
WIDEST_ROW = 1e7

_MARGIN = 1e-11


def first_plan(problem: LinearProblem, search: Search) -> None:
    """Offer a greedy plan and some moves from it: no claim may fall short of it."""
    for plan in _plans(problem, search.pressed, search.options.tuning):
        search.offer(plan, "H")
        if search.limit_reached() is not None:
            return


def _plans(problem: LinearProblem, stop: Stop, tuning: Tuning) -> Iterator[IntArray]:
    linear = tuning.linear
    if isinstance(problem, FacilityProblem):
        start = greedy_facility(problem, stop, tuning.facility)
        if start is not None:
            yield start
            small = problem.size <= linear.small_facility
            yield from itertools.islice(
                improving_facility(problem, start, stop, tuning.facility), linear.moves * small
            )
        return
    start = greedy_choice(problem, stop=stop, tuning=tuning.choice)
    if start is not None:
        yield start
        small = len(problem.flat_values) <= linear.small_choice
        yield from itertools.islice(
            improving_choice(problem, start, stop, tuning.choice), linear.moves * small
        )


def settled_out(problem: LinearProblem, search: Search) -> BoolArray | None:
    """Return flags of the entries that no better solution contains; None if there is no better one.

    Entries are experts or flat options. What is out fits nowhere, or, of options, is worth so
    little that even the best of everything beside it falls short of the incumbent.
    """
    if (problem.limits < 0).any():
        return None
    if isinstance(problem, FacilityProblem):
        return np.asarray((problem.costs > problem.limits[:, None]).any(axis=0))
    starts, sizes = problem.offsets[:-1], np.diff(problem.offsets)
    limits = problem.limits + _MARGIN * np.maximum(1.0, np.abs(problem.limits))
    box = np.ones(len(problem.flat_values), dtype=bool)
    while True:
        if not np.add.reduceat(box, starts).all():
            return None
        costs = np.where(box, problem.costs, np.inf)
        least = np.minimum.reduceat(costs, starts, axis=1)
        base = np.array([math.fsum(row) for row in least])
        if (base > limits).any():
            return None
        rest = base[:, None] - np.repeat(least, sizes, axis=1)
        most = np.maximum.reduceat(np.where(box, problem.flat_values, -np.inf), starts)
        worth = math.fsum(most) - (np.repeat(most, sizes) - problem.flat_values)
        blur = 1e-15 * (problem.size + 16) * float(np.abs(most).sum())
        hopeless = worth + blur + 1e-15 * np.abs(problem.flat_values) < search.objective
        kept = box & ~(rest + problem.costs > limits[:, None]).any(axis=0) & ~hopeless
        if (kept == box).all():
            return ~box
        box = kept


def why_in_doubt(problem: LinearProblem, out: BoolArray, magnitude: float, objective: float) -> str:
    """Return why tolerances of HiGHS could decide; an empty text when they should not."""
    for k, row in enumerate(problem.costs):
        used = row[~out & (row > 0)]
        if math.fsum(used) > problem.limits[k] and used.max() > WIDEST_ROW * used.min():
            return f"costs of budget {k} range from {used.min():.3g} to {used.max():.3g}"
    size = max(1e-10, abs(objective)) if math.isfinite(objective) else magnitude
    unit = 0.25 if problem.is_integral else NUMERICAL_GAP * size
    if RESOLUTION * magnitude > unit:
        return "values are too far apart for the arithmetic of HiGHS"
    return "values are too small for HiGHS" if 0 < magnitude < 1e-290 else ""


def magnitude_of(problem: LinearProblem, out: BoolArray) -> float:
    """Return the sum of the largest values that can be earned, and of all that opening costs."""
    if isinstance(problem, MultipleChoiceProblem):
        sizes = np.where(out, 0.0, np.abs(problem.flat_values))
        return math.fsum(np.maximum.reduceat(sizes, problem.offsets[:-1]))
    worth = problem.weighted[:, ~out].max(axis=1, initial=0.0)
    return math.fsum([*worth, *problem.fixed[~out]])
