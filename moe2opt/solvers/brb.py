"""Branch-reduce-and-bound (Tuy, Al-Khayyal, Thach 2005) with pluggable bounds and certificates.

One loop serves all three problems; what a box is, how it is reduced and how it is bounded is the
business of a relaxation, chosen by the declared structure of the problem.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem, Problem
from moe2opt.result import Certificate, Limit
from moe2opt.solvers.base import Outcome, Search
from moe2opt.solvers.relaxation import Examined, Relaxation
from moe2opt.solvers.tree import Leaf


@dataclass(order=True, slots=True)
class _Node:
    """An open box; the smallest in the heap has the largest bound, then the largest depth."""

    key: tuple[float, int, int]
    bound: float
    position: int
    box: Any
    proof: Leaf

    @classmethod
    def of(cls, bound: float, depth: int, position: int, box: Any, proof: Leaf) -> _Node:
        return cls((-bound, -depth, position), bound, position, box, proof)


def solve(problem: Problem, search: Search) -> Outcome:
    """Maximise exactly; see `moe2opt.solve` for the options.

    Returns
    -------
    Outcome
        With a split-tree certificate of the bound, also when a limit stopped the run.
    """
    relaxation = choose_relaxation(problem, search)
    warm_start(search)
    explored = explore(relaxation, search)
    bound = max(explored.bound, search.objective)
    if bound == math.inf:
        return Outcome(bound=bound, limit=explored.limit)
    certificate = relaxation.certificate(bound)
    if bound == -math.inf:
        from moe2opt.solvers.infeasibility import explain

        return explain(problem, search, certificate)
    stats = {"leaves": certificate.leaves}
    return Outcome(bound=bound, limit=explored.limit, certificate=certificate, stats=stats)


def choose_relaxation(problem: Problem, search: Search) -> Relaxation | Explorer:
    """Return the relaxation that `search.options.bound` names, or the best for the structure.

    Raises
    ------
    InputError
        For a bound that does not exist or does not fit the problem.
    """
    if isinstance(problem, FacilityProblem):
        from moe2opt.solvers.facility_bound import facility_relaxation

        return facility_relaxation(problem, search)
    if isinstance(problem, MultipleChoiceProblem):
        from moe2opt.solvers.choice_bound import choice_relaxation

        return choice_relaxation(problem, search)
    from moe2opt.solvers.corner_bound import monotone_relaxation

    return monotone_relaxation(problem, search)


def warm_start(search: Search) -> None:
    """Offer the user's solution, if there is one and it is feasible."""
    if search.options.warm_start is not None:
        search.offer(search.options.warm_start, "U")


@dataclass(frozen=True, slots=True)
class Explored:
    """The proven bound of a finished or stopped tree, every open box closed by its own proof."""

    bound: float
    limit: Limit | None


@runtime_checkable
class Explorer(Protocol):
    """A relaxation that grows its tree itself."""

    def explore(self, search: Search) -> Explored:
        """Do what `explore` does."""

    def certificate(self, claim: float) -> Certificate:
        """Return the certificate of the finished tree."""


def explore(relaxation: Relaxation | Explorer, search: Search) -> Explored:
    """Work through the tree, best bound first, until it is closed or a limit is hit."""
    if isinstance(relaxation, Explorer):
        return relaxation.explore(search)
    heap = [_Node.of(math.inf, 0, 0, relaxation.root(), ("corner", 0))]
    closed_bound = -math.inf
    while heap:
        search.open_nodes = len(heap)
        search.improve_bound(max(heap[0].bound, closed_bound))
        search.tick()
        limit = search.limit_reached()
        if limit is not None:
            for node in heap:
                relaxation.tree.close(node.position, node.proof)
            return Explored(max(closed_bound, heap[0].bound), limit)
        node = heapq.heappop(heap)
        if search.closes(node.bound):
            closed_bound = max(closed_bound, node.bound)
            relaxation.tree.close(node.position, node.proof)
            continue
        search.nodes += 1
        examined = relaxation.examine(node.box, search)
        shaved = max((step.bound for step in examined.steps), default=-math.inf)
        closed_bound = max(closed_bound, search.rounded(shaved))
        node = _advance(relaxation, node, examined, search)
        if examined.leaf is not None:
            relaxation.tree.close(node.position, examined.leaf)
        elif search.closes(node.bound):
            closed_bound = max(closed_bound, node.bound)
            relaxation.tree.close(node.position, node.proof)
        else:
            _branch(relaxation, heap, node, examined)
    return Explored(closed_bound, None)


def _advance(relaxation: Relaxation, node: _Node, examined: Examined, search: Search) -> _Node:
    """Return the node after its reductions, with the better of the old and the new bound."""
    position = relaxation.tree.reduce(node.position, examined.steps)
    depth = -node.key[1]
    bound = search.rounded(examined.bound)
    if bound < node.bound:
        return _Node.of(bound, depth, position, examined.box, examined.proof)
    return _Node.of(node.bound, depth, position, examined.box, node.proof)


def _branch(relaxation: Relaxation, heap: list[_Node], node: _Node, examined: Examined) -> None:
    """Split a node and push both halves."""
    assert examined.branch is not None
    axis, cut = examined.branch
    positions = relaxation.tree.split(node.position, axis, cut)
    halves = relaxation.split(node.box, axis, cut)
    for position, half in zip(positions, halves, strict=True):
        heapq.heappush(heap, _Node.of(node.bound, 1 - node.key[1], position, half, node.proof))
