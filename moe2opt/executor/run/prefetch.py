"""A thread that copies the experts of the next layer while the present one computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, Self, TypeVar

Wanted = TypeVar("Wanted", bound=Hashable)
Place = TypeVar("Place")


class Prefetcher(Generic[Wanted, Place]):
    """Copies what is asked for, in order, one at a time.

    Parameters
    ----------
    copy
        ``copy(wanted, place)`` copies and returns the bytes that moved; called in the thread.
    places
        Memory for copies under way or waiting to be used.

    Attributes
    ----------
    wasted_bytes
        Bytes of copies that nobody took.

    Notes
    -----
    A copy that has begun is finished even when nobody wants it any more: it occupies the link, as
    the model of a plan with `prefetch` says. One that has not begun is left out.
    """

    def __init__(self, copy: Callable[[Wanted, Place], int], places: Sequence[Place]) -> None:
        self._copy = copy
        self._free = list(places)
        self._jobs: dict[Wanted, tuple[Place, Future[int]]] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="moe2opt-prefetch")
        self.wasted_bytes = 0

    def want(self, wanted: Wanted) -> bool:
        """Ask for a copy; return whether there is memory for it (or it is under way already)."""
        if wanted in self._jobs:
            return True
        with self._lock:
            if not self._free:
                return False
            place = self._free.pop()
        self._jobs[wanted] = (place, self._thread.submit(self._copy, wanted, place))
        return True

    def take(self, wanted: Wanted) -> tuple[Place, int] | None:
        """Wait for a copy and return its place and the bytes moved; None when not asked for.

        The place must be given back with `release`.
        """
        if wanted not in self._jobs:
            return None
        place, copy = self._jobs.pop(wanted)
        try:
            return place, copy.result()
        except BaseException:
            self.release(place)
            raise

    def release(self, place: Place) -> None:
        """Give a place back."""
        with self._lock:
            self._free.append(place)

    def abandon_rest(self) -> None:
        """Forget copies that nobody took; their places come back when they are done."""
        for place, copy in self._jobs.values():
            copy.add_done_callback(partial(self._returned, place))
            copy.cancel()
        self._jobs.clear()

    def _returned(self, place: Place, copy: Future[int]) -> None:
        with self._lock:
            if not copy.cancelled() and copy.exception() is None:
                self.wasted_bytes += copy.result()
            self._free.append(place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)
