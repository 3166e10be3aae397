"""Start workers, watch their time and memory, and turn whatever happens into a row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from moe2opt.bench.job import Job, Row
from moe2opt.bench.peers import PEERS
from moe2opt.bench.tally import conflicts
from moe2opt.files import read_bytes, read_text

#: Seconds beyond the limit before a solver that does not stop is killed, at least this.
GRACE_S = 5.0

#: And this share of the limit.
GRACE_SHARE = 0.25

#: Seconds that imports, compilation of kernels and building an instance may take.
PREPARE_S = 300.0

#: Seconds that checking a certificate may take, as a multiple of the limit, and at least.
_CHECK_SHARE, _CHECK_S = 2.0, 60.0

_POLL_S = 0.05

#: A process is killed when it exceeds the memory limit by this factor.
_MEMORY_FACTOR = 1.25

_PINNED = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Launcher:
    """How workers are started.

    Attributes
    ----------
    folder
        Where jobs and their lines are written.
    python
        Interpreter that runs the workers; ours when None.
    grace_s
        Seconds beyond the limit before a worker is killed; None for the usual rule.
    """

    folder: Path
    python: str | None = None
    grace_s: float | None = None

    def run(self, job: Job, number: int) -> Row:
        """Run a job in a new process and return its row, whatever happens."""
        paths = [self.folder / f"{number:05d}.{kind}" for kind in ("json", "jsonl", "log")]
        job.save(paths[0])
        paths[1].touch()
        command = [self.python or sys.executable, "-m", "moe2opt.bench.worker"]
        command += [str(paths[0]), str(paths[1])]
        with paths[2].open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
            )
            try:
                reason, peak = self._watch(process, job, paths[1])
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
        row = _finished_row(paths[1])
        if row is not None:
            return row
        if reason:
            return _killed_row(job, paths[1], reason, peak)
        words = _last_words(paths[2])
        note = f"the process ended with code {process.returncode}{words}"
        return replace(_blank(job, "failed"), status="ERROR", note=note, peak_bytes=peak)

    def _watch(self, process: subprocess.Popen[bytes], job: Job, lines: Path) -> tuple[str, int]:
        """Wait for the end of a process; return why it must be killed, if so, and its peak."""
        grace = self.grace_s
        if grace is None:
            grace = max(GRACE_S, GRACE_SHARE * job.time_limit_s)
        if job.certify:
            ours = job.peer not in PEERS or PEERS[job.peer].module.endswith("ours")
            grace += max(_CHECK_S, _CHECK_SHARE * job.time_limit_s) if ours else 0.0
        started, ready, peak = time.monotonic(), None, 0
        while process.poll() is None:
            peak = max(peak, _resident_peak_bytes(process.pid))
            if ready is None and lines.stat().st_size:
                ready = time.monotonic()
            if ready is None and time.monotonic() - started > PREPARE_S:
                return f"not ready to solve after {PREPARE_S:g} s", peak
            # The model is built after the worker is ready; building is given the limit once more.
            if ready is not None and time.monotonic() - ready > 2 * job.time_limit_s + grace:
                return "did not stop at the time limit", peak
            if (started_s := _solving_since(lines)) is not None and (
                time.time() - started_s > job.time_limit_s + grace
            ):
                return "did not stop at the time limit", peak
            limit = job.memory_limit_bytes
            if limit is not None and peak > _MEMORY_FACTOR * limit:
                return "exceeded the memory limit", peak
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
        return "", peak


def _solving_since(lines: Path) -> float | None:
    """Return the wall-clock time at which the solver's clock started, None before."""
    with lines.open(encoding="utf-8") as file, suppress(json.JSONDecodeError):
        for line in islice(file, 2):
            content = json.loads(line)
            if "started" in content:
                return float(content["started"])
    return None


def cross_check(rows: list[Row]) -> list[Row]:
    """Flag claims that the solutions of other runs on the same instance contradict."""
    reasons = conflicts(rows)
    return [replace(row, wrong=row.wrong or reasons.get(k, "")) for k, row in enumerate(rows)]


def _environment() -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(_PINNED, "1"), "PYTHONHASHSEED": "0"}


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in read_text(path).splitlines():
        with suppress(json.JSONDecodeError):  # the last line of a killed process may be cut off
            found.append(json.loads(line))
    return found


def _finished_row(path: Path) -> Row | None:
    rows = [line["row"] for line in _lines(path) if "row" in line]
    return Row.from_dict(rows[-1]) if rows else None


def _killed_row(job: Job, path: Path, reason: str, peak: int) -> Row:
    """Return what a killed process had reported: values, but no proof."""
    points = [line["point"] for line in _lines(path) if "point" in line]
    trajectory = [(float(t), float(o), float(b)) for t, o, b in points]
    row = replace(_blank(job, "killed"), note=reason, peak_bytes=peak, solve_s=job.time_limit_s)
    row = replace(row, cpu_s=job.time_limit_s)
    if not trajectory:
        return row
    _, objective, bound = trajectory[-1]
    status = "FEASIBLE" if objective > -float("inf") else "NO_SOLUTION"
    return replace(row, status=status, objective=objective, bound=bound, trajectory=trajectory)


def _blank(job: Job, end: str) -> Row:
    return Row(job.case.suite, job.case.name, job.peer, job.seed, end)


def _last_words(log: Path) -> str:
    text = read_bytes(log).decode(errors="replace").strip().splitlines()
    return f": {text[-1]}" if text else ""


def _resident_peak_bytes(pid: int) -> int:
    """Return the peak resident memory of a process, 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
