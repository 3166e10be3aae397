"""Branch-reduce-and-bound (Tuy, Al-Khayyal, Thach 2005) with pluggable bounds and certificates.

One loop serves all three problems (`explore`): select a node, bound it, fix and tighten, record,
and prune or branch. What a node is and how it is bounded is the business of a relaxation, chosen
by the declared structure of the problem.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from moe2opt.canonical import (
    FacilityProblem,
    MonotoneProblem,
    MultipleChoiceProblem,
    Problem,
    choice_view,
)
from moe2opt.result import Limit
from moe2opt.solvers.base import LimitReachedError, Outcome, Search
from moe2opt.solvers.baselines import constructed
from moe2opt.solvers.ceiling import ceiling
from moe2opt.solvers.choice.relaxation import choice_relaxation, second_choice
from moe2opt.solvers.crew import Crew
from moe2opt.solvers.facility.relaxation import facility_relaxation
from moe2opt.solvers.frontier import OpenNodes
from moe2opt.solvers.monotone.planes import with_planes
from moe2opt.solvers.monotone.relaxation import monotone_relaxation
from moe2opt.solvers.relaxation import (
    Examined,
    Explored,
    Explorer,
    Growing,
    OpenNode,
    Relaxation,
    Restarting,
    Securing,
)
from moe2opt.solvers.separable import SeparableRelaxation
from moe2opt.solvers.tree import Leaf, SplitTree

#: Memory that preparing takes, in sizes of the data. Measured on 20,000 clusters of 1,500 experts
#: and on 40,000 groups of 100 options with three budgets.
_PREPARED_FACILITY, _PREPARED_CHOICE = 3.7, 5.4

#: Nodes of two relaxations that take turns, and of one when somebody else has a turn, too.
_TURNS, _OWN_TURNS = (2000, 300, 200_000, 1e18), (2000, 1e18)

#: While no solution of a monotone problem is known, one node in so many has the largest bound, the
#: others are the newest.
_DIVES = 4

#: What else is tried once where own trees do not end soon; returns how many nodes of theirs a proof
#: is still worth, None where it left the gap open.
Aside = Callable[[], int | None]


def solve(problem: Problem, search: Search, aside: Aside | None = None) -> Outcome:
    """Maximise exactly; see `moe2opt.solve` for the options.

    `aside` gets a turn after the first of the own trees, and may limit what follows.

    Returns
    -------
    Outcome
        With a split-tree certificate of the bound, also when a limit stopped the run.
    """
    search.offer_start()
    if search.options.bound == "auto":
        limit = search.limit_reached() if search.pressed() else None
        if limit is None and _lacks_room(problem, search):
            limit = Limit.MEMORY
            if (start := constructed(problem, search)) is not None:
                search.offer(start, "H")
        if limit is not None:
            return _unprepared(problem, search, limit)
    relaxation, explored = _explored(problem, search, aside)
    bound = max(explored.bound, search.objective)
    if bound == math.inf:  # stopped before the first node: the best of everything bounds it
        bound = ceiling(problem)
    certificate = relaxation.certificate(bound)
    stats = {"leaves": certificate.leaves}
    return Outcome(bound=bound, limit=explored.limit, certificate=certificate, stats=stats)


def _explored(
    problem: Problem, search: Search, aside: Aside | None
) -> tuple[Relaxation | Explorer, Explored]:
    """Return the relaxation that proves most, and what it proves.

    Where there are two, they take turns on trees of their own, with ever more nodes; which one is
    quick shows only so, and neither is far behind it. Solutions are shared.
    """
    relaxation = choose_relaxation(problem, search)
    other = None
    if isinstance(problem, MultipleChoiceProblem):
        other = second_choice(relaxation, problem, search)
    if other is None and aside is None:
        return relaxation, explore(relaxation, search)
    first: Callable[[], Relaxation | Explorer] = partial(choose_relaxation, problem, search)
    trees = (first,) if other is None else (first, other)
    best, proven, left = relaxation, Explored(math.inf, None), math.inf
    for turn, nodes in enumerate(_OWN_TURNS if other is None else _TURNS):
        relaxation = trees[turn % len(trees)]() if turn else relaxation
        before = search.nodes
        with _within(search, min(nodes, left)):
            explored = explore(relaxation, search)
        left -= search.nodes - before
        if explored.limit is None or explored.bound <= proven.bound:
            best, proven = relaxation, explored
        if explored.limit is None or left <= 0 or search.limit_reached() is not None:
            break
        if aside is not None and turn == len(trees) - 1:
            worth = aside()
            left = left if worth is None else worth
            if search.limit_reached() is not None:
                break
    # A number of nodes of our own is no limit of the user's.
    limit = search.limit_reached() if explored.limit is Limit.NODES else explored.limit
    return best, replace(proven, limit=limit)


@contextmanager
def _within(search: Search, nodes: float) -> Iterator[None]:
    """Lower the node limit to so many more nodes for as long as the block lasts."""
    whole, most = search.options, search.nodes + int(nodes)
    limit = most if whole.node_limit is None else min(most, whole.node_limit)
    search.options = replace(whole, node_limit=limit)
    try:
        yield
    finally:
        search.options = whole


def _lacks_room(problem: Problem, search: Search) -> bool:
    """Tell whether preparing the problem would exceed the limit of memory."""
    if isinstance(problem, FacilityProblem):
        needed = _PREPARED_FACILITY * problem.values.nbytes
    elif isinstance(problem, MultipleChoiceProblem):
        needed = _PREPARED_CHOICE * (problem.flat_values.nbytes + problem.costs.nbytes)
    else:
        return False
    return not search.has_room(needed)


def _unprepared(problem: Problem, search: Search, limit: Limit) -> Outcome:
    """Return what is known when a limit is hit before there is time to prepare a large problem."""
    tree, bound = SplitTree(), max(ceiling(problem), search.objective)
    tree.prune(0, ("corner", 0))
    certificate = tree.certificate(problem, bound)
    stats = {"leaves": certificate.leaves}
    return Outcome(bound, limit, certificate, stats)


def choose_relaxation(problem: Problem, search: Search) -> Relaxation | Explorer:
    """Return the relaxation that `search.options.bound` names, or the best for the structure.

    Raises
    ------
    InputError
        For a bound that does not exist or does not fit the problem.
    """
    if isinstance(problem, FacilityProblem):
        return facility_relaxation(problem, search)
    if isinstance(problem, MultipleChoiceProblem):
        return choice_relaxation(problem, search)
    if search.options.bound == "auto" and (view := choice_view(problem)) is not None:
        return SeparableRelaxation(problem, view, explore)
    corners = monotone_relaxation(problem, search)
    return with_planes(corners) if search.options.bound == "auto" else corners


def explore(relaxation: Relaxation | Explorer, search: Search) -> Explored:
    """Work through the tree, best bound first, until nothing is open or a limit is hit.

    What a node is, how it is bounded and what can be fixed in it is the business of the relaxation
    (`Relaxation.examine`, in `facility/relaxation.py`, `choice/relaxation.py` and
    `monotone/relaxation.py`); what becomes of it is decided here.
    """
    if isinstance(relaxation, Explorer):
        return relaxation.explore(search)
    frontier = _Frontier(relaxation, search)
    restarting = relaxation if isinstance(relaxation, Restarting) else None
    growing = relaxation if isinstance(relaxation, Growing) else None
    with Crew(relaxation, search) as crew:
        while len(frontier.open):
            if restarting is not None and restarting.wants_restart():
                frontier.restart()
            limit = frontier.report()
            if limit is not None:
                return frontier.stop(limit)
            if growing is not None and growing.can_grow(search):
                frontier.grow(growing)
                continue
            for node, finish in crew.started(frontier.select(crew.size)):
                if frontier.prune(node):  # an incumbent came up since it was selected
                    continue
                examined = frontier.examine(node, finish)  # bound, fix, tighten, round
                if examined is None:  # a limit was hit inside; the next report says which
                    continue
                node = frontier.record(node, examined)
                if examined.leaf is not None or examined.branch is None:
                    frontier.end(node, examined.leaf)
                elif not frontier.prune(node):
                    frontier.branch(node, examined.branch)
    return Explored(frontier.pruned_bound, None)


@dataclass(frozen=True, slots=True)
class _GivenUp:
    """A tree that another one took the place of, with its open nodes and its pruned bound."""

    tree: SplitTree
    open: OpenNodes
    pruned_bound: float

    @property
    def bound(self) -> float:
        """The bound that the tree proves; without open nodes, that of the pruned ones."""
        return max(self.pruned_bound, self.open.bound)


class _Frontier:
    """The open nodes of a tree, and the largest bound of the pruned ones."""

    def __init__(self, relaxation: Relaxation, search: Search) -> None:
        self.relaxation, self.search = relaxation, search
        self.open = OpenNodes([OpenNode.of(math.inf, 0, 0, relaxation.root(), ("corner", 0))])
        self.pruned_bound = -math.inf
        self.reduced_root: tuple[OpenNode, float] | None = None
        self.given_up: _GivenUp | None = None
        self.is_deep = False

    @property
    def bound(self) -> float:
        """The bound that the tree proves while nodes are open."""
        return max(self.open.bound, self.pruned_bound)

    def restart(self) -> None:
        """Begin again at the reduced root; incumbent, cuts and experience stay.

        The tree so far is kept, unless an earlier one proves more: should a limit stop the new one
        early, the better bound counts.
        """
        assert self.reduced_root is not None, "trees are given up after their root was split"
        if self.given_up is None or self.bound < self.given_up.bound:
            self.given_up = _GivenUp(self.relaxation.tree, self.open, self.pruned_bound)
        root, self.pruned_bound = self.reduced_root
        self.relaxation.tree = self.relaxation.tree.before(root.position)
        self.open, self.reduced_root = OpenNodes([root]), None

    def grow(self, growing: Growing) -> None:
        """Let the tree grow by many nodes at once."""
        nodes = list(self.open)
        nodes, self.pruned_bound = growing.grow(nodes, self.pruned_bound, self.search)
        self.open = OpenNodes(nodes)

    def report(self) -> Limit | None:
        """Log how far the search is; return the limit that it has hit, if any."""
        self.search.open_nodes = len(self.open)
        self.search.reserve(len(self.relaxation.tree.records))
        self.search.improve_bound(self.bound)
        self.search.tick()
        return self.search.limit_reached()

    def stop(self, limit: Limit) -> Explored:
        """Prune every open node by the proof it has."""
        if self.given_up is not None and self.given_up.bound < self.bound:
            self.relaxation.tree, self.open = self.given_up.tree, self.given_up.open
            self.pruned_bound = self.given_up.pruned_bound
        for node in self.open:
            self._secure(node)
            self.pruned_bound = max(self.pruned_bound, node.bound)
            self.relaxation.tree.prune(node.position, node.proof)
        return Explored(self.pruned_bound, limit)

    def _secure(self, node: OpenNode) -> None:
        """Make sure that the proof of a node holds in its own box, if need be of a worse bound."""
        if isinstance(self.relaxation, Securing):
            found = self.relaxation.secured(node.box, node.bound, node.proof)
            node.bound, node.proof = self.search.rounded(found[0]), found[1]

    def select(self, count: int) -> list[OpenNode]:
        """Remove up to `count` nodes of the largest bounds from the open ones; prune on the way.

        The newest ones instead where there is no room for more, and most of the time while no
        solution is known.
        """
        selected: list[OpenNode] = []
        while len(self.open) and len(selected) < count:
            node = self.open.newest() if self._goes_deep() else self.open.best()
            if not self.prune(node):
                selected.append(node)
        return selected

    def _goes_deep(self) -> bool:
        """Tell whether the newest node comes next.

        Once there are too many open nodes, until half of them are left.
        """
        search, tuning = self.search, self.search.options.tuning.tree
        most = tuning.open_nodes // (2 if self.is_deep else 1)
        self.is_deep = len(self.open) > most or search.is_crowded()
        if self.is_deep or not isinstance(search.problem, MonotoneProblem):
            return self.is_deep
        return search.x is None and search.nodes % _DIVES > 0

    def prune(self, node: OpenNode) -> bool:
        """Prune a node whose bound cannot improve on the incumbent; return whether it did."""
        if not self.search.prunes(node.bound):
            return False
        self._secure(node)
        if not self.search.prunes(node.bound):
            return False
        self.pruned_bound = max(self.pruned_bound, node.bound)
        self.relaxation.tree.prune(node.position, node.proof)
        return True

    def examine(self, node: OpenNode, finish: Callable[[], Examined]) -> Examined | None:
        """Return what the relaxation finds out; None at a limit, and the node stays open."""
        self.search.nodes += 1
        try:
            return finish()
        except LimitReachedError:
            self.search.nodes -= 1
            self.open.add(node)
            return None

    def record(self, node: OpenNode, examined: Examined) -> OpenNode:
        """Write fixings and tightenings into the tree; return the node that they leave.

        Its bound is the better one of its own and that of the node before.
        """
        search, depth = self.search, -node.key[1]
        shaved = max((side.bound for side in examined.tightenings), default=-math.inf)
        self.pruned_bound = max(self.pruned_bound, search.rounded(shaved))
        position = self.relaxation.tree.tighten(node.position, examined.tightenings)
        bound, proof = search.rounded(examined.bound), examined.proof
        if bound >= node.bound:
            bound, proof = node.bound, node.proof
        return OpenNode.of(bound, depth, position, examined.box, proof)

    def end(self, node: OpenNode, leaf: Leaf | None) -> None:
        """Make a leaf of a node: one without feasible points, or a single point without `leaf`."""
        if leaf is None:
            self._secure(node)
            self.pruned_bound = max(self.pruned_bound, node.bound)
        self.relaxation.tree.prune(node.position, leaf or node.proof)

    def branch(self, node: OpenNode, at: tuple[int, int]) -> None:
        """Split a node along an axis at a cut; both halves are open with its bound and proof."""
        self.reduced_root = self.reduced_root or (node, self.pruned_bound)
        axis, cut = at
        positions = self.relaxation.tree.split(node.position, axis, cut)
        halves = self.relaxation.split(node.box, axis, cut)
        for position, half in zip(positions, halves, strict=True):
            child = OpenNode.of(node.bound, 1 - node.key[1], position, half, node.proof)
            self.open.add(child)
