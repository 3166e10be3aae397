"""Draw certified accuracy against the energy budget, from the file of certified results.

Usage, from the checkout::

    python docs/studies/energy_figure.py

reads ``problems/reference/mmlu_pro_edge.json`` and writes ``docs/start/energy_budget.svg``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE = CHECKOUT / "problems" / "reference" / "mmlu_pro_edge.json"
TARGET = CHECKOUT / "docs" / "start" / "energy_budget.svg"

SUBTITLE = (
    "mmlu_pro_edge: 15 open LLMs, 2 × Jetson AGX Orin 64GB + 2 × RTX 4090, 20 s per answer. "
    "Every filled point is\ncertified optimal (relative gap at most {gap:.0e}). Time and energy "
    "are predictions (the page on profiles); the joules\nadd GPU rail (Orin) and GPU "
    "board (RTX 4090): an index, not a meter reading."
)


def points(runs: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Return budgets in joules and a share in percent, for the budgets that admit a plan."""
    kept = [run for run in runs if run[key] is not None and run["status"] == "OPTIMAL"]
    limits = [run["overrides"]["energy.limit_j_per_prompt"] for run in kept]
    return limits, [100 * run[key] for run in kept]


def draw(content: dict[str, Any], axes: Any) -> Any:
    """Draw both curves and the test split; return the axes."""
    many, one = content["energy_budget"], content["energy_budget_one_expert"]
    step = {"drawstyle": "steps-post", "linewidth": 1.2, "markersize": 4.5}
    axes.plot(
        *points(many, "objective"), "o-", color="#0072B2", label="any number of experts", **step
    )
    axes.plot(*points(one, "objective"), "s-", color="#D55E00", label="one expert", **step)
    axes.plot(
        *points(many, "test_accuracy"), "x", color="#555555", markersize=4.5,
        label="plans of the upper curve on the test split (2,407\nprompts, no quantisation "
        "loss; standard error 1 point)",
    )  # fmt: skip
    empty = [
        r["overrides"]["energy.limit_j_per_prompt"] for r in many if r["status"] == "INFEASIBLE"
    ]
    axes.axvspan(min(empty), max(empty), color="#dddddd", linewidth=0)
    axes.text(min(empty) * 1.03, 45.5, "no plan\n(proven)", fontsize=7.5, va="top")
    widest = max(run["gap"] for run in many + one if run["status"] == "OPTIMAL")
    gap = 10.0 ** math.ceil(math.log10(widest))
    axes.set_title(SUBTITLE.format(gap=gap), fontsize=7, loc="left")
    axes.set(xscale="log", xlabel="energy budget, all deployed experts answer (J per prompt)")
    axes.set(ylabel="expected correct answers (%)", xlim=(min(empty), 3200))
    ticks = (50, 100, 200, 500, 1000, 2000, 3000)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(color="#eeeeee")
    axes.legend(loc="center left", bbox_to_anchor=(0.43, 0.44), fontsize=7.5, frameon=False)
    return axes


def main() -> None:
    """Write the figure; the same input gives the same bytes."""
    content = json.loads(SOURCE.read_text(encoding="utf-8"))
    plt.rcParams.update({"svg.hashsalt": "moe2opt", "svg.fonttype": "none"})
    figure, axes = plt.subplots(figsize=(6.6, 4.2), layout="constrained")
    draw(content, axes)
    figure.savefig(TARGET, metadata={"Date": None})
    print(f"{TARGET.relative_to(CHECKOUT)} written")


if __name__ == "__main__":
    main()
