"""Solve the placement problems and write down what was certified and compared.

    python docs/studies/placement_reference.py DATA

writes ``problems/reference/placement.json``: every built-in problem, AdapMoE's slots, the front of
memory, latency and loss of Switch-Base-128, the published strategies of ktransformers and the hit
rates of the gpt-oss trace. DATA is a folder as described in docs/guides/placement.md; results enter
only after the checker has accepted them.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import moe2opt as mo
from moe2opt.placement.experts.activation import trace_shares
from moe2opt.placement.experts.hits import lru_hit_rates, static_hit_rates
from moe2opt.solve import versions

TARGET = Path(__file__).resolve().parents[2] / "problems" / "reference" / "placement.json"

BUILTIN = (
    *("adapmoe_mixtral_cache", "glm52_server", "gpt_oss_20b_orin", "mixtral_8x7b_4090"),
    *("qwen3_30b_a3b_4090", "switch_base_128_phone", "three_tier_edge", "tinymoe"),
)

SLOTS = (16, 32, 48, 64, 96, 128, 192)

#: GB of memory and nats of loss of the front; 15.6 GB and 4.7 GB are the ends in CoMoE's abstract.
MEMORY_GB = (2.0, 3.0, 4.7, 6.0, 8.0, 11.0, 15.6)
LOSS_NATS = (0.02, 0.05, 0.1)

#: Assumed shape and use of the experts of Qwen3-Next-80B-A3B.
LAYERS, EXPERTS, TOP_K, SIGMA = 48, 512, 10, 0.5

STRATEGIES = ("uniform", "front-loading", "frequency")


def certified(
    name: str, scenario: str | None = None, **settings: Any
) -> tuple[dict[str, Any], Any]:
    """Return a certified result and its plan.

    A result that the checker rejects raises, or (not `strict`) is reported as REJECTED without
    figures.
    """
    overrides = settings.pop("overrides", None)
    strict = settings.pop("strict", True)
    instance = mo.load(f"placement/{name}", scenario, overrides)
    result = mo.solve(instance, **settings)
    verdict = mo.certify(instance, result)
    if strict:
        verdict.raise_if_failed()
    elif not verdict.ok:
        return dict.fromkeys(("objective", "bound", "gap")) | {"status": "REJECTED"}, None
    found = {
        "status": str(result.status),
        "objective": None if result.plan is None else -result.objective,
        "bound": None if result.plan is None else -result.bound,
        "gap": None if result.plan is None else result.gap,
        "certificate": verdict.kind,
        "problem_sha256": instance.problem().fingerprint,
    }
    return found, result.plan


def builtin(name: str) -> dict[str, Any]:
    """Return the certified result of a built-in problem and the gaps to the rules that fit."""
    found, plan = certified(name)
    rules = {b.name: round(b.excess, 6) for b in plan.baselines if b.feasible}
    figures = {key: getattr(plan, key) for key in ("seconds_per_token", "loss_nats", "memory_gib")}
    return {**found, **figures, "excess_of_rules": rules}


def front() -> list[dict[str, Any]]:
    """Return seconds per token of Switch-Base-128 by memory and loss: joint and one-sided."""
    rows = []
    for memory, loss in itertools.product(MEMORY_GB, LOSS_NATS):
        capacity = {"tiers.0.capacity_gib": memory * 1e9 / 2**30}
        limit = {"budgets.loss_nats": loss}
        ways: dict[str, tuple[str | None, dict[str, Any]]] = {
            "joint": (None, capacity | limit),
            "offload_only": ("offload_only", capacity | limit),
            "aggregation_only": (
                "aggregation_only",
                {**capacity, **limit, "objective": "seconds_per_token"},
            ),
        }
        row: dict[str, Any] = {"memory_gb": memory, "loss_nats": loss}
        for name, (scenario, overrides) in ways.items():
            settings = {
                "overrides": overrides,
                "rel_gap": 2e-3,
                "time_limit_s": 10,
                "strict": False,
            }
            found, _ = certified("switch_base_128_phone", scenario, **settings)
            if found["status"] == "REJECTED":
                settings["rel_gap"] = 0.0
                found, _ = certified("switch_base_128_phone", scenario, **settings)
            row[name] = {key: found[key] for key in ("status", "objective", "bound", "gap")}
        rows.append(row)
        print(row, flush=True)
    return rows


def masks(share: float, use: Any) -> dict[str, Any]:
    """Return the ``(L, E)`` residents of each strategy at a share of the experts on the GPU."""
    number = round(share * LAYERS * EXPERTS)
    order = np.argsort(-use.ravel(), kind="stable")
    frequent = np.zeros(LAYERS * EXPERTS, dtype=bool)
    frequent[order[:number]] = True
    return {
        "uniform": np.tile(np.arange(EXPERTS) < round(share * EXPERTS), (LAYERS, 1)),
        "front-loading": (np.arange(LAYERS * EXPERTS) < number).reshape(LAYERS, EXPERTS),
        "frequency": frequent.reshape(LAYERS, EXPERTS),
    }


def strategies(data: Path) -> dict[str, Any]:
    """Compare the latency model with ktransformers' published sweep (Qwen3-Next-80B-A3B, FP8).

    Seconds per token = a + b (uses served by the CPU) + c (layers of a token with such a use). a, b
    and c are fitted to the sweep itself; the use of the experts is log-normal, an assumption.
    """
    import pandas as pd
    from scipy.optimize import nnls

    runs = pd.read_csv(data / "profiles" / "moe_offload_runs.csv")
    runs = runs[runs.model == "Qwen3-Next-80B-A3B-Instruct"]
    runs = runs.assign(strategy=runs.placement.str.extract(r"strategy (.*)$")[0])
    table = runs.pivot_table(index="expert_frac_gpu", columns="strategy", values="decode_tok_s")
    use = np.exp(SIGMA * np.random.default_rng(0).standard_normal((LAYERS, EXPERTS)))
    use = np.minimum(TOP_K * use / use.sum(axis=1, keepdims=True), 1.0)
    keys = list(itertools.product(table.index, STRATEGIES))
    features = []
    for share, name in keys:
        away = np.where(masks(share, use)[name], 0.0, use)
        touched = 1.0 - np.exp(np.log1p(-away).sum(axis=1))
        features.append([1.0, away.sum(), touched.sum()])
    seconds = np.array([1.0 / table.loc[key] for key in keys])
    matrix = np.array(features) / seconds[:, None]
    fit, _ = nnls(matrix, np.ones(len(keys)))
    known = np.array([name != "frequency" for _, name in keys])
    blind, _ = nnls(matrix[known], np.ones(known.sum()))
    ratio, unseen = matrix @ fit, (matrix @ blind)[~known]
    return {
        "coefficients_s": fit.tolist(),
        "assumed": {"layers": LAYERS, "experts": EXPERTS, "top_k": TOP_K, "use_sigma": SIGMA},
        "mape": float(np.abs(1 - 1 / ratio).mean()),
        "mape_frequency_predicted_from_the_other_two": float(np.abs(1 - 1 / unseen).mean()),
        **_orders(keys, seconds, ratio * seconds),
    }


def _orders(keys: list[Any], measured: Any, predicted: Any) -> dict[str, Any]:
    """Return the order of the strategies at each share, slowest first, and wrong pairs."""
    by_share: dict[float, Any] = {}
    wrong = pairs = 0
    for share in sorted({share for share, _ in keys}):
        if share in (0.0, 1.0):
            continue
        rows = [k for k, key in enumerate(keys) if key[0] == share]
        for i, j in itertools.combinations(rows, 2):
            pairs += 1
            wrong += (measured[i] - measured[j]) * (predicted[i] - predicted[j]) <= 0
        by_share[share] = {
            f"{name}_order": [keys[k][1] for k in sorted(rows, key=lambda k: -values[k])]
            for name, values in (("measured", measured), ("predicted", predicted))
        }
    return {"pairs": pairs, "pairs_in_wrong_order": int(wrong), "by_share": by_share}


def hit_rates(data: Path) -> dict[str, Any]:
    """Compare hit rates learnt on even sequences of the gpt-oss trace with the odd ones."""
    import pandas as pd

    folder = data / "moe_traces" / "gpt_oss_20b"
    sequences = pd.read_parquet(folder / "sequences.parquet")
    experts = np.load(folder / "trace_experts.npz", allow_pickle=False)["experts"]
    calm = sequences[~sequences.repetition]
    halves = []
    for rows in (calm.iloc[::2], calm.iloc[1::2]):
        parts = [experts[r.offset : r.offset + r.tokens] for r in rows.itertuples()]
        starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
        halves.append((np.concatenate(parts).astype(np.int64), starts))
    shares = [trace_shares(trace, 32) for trace, _ in halves]
    lru = [lru_hit_rates(trace, starts, 32).mean(axis=0) for trace, starts in halves]
    static = [static_hit_rates(shares[0], share).mean(axis=0) for share in shares]
    slots = (4, 8, 12, 16, 20, 24, 28)
    return {
        "tokens": [len(trace) for trace, _ in halves],
        "slots": slots,
        "lru_predicted": [round(float(lru[0][s]), 4) for s in slots],
        "lru_replayed": [round(float(lru[1][s]), 4) for s in slots],
        "static_predicted": [round(float(static[0][s]), 4) for s in slots],
        "static_replayed": [round(float(static[1][s]), 4) for s in slots],
        "largest_difference": float(
            max(np.abs(lru[0] - lru[1]).max(), np.abs(static[0] - static[1]).max())
        ),
    }


def main(data: Path) -> None:
    """Write the file."""
    content = {
        "versions": versions(),
        "builtin": {name: builtin(name) for name in BUILTIN},
        "adapmoe_loads_per_token": {
            slots: certified("adapmoe_mixtral_cache", f"slots{slots}")[0] for slots in SLOTS
        },
        "switch_base_128_front": front(),
        "ktransformers_strategies": strategies(data),
        "gpt_oss_hit_rates": hit_rates(data),
    }
    TARGET.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
