"""Where the cells of a sweep run: in this process, in several, or on a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from moe2opt.result import InputError
from moe2opt.sweep.cell import ONE_THREAD, failure, run_cell
from moe2opt.sweep.spec import Task

#: What a cell gives: its row, and the files to keep.
Finished = tuple[dict[str, Any], dict[str, bytes]]

#: A cell whose worker died is tried so many times in all.
MOST_TRIES = 3

BACKENDS = ("serial", "process", "dask")


def finished(
    tasks: Sequence[Task], backend: str, workers: int | None, scheduler: str | None
) -> Iterator[tuple[int, Finished]]:
    """Yield the position of each task and what it gave, in the order they finish.

    Parameters
    ----------
    tasks
        Cells to run.
    backend
        ``serial``, ``process`` or ``dask``.
    workers
        Number of processes; by default that of the processors.
    scheduler
        Address of a Dask scheduler; a cluster of this machine's processors without one.

    Raises
    ------
    InputError
        For an unknown backend, or one whose package is missing.
    """
    known: dict[str, Callable[[], Iterator[tuple[int, Finished]]]] = {
        "serial": lambda: ((k, run_cell(task)) for k, task in enumerate(tasks)),
        "process": lambda: _in_processes(tasks, workers or os.cpu_count() or 1),
        "dask": lambda: _on_dask(tasks, workers or os.cpu_count() or 1, scheduler),
    }
    if backend not in known:
        raise InputError(f"backend '{backend}' is not understood; one of {', '.join(BACKENDS)}")
    if workers is not None and workers < 1:
        raise InputError(f"workers = {workers} is not understood; it must be at least 1")
    if scheduler is not None and backend != "dask":
        raise InputError(f"a scheduler goes with the backend dask, not with {backend}")
    return known[backend]()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep the numerical libraries of processes started in the block to one thread."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# ---------------------------------------------------------------------- processes


def _in_processes(tasks: Sequence[Task], workers: int) -> Iterator[tuple[int, Finished]]:
    """Run cells in a pool; when a worker dies, start another pool for what was in flight."""
    tries = dict.fromkeys(range(len(tasks)), 0)
    with one_thread_each():
        while tries:
            died: list[int] = []
            for k, result in _in_one_pool(tasks, list(tries), workers, died):
                del tries[k]
                yield k, result
            for k in died:
                tries[k] += 1
                if tries[k] >= MOST_TRIES:
                    del tries[k]
                    yield k, _lost(tasks[k], f"its worker died {MOST_TRIES} times")


def _in_one_pool(
    tasks: Sequence[Task], order: list[int], workers: int, died: list[int]
) -> Iterator[tuple[int, Finished]]:
    """Run cells until all are done or the pool breaks; then `died` holds those in flight."""
    waiting = list(reversed(order))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(order)), context, initializer=leave_with_parent)
    flying: dict[Any, int] = {}
    try:
        while waiting or flying:
            while waiting and len(flying) < workers:
                k = waiting.pop()
                flying[pool.submit(run_cell, tasks[k])] = k
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                k = flying[future]
                result = future.result()
                del flying[future]
                yield k, result
    except BrokenProcessPool:
        died += [k for future, k in flying.items() if not _gave(future)]
        for future, k in flying.items():
            if _gave(future):
                yield k, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _gave(future: Any) -> bool:
    return bool(future.done() and not future.cancelled() and future.exception() is None)


def leave_with_parent() -> None:
    """End this worker when the process that started it is gone, however that went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _lost(task: Task, why: str) -> Finished:
    import json

    row = failure(task, InputError(why))
    return row, {"row.json": json.dumps(row).encode()}


# ---------------------------------------------------------------------- Dask


def _on_dask(
    tasks: Sequence[Task], workers: int, scheduler: str | None
) -> Iterator[tuple[int, Finished]]:
    """Run cells on a Dask cluster, which moves the cells of a lost worker to another one.

    Dask packs functions and results for its own processes with pickle: only name a scheduler that
    you trust.
    """
    try:
        distributed: Any = import_module("distributed")
    except ModuleNotFoundError as error:
        text = f"the backend dask needs {error.name}: pip install 'moe2opt[dask]'"
        raise InputError(text) from error
    with one_thread_each():
        cluster: Any = scheduler
        if scheduler is None:
            cluster = distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
            )
        try:
            with distributed.Client(cluster, set_as_default=False) as client:
                futures = [client.submit(run_cell, t, pure=False, retries=2) for t in tasks]
                position = {future.key: k for k, future in enumerate(futures)}
                for future in distributed.as_completed(futures, loop=client.loop):
                    k = position[future.key]
                    fault = future.exception()
                    lost = None if fault is None else _lost(tasks[k], f"Dask: {fault}")
                    yield k, future.result() if lost is None else lost
                    future.release()
        except (OSError, TimeoutError) as error:
            raise InputError(f"Dask scheduler {scheduler}: {error}") from error
        finally:
            if scheduler is None:
                cluster.close()
