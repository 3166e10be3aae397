"""A thread that copies the experts of the next layer while the present one computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Self, TypeVar

Wanted = TypeVar("Wanted", bound=Hashable)
Place = TypeVar("Place")


class _Job(Generic[Place]):
    """One copy: where it goes, whether it is done or no longer wanted, what it moved."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.done = threading.Event()
        self.abandoned = False
        self.moved = 0
        self.error: BaseException | None = None


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
        self._jobs: dict[Wanted, _Job[Place]] = {}
        self._queue: queue.SimpleQueue[tuple[Wanted, _Job[Place]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.wasted_bytes = 0
        self._thread = threading.Thread(target=self._work, name="moe2opt-prefetch", daemon=True)
        self._thread.start()

    def want(self, wanted: Wanted) -> bool:
        """Ask for a copy; return whether there is memory for it (or it is under way already)."""
        with self._lock:
            if wanted in self._jobs:
                return True
            if not self._free:
                return False
            job = _Job(self._free.pop())
            self._jobs[wanted] = job
        self._queue.put((wanted, job))
        return True

    def take(self, wanted: Wanted) -> tuple[Place, int] | None:
        """Wait for a copy and return its place and the bytes moved; None when not asked for.

        The place must be given back with `release`.
        """
        with self._lock:
            job = self._jobs.pop(wanted, None)
        if job is None:
            return None
        job.done.wait()
        if job.error is not None:
            self.release(job.place)
            raise job.error
        return job.place, job.moved

    def release(self, place: Place) -> None:
        """Give a place back."""
        with self._lock:
            self._free.append(place)

    def abandon_rest(self) -> None:
        """Forget copies that nobody took; their places come back when they are done."""
        with self._lock:
            for job in self._jobs.values():
                job.abandoned = True
                if job.done.is_set():
                    self._returned(job)
            self._jobs.clear()

    def close(self) -> None:
        """End the thread."""
        self._queue.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _returned(self, job: _Job[Place]) -> None:
        self.wasted_bytes += job.moved
        self._free.append(job.place)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            wanted, job = item
            if not job.abandoned:
                try:
                    job.moved = self._copy(wanted, job.place)
                except BaseException as error:  # told to whoever takes the copy
                    job.error = error
            with self._lock:
                job.done.set()
                if job.abandoned:
                    self._returned(job)
