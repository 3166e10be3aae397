"""Steps of long work before a search: whoever waits for it hears of each, and may end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Called with what comes next, or with None within a stage; raises to end the work.
Watch = Callable[[str | None], None]

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


def step(stage: str | None = None) -> None:
    """Tell who watches that work goes on, and with what; what this raises must not be caught."""
    watch = _watch.get()
    if watch is not None:
        watch(stage)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Let `watch` hear of all steps of the block."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)
