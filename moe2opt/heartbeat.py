"""Signs of life: whoever watches a run reads a line at least every few seconds.

Most lines come from the work itself. Where it is at one thing for long (a large linear relaxation,
a proof that is checked, a slow oracle), a thread beside it says what that is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

#: Seconds without a line after which one is due; less than the five that are promised.
SILENCE_S = 4.0

#: Seconds between looks.
_LOOK_S = 0.5

#: What is being done, in words or as a function that returns them.
Doing = str | Callable[[], str]


@dataclass(slots=True)
class _Watch:
    """When something was said last, and what is being done, outermost first."""

    last_s: float = 0.0
    doing: list[tuple[Doing, float]] = field(default_factory=list)
    beats: bool = False

    def line(self, now_s: float) -> str:
        """Return what is being done, and for how long the innermost of it."""
        doing = self.doing[:]
        if not doing:
            return "still at it"
        words = [what if isinstance(what, str) else what() for what, _ in doing]
        return f"still {': '.join(words)} ({now_s - doing[-1][1]:.0f} s)"


_watch = _Watch()


def said() -> None:
    """Note that a line appeared."""
    _watch.last_s = time.monotonic()


@contextmanager
def doing(what: Doing) -> Iterator[None]:
    """Say, if it takes long, that this is what is being done in the block."""
    entry = (what, time.monotonic())
    _watch.doing.append(entry)
    try:
        yield
    finally:
        _watch.doing.remove(entry)


@contextmanager
def beating(tell: Callable[[str], object]) -> Iterator[None]:
    """Call `tell` with a line whenever nothing was said for some seconds of the block.

    Within a block that beats already, the outer one goes on alone.
    """
    if _watch.beats:
        yield
        return
    said()
    over = threading.Event()

    def beat() -> None:
        while not over.wait(_LOOK_S):
            now_s = time.monotonic()
            if now_s - _watch.last_s >= SILENCE_S:
                said()
                tell(_watch.line(now_s))

    thread = threading.Thread(target=beat, name="moe2opt-heartbeat", daemon=True)
    _watch.beats = True
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _watch.beats = False
