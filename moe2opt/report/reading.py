"""What a folder of results holds: result, log, configuration, fronts and grids."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from moe2opt.canonical import Question
from moe2opt.errors import DAMAGE
from moe2opt.files import json_of, read_text
from moe2opt.pareto import Front, Grid
from moe2opt.present import Measure, measure_of
from moe2opt.questions import known, question_names, question_of_plan
from moe2opt.report.replays import Replay, read_replay
from moe2opt.result import InputError, ProgressEvent, Result
from moe2opt.schema.reader import read_text as read_yaml
from moe2opt.stored import found_in
from moe2opt.view import View

#: File of the result of a folder.
RESULT = "result.json"

#: Larger files than this are not read.
LARGEST_BYTES = 256 * 2**20


#: Files of verbs whose folders have no page, and what can be done instead.
_OTHERS = {
    "sweep.json": "is a sweep, which has no page; report one of its cells: the folder cells/NAME",
    "fleet.json": "is a fleet, which has no page; report a folder of solve, pareto or replay",
    "execute.json": "is a run of a plan, which has no page; report the folder of its result.json",
}


@dataclass(frozen=True)
class Evidence:
    """The content of a folder written by ``--out``.

    Attributes
    ----------
    folder
        Where it was read.
    result
        Content of ``result.json``, None when there is none.
    log
        Events of ``log.jsonl``.
    config
        Text of ``config.yaml``, empty when there is none.
    fronts, grids
        Every JSON file of the folder that is a front or a grid.
    replay
        Policies replayed on a trace, None when there are none.
    """

    folder: Path
    result: Result | None
    log: tuple[ProgressEvent, ...]
    config: str
    fronts: tuple[Front, ...]
    grids: tuple[Grid, ...]
    replay: Replay | None = None

    @property
    def grid(self) -> Grid | None:
        """The largest grid over two budgets, which the explorer shows; None for none."""
        flat = [grid for grid in self.grids if len(grid.axes) == 2 and len(grid)]
        return max(flat, key=len, default=None)

    @property
    def front(self) -> Front | None:
        """The front with the most points; None for none."""
        return max((front for front in self.fronts if len(front)), key=len, default=None)

    @cached_property
    def question(self) -> Question | None:
        """The question that the results answer, None for bare problems and replays.

        Results name their question; for older ones the configuration beside them does, and without
        it the question that reads the plan is the one.
        """
        named = self.provenance.get("question") or self.described.get("problem")
        found = self.grid or self.front
        plans = found.plans if found is not None else ()
        plan = self.result.plan if self.result is not None else next(iter(plans), None)
        if isinstance(named, str):
            return known(named) if named in question_names() else None
        return question_of_plan(plan) if isinstance(plan, dict) else None

    @cached_property
    def described(self) -> dict[str, Any]:
        """The configuration, empty where there is none or it cannot be read."""
        try:
            data = read_yaml(self.config, "config.yaml").data if self.config else {}
        except InputError:
            data = {}
        return data if isinstance(data, dict) else {}

    def view_of(self, plan: Any) -> View:
        """Return what the page shows of a stored plan.

        Raises
        ------
        InputError
            When the question of the results cannot read it.
        """
        if not isinstance(plan, dict) or self.question is None:
            return View()
        if (rebuild := self.question.plan_from_dict) is None:
            return View()
        try:
            shown: View = rebuild(plan).view()
        except DAMAGE as error:
            raise InputError(f"plan: not understood: {error}") from error
        return shown

    @property
    def name(self) -> str:
        """Name of the instance."""
        if self.result is not None:
            named = self.provenance.get("instance") or self.described.get("name")
            return str(named or self.provenance.get("problem", {}).get("kind", "problem"))
        found = self.grid or self.front
        return getattr(found or self.replay, "name", "results")

    @property
    def measure(self) -> Measure:
        """Sense and unit of the objective."""
        return measure_of(self.result or self.grid or self.front)

    @property
    def provenance(self) -> dict[str, Any]:
        """Provenance of the result, else of the grid or front."""
        found = self.result or self.grid or self.front
        return {} if found is None else found.provenance


def read_folder(folder: str | Path) -> Evidence:
    """Read a folder of results.

    Raises
    ------
    InputError
        When the folder does not exist, holds no result, front or grid, or one is broken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; `moe2opt solve CONFIG --out DIR` writes one")
    result = folder / RESULT
    tables = [path for path in sorted(folder.glob("[!.]*.json")) if path != result]
    fronts, grids = _fronts_and_grids(tables)
    config = found_in(folder)
    found = Evidence(
        folder=folder,
        result=Result.load(result) if result.is_file() else None,
        log=read_log(folder / "log.jsonl") if (folder / "log.jsonl").is_file() else (),
        config=_text(config) if config.is_file() else "",
        fronts=tuple(fronts),
        grids=tuple(grids),
        replay=read_replay(folder),
    )
    if not any((found.result, found.front, found.grid, found.replay)):
        for name, words in _OTHERS.items():
            if (folder / name).is_file():
                raise InputError(f"{folder}: {words}")
        raise InputError(
            f"{folder}: holds no result.json, front, grid or replay; "
            "`moe2opt solve CONFIG --out DIR` writes a result"
        )
    return found


def _fronts_and_grids(paths: list[Path]) -> tuple[list[Front], list[Grid]]:
    """Read those JSON files that call themselves a front or a grid."""
    fronts, grids = [], []
    for path in paths:
        try:
            content = json_of(_text(path), str(path))
        except InputError:
            continue
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind == "front" and "points" in content:
            fronts.append(_named(path, Front, content))
        elif kind == "grid" and "cells" in content:
            grids.append(_named(path, Grid, content))
    return fronts, grids


def _named(path: Path, kind: Any, content: dict[str, Any]) -> Any:
    try:
        return kind.from_dict(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_log(path: str | Path) -> tuple[ProgressEvent, ...]:
    """Read the progress of a run from a ``log.jsonl``; a last line that was cut is left out.

    Raises
    ------
    InputError
        When the file cannot be read or a line is no event; the message names it.
    """
    lines = _text(Path(path)).splitlines()
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(_event(json_of(line, f"{path}:{number}")))
        except DAMAGE as error:
            if number == len(lines):
                break
            raise InputError(f"{path}:{number}: not an event of a log: {error!r}") from error
    return tuple(events)


def _event(data: dict[str, Any]) -> ProgressEvent:
    numbers = {f.name: float(data[f.name]) for f in fields(ProgressEvent) if f.name != "source"}
    if data.get("sense") == "minimize":
        numbers |= {name: -numbers[name] for name in ("objective", "bound")}
    nodes, waiting = int(numbers.pop("nodes")), int(numbers.pop("open_nodes"))
    return ProgressEvent(nodes=nodes, open_nodes=waiting, source=str(data["source"]), **numbers)


def _text(path: Path) -> str:
    return read_text(path, LARGEST_BYTES)
