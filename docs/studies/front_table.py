"""Measure the 20 × 20 grid of energy and delay budgets of ``mmlu_pro_edge`` against HiGHS.

Usage, from a checkout::

    python docs/studies/front_table.py [CELLS]

The grid is computed and checked whole. HiGHS solves CELLS cells (default 16), drawn at random,
cold, and its mean is extrapolated to all cells. Kernels are compiled before the clock starts.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import moe2opt as mo
from moe2opt.pareto import grid
from moe2opt.pareto.family import Family

AXES = {
    "energy_j_per_prompt": np.geomspace(250, 3000, 20).tolist(),
    "delay.limit_s": np.geomspace(3, 40, 20).tolist(),
}


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    instance = mo.load("mmlu_pro_edge")
    mo.solve(instance)
    mo.solve(instance, solver="milp", time_limit_s=10)
    start = time.perf_counter()
    found = grid(instance, AXES)
    grid_s = time.perf_counter() - start
    certified = sum(cell.certified for cell in found)
    print(f"grid: {len(found)} cells, {certified} certified, {len(found.results)} solved, "
          f"{len(found.plans)} plans, {grid_s:.1f} s")  # fmt: skip
    family = Family(instance, tuple(AXES))
    drawn = np.random.default_rng(0).choice(len(found), count, replace=False)
    seconds = []
    for k in sorted(drawn.tolist()):
        cell = found.cells[k]
        problem = family.posed(cell.budgets).problem
        start = time.perf_counter()
        result = mo.solve(problem, solver="milp", rel_gap=0.0, time_limit_s=120)
        seconds.append(time.perf_counter() - start)
        agrees = abs(result.objective - cell.objective) <= 1e-6 * abs(cell.objective)
        print(f"HiGHS at {cell.budgets[0]:.0f} J, {cell.budgets[1]:.1f} s: {seconds[-1]:.2f} s, "
              f"{result.status}, {'same value' if agrees else 'ANOTHER VALUE'}")  # fmt: skip
    mean = float(np.mean(seconds))
    print(f"HiGHS: mean {mean:.2f} s of {count} cells, all {len(found)}: {mean * len(found):.0f} s")
    print(f"ratio: {mean * len(found) / grid_s:.0f}")


if __name__ == "__main__":
    main()
