"""One job in a process of its own: ``python -m moe2opt.bench.worker JOB.json OUT.jsonl``.

Points of the trajectory are written as they come, so that they survive when the process is killed;
the last line is the row. Thread counts are set by whoever starts the process, before numpy loads.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from moe2opt.bench.cases import Built, MissingDataError, build_case
from moe2opt.bench.job import Job, Row
from moe2opt.bench.peers import (
    PEERS,
    Answer,
    PeerFunction,
    PeerInfo,
    Run,
    TooLargeError,
    UnsupportedError,
    peer_of,
)
from moe2opt.canonical import Problem, load_problem, save_problem
from moe2opt.certify import certify
from moe2opt.result import InputError, encode_float, relative_gap
from moe2opt.writing import write_text

#: Recipes that take longer to follow than their result takes to load.
_CACHED = ("catalogue", "placement")

#: Points of a trajectory in the row at most.
_MOST_POINTS = 200


def main(arguments: list[str]) -> int:
    """Do the job and write its row; return 0 unless the arguments are wrong."""
    if len(arguments) != 2:
        print("usage: python -m moe2opt.bench.worker JOB.json OUT.jsonl", file=sys.stderr)
        return 2
    job = Job.load(Path(arguments[0]))
    with Path(arguments[1]).open("a", encoding="utf-8") as out:
        row = work(job, out)
        _write(out, {"row": row.to_dict()})
    return 0


def work(job: Job, out: IO[str] | None = None) -> Row:
    """Do a job in this process; points of the trajectory go to `out` as they come."""
    info = peer_of(job.peer)
    blank = Row(job.case.suite, job.case.name, job.peer, job.seed, "failed", status="ERROR")
    blank = replace(blank, versions=info.versions())
    missing = info.missing()
    if missing:
        note = f"{', '.join(missing)} not installed"
        return replace(blank, end="missing", status="NO_SOLUTION", note=note)
    try:
        return _measured(job, info, blank, out)
    except MissingDataError as error:
        return replace(blank, end="missing", status="NO_SOLUTION", note=str(error))
    except UnsupportedError as error:
        return replace(blank, end="unsupported", status="NO_SOLUTION", note=str(error))
    except (TooLargeError, MemoryError) as error:
        note = str(error) or "out of memory"
        return replace(blank, end="too large", status="NO_SOLUTION", note=note)
    except ImportError as error:
        return replace(blank, end="missing", status="NO_SOLUTION", note=str(error))
    except Exception as error:
        # Whatever goes wrong in foreign code is a row of the table, not the end of the benchmark.
        return replace(blank, note=f"{type(error).__name__}: {error}")


def _measured(job: Job, info: PeerInfo, blank: Row, out: IO[str] | None) -> Row:
    start = time.perf_counter()
    function = info.load()
    imported = time.perf_counter()
    built = _built(job)
    ready = time.perf_counter()
    warmup_s, function = _warmed(job, function, built.problem)
    before = peak_bytes()
    _write(out, {"ready": time.time()})
    run = Run(
        built.problem,
        job.time_limit_s,
        job.rel_gap,
        job.seed,
        job.memory_limit_bytes,
        on_start=lambda: _write(out, {"started": time.time()}),
        on_point=lambda point: _write(out, {"point": [encode_float(v) for v in point]}),
    )
    answer = function(run)
    solve_s, cpu_s = run.time_s, run.cpu_s
    peak = peak_bytes()
    certificate, check_s, failure = _checked(job, built.problem, answer)
    status, bound = _judged(run, answer)
    return replace(
        blank,
        end="finished",
        status=status,
        objective=run.objective,
        bound=bound,
        known=built.known,
        is_optimum=built.is_optimum,
        solve_s=solve_s,
        cpu_s=cpu_s,
        import_s=imported - start,
        warmup_s=warmup_s,
        build_s=ready - imported,
        model_s=run.model_s,
        check_s=check_s,
        certificate=certificate,
        peak_bytes=peak,
        before_bytes=before,
        nodes=answer.nodes,
        wrong=failure or _contradiction(run, answer, built),
        note="; ".join(filter(None, (built.note, answer.note, _rejections(run)))),
        fingerprint=getattr(built.problem, "fingerprint", ""),
        variables=built.problem.size,
        trajectory=thinned([*run.trajectory, (solve_s, run.objective, bound)]),
    )


def _built(job: Job) -> Built:
    """Build the instance, or load what another worker of this benchmark has built."""
    case = job.case
    data = None if job.data is None else Path(job.data)
    if job.cache is None or case.recipe not in _CACHED:
        return build_case(case.recipe, case.arguments, data)
    path = Path(job.cache) / f"{case.suite}-{case.name}.npz"
    note = path.with_suffix(".txt")
    if note.exists():
        return Built(load_problem(path), note=note.read_text(encoding="utf-8"))
    built = build_case(case.recipe, case.arguments, data)
    save_problem(built.problem, path)
    write_text(note, built.note)
    return built


def _warmed(job: Job, function: PeerFunction, problem: Problem) -> tuple[float, PeerFunction]:
    """Compile the kernels of a solver of ours; return the seconds and the function to call."""
    if job.peer in PEERS and PEERS[job.peer].module != "moe2opt.bench.peers.ours":
        return 0.0, function
    # Not at the top: the processes of peers must not carry the weight of our kernels.
    from moe2opt.bench.peers import ours

    return ours.warm_up(problem, job.peer), partial(ours.solve, solver=job.peer)


def _checked(job: Job, problem: Problem, answer: Answer) -> tuple[str, float, str]:
    """Check the certificate; return its kind, the seconds, and what is wrong with it."""
    if answer.result is None or not job.certify:
        return "", 0.0, ""
    start = time.perf_counter()
    verdict = certify(problem, answer.result)
    check_s = time.perf_counter() - start
    if not verdict.ok:
        return "rejected", check_s, f"certificate: {'; '.join(verdict.failures)}"
    return verdict.kind, check_s, ""


def _judged(run: Run, answer: Answer) -> tuple[str, float]:
    """Return status and bound; a claimed optimum needs a solution that the problem accepts."""
    bound = min(run.bound, answer.bound)
    if answer.claim == "infeasible":
        return "INFEASIBLE", answer.bound
    if run.x is None:
        return "NO_SOLUTION", bound
    closed = relative_gap(run.objective, bound) <= max(run.rel_gap, 1e-9) * (1 + 1e-6)
    return ("OPTIMAL" if closed or answer.claim == "optimal" else "FEASIBLE"), bound


def _contradiction(run: Run, answer: Answer, built: Built) -> str:
    """Say why the claim cannot be true, as far as one run shows it."""
    slack = max(run.rel_gap, 1e-9)
    bound = min(run.bound, answer.bound)
    if answer.claim == "infeasible":
        return "claims infeasible, but has a feasible solution" if run.x is not None else ""
    if run.x is None:
        return "claims optimal, but has no feasible solution" if answer.claim == "optimal" else ""
    if answer.claim == "optimal" and relative_gap(run.objective, bound) > 2 * slack:
        return f"claims optimal, but the solution is worth {run.objective!r}, the bound {bound!r}"
    if run.objective - bound > 2 * slack * max(1.0, abs(bound)):
        return f"the bound {bound!r} is below a feasible value {run.objective!r}"
    if built.known is not None and bound < built.known - slack * max(1.0, abs(built.known)):
        return f"the bound {bound!r} is below the published value {built.known!r}"
    if built.known is not None and built.is_optimum:
        excess = run.objective - built.known
        if excess > slack * max(1.0, abs(built.known)):
            return f"a feasible value {run.objective!r} exceeds the published {built.known!r}"
    return ""


def _rejections(run: Run) -> str:
    return f"{run.rejected} solutions were infeasible" if run.rejected else ""


def thinned(points: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Return at most `_MOST_POINTS` points, the first and the last among them."""
    if len(points) <= _MOST_POINTS:
        return points
    step = (len(points) - 1) / (_MOST_POINTS - 1)
    return [points[round(k * step)] for k in range(_MOST_POINTS)]


def peak_bytes() -> int:
    """Return the peak resident memory of this process."""
    with suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return 0


def _write(out: IO[str] | None, content: dict[str, Any]) -> None:
    if out is not None:
        out.write(json.dumps(content) + "\n")
        out.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
