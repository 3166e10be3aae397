"""Several threads on one tree: the costly part of several boxes at once, the rest in order.

A crew of n threads starts the n best boxes together and hands them back in their order, so that
the tree depends on n but not on which thread was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from moe2opt.solvers.base import Search
from moe2opt.solvers.relaxation import Examined, Relaxation


class _HasBox(Protocol):
    @property
    def box(self) -> Any: ...


_Node = TypeVar("_Node", bound=_HasBox)


@runtime_checkable
class Startable(Protocol):
    """A relaxation that can start boxes in threads, without touching what they share."""

    def can_start(self) -> bool:
        """Tell whether `start` makes sense at this time."""

    def start(self, box: Any, target: float) -> Any:
        """Return what the costly part of examining a box gives, for a bound below `target`."""

    def resume(self, box: Any, search: Search, start: Any) -> Examined:
        """Return what `examine` would, with the costly part done."""


class Crew:
    """Threads that start boxes; a single one starts nothing ahead."""

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
        """How many boxes to take at a time."""
        return self.threads if self.starter is not None and self.starter.can_start() else 1

    def started(self, nodes: Sequence[_Node]) -> Iterator[tuple[_Node, Callable[[], Examined]]]:
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
