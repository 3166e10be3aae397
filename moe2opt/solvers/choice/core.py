"""Running the compiled search of a core: limits, incumbents, memory, and when to start over."""

from __future__ import annotations

import enum
import math
import time
from typing import Literal

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import FloatArray, Limit
from moe2opt.solvers.base import Search, resident_bytes
from moe2opt.solvers.choice.model import Part
from moe2opt.solvers.choice.search import explore
from moe2opt.solvers.choice.state import (
    BUDGET,
    CANDIDATE,
    CORNER,
    CURRENT,
    DONE,
    FULL,
    NODES,
    POSITIONS,
    QUEUED,
    REFUSED,
    SINGLE,
    grown,
    new_state,
    prune_node,
)
from moe2opt.solvers.choice.vertex import new_vertex


class Shrunk(enum.Enum):
    """A search that ended because its core should be cut down first."""

    SHRUNK = enum.auto()


SHRUNK: Literal[Shrunk.SHRUNK] = Shrunk.SHRUNK


class CoreSearch:
    """One search of one core.

    Parameters
    ----------
    part
        The core.
    root_bound
        Upper bound on the whole problem, proven by `price`.
    search
        Limits and incumbents.
    price
        Scaled prices of the root; without them the search is only after incumbents.
    """

    def __init__(
        self, part: Part, root_bound: float, search: Search, price: FloatArray | None = None
    ) -> None:
        self.part, self.search, self.price = part, search, price
        self.root_bound = root_bound
        self.tuning = search.options.tuning.choice
        self.vertex = new_vertex(part.core)
        if price is not None:
            self.vertex.price[:] = price
        self.state = new_state(part.core, self.vertex, root_bound)
        self._pace = 20

    @property
    def bound(self) -> float:
        """Upper bound over the core: of what is closed and of what is open."""
        nodes = self.state.queue[: self.state.counts[QUEUED]]
        if self.state.counts[CURRENT] >= 0:
            nodes = np.append(nodes, self.state.counts[CURRENT])
        largest = self.state.node_bound[nodes].max(initial=-math.inf)
        return max(float(self.state.pruned[0]), float(largest))

    @property
    def is_open(self) -> bool:
        """Whether there is a node to go on with."""
        return bool(self.state.counts[QUEUED] or self.state.counts[CURRENT] >= 0)

    def run(self, nodes: float = math.inf) -> Limit | Literal[Shrunk.SHRUNK] | None:
        """Search to the end, for some nodes, to a limit, or until the core should shrink."""
        problem = self.search.problem
        assert isinstance(problem, MultipleChoiceProblem)
        while True:
            limit = self.search.limit_reached() or self._no_room_to_write()
            if limit is not None or self.spent >= nodes:
                return limit
            event = self._call(nodes - self.spent)
            if event == DONE:
                return None
            if event == FULL:
                # While it grows there are two of it.
                if not self.search.has_room(sum(array.nbytes for array in self.state)):
                    return Limit.MEMORY
                self.state = grown(self.state, len(self.part.core.values))
                continue
            if self.price is not None:
                self.search.improve_bound(self.search.rounded(self.bound))
            improved = self._answer(problem, event)
            self.search.tick()
            if improved and self.should_shrink():
                return SHRUNK

    @property
    def spent(self) -> int:
        """Nodes so far."""
        return int(self.state.counts[NODES])

    def _call(self, nodes: float) -> int:
        """Let the compiled search work for a short time; return why it came back."""
        search, core = self.search, self.part.core
        if search.options.node_limit is not None:
            nodes = min(nodes, search.options.node_limit - search.nodes)
        count = max(1, int(min(nodes, self._pace)))
        before, start = self.spent, time.perf_counter()
        best = search.objective + core.tiny
        small, often = self.tuning.small_core, self.tuning.often
        event = int(
            explore(core, self.vertex, self.state, search.cutoff, best, count, small, often)
        )
        search.nodes += self.spent - before
        search.open_nodes = int(self.state.counts[QUEUED]) + 1
        took = time.perf_counter() - start
        if took < self.tuning.pause_s / 2 and self.spent - before >= self._pace:
            self._pace *= 2
        elif took > 2 * self.tuning.pause_s:
            self._pace = max(1, self._pace // 2)
        return event

    def _answer(self, problem: MultipleChoiceProblem, event: int) -> bool:
        """Take what the search found; return whether the incumbent improved."""
        if event not in (CANDIDATE, SINGLE):
            return False
        x = self.part.complete(self.state.candidate) - problem.offsets[:-1]
        node = int(self.state.counts[CURRENT])
        if event == CANDIDATE:
            self.state.counts[REFUSED] = node
            return self.search.offer(x, "L")
        over = problem.usage_of(x) > problem.limits
        if over.any():
            prune_node(self.state, node, BUDGET, int(np.argmax(over)), -math.inf)
            return False
        improved = self.search.offer(x, "B")
        prune_node(self.state, node, CORNER, 0, problem.evaluate(x))
        return improved

    def should_shrink(self) -> bool:
        """Tell whether the new incumbent rules out much of the core, early enough to start over."""
        core = self.part.core
        if core.aimless or self.price is None or self.spent > self.tuning.costly_nodes:
            return False
        profit = core.values - core.costs @ self.price
        best = np.maximum.reduceat(profit, core.starts[:-1])
        bounds = self.root_bound - best[core.group_of] + profit + core.error * core.size
        return bool((~self.search.prunes_each(bounds)).sum() < self.tuning.shrink * len(profit))

    def _no_room_to_write(self) -> Limit | None:
        """Return the limit that writing the certificate down would break."""
        records = int(self.state.counts[POSITIONS])
        if self.search.time_left_s < records * self.tuning.write_s:
            return Limit.TIME
        limit = self.search.options.memory_limit_bytes
        if limit is not None and resident_bytes() + records * self.tuning.write_bytes > limit:
            return Limit.MEMORY
        return None
