"""Run one cell, in whatever process; what goes wrong becomes a row like any other."""

from __future__ import annotations

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from moe2opt.certify import Verdict, certify
from moe2opt.config import load
from moe2opt.result import InputError, Result, Status, encode_float
from moe2opt.solve import solve
from moe2opt.source import source_of
from moe2opt.sweep.spec import Task

#: Variables that keep numerical libraries to one thread; they must be set before these load.
ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    )
}


def run_cell(task: Task) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the row of a cell and the files to keep, ``row.json`` among them."""
    start = time.perf_counter()
    files: dict[str, bytes] = {}
    try:
        row, files = _solved(task)
    except Exception as error:  # a failed cell is a row with its error
        row = failure(task, error)
    row["wall_s"] = time.perf_counter() - start
    files["row.json"] = json.dumps(row, allow_nan=False).encode()
    return row, files


def failure(task: Task, error: BaseException) -> dict[str, Any]:
    """Return the row of a cell that failed."""
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return {
        **task.coordinates(),
        "status": str(Status.ERROR),
        "error": f"{kind}{error}" or type(error).__name__,
    }


def _solved(task: Task) -> tuple[dict[str, Any], dict[str, bytes]]:
    target: Any = load(
        task.config, task.scenario, task.overrides or None, allow_outside=task.allow_outside
    )
    result = solve(target, threads=1, **dict(task.settings))
    return row_of(task, target, result, certify(target, result)), _files(result)


def row_of(task: Task, target: Any, result: Result, verdict: Verdict) -> dict[str, Any]:
    """Return the row of a cell: everything but the time of the whole cell."""
    row = {
        **task.coordinates(),
        "status": str(result.status),
        "limit": None if result.limit is None else str(result.limit),
        "objective": _number(result.value),
        "bound": _number(result.value_bound),
        "gap": _number(result.gap),
        "certified": verdict.ok and verdict.kind == "checked",
        "error": None if verdict.ok else "; ".join(verdict.failures),
        "solver": result.solver,
        "nodes": int(result.stats.get("nodes", 0)),
        "problem_sha256": result.provenance.get("problem", {}).get("sha256"),
        **result.measure.to_dict(),
        "canonical_objective": _number(result.objective),
        "canonical_bound": _number(result.bound),
        "solve_s": float(result.stats.get("solve_s", math.nan)),
    }
    loaded = source_of(target) is not None
    # Without a solution there may be no problem either: a limit came while it was compiled.
    problem: Any = None if result.x is None else target.problem() if loaded else target
    if hasattr(problem, "usage_of"):
        names = target.row_names() if loaded else None
        used = problem.usage_of(result.x).tolist()
        row |= {f"used {n}": u for n, u in zip(names or range(len(used)), used, strict=True)}
    return row


def _number(value: float) -> float | str:
    return encode_float(float(value))


def _files(result: Result) -> dict[str, bytes]:
    """Return the files of a saved result."""
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder) / "result.json")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
