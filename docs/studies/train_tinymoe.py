"""Train the small mixture of experts and measure everything that its placement problem needs.

    python docs/studies/train_tinymoe.py [train|tables|scales|study|all]
        [--steps N] [--pages FOLDER] [--out FOLDER]

`train` builds the texts, trains (one core; a killed run goes on where it was) and writes
checkpoint, calibration and held-out text. `tables` records the routing of the calibration text and
measures there what dropping, merging and rounding experts costs. `scales` fits, still on
calibration text, the scales that the placement problem has in its YAML file. `study` applies plans
to the checkpoint and compares the loss on held-out text, used for nothing else, with the loss that
the plans were made with.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tinymoe.plans import (
    StudyPlan,
    draw_study,
    fitted_scale,
    measure_plans,
    random_plans,
    rank_correlation,
)
from tinymoe.quality import judged_bytes, losses, mean_loss, text_files
from tinymoe.tables import (
    distances_from,
    measure_tables,
    saliency_of,
)
from tinymoe.text import SOURCES, build_corpus
from tinymoe.training import TrainingSettings, record, save, tiny_spec, train

import moe2opt as mo
from moe2opt.executor.model.folder import ModelFolder, open_folder
from moe2opt.executor.model.routing import Routing, record_routing, write_routing
from moe2opt.executor.model.text import tokens_of
from moe2opt.executor.store.formats import Format

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "problems" / "placement" / "tinymoe"
PICTURE = ROOT / "docs" / "background" / "tinymoe_quality.svg"

#: Tokens of a sequence in everything that is measured.
CONTEXT = 256

#: Windows of each domain on which plans are measured: half of the text.
WINDOWS = 24

GROUP = 32
FORMATS = (Format("fp16"), Format("int8", GROUP), Format("int4", GROUP))

#: Random plans that the scales are fitted with (calibration text) and judged with (held-out text).
FIT_PLANS, STUDY_PLANS = 30, 30

#: Loss budgets of the optimised plans of the study.
BUDGETS = (0.005, 0.01, 0.02, 0.05, 0.1)


STAGES = ("train", "tables", "scales", "study", "all")


def news(line: str) -> None:
    """Print a line with the seconds of processor time so far."""
    print(f"{time.process_time():7.0f} s  {line}", flush=True)


def run_train(out: Path, pages: Path, steps: int) -> None:
    """Write the checkpoint and the texts."""
    settings = TrainingSettings(steps=steps)
    corpus = build_corpus(pages)
    news(f"texts: {', '.join(corpus.domains)}, sha256 {corpus.sha256[:12]}")
    tensors = train(tiny_spec(), corpus, settings, news, out.with_name(f".{out.name}.training"))
    save(out, tiny_spec(), tensors, {**record(settings, corpus), "sources": SOURCES})
    for part in ("calibration", "heldout"):
        (out / part).mkdir(exist_ok=True)
        for domain in corpus.domains:
            (out / part / f"{domain}.txt").write_bytes(corpus.text[domain, part])


def problem_of(out: Path) -> Path:
    """Return the placement problem beside the folder of the model."""
    return out.with_suffix(".yaml")


def routing_of(folder: ModelFolder) -> Routing:
    """Return the routing of the calibration text."""
    texts = text_files(folder.path / "calibration")
    return record_routing(folder, {k: tokens_of(folder, v) for k, v in texts.items()}, CONTEXT)


def run_tables(out: Path) -> None:
    """Write counts, trace, distances and totals of the losses."""
    folder = open_folder(out)
    routing = routing_of(folder)
    shares = routing.shares
    text = judged_bytes(out / "calibration", CONTEXT, WINDOWS)
    tables = measure_tables(folder, text, shares, FORMATS, news)
    write_routing(routing, out, saliency_of(tables))
    with (out / "distances.npz").open("wb") as stream:
        table = distances_from(tables, shares).astype(np.float32)
        np.savez_compressed(stream, distances=table)
    found: dict[str, Any] = {
        "calibration_loss_nats": tables.base,
        "rounded_nats": tables.rounded,
        "pruned_alone_nats_total": float(np.maximum(tables.pruned, 0).sum()),
    }
    base = losses(folder.decoder(), folder.resident(), judged_bytes(out / "heldout", CONTEXT))
    found["heldout_loss_nats"] = {**base, "mean": mean_loss(base)}
    (out / "tables.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    news(json.dumps(found))


def run_scales(out: Path) -> None:
    """Fit `prune_loss_nats`, `loss_nats` and `rank_loss_share`, and add them to the tables.

    Losses of single changes do not add up exactly; over random plans they do on average.
    """
    folder = open_folder(out)
    found = json.loads((out / "tables.json").read_text(encoding="utf-8"))
    text = judged_bytes(out / "calibration", CONTEXT, WINDOWS)
    start = {
        "aggregation.prune_loss_nats": found["pruned_alone_nats_total"],
        "aggregation.loss_nats": 1.0,
        "aggregation.rank_loss_share": 1.0,
        **{
            f"precisions.{k}.loss_nats": max(0.0, found["rounded_nats"][name])
            for k, name in ((2, "int8"), (3, "int4"))
        },
    }
    instance = mo.load(problem_of(folder.path), "aggregation", start)
    plans = [p for p in random_plans(instance, FIT_PLANS, seed=1) if p.kind != "mixed"]
    table = measure_plans(folder, instance, plans, text, news)
    merge = fitted_scale(table, "merge")
    found["scales"] = {
        "prune_loss_nats": found["pruned_alone_nats_total"] * fitted_scale(table, "prune"),
        "loss_nats": merge,
        "rank_loss_share": fitted_scale(table, "share") / merge,
        "round": fitted_scale(table, "round"),
        "rank_correlation": rank_correlation(table),
    }
    (out / "tables.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    news(json.dumps(found["scales"]))


def optimised_plans(out: Path) -> list[StudyPlan]:
    """Return certified plans of the built-in problem by scenario and loss budget."""
    found = []
    for scenario in (None, "aggregation"):
        for budget in BUDGETS:
            instance = mo.load(problem_of(out), scenario, {"budgets.loss_nats": budget})
            result = mo.solve(instance, rel_gap=1e-3, time_limit_s=30)
            mo.certify(instance, result).raise_if_failed()
            name = f"optimal {scenario or 'prune'} {budget}"
            found.append(StudyPlan(name, "optimal", result.plan.assignment))
    return found


def run_study(out: Path) -> None:
    """Write the comparison on held-out text, and draw it."""
    folder = open_folder(out)
    instance = mo.load(problem_of(out), "aggregation")
    text = judged_bytes(out / "heldout", CONTEXT, WINDOWS)
    plans = [*random_plans(instance, STUDY_PLANS, seed=2), *optimised_plans(out)]
    table = measure_plans(folder, instance, plans, text, news)
    table.round(7).to_csv(out / "study.csv", index=False, lineterminator="\n")
    optimal = table.kind == "optimal"
    kinds = {kind: rank_correlation(rows) for kind, rows in table.groupby("kind")}
    news(f"rank correlation of all {len(table)} plans: {rank_correlation(table):.4f}")
    news(f"of the {int((~optimal).sum())} random ones: {rank_correlation(table[~optimal]):.4f}")
    news("by kind: " + ", ".join(f"{kind} {value:.3f}" for kind, value in kinds.items()))
    ratio = pd.Series(table.measured_nats / table.predicted_nats)
    news(f"measured / predicted: quartiles {ratio.quantile([0.25, 0.5, 0.75]).round(2).tolist()}")
    draw_study(
        table, PICTURE, f"{len(table)} plans, rank correlation {rank_correlation(table):.3f}"
    )


def main() -> None:
    """Run the stages that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", nargs="?", default="all", choices=STAGES)
    parser.add_argument("--steps", type=int, default=TrainingSettings().steps)
    parser.add_argument("--pages", type=Path, default=ROOT / "docs")
    parser.add_argument("--out", type=Path, default=FOLDER)
    asked = parser.parse_args()
    stages = STAGES[:-1] if asked.stage == "all" else (asked.stage,)
    if "train" in stages:
        run_train(asked.out, asked.pages, asked.steps)
    for name, run in (("tables", run_tables), ("scales", run_scales), ("study", run_study)):
        if name in stages:
            run(asked.out)


if __name__ == "__main__":
    main()
