"""Ask many sites at once: in this process, in several, on a cluster, on any Executor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from moe2opt.fleet.priced import Answer, SiteState
from moe2opt.plugins import told
from moe2opt.result import InputError
from moe2opt.solvers import Interrupt
from moe2opt.sweep.backends import (
    POLL_S,
    check_backend,
    dask_client,
    dask_finished,
    executor_of,
    one_thread_each,
    submitted,
)
from moe2opt.sweep.interrupts import end_pool, pool_of, sheltered, stoppable

#: Sites that travel together.
CHUNK = 50


@dataclass(frozen=True, slots=True)
class Errand:
    """Sites to ask for their answer at a price, each up to an absolute tolerance."""

    sites: tuple[SiteState, ...]
    price: float
    tolerances: tuple[float, ...]


def run_errand(errand: Errand) -> tuple[Answer, ...]:
    """Return the answers of the sites."""
    pairs = zip(errand.sites, errand.tolerances, strict=True)
    return tuple(site.ask(errand.price, tolerance) for site, tolerance in pairs)


def _in_turn(
    errands: Sequence[Errand], stop: Interrupt
) -> Iterator[tuple[int, tuple[Answer, ...]]]:
    """Run errands in this process, until a signal comes."""
    for k, errand in enumerate(errands):
        answers = []
        for site, tolerance in zip(errand.sites, errand.tolerances, strict=True):
            answers.append(site.ask(errand.price, tolerance, stop))
            if stop.raised:
                return
        yield k, tuple(answers)


class Crew:
    """Processes that run errands, for as long as the block lasts."""

    def __init__(
        self,
        backend: str,
        workers: int | None,
        scheduler: str | None,
        executor: Executor | None = None,
    ) -> None:
        check_backend(backend, workers, scheduler, executor)
        self._opened = executor_of(backend, workers, scheduler, executor)
        backend = backend if executor is None else "executor"
        self.backend, self.scheduler = backend, scheduler
        self.workers = workers or os.cpu_count() or 1
        self._blocks = ExitStack()
        self._stop = Interrupt()
        self._pool: Any = None

    def __enter__(self) -> Self:
        self._blocks.enter_context(one_thread_each())
        self._stop = self._blocks.enter_context(stoppable())
        if self.backend == "process":
            self._pool = pool_of(self.workers)
        elif self.backend == "dask":
            self._pool = self._blocks.enter_context(dask_client(self.workers, self.scheduler))
        elif self.backend != "serial":
            self._pool = self._blocks.enter_context(self._opened)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.backend == "process":
            end_pool(self._pool, now=error is not None or self._stop.raised)
        self._blocks.__exit__(kind, error, trace)

    def run(self, errands: Sequence[Errand]) -> Iterator[tuple[int, tuple[Answer, ...]]]:
        """Yield position and answers of each errand; raise KeyboardInterrupt once a signal came."""
        if self.backend == "serial":
            yield from _in_turn(errands, self._stop)
        elif self.backend == "process":
            with sheltered():
                futures = [self._pool.submit(run_errand, errand) for errand in errands]
            for k, future in enumerate(futures):
                while not (future.done() or self._stop.raised):
                    wait([future], POLL_S)
                if self._stop.raised:
                    break
                yield k, future.result()
        elif self.backend != "dask":
            for k, future in submitted(self._pool, run_errand, errands, self._stop):
                try:
                    yield k, future.result()
                except (BrokenExecutor, CancelledError) as error:
                    raise InputError(f"executor: a worker was lost: {told(error)}") from error
        else:
            futures = [self._pool.submit(run_errand, e, pure=False, retries=2) for e in errands]
            for k, future in dask_finished(self._pool, futures, self._stop):
                yield k, future.result()
        if self._stop.raised:
            raise KeyboardInterrupt
