"""Draw the tables of an invented lab: 400 prompts, 8 LLMs, two kinds of machines.

``python docs/studies/lab_tables.py DIR`` writes what a researcher has: who answered which prompt,
how long the answers were, one vector for each prompt, and the rates and joules that were measured
on the machines. Everything is drawn with one seed: the same files every time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

#: Parameters in 1e9, and how often each LLM is right in maths, code and general questions.
LLMS = {
    "Qwen2.5-1.5B": (1.54, (0.45, 0.35, 0.25)),
    "Qwen2.5-3B": (3.09, (0.58, 0.50, 0.36)),
    "Qwen2.5-7B": (7.62, (0.72, 0.70, 0.46)),
    "Qwen2.5-14B": (14.8, (0.80, 0.76, 0.62)),
    "Llama-3.2-3B": (3.21, (0.32, 0.42, 0.54)),
    "Llama-3.1-8B": (8.03, (0.48, 0.62, 0.74)),
    "Mistral-7B": (7.25, (0.30, 0.48, 0.72)),
    "Mistral-Nemo-12B": (12.2, (0.48, 0.58, 0.80)),
}
CATEGORIES = ("code", "general", "maths")
LENGTHS = {"maths": 260, "code": 320, "general": 120}

CONFIG = """\
schema_version: 1
problem: selection
name: lab
experts: {outcomes: outcomes}
measured: my_latency_energy.csv
precisions: [{name: q4}]
servers:
  - {name: orin, device: Jetson AGX Orin 64GB, count: 2, reserve_gib: 8, uplink_mbps: 19,
     downlink_mbps: 90, round_trip_ms: 10}
  - {name: rtx, device: RTX 4090, count: 2, reserve_gib: 2, uplink_mbps: 19,
     downlink_mbps: 90, round_trip_ms: 10}
energy: {limit_j_per_prompt: 600}
delay: {limit_s: 10}
gate: {backend: sklearn}
"""


def outcomes(rng: np.random.Generator, prompts: int = 400) -> dict[str, pd.DataFrame]:
    """Return prompts, scores, lengths of answers, and embeddings."""
    category = rng.choice(len(CATEGORIES), prompts, p=[0.25, 0.4, 0.35])
    names = np.array(CATEGORIES)[category]
    vectors = rng.normal(size=(prompts, 16))
    vectors[np.arange(prompts), category] += 3
    hard = rng.normal(size=prompts)
    ids = pd.DataFrame({"prompt_id": [f"q{k:04d}" for k in range(prompts)]})
    correct, tokens = ids.copy(), ids.copy()
    for llm, (_, (maths, code, general)) in LLMS.items():
        chance = np.array([code, general, maths])[category]
        taste = vectors[:, 3:] @ rng.normal(size=13) * 0.35
        odds = np.log(chance / (1 - chance)) + taste - hard
        correct[llm] = (rng.random(prompts) < 1 / (1 + np.exp(-odds))).astype(int)
        wordy = 1.3 if llm.startswith("Qwen") else 1.0
        mean = np.array([LENGTHS[name] for name in names]) * wordy
        tokens[llm] = np.maximum(5, mean * rng.lognormal(0, 0.4, prompts)).astype(int)
    about = ids.assign(category=names, prompt_tokens=rng.integers(40, 400, prompts))
    return {
        "prompts": about,
        "correct": correct,
        "output_tokens": tokens,
        "embeddings": pd.DataFrame(vectors),
    }


def measured(rng: np.random.Generator) -> pd.DataFrame:
    """Return what was measured: rates and joules of every LLM on both machines."""
    rows = []
    for llm, (size, _) in LLMS.items():
        for device, decode, prefill, watts in (
            ("Jetson AGX Orin 64GB", 100 / size**0.9, 2200 / size, 32),
            ("RTX 4090", 560 / size**0.8, 40000 / size, 310),
        ):
            near = rng.uniform(0.9, 1.1, 3)
            rates = (round(decode * near[0], 2), round(prefill * near[1], 1))
            joules = (round(watts * near[2] / rates[0], 3), round(watts * near[2] / rates[1], 4))
            rows.append((llm, device, "q4", *rates, *joules))
    columns = ["llm", "device", "precision", "decode_tokens_per_s", "prefill_tokens_per_s"]
    return pd.DataFrame(rows, columns=[*columns, "j_per_output_token", "j_per_prompt_token"])


def main(folder: Path) -> None:
    """Write everything into a folder."""
    rng = np.random.default_rng(7)
    (folder / "outcomes").mkdir(parents=True, exist_ok=True)
    tables = outcomes(rng)
    np.savez(folder / "outcomes/embeddings.npz", emb=tables.pop("embeddings").to_numpy())
    for name, table in tables.items():
        table.to_csv(folder / "outcomes" / f"{name}.csv", index=False)
    sizes = pd.DataFrame([(llm, size) for llm, (size, _) in LLMS.items()])
    sizes.columns = ["model", "params_total_b"]
    sizes.to_csv(folder / "outcomes/models.csv", index=False)
    (folder / "outcomes/provenance.json").write_text('{"title": "a lab", "synthetic": true}\n')
    measured(rng).to_csv(folder / "my_latency_energy.csv", index=False)
    (folder / "lab.yaml").write_text(CONFIG, encoding="utf-8")
    print(f"Written to {folder}: lab.yaml, my_latency_energy.csv, outcomes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
