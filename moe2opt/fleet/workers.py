"""Ask many sites at once: in this process, in several, or on a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from moe2opt.fleet.priced import Answer, SiteState
from moe2opt.sweep.backends import POLL_S, check_backend, dask_distributed, one_thread_each
from moe2opt.sweep.interrupts import Stop, end_pool, pool_of, sheltered, stoppable

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


class Crew:
    """Processes that run errands, for as long as the block lasts."""

    def __init__(self, backend: str, workers: int | None, scheduler: str | None) -> None:
        check_backend(backend, workers, scheduler)
        self.backend, self.scheduler = backend, scheduler
        self.workers = workers or os.cpu_count() or 1
        self._blocks = ExitStack()
        self._stop = Stop()
        self._pool: Any = None
        self._cluster: Any = None

    def __enter__(self) -> Self:
        self._blocks.enter_context(one_thread_each())
        if self.backend == "process":
            self._stop = self._blocks.enter_context(stoppable())
            self._pool = pool_of(self.workers)
        elif self.backend == "dask":
            self._pool = self._client()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.backend == "process":
            end_pool(self._pool, now=kind is not None)
        elif self._pool is not None:
            self._pool.close()
            if self._cluster is not None:
                self._cluster.close()
        self._blocks.close()

    def _client(self) -> Any:
        distributed = dask_distributed()
        if self.scheduler is None:
            self._cluster = distributed.LocalCluster(
                n_workers=self.workers, threads_per_worker=1, dashboard_address=None
            )
        return distributed.Client(self.scheduler or self._cluster, set_as_default=False)

    def run(self, errands: Sequence[Errand]) -> Iterator[tuple[int, tuple[Answer, ...]]]:
        """Yield position and answers of each errand."""
        if self.backend == "serial":
            yield from ((k, run_errand(errand)) for k, errand in enumerate(errands))
        elif self.backend == "process":
            with sheltered():
                futures = [self._pool.submit(run_errand, errand) for errand in errands]
            for k, future in enumerate(futures):
                while not (future.done() or self._stop.raised):
                    wait([future], POLL_S)
                if self._stop.raised:
                    raise KeyboardInterrupt
                yield k, future.result()
        else:
            futures = [self._pool.submit(run_errand, e, pure=False, retries=2) for e in errands]
            yield from ((k, future.result()) for k, future in enumerate(futures))
