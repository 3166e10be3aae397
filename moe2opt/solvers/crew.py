"""Threads that work on the nodes of one tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self

from moe2opt.solvers.base import Search
from moe2opt.solvers.relaxation import Examined, OpenNode, Relaxation, Startable


class Crew:
    """Threads on one tree: the costly part of several nodes at once, the rest in order.

    A crew of n threads starts the n best nodes together and hands them back in their order, so that
    the tree depends on n but not on which thread was faster. A single one starts nothing ahead.
    """

    def __init__(self, relaxation: Relaxation, search: Search) -> None:
        self.relaxation, self.search = relaxation, search
        self.starter = relaxation if isinstance(relaxation, Startable) else None
        self.threads = search.options.threads if self.starter is not None else 1
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def size(self) -> int:
        """How many nodes to take at a time."""
        return self.threads if self.starter is not None and self.starter.can_start() else 1

    def started(
        self, nodes: Sequence[OpenNode]
    ) -> Iterator[tuple[OpenNode, Callable[[], Examined]]]:
        """Yield the nodes in order, each with a function that finishes its examination."""
        starter, search = self.starter, self.search
        if self._pool is None or starter is None or len(nodes) < 2:
            for node in nodes:
                yield node, partial(self.relaxation.examine, node.box, search)
            return
        target = search.target
        futures = [self._pool.submit(starter.start, node.box, target) for node in nodes]
        for node, future in zip(nodes, futures, strict=True):
            yield node, partial(starter.resume, node.box, search, future.result())
