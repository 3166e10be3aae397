"""Measure the objectives and budgets of docs/guides/constraints.md on the built-in instance.

Usage, from the checkout::

    python docs/studies/constraints_table.py [--time-limit SECONDS] [NAME ...]

Prints one line of the table for each case: what was asked, experts, canonical problem, objective,
proven gap, boxes, seconds of the solver and of the checker.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import moe2opt as mo

LENGTHS = {"distribution": "lognormal", "cv": 0.7}
ALL = {"scope": "everywhere", "counts": "all", "limit_s": 20, "statistic": "cvar", "level": 0.9}


def _server(name: str, device: str, reserve_gib: float) -> dict[str, Any]:
    rates = {"uplink_mbps": 19.0, "downlink_mbps": 89.6, "round_trip_ms": 10}
    return {"name": name, "device": device, "reserve_gib": reserve_gib, **rates}


#: Pools of experts by their number.
POOLS: dict[int, dict[str, Any]] = {
    30: {
        "precisions": [{"name": "q4"}],
        "servers": [_server("orin", "Jetson AGX Orin 64GB", 8), _server("rtx", "RTX 4090", 2)],
    },
    60: {"precisions": [{"name": "q4"}]},
    180: {},
}

QUEUE = {"prompts_per_s": 0.02, "wait_limit_s": 2}

#: What is asked, by name.
CASES: dict[str, dict[str, Any]] = {
    "masked_softmax": {"objective": "masked_softmax"},
    "top_2": {"objective": "top_k", "mixture.k": 2},
    "largest_2": {
        "energy.counts": "largest", "energy.largest": 2, "energy.limit_j_per_prompt": 800,
    },
    "largest_3": {
        "energy.counts": "largest", "energy.largest": 3, "energy.limit_j_per_prompt": 800,
    },
    "quantile": {"delay.statistic": "quantile", "delay.level": 0.9, "lengths": LENGTHS},
    "cvar_of_last": {"delay": ALL, "lengths": LENGTHS},
    "queue_one": {"queue": QUEUE, "lengths": LENGTHS},
    "queue_all": {"queue": {**QUEUE, "counts": "all"}, "lengths": LENGTHS},
    "sets": {"sets": "per_category", "energy.limit_j_per_prompt": 600},
}  # fmt: skip


def line(name: str, experts: int, time_limit_s: float) -> str:
    """Solve one case and return its line of the table."""
    instance = mo.load("mmlu_pro_edge", overrides={**POOLS[experts], **CASES[name]})
    problem = instance.problem()
    start = time.perf_counter()
    result = mo.solve(instance, solver="brb", time_limit_s=time_limit_s)
    solve_s = time.perf_counter() - start
    start = time.perf_counter()
    verdict = mo.certify(instance, result)
    check_s = time.perf_counter() - start
    assert verdict.ok, verdict.failures
    gap = "proven" if result.status == "OPTIMAL" else f"{100 * result.gap:.3g} %"
    cells = (
        name, experts, f"{problem.kind}, {problem.size}", f"{result.objective:.4f}", gap,
        f"{result.stats['nodes']:,}", f"{solve_s:.1f}", f"{check_s:.1f}",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Measure the cases that the command line names, such as ``top_2:60``; all by default."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("cases", nargs="*", default=[f"{n}:{e}" for n in CASES for e in POOLS])
    given = parser.parse_args()
    mo.solve(mo.load("tiny"))  # compiles what is compiled once
    for case in given.cases:
        name, experts = case.split(":")
        print(line(name, int(experts), given.time_limit), flush=True)


if __name__ == "__main__":
    main()
