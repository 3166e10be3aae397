"""Derive the activation tables of the built-in placement problems from published statistics.

    python docs/studies/placement_tables.py DATA

DATA is a folder with `moe_traces/` as described in docs/guides/placement.md. What a table takes
from measurements and what is drawn is said in its column `origin` or in the problem's `synthetic`
list.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from moe2opt.placement.experts.hits import lru_hit_rates
from moe2opt.schema.csv import write_table

PROBLEMS = Path(__file__).resolve().parents[2] / "problems" / "placement"

#: Data sets of the gpt-oss trace -> input domain.
FAMILIES = {"gpqa": "gpqa", "mmlu_pro": "mmlu_pro", "mmlu": "mmlu", "sorry_bench": "safety"}


def family(dataset: str) -> str:
    """Return the input domain of a data set."""
    return next((name for start, name in FAMILIES.items() if dataset.startswith(start)), "other")


def gpt_oss(data: Path) -> None:
    """Write counts by domain and LRU hit rates of the even half of the sequences."""
    folder = data / "moe_traces" / "gpt_oss_20b"
    sequences = pd.read_parquet(folder / "sequences.parquet")
    experts = np.load(folder / "trace_experts.npz", allow_pickle=False)["experts"]
    learnt = sequences[~sequences.repetition].iloc[::2]
    rows, parts = [], []
    for name, group in learnt.groupby(learnt.dataset.astype(str).map(family)):
        tokens = np.concatenate(
            [experts[r.offset : r.offset + r.tokens] for r in group.itertuples()]
        )
        for layer in range(tokens.shape[1]):
            counts = np.bincount(tokens[:, layer].ravel(), minlength=32)
            rows += [[layer, e, name, int(counts[e])] for e in range(32)]
    for r in learnt.itertuples():
        parts.append(experts[r.offset : r.offset + r.tokens])
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    rates = lru_hit_rates(np.concatenate(parts).astype(np.int64), starts, 32)
    target = PROBLEMS / "gpt_oss_20b"
    target.mkdir(exist_ok=True)
    write_table(target / "counts.csv", ["layer", "expert", "domain", "count"], rows)
    pairs = [(layer, slots) for layer in range(24) for slots in range(1, 33)]
    hits = [[*pair, round(float(rates[pair]), 5)] for pair in pairs]
    write_table(target / "lru.csv", ["layer", "slots", "hit_rate"], hits)


def glm52(data: Path) -> None:
    """Write per layer how uneven use and saliency are; the experts themselves are drawn later."""
    table = pd.read_parquet(data / "moe_traces" / "glm52" / "glm52_expert_stats.parquet")
    table = table[table.domain == "all"]
    use = table.pivot(index="layer", columns="expert", values="cnt")
    saliency = table.pivot(index="layer", columns="expert", values="sal")
    total = float(saliency.to_numpy().sum())
    rows = []
    for layer in use.index:
        u = np.log(use.loc[layer].to_numpy(np.float64))
        s = np.log(saliency.loc[layer].to_numpy(np.float64) + 1e-9)
        slope, level = np.polyfit(u, s, 1)
        rest = float(np.std(s - slope * u - level))
        share = float(saliency.loc[layer].sum()) / total
        rows.append([layer, *(round(float(v), 6) for v in (u.std(), slope, rest, share))])
    target = PROBLEMS / "glm52"
    target.mkdir(exist_ok=True)
    names = ["layer", "use_sigma", "saliency_slope", "saliency_sigma", "saliency_share"]
    write_table(target / "law.csv", names, rows)


def olmoe(data: Path) -> None:
    """Write OLMoE counts by domain: layers 0, 7, 15 measured, the others permuted from them."""
    counts = pd.read_csv(data / "moe_traces" / "olmoe" / "expert_counts.csv")
    counts = counts[(counts.model == "olmoe") & (counts["mode"] == "topk")]
    table = counts.pivot_table(index=["layer", "domain"], columns="expert", values="count")
    table = table.fillna(0)
    rng = np.random.default_rng(0)
    rows = []
    for layer in range(16):
        source = min((0, 7, 15), key=lambda k: abs(k - layer))
        order = np.arange(64) if layer == source else rng.permutation(64)
        origin = "measured" if layer == source else "synthetic"
        for domain, values in table.loc[source].iterrows():
            rows += [[layer, e, domain, int(values.iloc[order[e]]), origin] for e in range(64)]
    target = PROBLEMS / "olmoe_1b_7b"
    target.mkdir(exist_ok=True)
    write_table(target / "counts.csv", ["layer", "expert", "domain", "count", "origin"], rows)


def mixtral(data: Path) -> None:
    """Write Mixtral counts: layers 0, 7, 15 measured, the others drawn from their mean rank law."""
    counts = pd.read_csv(data / "moe_traces" / "olmoe" / "expert_counts.csv")
    counts = counts[(counts.model == "mistral") & (counts["mode"] == "topk")]
    table = counts.pivot_table(index="layer", columns="expert", values="count", aggfunc="sum")
    shares = 2 * table.to_numpy() / table.to_numpy().sum(axis=1, keepdims=True)
    law = np.sort(shares, axis=1)[:, ::-1].mean(axis=0)
    rng = np.random.default_rng(0)
    rows = []
    for layer in range(32):
        drawn = np.round(rng.permutation(law) * 1e5)
        values, origin = drawn, "synthetic"
        if layer in table.index:
            values, origin = table.loc[layer].to_numpy(), "measured"
        rows += [[layer, e, int(values[e]), origin] for e in range(8)]
    target = PROBLEMS / "mixtral_8x7b"
    target.mkdir(exist_ok=True)
    write_table(target / "counts.csv", ["layer", "expert", "count", "origin"], rows)


if __name__ == "__main__":
    for derive in (gpt_oss, glm52, olmoe, mixtral):
        derive(Path(sys.argv[1]))
