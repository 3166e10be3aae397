"""Run a sweep: what is missing, where it is asked to run, and the table of everything."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from moe2opt.content import Content
from moe2opt.sweep.backends import finished
from moe2opt.sweep.interrupts import stoppable
from moe2opt.sweep.spec import Spec, check_keys, spec_of
from moe2opt.sweep.store import Addresses, Store
from moe2opt.writing import ours, replacing, write_frame, write_text

_FILES = ("sweep.json", "sweep.csv", "sweep.parquet", "cells")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sweep(Content):
    """The rows of a sweep, in the order of its cells.

    Attributes
    ----------
    rows
        One per cell: coordinates, status, objective, bound, gap, certified, error, use of the
        budgets, times.
    addresses
        Content address of each cell: the name of its folder below ``cells``.
    folder
        Where the sweep is.
    reused
        Cells that were already there.
    missing
        Cells that have no row because of Ctrl-C; running the sweep again solves them.
    """

    rows: tuple[dict[str, Any], ...]
    addresses: tuple[str, ...]
    folder: Path
    reused: int
    missing: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def failures(self) -> tuple[dict[str, Any], ...]:
        """The rows of cells that failed."""
        return tuple(row for row in self.rows if row["status"] == "ERROR")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell; infinite bounds are infinite numbers."""
        frame = pd.DataFrame(list(self.rows))
        for name in ("objective", "bound", "gap"):
            if name in frame:
                frame[name] = [math.nan if v is None else float(v) for v in frame[name]]
        return frame

    def save(self) -> None:
        """Write ``sweep.csv``, and ``sweep.parquet`` where pyarrow is installed."""
        frame = self.to_frame()
        write_frame(self.folder / "sweep.csv", frame)
        try:
            import pyarrow  # noqa: F401
        except ModuleNotFoundError:
            return
        with replacing(self.folder / "sweep.parquet") as beside:
            self.for_parquet().to_parquet(beside, index=False)

    def for_parquet(self) -> pd.DataFrame:
        """Return the table with columns of one kind, which a key's values need not be."""
        frame = self.to_frame()
        whole = frame.copy()
        for name in frame:
            if frame[name].dtype == object and frame[name].map(type).nunique() > 1:
                whole[name] = [None if v is None else str(v) for v in frame[name]]
        return whole


def sweep(
    config: str | Path,
    over: Mapping[str, Sequence[Any]] | Sequence[str] | None = None,
    scenarios: Sequence[str] | None = None,
    *,
    out: str | Path,
    backend: str = "serial",
    workers: int | None = None,
    scheduler: str | None = None,
    executor: Executor | None = None,
    allow_outside: bool = False,
    on_step: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Sweep:
    """Solve every combination of values in every scenario, and keep every result.

    Cells that are already in `out` are not run again; cells with an error are.

    Parameters
    ----------
    config
        A configuration, the name of a built-in problem, or a sweep file.
    over
        Values by dotted key, or texts ``a.b=1,2,3``.
    scenarios
        Names of scenarios; ``base`` is the configuration without any.
    out
        Folder for the results.
    backend, workers, scheduler
        ``serial``, ``process``, ``dask`` or the name of a backend that another package adds; number
        of processes; address of a Dask scheduler.
    executor
        Any `concurrent.futures.Executor` that runs the cells instead (threads, processes, loky,
        Dask's ``client.get_executor()``); it stays open.
    allow_outside
        Whether paths may leave the folder of the configuration.
    on_step
        Called with the number of cells done and of all cells.
    settings
        Arguments of `moe2opt.solve` for every cell, each of which has one thread.

    Raises
    ------
    InputError
        For a sweep that cannot be understood. A cell that fails is a row.
    """
    spec = spec_of(config, over, scenarios, allow_outside=allow_outside, **settings)
    return run(spec, Path(out), backend, workers, scheduler, on_step, executor)


def run(
    spec: Spec,
    out: Path,
    backend: str = "serial",
    workers: int | None = None,
    scheduler: str | None = None,
    on_step: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
) -> Sweep:
    """Do what `sweep` does for a sweep that was read before."""
    ours(out, _FILES)
    tasks, names, store = spec.tasks(), Addresses(), Store(out / "cells")
    addresses = [names.of(task) for task in tasks]
    write_text(out / "sweep.json", json.dumps(content_of(spec, addresses), indent=1))
    rows = _known(store, addresses)
    reused = len(rows)
    missing = list(dict.fromkeys(a for a in addresses if a not in rows))
    first = {address: tasks[addresses.index(address)] for address in missing}
    done = sum(address in rows for address in addresses)
    check_keys([first[address] for address in missing])
    with stoppable() as stop:
        todo = [first[address] for address in missing]
        try:
            where = (backend, workers, scheduler, stop, executor)
            for k, (row, files) in finished(todo, *where):
                if row.get("limit") == "INTERRUPTED":
                    stop.raised = True
                    continue
                store.put(missing[k], files)
                rows[missing[k]] = row
                done += addresses.count(missing[k])
                if on_step is not None:
                    on_step(done, len(tasks))
        finally:  # also when a cluster is lost
            there = tuple(address for address in addresses if address in rows)
            lost = len(addresses) - len(there)
            found = Sweep(tuple(rows[a] for a in there), there, out, reused, lost)
            if there:
                found.save()
    return found


def _known(store: Store, addresses: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the rows of the cells that are there, did not fail and were not interrupted."""
    rows = {a: store.row(a) for a in store.addresses().intersection(addresses)}
    return {
        a: row
        for a, row in rows.items()
        if row is not None and row["status"] != "ERROR" and row.get("limit") != "INTERRUPTED"
    }


def content_of(spec: Spec, addresses: Sequence[str]) -> dict[str, Any]:
    """Return what ``sweep.json`` says: what was asked, and where each cell is."""
    return {
        "config": spec.config.name,
        "over": {key: list(values) for key, values in spec.over.items()},
        "scenarios": list(spec.scenarios),
        "settings": spec.settings,
        "cells": list(addresses),
    }
