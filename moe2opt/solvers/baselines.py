"""Baselines: `greedy`, `local_search` and `random`, besides the exhaustive `enumerate`.

None of the heuristics proves anything: their bound is infinite, and finding no solution is not a
statement about feasibility.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem, Problem
from moe2opt.result import IntArray
from moe2opt.solvers.base import Outcome, Search
from moe2opt.solvers.budgets import tightened
from moe2opt.solvers.choice.heuristics import greedy_choice as greedy_choice
from moe2opt.solvers.choice.heuristics import improve_choice as improve_choice
from moe2opt.solvers.choice.heuristics import improving_choice, light_start
from moe2opt.solvers.enumeration import enumerate_all as enumerate_all
from moe2opt.solvers.facility.heuristics import greedy_facility as greedy_facility
from moe2opt.solvers.facility.heuristics import improve_facility as improve_facility
from moe2opt.solvers.facility.heuristics import improving_facility
from moe2opt.solvers.monotone.heuristics import feasible_rows, greedy_monotone, improving_monotone
from moe2opt.solvers.tuning import ChoiceTuning

#: Samples of `random_search` when no node limit is given.
DEFAULT_SAMPLES = 1000


def greedy(problem: Problem, search: Search) -> Outcome:
    """Construct solutions by best gain and by best gain per cost; keep the better one."""
    return _consume(search, (constructed(problem, search) for _ in range(1)))


def local_search(problem: Problem, search: Search) -> Outcome:
    """Improve the greedy solution by swaps until no swap improves it; one move is one node."""
    return _consume(search, moves(problem, search))


def random_search(problem: Problem, search: Search) -> Outcome:
    """Draw random feasible points, `DEFAULT_SAMPLES` unless a node limit says otherwise."""
    limit = search.options.node_limit
    samples = DEFAULT_SAMPLES if limit is None else limit
    draw = _sampler(problem, search.options.tuning.choice)
    return _consume(search, (draw(search.rng) for _ in range(samples)))


def _consume(search: Search, points: Iterator[IntArray | None]) -> Outcome:
    """Offer every point until they run out or a limit is hit; each one is a node."""
    search.offer_start()
    while True:
        limit = search.limit_reached()
        if limit is not None:
            return Outcome(bound=math.inf, limit=limit)
        try:
            point = next(points)
        except StopIteration:
            return Outcome(bound=math.inf)
        search.nodes += 1
        if point is not None:
            search.offer(point, "H")
        search.tick()


def constructed(problem: Problem, search: Search) -> IntArray | None:
    """Return the greedy solution of a problem of any family, None without one."""
    stop, tuning = search.pressed, search.options.tuning
    if isinstance(problem, FacilityProblem):
        return greedy_facility(problem, stop, tuning.facility)
    if isinstance(problem, MultipleChoiceProblem):
        return greedy_choice(problem, stop=stop, tuning=tuning.choice)
    return greedy_monotone(problem, stop, tuning.monotone)


def moves(problem: Problem, search: Search) -> Iterator[IntArray | None]:
    """Yield the greedy solution and then better ones, from the best known solution on."""
    stop, tuning = search.pressed, search.options.tuning
    yield constructed(problem, search)
    start = search.x
    if start is None:
        return
    if isinstance(problem, FacilityProblem):
        yield from improving_facility(problem, start, stop, tuning.facility)
    elif isinstance(problem, MultipleChoiceProblem):
        yield from improving_choice(problem, start, stop, tuning.choice)
    else:
        yield from improving_monotone(problem, start, stop, tuning.monotone)


#: Points that one sample of a monotone problem looks at.
_TRIES = 16

#: Draws one feasible point, or None when this attempt found none.
Sampler = Callable[[np.random.Generator], IntArray | None]


def _sampler(problem: Problem, tuning: ChoiceTuning) -> Sampler:
    """Return a function that draws one random feasible point."""
    if isinstance(problem, FacilityProblem):
        return _facility_sampler(problem)
    if isinstance(problem, MultipleChoiceProblem):
        return _choice_sampler(problem, tuning)
    return _monotone_sampler(problem)


def _facility_sampler(problem: FacilityProblem) -> Sampler:
    """Add random experts that fit, members of unmet covers first, until nothing fits.

    Where opening costs, only a member of an unmet cover may cost more than it adds.
    """
    limits = tightened(problem.limits, problem.budgets)
    size, costs = problem.size, problem.costs
    in_group = [np.isin(np.arange(size), group) for group in problem.groups]
    in_cover = [np.isin(np.arange(size), cover) for cover in problem.covers]

    def draw(rng: np.random.Generator) -> IntArray | None:
        chosen, left = np.zeros(size, dtype=bool), limits.copy()
        best = np.zeros(problem.clusters)
        fits = np.asarray((costs <= left[:, None]).all(axis=0))
        while fits.any():
            unmet = [cover for cover in in_cover if not (cover & chosen).any()]
            wanted = fits & unmet[0] if unmet else fits
            if not wanted.any():
                return None
            i = int(rng.choice(np.flatnonzero(wanted)))
            fits[i] = False
            if problem.opening is not None:
                better = np.maximum(best, problem.weighted[:, i])
                if not unmet and better.sum() - best.sum() < problem.fixed[i]:
                    continue
                best = better
            chosen[i] = True
            left -= costs[:, i]
            fits &= (costs <= left[:, None]).all(axis=0)
            for group in in_group:
                if group[i]:
                    fits &= ~group
        return chosen.astype(np.int64)

    return draw


def _choice_sampler(problem: MultipleChoiceProblem, tuning: ChoiceTuning) -> Sampler:
    """Start from light options and go over to random ones, group by group, as far as they fit."""
    limits = tightened(problem.limits, problem.budgets)
    sizes = np.diff(problem.offsets)
    light = light_start(problem, tuning)

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
