"""The verb ``pareto``: load, solve along the budgets, certify, write, show."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe2opt.cli import flags
from moe2opt.cli.exits import Exit, say, say_all
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario, at_least
from moe2opt.cli.folders import create, write_config, writing
from moe2opt.cli.output import print_table, put, put_json
from moe2opt.cli.target import opened, told
from moe2opt.errors import InputError
from moe2opt.files import read_json
from moe2opt.text import many
from moe2opt.writing import frame_text, write_frame

if TYPE_CHECKING:
    from moe2opt.pareto import Cell, Front, Grid

#: Seconds between two lines of progress.
_LINE_S = 2.0

#: Rows of the table that is printed.
_MOST_ROWS = 40


def pareto(
    config: Config,
    x: Annotated[
        str,
        typer.Option(
            help="Budget that varies: a budget row such as energy_j_per_prompt, or a key of the "
            "configuration such as delay.limit_s.",
            show_default=False,
        ),
    ],
    y: Annotated[str | None, typer.Option(help="Second budget: a grid instead of a front.")] = None,
    points: Annotated[
        int,
        typer.Option(
            help="Points of the front, or budgets per axis of a grid; 0: all.", callback=at_least(0)
        ),
    ] = 25,
    x_range: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH", help="Range of x; needed for a key, and for a grid."),
    ] = None,
    y_range: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH", help="Range of y; needed unless --y-budgets is given."),
    ] = None,
    x_budgets: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Exactly these budgets of x.")
    ] = None,
    y_budgets: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Exactly these budgets of y.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds for each point.", callback=at_least(0))
    ] = None,
    gap: flags.Gap = None,
    seed: flags.Seed = None,
    scenario: Scenario = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write front.json, front.csv (grid.*) and results here."),
    ] = None,
    check: flags.Check = False,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Compute the exact front of the objective over one budget, or a grid over two.

    Exit codes: 0 every point certified; 2 bad command line or file; 3 no budget has a plan; 4 a
    limit before the first plan; 5 a point is not proven optimal; 6 a check failed.
    """
    axes = [_Axis("x", x, x_range, x_budgets)]
    if y is not None:
        axes.append(_Axis("y", y, y_range, y_budgets))
    settings = {"time_limit_s": time_limit, "rel_gap": gap, "seed": seed}
    with told(quiet, config) as tell:
        target = opened(config, scenario, overrides, allow_outside)
        if check:
            return _checked(out, target, as_json, quiet)
        if out is not None:
            create(out, *_files("front" if len(axes) == 1 else "grid"))
        start = time.perf_counter()
        lines = None if quiet else _lines(tell)
        found = _solved(target, axes, points, settings | {"on_step": lines})
        if not quiet:
            tell(_words(found, time.perf_counter() - start))
        stopped = ""
        if found.provenance.get("interrupted"):
            count = axes[0].count(points) if len(axes) == 1 else 0
            asked = f"of {count} " if count > len(found) else ""
            stopped = f"interrupted: {len(found)} {asked}points"
        try:
            if out is not None:
                _write(found, out, target)
        finally:
            if as_json:
                put_json(found.to_dict(), None)
            else:
                _print(found, [axis.name for axis in axes], stopped)
    if as_json and stopped:
        say(stopped)
    return _exit_of(found, bool(stopped))


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis as the command line names it."""

    flag: str
    name: str
    span: str | None
    budgets: str | None

    def values(self) -> list[float] | None:
        """Return the budgets that were listed, None when none were."""
        if self.budgets is None:
            return None
        return [_number(text, f"--{self.flag}-budgets") for text in self.budgets.split(",")]

    def count(self, points: int) -> int:
        """Return how many budgets were asked for."""
        listed = self.values()
        return points if listed is None else len(listed)

    def ends(self) -> tuple[float | None, float | None]:
        """Return the range that was given, None for an end that was not."""
        if self.span is None:
            return None, None
        low, colon, high = self.span.partition(":")
        name = f"--{self.flag}-range"
        if not colon:
            raise InputError(f"{name} {self.span}: expected LOW:HIGH")
        return tuple(_number(t, name) if t.strip() else None for t in (low, high))  # type: ignore[return-value]


def _lines(tell: Callable[[str], None]) -> Callable[[int, int], None]:
    """Return what tells how far a front is, every other second."""
    start_s = time.perf_counter()
    last_s = 0.0

    def line(known: int, solved: int) -> None:
        nonlocal last_s
        now = time.perf_counter() - start_s
        if now - last_s >= _LINE_S:
            last_s = now
            tell(f"{known:6d} budgets known, {solved:6d} solved   {now:7.1f}s")

    return line


def _files(kind: str) -> tuple[str, ...]:
    return f"{kind}.json", f"{kind}.csv", "results"


def _solved(target: Any, axes: list[_Axis], points: int, settings: Any) -> Front | Grid:
    from moe2opt.pareto import grid, pareto

    if len(axes) == 2:
        return grid(target, {a.name: _budgets(target, a, points) for a in axes}, **settings)
    low, high = axes[0].ends()
    span: dict[str, Any] = {"low": low, "high": high, "budgets": axes[0].values()}
    return pareto(target, axes[0].name, points or None, **span, **settings)


def _budgets(target: Any, axis: _Axis, points: int) -> list[float]:
    """Return the budgets of a grid's axis: as listed, or in equal ratios over the range."""
    import numpy as np

    from moe2opt.pareto.family import Family

    listed = axis.values()
    if listed is not None:
        return listed
    low, high = axis.ends()
    high = Family(target, (axis.name,)).limit(axis.name) if high is None else high
    if low is None or not 0 < low < high:
        raise InputError(
            f"{axis.name}: a grid needs --{axis.flag}-range LOW:HIGH with 0 < LOW < HIGH, or "
            f"--{axis.flag}-budgets"
        )
    if points < 2:
        raise InputError("--points: a grid needs at least 2 budgets per axis")
    return [float(b) for b in np.geomspace(low, high, points)]


