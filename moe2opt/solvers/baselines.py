"""Baselines: `greedy`, `local_search` and `random`, besides the exhaustive `enumerate`.

None of the heuristics proves anything: their bound is infinite, and finding no solution is not a
statement about feasibility.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem, Problem
from moe2opt.result import IntArray
from moe2opt.solvers.base import Outcome, Search, Stop
from moe2opt.solvers.choice.heuristics import greedy_choice as greedy_choice
from moe2opt.solvers.choice.heuristics import improve_choice as improve_choice
from moe2opt.solvers.choice.heuristics import improving_choice
from moe2opt.solvers.enumeration import enumerate_all as enumerate_all
from moe2opt.solvers.facility.heuristics import greedy_facility as greedy_facility
from moe2opt.solvers.facility.heuristics import improve_facility as improve_facility
from moe2opt.solvers.facility.heuristics import improving_facility
from moe2opt.solvers.monotone.heuristics import greedy_monotone, improving_monotone
from moe2opt.solvers.sampling import sampler

#: Samples of `random_search` when no node limit is given.
DEFAULT_SAMPLES = 1000


def greedy(problem: Problem, search: Search) -> Outcome:
    """Construct solutions by best gain and by best gain per cost; keep the better one."""
    return _consume(search, _constructed(problem, search.pressed))


def local_search(problem: Problem, search: Search) -> Outcome:
    """Improve the greedy solution by swaps until no swap improves it; one move is one node."""
    return _consume(search, _moves(problem, search))


def random_search(problem: Problem, search: Search) -> Outcome:
    """Draw random feasible points, `DEFAULT_SAMPLES` unless a node limit says otherwise."""
    limit = search.options.node_limit
    samples = DEFAULT_SAMPLES if limit is None else limit
    draw = sampler(problem)
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


def _constructed(problem: Problem, stop: Stop) -> Iterator[IntArray | None]:
    if isinstance(problem, FacilityProblem):
        yield greedy_facility(problem, stop)
    elif isinstance(problem, MultipleChoiceProblem):
        yield greedy_choice(problem, stop=stop)
    else:
        yield greedy_monotone(problem, stop)


def _moves(problem: Problem, search: Search) -> Iterator[IntArray | None]:
    """Yield the greedy solution and then better ones, from the best known solution on."""
    stop = search.pressed
    yield from _constructed(problem, stop)
    start = search.x
    if start is None:
        return
    if isinstance(problem, FacilityProblem):
        yield from improving_facility(problem, start, stop)
    elif isinstance(problem, MultipleChoiceProblem):
        yield from improving_choice(problem, start, stop)
    else:
        yield from improving_monotone(problem, start, stop)
