"""Random feasible points of each family, for the engine ``random``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem, Problem
from moe2opt.result import IntArray
from moe2opt.solvers.choice.heuristics import light_start
from moe2opt.solvers.facility.heuristics import tightened
from moe2opt.solvers.monotone.heuristics import feasible_rows

#: Points that one sample of a monotone problem looks at.
_TRIES = 16

#: Draws one feasible point, or None when this attempt found none.
Sampler = Callable[[np.random.Generator], IntArray | None]


def sampler(problem: Problem) -> Sampler:
    """Return a function that draws one random feasible point."""
    if isinstance(problem, FacilityProblem):
        return _facility_sampler(problem)
    if isinstance(problem, MultipleChoiceProblem):
        return _choice_sampler(problem)
    return _monotone_sampler(problem)


def _facility_sampler(problem: FacilityProblem) -> Sampler:
    """Add random experts that fit, members of unmet covers first, until nothing fits."""
    limits = tightened(problem.limits, problem.budgets)
    size, costs = problem.size, problem.costs
    in_group = [np.isin(np.arange(size), group) for group in problem.groups]
    in_cover = [np.isin(np.arange(size), cover) for cover in problem.covers]

    def draw(rng: np.random.Generator) -> IntArray | None:
        chosen, left = np.zeros(size, dtype=bool), limits.copy()
        fits = np.asarray((costs <= left[:, None]).all(axis=0))
        while fits.any():
            unmet = [cover for cover in in_cover if not (cover & chosen).any()]
            wanted = fits & unmet[0] if unmet else fits
            if not wanted.any():
                return None
            i = int(rng.choice(np.flatnonzero(wanted)))
            chosen[i], fits[i] = True, False
            left -= costs[:, i]
            fits &= (costs <= left[:, None]).all(axis=0)
            for group in in_group:
                if group[i]:
                    fits &= ~group
        return chosen.astype(np.int64)

    return draw


def _choice_sampler(problem: MultipleChoiceProblem) -> Sampler:
    """Start from light options and go over to random ones, group by group, as far as they fit."""
    limits = tightened(problem.limits, problem.budgets)
    sizes = np.diff(problem.offsets)
    light = light_start(problem)

    def draw(rng: np.random.Generator) -> IntArray | None:
        if light is None:
            return None
        x = light.copy()
        for _ in range(2):
            order = rng.permutation(problem.size)
            wish = rng.integers(sizes)
            extra = problem.costs[:, problem.offsets[:-1] + wish]
            extra = extra - problem.costs[:, problem.offsets[:-1] + x]
            room = limits - problem.costs[:, problem.offsets[:-1] + x].sum(axis=1)
            fits = (np.cumsum(extra[:, order], axis=1) <= room[:, None]).all(axis=0)
            taken = order[: int(np.flatnonzero(fits)[-1]) + 1] if fits.any() else order[:0]
            x[taken] = wish[taken]
        return x

    return draw


def _monotone_sampler(problem: MonotoneProblem) -> Sampler:
    """Draw points between the lower corner and a random share of the box; keep a feasible one."""
    span = problem.upper - problem.lower + 1

    def draw(rng: np.random.Generator) -> IntArray | None:
        share = rng.random((_TRIES, 1)) * rng.random((_TRIES, problem.size))
        share[::2] = rng.random(share[::2].shape)
        points = problem.lower + np.minimum((share * span).astype(np.int64), span - 1)
        feasible = points[feasible_rows(problem, points)]
        return feasible[0] if len(feasible) else None

    return draw
