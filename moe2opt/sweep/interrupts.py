"""Ctrl-C during a sweep: the parent notes it, workers never hear of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from moe2opt.interrupts import handling_interrupts, heard
from moe2opt.solvers import Interrupt


@contextmanager
def stoppable() -> Iterator[Interrupt]:
    """Turn the first Ctrl-C in the block into a flag; the second one raises KeyboardInterrupt.

    Raised in the middle of a wait for workers, the exception would break the locks of the pool.
    """
    stop = Interrupt()
    stop.raised = heard()

    def handler(signum: int, frame: object) -> None:
        if stop.raised:
            raise KeyboardInterrupt
        stop.raised = True

    with handling_interrupts(handler):
        yield stop


@contextmanager
def sheltered() -> Iterator[None]:
    """Keep Ctrl-C from processes that the block starts, from their first instruction on.

    They inherit the blocked signal; one that comes meanwhile reaches this process afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker() -> None:
    """Prepare a worker process: deaf to Ctrl-C, mute on stdout, and gone when its parent is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):  # what it prints must not mix with what the parent prints
        os.dup2(2, 1)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def pool_of(workers: int) -> ProcessPoolExecutor:
    """Return a pool of worker processes, which start with the first call of `submit`."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=start_worker)


def end_pool(pool: ProcessPoolExecutor, *, now: bool) -> None:
    """Shut a pool down; `now` ends what its workers are doing instead of waiting for it.

    The thread that manages the pool is waited for: this process, ending while that thread closes
    its pipes, would print a traceback.
    """
    processes: dict[int, Any] = dict(getattr(pool, "_processes", None) or {})
    manager: Any = getattr(pool, "_executor_manager_thread", None)
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes.values() if now else ():
        process.terminate()
    if manager is not None:
        manager.join()
