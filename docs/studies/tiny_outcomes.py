"""Write the synthetic outcome folder of ``problems/selection/tiny_gate.yaml``.

Usage, from the checkout::

    python docs/studies/tiny_outcomes.py

Four invented LLMs answer 400 invented prompts about three topics. Two of them are specialists, one
is good at everything and slow to say so, one is small and quick. A tenth of the cells is missing.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).resolve().parents[2] / "problems" / "selection" / "tiny_outcomes"

TOPICS = ("code", "prose", "sums")

#: Chance of a right answer by topic: (code, prose, sums).
CHANCES = {
    "coder-2b": (0.85, 0.30, 0.45),
    "writer-2b": (0.25, 0.80, 0.35),
    "allround-4b": (0.65, 0.65, 0.70),
    "quick-1b": (0.35, 0.40, 0.30),
}

SIZES_B = {"coder-2b": 2.0, "writer-2b": 2.0, "allround-4b": 4.0, "quick-1b": 1.0}
MEAN_TOKENS = {"coder-2b": 20, "writer-2b": 25, "allround-4b": 40, "quick-1b": 15}

PROMPTS = 400
MISSING = 0.1


def main() -> None:
    """Write the folder."""
    rng = np.random.default_rng(0)
    topic = rng.integers(len(TOPICS), size=PROMPTS)
    # The first coordinate says how hard the prompt is for everybody, the others are noise.
    vectors = rng.normal(size=(PROMPTS, 4)).round(3)
    chance = np.array(list(CHANCES.values())).T[topic] - 0.15 * vectors[:, :1]
    correct = (rng.random(chance.shape) < chance).astype(float)
    tokens = rng.poisson(list(MEAN_TOKENS.values()), size=chance.shape).astype(float)
    gone = rng.random(chance.shape) < MISSING
    correct[gone] = tokens[gone] = np.nan
    ids = pd.DataFrame({"prompt": [f"p{k:03d}" for k in range(PROMPTS)]})
    prompts = ids.assign(
        category=[TOPICS[t] for t in topic], prompt_tokens=rng.integers(30, 70, PROMPTS)
    )
    FOLDER.mkdir(exist_ok=True)
    prompts.to_csv(FOLDER / "prompts.csv", index=False)
    for name, values in (("correct", correct), ("output_tokens", tokens)):
        table = pd.DataFrame(values, columns=list(CHANCES)).astype("Int64")
        pd.concat([ids, table], axis=1).to_csv(FOLDER / f"{name}.csv", index=False)
    sizes = pd.DataFrame({"model": list(SIZES_B), "params_total_b": list(SIZES_B.values())})
    sizes.to_csv(FOLDER / "models.csv", index=False)
    np.savez(FOLDER / "embeddings.npz", emb=vectors.astype(np.float32))
    stated = {
        "title": "four invented LLMs on 400 invented prompts",
        "synthetic": True,
        "made_by": "docs/studies/tiny_outcomes.py",
    }
    (FOLDER / "provenance.json").write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
