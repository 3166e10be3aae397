"""How far each engine proves monotone problems: the table of sizes in docs/background/solvers.md.

    python docs/studies/ladder.py [--limit SECONDS] [--engines NAME ...] [FAMILY[:SIZE] ...]

Every family climbs by a fifth of its size, one drawn problem on each rung, until one stays open
after the limit in processor seconds, or the last two rungs say that the next one would; a size
after its name leaves out the smaller ones. Engines:
``polyblock`` and ``brb`` on oracles alone, ``parts`` for ``brb`` on what is declared. For figures
of an older version, put it on the path with today's ``moe2opt/bench``.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import moe2opt as mo
from moe2opt.bench.monotone import cover, coverage, quadratic_knapsack, series
from moe2opt.bench.radio import power_control, weighted_sum_rate
from moe2opt.bench.sensors import sensor_placement
from moe2opt.canonical import MonotoneProblem, masked_softmax_problem

#: The first rung, and the size from which on nothing more is asked.
FIRST, MOST = 4, 150


def softmax(experts: int, seed: int) -> MonotoneProblem:
    """Return a masked softmax gate: 50 clusters, costs of 1 to 9, a third of their sum."""
    rng = np.random.default_rng([seed, experts, 9])
    skill = rng.random((50, experts))
    cost = rng.integers(1, 10, experts)
    logits = 4.0 * skill + rng.normal(0.0, 1.0, skill.shape)
    return masked_softmax_problem(logits, skill, cost[None, :], np.array([cost.sum() // 3]))


def votes(experts: int, seed: int) -> MonotoneProblem:
    """Return a majority vote on 200 questions of four answers, ties lost, a third of all costs."""
    rng = np.random.default_rng([seed, experts, 10])
    right = rng.random((experts, 200)) < rng.uniform(0.3, 0.8, (experts, 1))
    answer = np.where(right, 0, rng.integers(1, 4, right.shape))
    cost = rng.integers(1, 10, experts)

    def share(x: Any, y: Any) -> Any:
        wrong = np.max([y @ (answer == k) for k in (1, 2, 3)], axis=0)
        return (x @ right > wrong).sum(axis=1) / 200

    return MonotoneProblem(
        [0] * experts,
        [1] * experts,
        mixed_objective=share,
        constraints=[lambda x: x @ cost - float(cost.sum() // 3)],
    )


FAMILIES: dict[str, Callable[[int, int], MonotoneProblem]] = {
    "series": series,
    "coverage": coverage,
    "quadratic knapsack": quadratic_knapsack,
    "cover": cover,
    "sensors": sensor_placement,
    "power control": power_control,
    "wsr": weighted_sum_rate,
    "softmax": softmax,
    "votes": votes,
}

ENGINES = ("polyblock", "brb", "parts")


def sizes() -> Iterator[int]:
    """Yield the rungs."""
    size = FIRST
    while size <= MOST:
        yield size
        size = max(size + 1, round(1.2 * size))


def solved(problem: MonotoneProblem, engine: str, limit_s: float) -> tuple[Any, float]:
    """Solve and check; return the result and the processor seconds of the solver."""
    if engine != "parts":
        problem = replace(problem, structure=None, submodular=False)
    signal.signal(signal.SIGPROF, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_PROF, limit_s)  # the solver takes Ctrl-C as a limit
    start = time.process_time()
    result = mo.solve(problem, "brb" if engine == "parts" else engine)
    seconds = time.process_time() - start
    signal.setitimer(signal.ITIMER_PROF, 0)
    verdict = mo.certify(problem, result)
    assert verdict.ok, verdict.failures
    return result, seconds


def climb(family: str, engine: str, limit_s: float, first: int = FIRST) -> str:
    """Return the last rung of a family that an engine proved, and what came next."""
    proven, before, last = "-", 0.0, 0.0
    for size in itertools.dropwhile(lambda size: size < first, sizes()):
        if before and last > 1.0 and (expected := last * last / max(before, 0.1)) > limit_s:
            return f"{proven}; {size}: not tried, {expected:.0f} s expected"
        problem = FAMILIES[family](size, 0)
        if engine == "parts" and problem.structure is None:
            return "no parts"
        result, seconds = solved(problem, engine, limit_s)
        if result.status is not mo.Status.OPTIMAL:
            return f"{proven}; {size}: {100 * result.gap:.2g} % after {seconds:.0f} s"
        proven = f"{size} ({seconds:.1f} s, {result.stats['nodes']:,} nodes)"
        before, last = last, seconds
    return proven


def main() -> None:
    """Print a row for every family and engine that the command line names; all by default."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--engines", nargs="*", default=ENGINES)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background else
    for engine in given.engines:
        solved(series(4, 0), engine, given.limit)  # compiles what is compiled once
        for family in given.families:
            name, _, first = family.partition(":")
            found = climb(name, engine, given.limit, int(first or FIRST))
            print(f"{engine:9} {name:18} {found}", flush=True)


if __name__ == "__main__":
    main()
