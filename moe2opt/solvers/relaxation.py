"""What branch-reduce-and-bound asks of a family: nodes, their bounds, fixing and tightening."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from moe2opt.canonical import Problem
from moe2opt.result import Certificate, InputError, Limit
from moe2opt.solvers.base import Search
from moe2opt.solvers.tree import Exclusions, Leaf, SplitTree, Tightening


@dataclass(frozen=True, slots=True)
class Examined:
    """What a relaxation found out about one node.

    Attributes
    ----------
    tightenings
        Fixings and tightenings, in the order in which they were made.
    box
        What they leave of the node.
    leaf
        Set when the node holds no feasible point.
    bound, proof
        Upper bound over the node and the leaf that proves it.
    branch
        Axis and cut of the next split; None only for a single point.
    """

    tightenings: Sequence[Tightening | Exclusions]
    box: Any
    leaf: Leaf | None = None
    bound: float = -math.inf
    proof: Leaf = ("corner", 0)
    branch: tuple[int, int] | None = None


@dataclass(eq=False, slots=True)
class OpenNode:
    """An open node; the smallest in a heap has the largest bound, then the largest depth."""

    key: tuple[float, int, int]
    bound: float
    position: int
    box: Any
    proof: Leaf

    def __lt__(self, other: OpenNode) -> bool:
        return self.key < other.key

    @classmethod
    def of(cls, bound: float, depth: int, position: int, box: Any, proof: Leaf) -> OpenNode:
        """Return a node with its key."""
        return cls((-bound, -depth, position), bound, position, box, proof)


class Relaxation(Protocol):
    """Nodes of one family of problems: their boxes, what can be fixed in them, and their bounds.

    Attributes
    ----------
    tree
        The tree under construction.
    """

    tree: SplitTree

    def root(self) -> Any:
        """Return the whole node."""

    def examine(self, box: Any, search: Search) -> Examined:
        """Bound a node, fix and tighten in it; offer any solution found on the way."""

    def split(self, box: Any, axis: int, cut: int) -> tuple[Any, Any]:
        """Return the two halves of a node."""

    def certificate(self, claim: float) -> Certificate:
        """Return the certificate of the finished tree."""


@dataclass(frozen=True, slots=True)
class Explored:
    """The proven bound of a finished or stopped tree, every open node closed by its own proof."""

    bound: float
    limit: Limit | None


@runtime_checkable
class Explorer(Protocol):
    """A relaxation that grows its tree itself."""

    def explore(self, search: Search) -> Explored:
        """Do what `moe2opt.solvers.brb.explore` does."""

    def certificate(self, claim: float) -> Certificate:
        """Return the certificate of the finished tree."""


@runtime_checkable
class Restarting(Protocol):
    """A relaxation that may learn that another tree from the root would be smaller."""

    def wants_restart(self) -> bool:
        """Tell, at most once, to drop the tree below the root."""


@runtime_checkable
class Growing(Protocol):
    """A relaxation whose tree can grow by many nodes in compiled code."""

    def can_grow(self, search: Search) -> bool:
        """Tell whether the open nodes are of that sort at this time."""

    def grow(
        self, nodes: Sequence[OpenNode], pruned: float, search: Search
    ) -> tuple[list[OpenNode], float]:
        """Examine nodes, best bound first; return what is open then and the largest pruned bound.

        It keeps the search informed and ends at its limits.
        """


@runtime_checkable
class Securing(Protocol):
    """A relaxation whose proofs of a box need not hold in a smaller one."""

    def secured(self, box: Any, bound: float, proof: Leaf) -> tuple[float, Leaf]:
        """Return a bound over a box and its proof, the given ones where they hold in it."""


@runtime_checkable
class Startable(Protocol):
    """A relaxation that can start nodes in threads, without touching what they share."""

    def can_start(self) -> bool:
        """Tell whether `start` makes sense at this time."""

    def start(self, box: Any, target: float) -> Any:
        """Return what the costly part of examining a node gives, for a bound below `target`."""

    def resume(self, box: Any, search: Search, start: Any) -> Examined:
        """Return what `examine` would, with the costly part done."""


def unknown_bound(name: str, problem: Problem, known: tuple[str, ...]) -> InputError:
    """Return the error for a bound that this family does not have."""
    return InputError(
        f"bound {name!r} does not fit {type(problem).__name__}; choose from {', '.join(known)}"
    )
