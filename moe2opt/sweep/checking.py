"""Check a folder of a sweep again, without any solver."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moe2opt.config import load
from moe2opt.differences import differences
from moe2opt.errors import DAMAGE, InputError
from moe2opt.files import read_json, read_text
from moe2opt.result import Status
from moe2opt.schema.frames import read_frame
from moe2opt.sweep.cell import row_of
from moe2opt.sweep.driver import Sweep, content_of
from moe2opt.sweep.spec import Spec, Task, spec_of
from moe2opt.verify import judged, read_stored, recorded
from moe2opt.writing import frame_text

#: What only the run knew.
_FREE = ("wall_s",)

_ADDRESS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Checked:
    """What is true of a folder of a sweep.

    Attributes
    ----------
    cells
        How many cells the sweep has.
    failures
        Everything that is wrong, one line each; empty when it holds.
    provisos
        What must be known to read it: cells that failed when they ran, gaps that were asked for.
    """

    cells: int
    failures: tuple[str, ...]
    provisos: tuple[str, ...] = ()


def verify_sweep(
    folder: str | Path,
    config: str | Path,
    over: Mapping[str, Sequence[Any]] | Sequence[str] | None = None,
    scenarios: Sequence[str] | None = None,
    *,
    allow_outside: bool = False,
    **settings: Any,
) -> Checked:
    """Judge what `moe2opt.sweep` wrote: results, rows and tables, each rebuilt and compared.

    Every result is judged as ``verify`` judges it, for the values of its cell; its row is derived
    from it anew, and the tables from the rows.

    Parameters
    ----------
    folder
        Folder of the sweep.
    config, over, scenarios, settings
        What was run, as for `moe2opt.sweep`; ``over``, ``scenarios`` and ``settings`` are those
        that the folder names where none is given.
    allow_outside
        Whether paths may leave the folder of the configuration.

    Raises
    ------
    InputError
        When ``sweep.json`` or the configuration cannot be read.
    """
    folder = Path(folder)
    told = read_json(folder / "sweep.json")
    spec = spec_of(config, over, scenarios, allow_outside=allow_outside, **settings)
    if not (over or scenarios or spec.over or spec.settings):
        spec = _told_spec(told, spec, folder)
    tasks, addresses = spec.tasks(), _addresses(told, folder)
    wrong = tuple(differences(told, content_of(spec, addresses), "sweep.json"))
    if len(addresses) != len(tasks):
        wrong += (f"sweep.json: cells: {len(addresses)} entries for {len(tasks)} cells",)
    if wrong:
        return Checked(len(tasks), wrong)
    check = _Check(folder, spec)
    failures = [*check.cells(tasks, addresses)]
    failures += [] if failures else check.tables(addresses)
    return Checked(len(tasks), tuple(failures), tuple(dict.fromkeys(check.provisos)))


def _told_spec(told: Any, spec: Spec, folder: Path) -> Spec:
    """Return the sweep that a folder names, of the given configuration."""
    try:
        over = {str(key): tuple(map(str, values)) for key, values in told["over"].items()}
        names = tuple(map(str, told["scenarios"]))
        return replace(spec, over=over, scenarios=names, settings=dict(told["settings"]))
    except DAMAGE as error:
        raise InputError(f"{folder / 'sweep.json'}: not a sweep: {error}") from error


def _addresses(told: Any, folder: Path) -> list[str]:
    cells = told.get("cells") if isinstance(told, dict) else None
    if not isinstance(cells, list) or not all(
        isinstance(a, str) and _ADDRESS.fullmatch(a) for a in cells
    ):
        raise InputError(f"{folder / 'sweep.json'}: not a sweep: no list of cells")
    return cells


class _Check:
    def __init__(self, folder: Path, spec: Spec) -> None:
        self.folder, self.spec = folder, spec
        self.rows: dict[str, dict[str, Any]] = {}
        self.provisos: list[str] = []

    def cells(self, tasks: Sequence[Task], addresses: Sequence[str]) -> Iterator[str]:
        """Yield what is wrong with the cells, each by its values."""
        for task, address in zip(tasks, addresses, strict=True):
            name = ", ".join(f"{key}={value}" for key, value in task.coordinates().items())
            for fault in self._cell(task, address, name):
                yield f"cell {name}: {fault}"

    def _cell(self, task: Task, address: str, name: str) -> Iterator[str]:
        place = self.folder / "cells" / address
        if not place.is_dir():
            yield f"is missing: no folder cells/{address}"
            return
        try:
            row = read_json(place / "row.json")
            if row["status"] == Status.ERROR:
                yield from self._failed(task, row, name)
            else:
                yield from self._solved(task, row, place, name)
        except DAMAGE as error:
            yield str(error) or type(error).__name__
        else:
            self.rows[address] = row

    def _failed(self, task: Task, row: dict[str, Any], name: str) -> Iterator[str]:
        expected = {**task.coordinates(), "status": str(Status.ERROR)}
        yield from differences(row, expected, "row.json", ("row.json.error", "row.json.wall_s"))
        self.provisos.append(f"cell {name}: failed when it ran, so there is nothing to check")

    def _solved(self, task: Task, row: dict[str, Any], place: Path, name: str) -> Iterator[str]:
        target: Any = load(
            task.config, task.scenario, task.overrides or None, allow_outside=task.allow_outside
        )
        stored = read_stored(place / "result.json")
        if recorded(stored) != (task.scenario, tuple(task.overrides)):
            yield "result.json: its scenario and overrides are those of another cell"
        origin = stored.get("provenance", {})
        ran = {**origin.get("options", {}), "solver": origin.get("solver")}
        for key, value in task.settings:
            if ran.get(key) != value and (key, value) != ("solver", "auto"):
                yield f"result.json: {key}: the run had {ran.get(key)!r}, the sweep {value!r}"
        found = judged(stored, place, target)
        yield from (f"result.json: {fault}" for fault in found.failures)
        if found.failures or found.result is None or found.verdict is None:
            return
        rebuilt = json.loads(json.dumps(row_of(task, target, found.result, found.verdict)))
        yield from differences(row, rebuilt, "row.json", [f"row.json.{key}" for key in _FREE])
        own = found.provisos[len(task.overrides) + (task.scenario is not None) :]
        self.provisos += [f"cell {name}: {proviso}" for proviso in own]

    def tables(self, addresses: Sequence[str]) -> Iterator[str]:
        """Yield where the tables are not those of the rows."""
        rows = tuple(self.rows[address] for address in addresses)
        whole = Sweep(rows, tuple(addresses), self.folder, len(rows))
        right = frame_text(whole.to_frame()).splitlines()
        try:
            told = read_text(self.folder / "sweep.csv").splitlines()
            parquet = self.folder / "sweep.parquet"
            columns = read_frame(parquet) if parquet.exists() else whole.for_parquet()
        except InputError as error:
            yield str(error)
            return
        for k, (line, ours) in enumerate(zip(told, right, strict=False), 1):
            if line != ours:
                yield f"sweep.csv:{k}: not the row of its cell"
        if len(told) != len(right):
            yield f"sweep.csv: {len(told) - 1} rows, {len(right) - 1} cells"
        if frame_text(columns) != frame_text(whole.for_parquet()):
            yield "sweep.parquet: not the table of the cells"
