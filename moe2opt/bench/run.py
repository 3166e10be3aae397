"""The benchmark: expand suites and peers into jobs, run them one after the other, report."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from moe2opt.bench.cases import Case
from moe2opt.bench.growth import fit_growth, sizes_of
from moe2opt.bench.job import Job, Row
from moe2opt.bench.launch import Launcher, cross_check
from moe2opt.bench.peers import peer_of
from moe2opt.bench.suites import cases_of
from moe2opt.bench.tally import Summary, summarise
from moe2opt.result import InputError, encode_float
from moe2opt.solve import versions
from moe2opt.writing import write_text

#: Version of the layout of the JSON report.
FORMAT = "moe2opt-bench/1"


#: Clocks that the seconds of a run may come from.
CLOCKS = ("wall", "processor")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes
    ----------
    suites
        Names of suites, problem files or built-in problems.
    peers
        Names of solvers.
    time_limit_s, memory_limit_bytes, rel_gap
        Limits of every run.
    seeds
        Number of seeds: instances of generated suites, runs of a solver on fixed instances.
    only
        Patterns (as of file names), of which the names of the cases must match one.
    most_cells
        Leave out cases with more experts x clusters than this.
    data
        Folder of third-party data.
    python
        Interpreter for the workers, None for ours.
    certify
        Whether to check certificates.
    clock
        Seconds that count: ``wall``, or ``processor``, which other work on the machine changes
        less.
    """

    suites: tuple[str, ...]
    peers: tuple[str, ...]
    time_limit_s: float = 60.0
    memory_limit_bytes: int | None = None
    rel_gap: float = 1e-6
    seeds: int = 1
    only: tuple[str, ...] = ("*",)
    most_cells: int | None = None
    data: Path | None = None
    python: str | None = None
    certify: bool = True
    clock: str = "wall"

    def __post_init__(self) -> None:
        if not self.time_limit_s > 0:
            raise InputError(f"time_limit_s = {self.time_limit_s} must be positive")
        if self.seeds < 1:
            raise InputError(f"seeds = {self.seeds} must be at least 1")
        if self.clock not in CLOCKS:
            raise InputError(f"clock = {self.clock!r} must be one of {', '.join(CLOCKS)}")
        for name in self.peers:
            peer_of(name)
        if self.python is not None and shutil.which(self.python) is None:
            raise InputError(f"python: no interpreter {self.python!r}")

    def cases(self) -> list[Case]:
        """Return the cases to run.

        Raises
        ------
        InputError
            For an unknown suite, or when nothing is left.
        """
        found = [
            case
            for suite in self.suites
            for case in cases_of(suite, self.seeds)
            if any(fnmatch(case.name, p) for p in self.only) and self._small(case)
        ]
        if not found:
            patterns = " or ".join(map(repr, self.only))
            raise InputError(f"no case matches {patterns} within the sizes allowed")
        return found

    def jobs(self, cache: Path | None = None) -> list[Job]:
        """Return one job per case, seed and peer."""
        return [
            Job(
                case,
                peer,
                seed,
                self.time_limit_s,
                self.memory_limit_bytes,
                self.rel_gap,
                None if self.data is None else str(self.data.resolve()),
                self.certify,
                None if cache is None else str(cache),
            )
            for case in self.cases()
            for seed in self._seeds(case)
            for peer in self.peers
        ]

    def _small(self, case: Case) -> bool:
        return self.most_cells is None or case.size[0] * case.size[1] <= self.most_cells

    def _seeds(self, case: Case) -> Sequence[int]:
        # A generated instance is solved with the seed that it was made from.
        seed = case.arguments.get("seed")
        return range(self.seeds) if seed is None else [seed]


@dataclass(frozen=True, slots=True)
class Report:
    """What a benchmark found.

    Attributes
    ----------
    plan
        What was run.
    rows
        One row per run.
    started
        UTC time.
    """

    plan: Plan
    rows: list[Row]
    started: str

    @property
    def timed(self) -> list[Row]:
        """The rows, with the seconds of the plan's clock as `solve_s`."""
        if self.plan.clock == "wall":
            return self.rows
        return [replace(row, solve_s=row.cpu_s) for row in self.rows]

    @property
    def summaries(self) -> list[Summary]:
        """Means and ratios by suite and peer."""
        return summarise(self.timed, self.plan.time_limit_s)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        plan = asdict(self.plan)
        plan["data"] = None if self.plan.data is None else "given"
        plan["python"] = None if self.plan.python is None else "given"
        fits = fit_growth(self._growth(), sizes_of(self.plan.cases()))
        return {
            "format": FORMAT,
            "started_utc": self.started,
            "plan": plan,
            "machine": machine(),
            "versions": versions(),
            "rows": [row.to_dict() for row in self.rows],
            "summaries": [_plain(asdict(summary)) for summary in self.summaries],
            "growth": [_plain(asdict(fit)) for fit in fits],
        }

    def write(self, folder: Path) -> list[Path]:
        """Write ``bench.json`` and the plots; return what was written."""
        # Not at the top: the processes that run a solver must not carry matplotlib's weight.
        from moe2opt.bench.figures import plot_gap, plot_growth, plot_profile

        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / name for name in ("bench.json", "profile.svg", "gap.svg")]
        write_text(written[0], json.dumps(self.to_dict(), indent=1))
        plot_profile(self.timed, self.plan.time_limit_s, written[1])
        plot_gap(self.rows, self.plan.time_limit_s, written[2])
        fits = fit_growth(self._growth(), sizes_of(self.plan.cases()))
        if fits:
            written.append(folder / "growth.svg")
            plot_growth(fits, written[-1])
        return written

    def _growth(self) -> list[Row]:
        return [row for row in self.timed if row.suite == "growth"]


def run_bench(
    plan: Plan,
    on_row: Callable[[int, int, Row], None] = lambda number, total, row: None,
    *,
    work_folder: Path | None = None,
    grace_s: float | None = None,
) -> Report:
    """Run every job of a plan in its own process, one at a time.

    Parameters
    ----------
    plan
        What to run.
    on_row
        Called after each run with its number, the total and the row.
    work_folder
        Where jobs and their raw lines are kept; a temporary folder when None.
    grace_s
        Seconds beyond the limit before a worker is killed; None for the usual rule.

    Returns
    -------
    Report
        Also after Ctrl-C, with the runs that were finished.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = work_folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moe2opt-")))
        folder.mkdir(parents=True, exist_ok=True)
        launcher = Launcher(folder, plan.python, grace_s)
        jobs = plan.jobs(folder)
        try:
            for number, job in enumerate(jobs, start=1):
                rows.append(launcher.run(job, number))
                on_row(number, len(jobs), rows[-1])
        except KeyboardInterrupt:
            if not rows:
                raise
    return Report(plan, cross_check(rows), started)


def machine() -> dict[str, Any]:
    """Return what the figures depend on besides versions."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if value != value else encode_float(value) if isinstance(value, float) else value
        for key, value in content.items()
    }