def _checked(out: Path | None, target: Any, as_json: bool, quiet: bool) -> Exit:
    """Check what a folder holds, without any solver."""
    from moe2opt.pareto import Front, Grid, verify, with_results
    from moe2opt.result import NUMERICAL_GAP

    if out is None:
        raise InputError("--check needs --out DIR, the folder to check")
    kind: Any = Grid if (out / "grid.json").is_file() else Front
    path = out / f"{kind.__name__.lower()}.json"
    found: Front | Grid = with_results(kind.load(path), out / "results")
    failures = verify(found, target, read_json(path))
    table = path.with_suffix(".csv")
    is_there = not failures and table.is_file()
    if is_there and table.read_text(encoding="utf-8") != frame_text(found.to_frame()):
        failures.append(f"{table.name}: not the table of {path.name}")
    say_all(failures)
    if as_json:
        put_json({"ok": not failures, "points": len(found), "failures": failures}, None)
    elif not quiet:
        put(f"{many(len(found), 'point')}: {'every one holds' if not failures else 'REJECTED'}")
        asked = found.provenance["settings"].get("rel_gap")
        if asked and asked > NUMERICAL_GAP and not failures:
            put(f"  optimal only within a relative gap of {asked:g}")
    return Exit.REJECTED if failures else Exit.OK


def _write(found: Front | Grid, folder: Path, target: object) -> None:
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
        f"{many(len(found), 'point')}, {certified} certified, "
        f"{many(len(found.results), 'problem')} solved, "
        f"{many(len(found.plans), 'plan')}, hypervolume {found.hypervolume():.6g}, {seconds:.1f} s"
    )


def _print(found: Front | Grid, names: list[str], stopped: str) -> None:
    from moe2opt.progress import STATUS_WORDS
    from moe2opt.result import NUMERICAL_GAP, Status

    def row(k: int, cell: Cell) -> list[str]:
        gap = 100 * cell.gap if cell.gap > NUMERICAL_GAP else 0.0  # below rounding there is none
        return [
            *(f"{budget:.6g}" for budget in cell.budgets),
            found.measure.figure(cell.objective) if cell.has_plan else "-",
            f"{gap:.3g} %" if math.isfinite(gap) else "-",
            STATUS_WORDS[Status(cell.status)],
            "yes" if cell.certified else "no",
            "-" if cell.plan is None else str(cell.plan),
            "knee" if k == getattr(found, "knee", None) else "",
        ]

    cells, unit = list(found), found.measure.suffix
    objective = f"objective ({unit})" if unit else "objective"
    header = [*names, objective, "gap", "status", "certified", "plan", ""]
    print_table(header, [row(k, cell) for k, cell in enumerate(cells[:_MOST_ROWS])])
    if len(cells) > _MOST_ROWS:
        put(f"... and {len(cells) - _MOST_ROWS} more; --out DIR writes them all")
    if stopped:
        put(stopped)
    for caveat in found.caveats:
        put(f"note: {caveat}")


def _exit_of(found: Front | Grid, interrupted: bool) -> Exit:
    statuses = {cell.status for cell in found}
    if any(cell.status in ("OPTIMAL", "INFEASIBLE") and not cell.certified for cell in found):
        return Exit.REJECTED
    if statuses == {"INFEASIBLE"}:
        return Exit.INFEASIBLE
    if not any(cell.has_plan for cell in found):
        return Exit.INTERRUPTED if interrupted else Exit.NO_PLAN
    if interrupted:
        return Exit.TOO_WEAK
    return Exit.TOO_WEAK if statuses - {"OPTIMAL", "INFEASIBLE"} else Exit.OK


def _number(text: str, flag: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{flag}: '{text.strip()}' is not a number")
    return value
