"""The verb ``pareto``: load, solve along the budgets, certify, write, show."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt import progress
from moe2opt.cli.exits import Exit, say
from moe2opt.cli.folders import create, write_config, writing
from moe2opt.cli.output import print_table, put
from moe2opt.config import LoadedInstance, load
from moe2opt.files import read_json
from moe2opt.result import NUMERICAL_GAP, InputError
from moe2opt.writing import write_frame

if TYPE_CHECKING:
    from moe2opt.canonical import Problem
    from moe2opt.pareto import Cell, Front, Grid

#: Seconds between two lines of progress.
_LINE_S = 2.0

#: Differences that are told one by one.
_MOST_FAILURES = 10

#: Rows of the table that is printed.
_MOST_ROWS = 40


@dataclass(frozen=True, slots=True)
class AxisRequest:
    """One axis as the command line names it."""

    name: str
    span: str | None
    budgets: str | None
    option: str

    def values(self) -> list[float] | None:
        """Return the budgets that were listed, None when none were."""
        if self.budgets is None:
            return None
        return [_number(text, f"--{self.option}-budgets") for text in self.budgets.split(",")]

    def ends(self) -> tuple[float | None, float | None]:
        """Return the range that was given, None for an end that was not."""
        if self.span is None:
            return None, None
        low, colon, high = self.span.partition(":")
        name = f"--{self.option}-range"
        if not colon:
            raise InputError(f"{name} {self.span}: expected LOW:HIGH")
        return tuple(_number(t, name) if t.strip() else None for t in (low, high))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``pareto``."""

    config: str
    scenario: str | None
    overrides: list[str]
    allow_outside: bool
    axes: tuple[AxisRequest, ...]
    points: int
    settings: dict[str, Any]
    out: Path | None
    as_json: bool
    quiet: bool


@dataclass(slots=True)
class _Lines:
    """Progress of a front: a line every other second."""

    start_s: float = field(default_factory=time.perf_counter)
    last_s: float = 0.0

    def __call__(self, known: int, solved: int) -> None:
        now = time.perf_counter() - self.start_s
        if now - self.last_s >= _LINE_S:
            self.last_s = now
            progress.logger.info(f"{known:6d} budgets known, {solved:6d} solved   {now:7.1f}s")


def run_pareto(request: Request, *, check: bool) -> Exit:
    """Do what was asked and return the exit code."""
    with ExitStack() as stack:
        if not request.quiet:
            stack.enter_context(progress.on_stderr(always=True))
            progress.logger.info(f"Reading {request.config}")
        target = load(
            request.config,
            request.scenario,
            request.overrides,
            allow_outside=request.allow_outside,
        )
        if check:
            return _checked(request, target)
        if request.out is not None:
            create(request.out, *_files("front" if len(request.axes) == 1 else "grid"))
        start = time.perf_counter()
        found = _solved(request, target)
        if not request.quiet:
            progress.logger.info(_words(found, time.perf_counter() - start))
        try:
            if request.out is not None:
                _write(found, request.out, target)
        finally:
            _print(request, found)
    if request.as_json and _interrupted(found):
        say(f"interrupted: {len(found)} {_asked(request, found)}points")
    return _exit_of(found)


def _files(kind: str) -> tuple[str, ...]:
    return f"{kind}.json", f"{kind}.csv", "results"


def _solved(request: Request, target: LoadedInstance | Problem) -> Front | Grid:
    from moe2opt.pareto import grid, pareto

    lines = None if request.quiet else _Lines()
    if len(request.axes) == 1:
        axis = request.axes[0]
        low, high = axis.ends()
        return pareto(
            target,
            axis.name,
            request.points or None,
            low=low,
            high=high,
            budgets=axis.values(),
            on_step=lines,
            **request.settings,
        )
    budgets = {axis.name: _budgets(request, target, axis) for axis in request.axes}
    return grid(target, budgets, on_step=lines, **request.settings)


def _budgets(request: Request, target: Any, axis: AxisRequest) -> list[float]:
    """Return the budgets of a grid's axis: as listed, or in equal ratios over the range."""
    from moe2opt.pareto.family import Family

    listed = axis.values()
    if listed is not None:
        return listed
    low, high = axis.ends()
    high = Family(target, (axis.name,)).limit(axis.name) if high is None else high
    if low is None or not 0 < low < high:
        raise InputError(
            f"{axis.name}: a grid needs --{axis.option}-range LOW:HIGH with 0 < LOW < HIGH, or "
            f"--{axis.option}-budgets"
        )
    if request.points < 2:
        raise InputError("--points: a grid needs at least 2 budgets per axis")
    return [float(b) for b in np.geomspace(low, high, request.points)]


