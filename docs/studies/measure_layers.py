"""Measure what each layer of the tiny model loses at each level: real values for `levels`.

Usage, from the checkout::

    python docs/studies/measure_layers.py measure TABLE.csv
    python docs/studies/measure_layers.py run PLAN.csv...

The inner units of every expert, sorted by the norms of their weights, are cut into eight blocks. A
layer alone is put at each number of blocks, and the rise of the loss on calibration text is written
with its standard error over windows (every domain counting alike). ``run`` puts all layers at the
levels of a plan, and prints the rise on calibration text and on held-out text.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from tinymoe.quality import Judged, judged_bytes

from moe2opt.executor.model.experts import ResidentExperts, Weights
from moe2opt.executor.model.folder import ModelFolder, open_folder
from moe2opt.executor.model.text import token_losses
from moe2opt.schema.csv import write_table

MODEL = Path(__file__).resolve().parents[2] / "problems" / "placement" / "tinymoe"

BLOCKS, CONTEXT, WINDOWS = 8, 256, 8

#: Mean loss of each window, by domain.
Losses = dict[str, torch.Tensor]


def cut(weights: Weights, blocks: int) -> Weights:
    """Return an expert with its strongest inner units only."""
    gate, up, down = weights["gate"], weights["up"], weights["down"]
    strength = gate.norm(dim=1) * up.norm(dim=1) * down.norm(dim=0)
    kept = strength.argsort(descending=True)[: len(strength) * blocks // BLOCKS].sort().values
    return {"gate": gate[kept], "up": up[kept], "down": down[:, kept]}


def window_losses(folder: ModelFolder, text: Judged, levels: Mapping[int, int]) -> Losses:
    """Return the losses with the given number of blocks in some layers, all in the others."""
    changed = {
        key: cut(own, levels.get(key[0], BLOCKS)) for key, own in folder.resident().weights.items()
    }
    decoder, experts = folder.decoder(), ResidentExperts(changed)
    with torch.inference_mode():
        return {
            name: token_losses(decoder.forward(rows[:, :-1], experts), rows)
            .double().reshape(len(rows), -1).mean(dim=1)
            for name, rows in text.windows.items()
        }  # fmt: skip


def rise(losses: Losses, base: Losses) -> tuple[float, float]:
    """Return by how much the mean over domains rises, and the standard error over windows."""
    parts = [losses[name] - base[name] for name in base]
    means = [float(part.mean()) for part in parts]
    errors = [float(part.std() / math.sqrt(len(part))) for part in parts]
    return math.fsum(means) / len(parts), math.hypot(*errors) / len(parts)


def measure(folder: ModelFolder, path: Path) -> None:
    """Write one row per layer and number of blocks."""
    text = judged_bytes(MODEL / "calibration", CONTEXT, WINDOWS)
    base = window_losses(folder, text, {})
    rows = []
    for layer in folder.spec.moe_layers:
        for blocks in range(1, BLOCKS + 1):
            found = rise(window_losses(folder, text, {layer: blocks}), base)
            rows.append((f"layer {layer}", blocks, *(f"{figure:.5f}" for figure in found), blocks))
    write_table(path, ("layer", "blocks", "loss_nats", "loss_nats_se", "kept_blocks"), rows)


def run(folder: ModelFolder, plan: Path) -> None:
    """Print what a plan as a whole loses on both texts."""
    with plan.open(newline="", encoding="utf-8") as file:
        levels = {int(r["layer"].split()[1]): int(r["blocks"]) for r in csv.DictReader(file)}
    for name in ("calibration", "heldout"):
        text = judged_bytes(MODEL / name, CONTEXT, WINDOWS)
        base = window_losses(folder, text, {})
        mean, error = rise(window_losses(folder, text, levels), base)
        print(f"{plan.stem}: {name} loss rises by {mean:.4f} nats (standard error {error:.4f})")


def main(verb: str, *paths: str) -> None:
    """Measure, or run plans."""
    torch.set_num_threads(1)
    folder = open_folder(MODEL)
    for path in map(Path, paths):
        (measure if verb == "measure" else run)(folder, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
