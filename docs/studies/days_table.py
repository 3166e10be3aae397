"""Print what a gate is worth from day to day: docs/guides/replay.md, days of a selection.

Usage: ``python docs/studies/days_table.py [FOLDER] [--seeds N]``, with a folder that holds the
prompts of MMLU-Pro (``prompts.parquet``) and their embeddings (``embeddings_minilm_pca64.npz``);
without it the gate knows the category of a prompt and nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import moe2opt as mo
from moe2opt.library import roots
from moe2opt.replay.days import DaysSettings, compare_days, read_days


def vectors_of(folder: Path, out: Path) -> Path:
    """Write the embeddings of the built-in questions, in their order."""
    (votes,) = (r / "selection" / "mmlu_pro_votes" / "prompts.csv" for r in roots())
    wanted = pd.read_csv(votes).question_id
    every = pd.read_parquet(folder / "prompts.parquet").question_id
    place = pd.Series(np.arange(len(every)), index=every.to_numpy())
    with np.load(folder / "embeddings_minilm_pca64.npz") as stored:
        rows = stored["emb"][place.loc[wanted].to_numpy()].astype(np.float32)
    np.savez(out / "vectors.npz", emb=rows)
    return out / "vectors.npz"


def main() -> None:
    """Print the paired difference of routing by a gate to routing by category."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    asked = ["routing.days=gate"]
    with tempfile.TemporaryDirectory() as place:
        if given.folder is not None:
            asked.append(f"experts.features={vectors_of(given.folder, Path(place))}")
        instance = mo.load("mmlu_pro_days", None, asked, allow_outside=True)
        (stream,) = (r / "days" / "mmlu_pro_days.csv" for r in roots())
        days = read_days(stream, [llm.name for llm in instance.tables.llms])
        for feedback in ("answers", "all"):
            found = []
            for seed in range(given.seeds):
                settings = DaysSettings(seed=seed, feedback=feedback)
                done = compare_days(
                    instance, days, ["exact", "gated"], against=None, settings=settings,
                    allow_outside=True,
                )  # fmt: skip
                found.append([row["accuracy"] for row in done.summaries().values()])
            exact, gated = 100 * np.array(found).T
            gain = gated - exact
            margin = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
            print(
                f"feedback {feedback}: exact {exact.mean():.1f} %, gated {gated.mean():.1f} %, "
                f"{gain.mean():+.2f} ± {margin:.2f}"
            )


if __name__ == "__main__":
    main()
