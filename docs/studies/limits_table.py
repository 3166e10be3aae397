"""Run every solver on problems that do not end, under short limits, and say who is late or silent.

    python docs/studies/limits_table.py [--limits 0.2 1 3] [--memory] [SOLVER | FAMILY ...]

Late is what a run takes beyond its limit: the share of its wall clock that was spent computing, so
that other programs on the machine do not count. Silent is the longest time without a line.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import moe2opt as mo
from moe2opt.bench.generated import structured, uniform
from moe2opt.bench.monotone import coverage, quadratic_knapsack, series
from moe2opt.canonical import Problem, masked_softmax_problem
from moe2opt.solvers import SOLVERS

PROBLEMS = Path(__file__).resolve().parents[2] / "problems"

#: What counts as late, seconds.
ALLOWED_S = 0.5


def _choice(groups: int, options: int, rows: int, integral: bool = True) -> Problem:
    rng = np.random.default_rng(groups)
    values = rng.integers(1, 1000, (groups, options)) * (1.0 if integral else np.pi)
    usage = rng.integers(1, 1000, (groups, options, rows))
    budgets = usage.mean(axis=1).sum(axis=0).astype(int)
    return mo.MultipleChoiceProblem(list(values), list(usage), budgets)


def _knapsacks(items: int, rows: int) -> Problem:
    rng = np.random.default_rng(items + rows)
    usage = rng.integers(1, 1000, (items, rows))
    worth = usage.mean(axis=1) + 500 * rng.random(items)
    values = [np.array([0.0, np.floor(v)]) for v in worth]
    return mo.MultipleChoiceProblem(
        values, [np.stack([0 * u, u]) for u in usage], usage.sum(axis=0) // 2
    )


def _classes() -> Problem:
    rng = np.random.default_rng(3)
    kinds = [(rng.random(4), rng.random((4, 6))) for _ in range(5)]
    chosen = [kinds[k % 5] for k in range(200)]
    return mo.MultipleChoiceProblem(
        [v for v, _ in chosen], [u for _, u in chosen], np.full(6, 0.43 * len(chosen))
    )


def _grouped() -> Problem:
    drawn = uniform(200, 600, 0.1, 2)
    groups = [range(k, k + 4) for k in range(0, 200, 4)]
    return mo.FacilityProblem(drawn.values, drawn.costs, drawn.budgets, groups=groups)


def _softmax() -> Problem:
    rng = np.random.default_rng(5)
    scores, quality = rng.normal(size=(60, 80)), rng.random((60, 80))
    return masked_softmax_problem(scores, quality, rng.random((2, 80)), np.array([12.0, 12.0]))


def _slow(seconds: float) -> Problem:
    """Return a problem whose oracle is slow."""
    weights = np.random.default_rng(1).random(40)

    def worth(points: Any) -> Any:
        time.sleep(seconds * len(points))
        return np.sqrt(points @ weights)

    return mo.MonotoneProblem(
        np.zeros(40, int), np.full(40, 3), worth, [lambda points: points @ weights - 20.0]
    )


FAMILIES: dict[str, Callable[[], Problem]] = {
    "facility/uniform-200x1000": lambda: uniform(200, 1000, 0.08, 1),
    "facility/structured-1000x5000": lambda: structured(1000, 5000, 0.05, 1),
    "facility/wide-4000x1500": lambda: uniform(4000, 1500, 0.02, 1),
    "facility/grouped-200x600": _grouped,
    "choice/mmkp-100x20x10": lambda: _choice(100, 20, 10),
    "choice/fractions-400x10x5": lambda: _choice(400, 10, 5, integral=False),
    "choice/large-20000x50x3": lambda: _choice(20000, 50, 3),
    "choice/rows-300x30x60": lambda: _choice(300, 30, 60),
    "choice/knapsacks-500x30": lambda: _knapsacks(500, 30),
    "choice/classes-200x4x6": _classes,
    "choice/worst_domain": lambda: mo.load(
        PROBLEMS / "placement" / "three_tier_edge.yaml", scenario="worst_domain"
    ).problem(),
    "choice/medians": lambda: mo.load(
        PROBLEMS / "placement" / "switch_base_128_phone.yaml", scenario="medians"
    ).problem(),
    "monotone/series-40": lambda: series(40, 1),
    "monotone/coverage-200": lambda: coverage(200, 1),
    "monotone/quadratic-120": lambda: quadratic_knapsack(120, 1),
    "monotone/softmax-80": _softmax,
    "monotone/slow-oracle": lambda: _slow(1e-3),
}


class _Lines(logging.Handler):
    """Notes when anything is said."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.times = [time.perf_counter()]

    def emit(self, record: logging.LogRecord) -> None:
        self.times.append(time.perf_counter())


def measured(problem: Problem, **settings: Any) -> tuple[mo.Result, float, float, float]:
    """Return a result, its wall clock, the share of it that was computing, and the silence."""
    lines = _Lines()
    logger = logging.getLogger("moe2opt")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    busy, start = time.process_time(), time.perf_counter()
    try:
        result = mo.solve(problem, display=True, **settings)
    finally:
        end, busy = time.perf_counter(), time.process_time() - busy
        logger.removeHandler(lines)
    silence = float(np.diff([start, *lines.times[1:], end]).max())
    return result, end - start, min(1.0, busy / (end - start)), silence


def runs(wanted: list[str]) -> Iterator[tuple[str, str, Problem]]:
    """Yield every solver with every family that it handles."""
    for family, build in FAMILIES.items():
        problem = None
        for solver, info in SOLVERS.items():
            if wanted and not any(w in (solver, family, family.split("/")[0]) for w in wanted):
                continue
            problem = problem or build()
            if isinstance(problem, info.families):
                yield family, solver, problem


def main() -> None:
    """Print one line a run, the late ones marked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limits", type=float, nargs="+", default=[0.2, 1.0, 3.0])
    parser.add_argument("wanted", nargs="*")
    given = parser.parse_args()
    for name in ("tiny", "tinymoe"):  # the first solve of a process loads compiled kernels
        mo.solve(mo.load(name), time_limit_s=20)
    mo.solve(uniform(30, 60, 0.2, 1), time_limit_s=20)
    mo.solve(mo.load("tiny"), "milp", time_limit_s=20)
    late = 0
    for family, solver, problem in runs(given.wanted):
        for limit in given.limits:
            try:
                result, wall, share, silence = measured(problem, solver=solver, time_limit_s=limit)
            except mo.InputError as error:
                print(f"{family:30} {solver:13} {error}", flush=True)
                break
            over = max(0.0, wall - limit) * share
            late += over > ALLOWED_S
            print(
                f"{family:30} {solver:13} {limit:4g} s  late {over:5.2f}  wall {wall:6.2f}"
                f"  silent {silence:5.2f}  {result.status} {result.gap:.1e}"
                f"  {int(result.stats['nodes'])} nodes{'  LATE' if over > ALLOWED_S else ''}",
                flush=True,
            )
            if result.limit is None:
                break
    print(f"{late} late")


if __name__ == "__main__":
    main()
