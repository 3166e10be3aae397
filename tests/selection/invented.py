"""Synthetic outcome folders: invented LLMs, categories, answers and embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

TOPICS = ("birds", "cooking", "law of the sea", "opera", "tides")

#: A deployment of any outcome folder on the two invented devices of the tiny instance.
CONFIG = """\
schema_version: 1
problem: selection
name: {name}
experts: {{outcomes: {folder}, max_params_b: 14}}
profiles: profiles
precisions: [{{name: int8}}]
servers:
  - {{name: slow, device: slow-box, uplink_mbps: 1000, downlink_mbps: 1000, memory_gib: 40}}
  - {{name: fast, device: fast-box, uplink_mbps: 1000, downlink_mbps: 1000, memory_gib: 40}}
context_gib: 0
energy: {{limit_j_per_prompt: {energy}}}
gate: {{backend: sklearn}}
"""


def write_folder(
    folder: Path, prompts: int = 600, llms: int = 60, seed: int = 0, *, suffix: str = ".parquet"
) -> Path:
    """Write an outcome folder in which LLMs have topics that they are good at.

    A few cells are missing; half of the LLMs are larger than 14 B; one has an unknown size.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    topic = rng.integers(len(TOPICS), size=prompts)
    vectors = rng.normal(size=(prompts, 8))
    level = rng.uniform(-1.0, 0.5, size=llms)
    chance = level + 1.5 * rng.normal(size=(len(TOPICS), llms))[topic] + 0.5 * vectors[:, :1]
    score = (rng.random((prompts, llms)) < 1 / (1 + np.exp(-chance))).astype(float)
    tokens = rng.integers(5, 60, size=(prompts, llms)).astype(float)
    gone = rng.random((prompts, llms)) < 0.02
    score[gone] = tokens[gone] = np.nan
    names = [f"invented-{k:02d}" for k in range(llms)]
    ids = [f"q{k:05d}" for k in range(prompts)]
    base = pd.DataFrame({"prompt_id": ids})
    tables = {
        "prompts": base.assign(
            question=[f"What about {TOPICS[t]}?" for t in topic],
            category=[TOPICS[t] for t in topic],
            prompt_tokens=rng.integers(10, 90, size=prompts),
        ),
        "correct": pd.concat([base, pd.DataFrame(score, columns=names).astype("Int8")], axis=1),
        "output_tokens": pd.concat(
            [base, pd.DataFrame(tokens, columns=names).astype("Int32")], axis=1
        ),
    }
    for name, table in tables.items():
        save(table, folder / f"{name}{suffix}")
    sizes = np.round(np.where(np.arange(llms) % 2, 20, 1) + rng.uniform(0, 6, llms), 1)
    sizes[-2] = np.nan
    pd.DataFrame({"model": names, "open_weights": 1, "params_total_b": sizes}).to_csv(
        folder / "models.csv", index=False
    )
    np.savez(folder / "embeddings_invented.npz", emb=vectors.astype(np.float16))
    return folder


def save(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the format of the file's name."""
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
