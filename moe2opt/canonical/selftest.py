"""Randomised self-test of oracles that claim to be monotone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np

from moe2opt.canonical.choice import MultipleChoiceProblem
from moe2opt.canonical.declared import Box, not_interchangeable, swapped_points, values_differ
from moe2opt.canonical.monotone import MonotoneProblem
from moe2opt.canonical.storage import Problem
from moe2opt.result import FloatArray, InputError, IntArray

#: A function of ``(B, n)`` points that should increase in every coordinate.
Test = Callable[[IntArray], FloatArray]


@dataclass(frozen=True, slots=True)
class CounterExample:
    """Two neighbouring points at which an oracle moves the wrong way.

    Attributes
    ----------
    oracle
        ``objective``, ``constraints[k]``, ``reverse_constraints[k]`` or the first or second
        argument of ``mixed_objective``.
    x
        ``(n,)`` lower point.
    axis
        Coordinate that was raised by one.
    before, after
        Values at `x` and at the raised point.
    """

    oracle: str
    x: IntArray
    axis: int
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"{self.oracle} is not monotone: raising coordinate {self.axis} of "
            f"x = {self.x.tolist()} changes it from {self.before:.12g} to {self.after:.12g}"
        )


@dataclass(frozen=True, slots=True)
class Swapped(CounterExample):
    """Two points that differ by the order of interchangeable levels, at which an oracle differs.

    Attributes
    ----------
    other
        ``(n,)`` the second point; `axis` is the first coordinate that differs.
    """

    other: IntArray

    def __str__(self) -> str:
        return not_interchangeable(self.oracle, self.x, self.other, self.before, self.after)


def find_counterexample(
    problem: MonotoneProblem, samples: int = 1000, seed: int = 0, tolerance: float = 1e-9
) -> CounterExample | None:
    """Search for a violation of monotonicity among random neighbouring points.

    Where variables are declared interchangeable, also for points that swap some and differ.

    Parameters
    ----------
    problem
        Problem whose oracles are tested; the declared directions are those of `MonotoneProblem`.
    samples
        Number of random pairs. Finding none is evidence, not proof.
    seed
        Seed of the sample.
    tolerance
        Relative rounding allowance.

    Returns
    -------
    CounterExample or None
        The first violation found.

    Raises
    ------
    InputError
        For another kind of problem, or no number of samples.
    """
    if not isinstance(problem, MonotoneProblem):
        raise InputError(f"problem: expected a MonotoneProblem, got {type(problem).__name__}")
    counts: dict[str, Any] = {"samples": samples, "seed": seed}
    for name, number in counts.items():
        if not isinstance(number, Integral) or number < 0:
            raise InputError(f"{name} = {number!r:.60} is not understood; it must be at least 0")
    rng = np.random.default_rng(seed)
    free = np.flatnonzero(problem.upper > problem.lower)
    if not len(free):
        return None
    low = rng.integers(problem.lower, problem.upper + 1, size=(samples, problem.size))
    axes = rng.choice(free, size=samples)
    rows = np.arange(samples)
    low[rows, axes] = np.minimum(low[rows, axes], problem.upper[axes] - 1)
    high = low.copy()
    high[rows, axes] += 1
    for name, oracle in _increasing_oracles(problem, rng):
        before, after = oracle(low), oracle(high)
        wrong = after < before - tolerance * np.maximum(1.0, np.abs(before))
        if wrong.any():
            k = int(np.argmax(wrong))
            return CounterExample(name, low[k], int(axes[k]), float(before[k]), float(after[k]))
    return _told_apart(problem, samples, seed)


def _told_apart(problem: MonotoneProblem, samples: int, seed: int) -> Swapped | None:
    if not problem.interchangeable or not samples:
        return None
    box = Box(problem.lower, problem.upper)
    points, swapped = swapped_points(problem.interchangeable, box, samples, seed)
    for name, oracle in problem.named_oracles():
        before, after = oracle(points), oracle(swapped)
        if (wrong := values_differ(before, after)).any():
            k = int(np.argmax(wrong))
            axis = int(np.argmax(points[k] != swapped[k]))
            ends = float(before[k]), float(after[k])
            return Swapped(name, points[k], axis, *ends, swapped[k])
    return None


def _increasing_oracles(
    problem: MonotoneProblem, rng: np.random.Generator
) -> Iterator[tuple[str, Test]]:
    if problem.mixed_objective is None:
        yield "objective", problem.objective_values
    else:
        fixed = rng.integers(problem.lower, problem.upper + 1)
        yield "mixed_objective (first argument)", _first_argument(problem, fixed)
        yield "mixed_objective (second argument, negated)", _second_argument(problem, fixed)
    for k in range(len(problem.constraints)):
        yield f"constraints[{k}]", partial(problem.constraint_value, k)
    for k in range(len(problem.reverse_constraints)):
        yield f"reverse_constraints[{k}]", partial(problem.reverse_value, k)


def _first_argument(problem: MonotoneProblem, fixed: IntArray) -> Test:
    return lambda points: problem.upper_values(points, np.broadcast_to(fixed, points.shape))


def _second_argument(problem: MonotoneProblem, fixed: IntArray) -> Test:
    return lambda points: -problem.upper_values(np.broadcast_to(fixed, points.shape), points)


#: Problems with more entries than this are not self-tested; the test evaluates all of them.
LARGEST_SELF_TEST = 10**6
SAMPLES = 200


def self_test(problem: Problem) -> int:
    """Compare random neighbouring points; return how many pairs, 0 when the problem is large.

    Raises
    ------
    InputError
        When raising a coordinate lowers the objective or a constraint.
    """
    if work_per_point(problem) > LARGEST_SELF_TEST:
        return 0
    example = find_counterexample(problem.as_monotone(), samples=SAMPLES)
    if example is not None:
        raise InputError(str(example))
    return SAMPLES


def work_per_point(problem: Problem) -> int:
    """Return about how many entries the oracles of the problem as a monotone one look at."""
    if isinstance(problem, MultipleChoiceProblem):
        # Two oracles for every group, each a product over all options, which is quick.
        return 2 * problem.size * len(problem.flat_values) // 10
    return int(getattr(problem, "clusters", 1) * problem.size)


def size_words(problem: Problem) -> str:
    """Return kind and size of a problem in words."""
    if isinstance(problem, MonotoneProblem):
        rows = len(problem.constraints) + len(problem.reverse_constraints)
        return f"monotone problem, {problem.size} variables, {rows} constraints"
    budgets = f"{len(problem.budgets)} budgets"
    if isinstance(problem, MultipleChoiceProblem):
        options = f"{len(problem.flat_values)} options"
        return f"multiple-choice problem, {problem.size} groups, {options}, {budgets}"
    sets = f"{len(problem.groups)} groups, {len(problem.covers)} covers"
    sets += "" if problem.opening is None else ", opening costs"
    return (
        f"facility problem, {problem.size} experts, {problem.clusters} clusters, {budgets}, {sets}"
    )