def _checked(request: Request, target: LoadedInstance | Problem) -> Exit:
    """Check what a folder holds, without any solver."""
    from moe2opt.pareto import Front, Grid, verify, with_results

    if request.out is None:
        raise InputError("--check needs --out DIR, the folder to check")
    kind: Any = Grid if (request.out / "grid.json").is_file() else Front
    path = request.out / f"{kind.__name__.lower()}.json"
    found: Front | Grid = with_results(kind.load(path), request.out / "results")
    failures = verify(found, target, read_json(path))
    table = path.with_suffix(".csv")
    if not failures and table.is_file():
        written = found.to_frame().to_csv(index=False).splitlines()
        if table.read_text(encoding="utf-8").splitlines() != written:
            failures.append(f"{table.name}: not the table of {path.name}")
    for failure in failures[:_MOST_FAILURES]:
        say(failure)
    if len(failures) > _MOST_FAILURES:
        say(f"... and {len(failures) - _MOST_FAILURES} more")
    if request.as_json:
        put(json.dumps({"ok": not failures, "points": len(found), "failures": failures}))
    elif not request.quiet:
        put(f"{len(found)} points: {'every one holds' if not failures else 'REJECTED'}")
        asked = found.provenance["settings"].get("rel_gap")
        if asked and not failures:
            put(f"  optimal only within a relative gap of {asked:g}")
    return Exit.REJECTED if failures else Exit.OK


def _write(found: Front | Grid, folder: Path, target: LoadedInstance | Problem) -> None:
    """Write the configuration, the JSON, the table and the results of what was solved."""
    from moe2opt.pareto import Front, save_results

    kind = "front" if isinstance(found, Front) else "grid"
    with writing(folder, *_files(kind)):
        write_config(folder, target)
        save_results(found, folder / "results")
        write_frame(folder / f"{kind}.csv", found.to_frame())
        found.save(folder / f"{kind}.json")


def _words(found: Front | Grid, seconds: float) -> str:
    certified = sum(cell.certified for cell in found)
    return (
        f"{len(found)} points, {certified} certified, {len(found.results)} problems solved, "
        f"{len(found.plans)} plans, hypervolume {found.hypervolume():.6g}, {seconds:.1f} s"
    )


def _print(request: Request, found: Front | Grid) -> None:
    if request.as_json:
        put(json.dumps(found.to_dict(), allow_nan=False))
        return
    knee = getattr(found, "knee", None)
    cells = list(found)
    figure, unit = found.measure.figure, found.measure.suffix
    objective = f"objective ({unit})" if unit else "objective"
    rows = [_row(cell, figure, mark=k == knee) for k, cell in enumerate(cells[:_MOST_ROWS])]
    names = [axis.name for axis in request.axes]
    print_table([*names, objective, "gap", "status", "certified", "plan", ""], rows)
    if len(cells) > _MOST_ROWS:
        put(f"... and {len(cells) - _MOST_ROWS} more; --out DIR writes them all")
    if _interrupted(found):
        asked = _asked(request, found)
        put(f"interrupted: {len(found)} {asked}points")
    for caveat in found.caveats:
        put(f"note: {caveat}")


def _interrupted(found: Front | Grid) -> bool:
    return bool(found.provenance.get("interrupted"))


def _asked(request: Request, found: Front | Grid) -> str:
    """Return how many points were asked for, empty when all were."""
    listed = request.axes[0].values()
    count = request.points if listed is None else len(listed)
    return f"of {count} " if len(request.axes) == 1 and count > len(found) else ""


def _row(cell: Cell, figure: Callable[[float], str], *, mark: bool) -> list[str]:
    return [
        *(f"{budget:.6g}" for budget in cell.budgets),
        figure(cell.objective) if cell.has_plan else "-",
        _gap(cell.gap),
        cell.status,
        "yes" if cell.certified else "no",
        "-" if cell.plan is None else str(cell.plan),
        "knee" if mark else "",
    ]


def _gap(gap: float) -> str:
    """Return a gap in percent; what is below rounding is none."""
    if not math.isfinite(gap):
        return "-"
    return f"{100 * gap if gap > NUMERICAL_GAP else 0.0:.3g} %"


def _exit_of(found: Front | Grid) -> Exit:
    statuses = {cell.status for cell in found}
    if any(cell.status in ("OPTIMAL", "INFEASIBLE") and not cell.certified for cell in found):
        return Exit.REJECTED
    if statuses == {"INFEASIBLE"}:
        return Exit.INFEASIBLE
    if not any(cell.has_plan for cell in found):
        return Exit.INTERRUPTED if _interrupted(found) else Exit.NO_PLAN
    if _interrupted(found):
        return Exit.TOO_WEAK
    return Exit.TOO_WEAK if statuses - {"OPTIMAL", "INFEASIBLE"} else Exit.OK


def _number(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{option}: '{text.strip()}' is not a number")
    return value
