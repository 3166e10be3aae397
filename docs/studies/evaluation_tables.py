"""Measure the tables of docs/background/evaluation.md, over several splits.

Usage, from the checkout::

    python docs/studies/evaluation_tables.py DATA FOLDER [--splits 5]

DATA holds ``mmlu_pro/`` (an outcome folder) and ``routerdc/split2_model7.parquet``; neither is part
of this project (see the page for where they come from). FOLDER keeps the configurations, what
`moe2opt evaluate` writes, and ``tables.md``. What is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from specialist_outcomes import write as write_specialists

from moe2opt.library import find
from moe2opt.writing import write_text

PROGRAM = "from moe2opt.cli import main; main()"

#: Deployments without any budget that binds: the gain of routing alone.
FREE = """\
schema_version: 1
problem: selection
name: free
experts: {{outcomes: outcomes{more}}}
precisions: [{{name: fp16}}]
servers:
  - {{name: box, device: Jetson AGX Orin 64GB, count: 16, uplink_mbps: 100, downlink_mbps: 100}}
"""

GATE = "gate: {folder: trained.gate}\n"

ASSUMED = ", features: text, assumed_prompt_tokens: 150, assumed_output_tokens: 150"

#: Budgets of the table with budgets, in joules per prompt.
BUDGETS = (1200, 300)

GRID_HEAD = (
    "| baseline | cells | plan at least as good | baseline not better | plan better "
    "| mean, points | most |"
)

GRID = ("energy_j_per_prompt=60:1200:5", "delay.limit_s=4:60:5")


def prepare(data: Path, folder: Path) -> None:
    """Write outcome folders and configurations."""
    for name in ("mmlu_pro", "routerdc"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    linked = folder / "mmlu_pro" / "outcomes"
    if not linked.exists():
        linked.symlink_to((data / "mmlu_pro").resolve())
    if not (folder / "routerdc" / "outcomes").exists():
        write_specialists(data / "routerdc/split2_model7.parquet", folder / "routerdc" / "outcomes")
    write_text(folder / "mmlu_pro" / "free.yaml", FREE.format(more=", max_params_b: 14") + GATE)
    write_text(folder / "routerdc" / "free.yaml", FREE.format(more=ASSUMED) + GATE)
    edge = find("mmlu_pro_edge").read_text(encoding="utf-8").partition("scenarios:")[0]
    edge = edge.replace("tables: mmlu_pro\nllms: {", "experts: {outcomes: outcomes, ")
    write_text(folder / "mmlu_pro" / "edge.yaml", edge + GATE)


def run(verb: str, config: Path, *more: str) -> None:
    """Run a verb of the command line."""
    words = [*verb.split(), str(config), "--allow-outside", *more]
    subprocess.run([sys.executable, "-c", PROGRAM, *words], check=True)


def train(config: Path, splits: int) -> None:
    """Train the gates of all splits that are not there; both files of a matrix use them."""
    for seed in range(splits):
        gate = f"trained.gate-split-{seed}" if seed else "trained.gate"
        if not (config.parent / gate).exists():
            run(
                "gate train", config, "--set", f"splits.seed={seed}", "--set", f"gate.folder={gate}"
            )


def measured(config: Path, out: Path, splits: int, *more: str) -> dict[str, Any]:
    """Run `moe2opt evaluate` unless its results are there, and return them."""
    name = "grid_evaluation.json" if "--grid" in more else "evaluation.json"
    if not (out / name).exists():
        run("evaluate", config, "--splits", str(splits), "--out", str(out), *more)
    found: dict[str, Any] = json.loads((out / name).read_text(encoding="utf-8"))
    return found


def points(value: float) -> str:
    """Return a share in points, with a real minus."""
    return f"{100 * value:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")


def gains(name: str, done: dict[str, Any]) -> str:
    """Return the row of one matrix without budgets: gains over the best single LLM by split."""
    rows = {row["policy"]: row for row in done["rows"]}
    by_split = [
        points(-row["against_plan"])
        for row in done["by_split"]
        if row["policy"] == "best single LLM"
    ]
    cells = [name, f"{100 * rows['moe2']['accuracy']['mean']:.1f}", ", ".join(by_split)]
    for policy in ("best single LLM", "category table", "ridge router"):
        own = rows[policy]["against_plan"]
        ends = sorted((-own["low"], -own["high"]))
        cells.append(f"{points(-own['mean'])} [{points(ends[0])}, {points(ends[1])}]")
    return "| " + " | ".join(cells) + " |"


def with_budgets(found: list[dict[str, Any]]) -> list[str]:
    """Return one row per policy: accuracy and paired difference at each budget."""
    tables = [{row["policy"]: row for row in done["rows"]} for done in found]
    lines = []
    for policy in tables[0]:
        cells = [policy if policy != "moe2" else "`moe2`"]
        for table in tables:
            row = table.get(policy)
            if row is None:
                cells += ["", "", ""]
                continue
            own = row["against_plan"]
            cells.append(f"{100 * row['accuracy']['mean']:.1f}")
            level = own["low"] <= 0 <= own["high"]
            ends = f"{points(own['mean'])} [{points(own['low'])}, {points(own['high'])}]"
            cells.append("" if policy == "moe2" else f"{ends}, level" if level else ends)
            cells.append(f"{row['energy_j_per_prompt']['mean']:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def on_grid(done: dict[str, Any]) -> list[str]:
    """Return one row per baseline over all cells."""
    lines = []
    for tally in done["tallies"]:
        error = tally["error"]
        margin = "" if error is None else f" ± {100 * 1.96 * error:.1f}"
        cells = [tally["policy"], tally["cells"], tally["beaten"], tally["level"], tally["behind"],
                 f"{points(tally['mean'])}{margin}", points(tally["worst"])]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def tables(data: Path, folder: Path, splits: int) -> str:
    """Measure everything and return the tables as Markdown."""
    prepare(data, folder)
    lines = ["| data | accuracy | gain over the best single LLM, split by split | pooled "
             "| to a category table | to a ridge |", "|---|--:|---|--:|--:|--:|"]  # fmt: skip
    for name, label in (("mmlu_pro", "MMLU-Pro"), ("routerdc", "RouterDC")):
        train(folder / name / "free.yaml", splits)
        done = measured(folder / name / "free.yaml", folder / f"free-{name}", splits)
        lines.append(gains(label, done))
    edge = folder / "mmlu_pro" / "edge.yaml"
    budgets = [
        measured(edge, folder / f"edge-{b}", splits, "--set", f"energy.limit_j_per_prompt={b}")
        for b in BUDGETS
    ]
    head = "".join(f" | {b} J: accuracy | to the plan | J/prompt" for b in BUDGETS)
    lines += ["", f"| policy{head} |", "|---" + "|--:|--:|--:" * len(BUDGETS) + "|"]
    lines += with_budgets(budgets)
    axes = [word for axis in GRID for word in ("--grid", axis)]
    done = measured(edge, folder / "grid", splits, *axes)
    certified = sum(cell["certified"] for cell in done["cells"])
    sets = len({tuple(cell["deployed"]) for cell in done["cells"]})
    lines += ["", f"{certified} of {len(done['cells'])} cells certified; {sets} deployments", ""]
    lines += [GRID_HEAD, "|---" + "|--:" * 6 + "|", *on_grid(done)]
    sizes = np.unique([cell["prompts"] for cell in done["cells"]])
    return "\n".join([*lines, "", f"test prompts of a cell: {sizes.min()} to {sizes.max()}", ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    given = parser.parse_args()
    text = tables(given.data, given.folder, given.splits)
    write_text(given.folder / "tables.md", text)
    print(text)
