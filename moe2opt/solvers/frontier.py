"""The open nodes of a tree, taken by their bound or by their age."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import Any

from moe2opt.solvers.relaxation import OpenNode

#: Taken nodes that may stay in one of two lists until it is cleared of them.
_LITTER = 256


class OpenNodes:
    """Nodes in two orders: a heap by their keys, and a stack by the time at which they came.

    What is taken from one stays in the other, without its box, until that is half litter.
    """

    def __init__(self, nodes: Sequence[OpenNode]) -> None:
        self._heap: list[list[Any]] = []
        self._stack: list[list[Any]] = []
        self._count = self._added = 0
        for node in nodes:
            self.add(node)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[OpenNode]:
        return (entry[2] for entry in self._heap if entry[2] is not None)

    @property
    def bound(self) -> float:
        """The largest bound, ``-inf`` of no nodes."""
        while self._heap and self._heap[0][2] is None:
            heapq.heappop(self._heap)
        return self._heap[0][2].bound if self._heap else -math.inf

    def add(self, node: OpenNode) -> None:
        """Add a node."""
        # A node that comes back has the key of what it left behind.
        entry = [node.key, self._added, node]
        self._added += 1
        heapq.heappush(self._heap, entry)
        self._stack.append(entry)
        self._count += 1

    def best(self) -> OpenNode:
        """Take the node of the largest bound."""
        while self._heap[0][2] is None:
            heapq.heappop(self._heap)
        return self._taken(heapq.heappop(self._heap))

    def newest(self) -> OpenNode:
        """Take the node that came last."""
        while self._stack[-1][2] is None:
            self._stack.pop()
        return self._taken(self._stack.pop())

    def _taken(self, entry: list[Any]) -> OpenNode:
        node: OpenNode = entry[2]
        entry[2] = None
        self._count -= 1
        if len(self._heap) > 2 * self._count + _LITTER:
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapq.heapify(self._heap)
        if len(self._stack) > 2 * self._count + _LITTER:
            self._stack = [entry for entry in self._stack if entry[2] is not None]
        return node
