"""Draw the figure of docs/background/evaluation.md: ``python docs/studies/quality_figure.py``."""

from __future__ import annotations

from pathlib import Path

import moe2opt as mo
from moe2opt.pareto.judging import judged_over_splits, split_anew
from moe2opt.plotting import save
from moe2opt.plotting.quality import quality_figure

PAGE = Path(__file__).resolve().parents[1] / "background" / "evaluation_quality.svg"
SHOWN = ("best single LLM", "greedy by accuracy", "random feasible set", "category table")

if __name__ == "__main__":
    budgets = {"energy_j_per_prompt": [40.0, 60.0, 100.0, 150.0, 220.0, 300.0]}
    done = judged_over_splits(split_anew(mo.load("tiny_gate"), 3), budgets)[1]
    save(quality_figure(done, against=["budget", "energy_j_per_prompt"], policies=SHOWN), PAGE)
