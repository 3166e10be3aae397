"""Where the cells of a sweep run: in this process, in several, on a cluster, on any Executor."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from typing import Any

from moe2opt import plugins, progress
from moe2opt.result import InputError
from moe2opt.schema.source import did_you_mean
from moe2opt.solvers import Interrupt
from moe2opt.sweep.cell import ONE_THREAD, failure, run_cell
from moe2opt.sweep.interrupts import end_pool, pool_of, sheltered
from moe2opt.sweep.spec import Task

#: What a cell gives: its row, and the files to keep.
Finished = tuple[dict[str, Any], dict[str, bytes]]

#: A cell whose worker died is tried so many times in all.
MOST_TRIES = 3

BACKENDS = ("serial", "process", "dask")

#: Loggers of Dask, each with a level of its own.
_LOUD = ("distributed", "tornado", "asyncio")

#: Seconds that a Dask scheduler may be without workers.
WORKERS_S = 30.0

#: Seconds between two looks at the flag that Ctrl-C raises.
POLL_S = 0.1


def finished(
    tasks: Sequence[Task],
    backend: str,
    workers: int | None,
    scheduler: str | None,
    stop: Interrupt,
    executor: Executor | None = None,
) -> Iterator[tuple[int, Finished]]:
    """Yield the position of each task and what it gave, in the order they finish.

    Parameters
    ----------
    tasks
        Cells to run.
    backend
        ``serial``, ``process``, ``dask``, or one that another package adds.
    workers
        Number of processes; by default that of the processors.
    scheduler
        Address of a Dask scheduler; a cluster of this machine's processors without one.
    stop
        Once raised, no cell is handed out any more, and those that run are given up.
    executor
        Runs the cells in place of a backend, and stays open.

    Raises
    ------
    InputError
        For an unknown backend, or one whose package is missing.
    """
    known: dict[str, Callable[[], Iterator[tuple[int, Finished]]]] = {
        "serial": lambda: _in_turn(tasks, stop),
        "process": lambda: _in_processes(tasks, workers or os.cpu_count() or 1, stop),
        "dask": lambda: _on_dask(tasks, workers or os.cpu_count() or 1, scheduler, stop),
    }
    check_backend(backend, workers, scheduler, executor)
    if executor is None and backend in known:
        return known[backend]()
    return _on_executor(tasks, executor_of(backend, workers, scheduler, executor), stop)


def check_backend(
    backend: str, workers: int | None, scheduler: str | None, executor: Executor | None = None
) -> None:
    """Raise `InputError` for an unknown backend, or what does not go with it."""
    if executor is not None:
        if (backend, workers, scheduler) != ("serial", None, None):
            raise InputError("executor: give it alone, without backend, workers and scheduler")
        if not callable(getattr(executor, "submit", None)):
            raise InputError(f"executor: {type(executor).__name__} has no method submit")
        return
    if not isinstance(backend, str):
        raise InputError(f"backend: expected a name, got a {type(backend).__name__}; see executor")
    known = [*BACKENDS, *(() if backend in BACKENDS else plugins.names("backends"))]
    if backend not in known:
        hint = did_you_mean(backend, known)
        raise InputError(f"backend '{backend}' is not understood; one of {', '.join(known)}{hint}")
    if workers is not None and workers < 1:
        raise InputError(f"workers = {workers} is not understood; it must be at least 1")
    if scheduler is not None and backend in ("serial", "process"):
        raise InputError(f"a scheduler goes with the backend dask, not with {backend}")


def _in_turn(tasks: Sequence[Task], stop: Interrupt) -> Iterator[tuple[int, Finished]]:
    for k, task in enumerate(tasks):
        if stop.raised:
            return
        yield k, run_cell(task)


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


def _in_processes(
    tasks: Sequence[Task], workers: int, stop: Interrupt
) -> Iterator[tuple[int, Finished]]:
    """Run cells in a pool; when a worker dies, start another pool for what was in flight."""
    tries = dict.fromkeys(range(len(tasks)), 0)
    with one_thread_each():
        while tries and not stop.raised:
            died: list[int] = []
            for k, result in _in_one_pool(tasks, list(tries), workers, died, stop):
                del tries[k]
                yield k, result
            for k in died:
                tries[k] += 1
                if tries[k] >= MOST_TRIES:
                    del tries[k]
                    yield k, _lost(tasks[k], f"its worker died {MOST_TRIES} times")


def _in_one_pool(
    tasks: Sequence[Task], order: list[int], workers: int, died: list[int], stop: Interrupt
) -> Iterator[tuple[int, Finished]]:
    """Run cells until all are done or the pool breaks; then `died` holds those in flight."""
    waiting = list(reversed(order))
    pool = pool_of(min(workers, len(order)))
    flying: dict[Any, int] = {}
    try:
        while (waiting or flying) and not stop.raised:
            with sheltered():
                while waiting and len(flying) < workers:
                    k = waiting.pop()
                    flying[pool.submit(run_cell, tasks[k])] = k
            done, _ = wait(flying, POLL_S, return_when=FIRST_COMPLETED)
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
        # What is unfinished here was interrupted, or its reader left.
        end_pool(pool, now=bool(flying))


def _gave(future: Any) -> bool:
    return bool(future.done() and not future.cancelled() and future.exception() is None)


def _lost(task: Task, why: str) -> Finished:
    row = failure(task, InputError(why))
    return row, {"row.json": json.dumps(row).encode()}


# ---------------------------------------------------------------------- any Executor


@contextmanager
def executor_of(
    backend: str, workers: int | None, scheduler: str | None, executor: Executor | None
) -> Iterator[Executor]:
    """Yield the caller's executor, which stays open, or that of another package's backend."""
    with one_thread_each():
        if executor is not None:
            yield executor
            return
        make: Any = plugins.load("backends", backend, object)
        try:
            found = make(workers or os.cpu_count() or 1, scheduler)
        except Exception as error:
            raise InputError(f"backend '{backend}': {plugins.told(error)}") from error
        if not isinstance(found, Executor):
            raise InputError(f"backend '{backend}' gives no Executor but {type(found).__name__}")
        try:
            yield found
        finally:
            found.shutdown(wait=False, cancel_futures=True)


def submitted(
    executor: Executor, function: Callable[[Any], Any], items: Sequence[Any], stop: Interrupt
) -> Iterator[tuple[int, Future[Any]]]:
    """Yield position and future of each piece of work as it ends, until `stop` is raised."""
    flying: dict[Future[Any], int] = {}
    try:
        for k, item in enumerate(items):
            try:
                flying[executor.submit(function, item)] = k
            except RuntimeError as error:  # it was shut down, or is broken
                raise InputError(f"executor: {error}") from error
        while flying and not stop.raised:
            done, _ = wait(flying, POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                yield flying.pop(future), future
    finally:
        for future in flying:
            future.cancel()


def _on_executor(
    tasks: Sequence[Task], opened: AbstractContextManager[Executor], stop: Interrupt
) -> Iterator[tuple[int, Finished]]:
    """Run cells on an executor; a cell whose worker is lost is a row with an error."""
    with opened as executor:
        for k, future in submitted(executor, run_cell, tasks, stop):
            try:
                found: Finished = future.result()
            except (Exception, CancelledError) as error:
                found = _lost(tasks[k], f"its worker was lost: {plugins.told(error)}")
            yield k, found


# ---------------------------------------------------------------------- Dask


def dask_distributed() -> Any:
    """Return the module `distributed`; raise `InputError` where it is not installed."""
    try:
        return import_module("distributed")
    except ModuleNotFoundError as error:
        text = f"the backend dask needs {error.name}: pip install 'moe2opt[dask]'"
        raise InputError(text) from error


@contextmanager
def dask_client(workers: int, scheduler: str | None) -> Iterator[Any]:
    """Yield a client of a Dask scheduler that has workers; a cluster of this machine without one.

    Dask packs functions and results for its own processes with pickle: only name a scheduler that
    you trust.

    Raises
    ------
    InputError
        When the scheduler cannot be reached, is lost, or has no workers for `WORKERS_S` seconds.
    """
    distributed = dask_distributed()
    cluster: Any = scheduler
    with ExitStack() as stack:
        stack.enter_context(one_thread_each())
        stack.enter_context(_quiet_dask())
        try:
            if scheduler is None:
                with sheltered():
                    cluster = distributed.LocalCluster(
                        n_workers=workers, threads_per_worker=1, processes=True,
                        dashboard_address=None,
                    )  # fmt: skip
                stack.enter_context(cluster)
            try:
                client = distributed.Client(cluster, set_as_default=False)
            except ValueError as error:  # no address
                raise InputError(f"Dask scheduler {scheduler}: {error}") from error
            yield stack.enter_context(client)
        except (OSError, TimeoutError, CancelledError) as error:
            raise InputError(f"Dask scheduler {scheduler or 'here'}: {error}") from error


def dask_finished(
    client: Any, futures: Sequence[Any], stop: Interrupt
) -> Iterator[tuple[int, Any]]:
    """Yield position and future of each piece of work as it ends, until `stop` is raised."""
    address = client.scheduler.address
    waiting = dict(enumerate(futures))
    seen_s = time.monotonic()
    told = False
    while waiting and not stop.raised:
        lost = client.status != "running"
        done = [] if lost else [k for k, future in waiting.items() if future.done()]
        for k in done:
            yield k, waiting.pop(k)
        if lost:
            raise InputError(f"Dask scheduler {address}: the connection is lost")
        if done or client.nthreads():
            seen_s = time.monotonic()
        elif time.monotonic() - seen_s > WORKERS_S:
            raise InputError(f"Dask scheduler {address}: no workers for {WORKERS_S:g} s")
        elif not told:
            told = True
            progress.logger.warning(
                f"Dask scheduler {address} has no workers; waiting {WORKERS_S:g} s for one"
            )
        if not done:
            time.sleep(POLL_S)
    if stop.raised:
        client.cancel(list(waiting.values()))


@contextmanager
def _quiet_dask() -> Iterator[None]:
    """Keep tracebacks of lost connections off the terminal: one line of ours says it."""
    names = [n for n in logging.root.manager.loggerDict if n.split(".")[0] in _LOUD]
    before = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    for logger in before:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


def _on_dask(
    tasks: Sequence[Task], workers: int, scheduler: str | None, stop: Interrupt
) -> Iterator[tuple[int, Finished]]:
    """Run cells on a Dask cluster, which moves the cells of a lost worker to another one."""
    with dask_client(workers, scheduler) as client:
        futures = [client.submit(run_cell, t, pure=False, retries=2) for t in tasks]
        for k, future in dask_finished(client, futures, stop):
            fault = future.exception()
            yield k, future.result() if fault is None else _lost(tasks[k], f"Dask: {fault}")
            future.release()
