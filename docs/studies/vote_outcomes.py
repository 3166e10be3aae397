"""Write the outcome folder of ``mmlu_pro_vote``: letters that eight LLMs gave on MMLU-Pro.

    python docs/studies/vote_outcomes.py REPOSITORY ROUTING FOLDER

REPOSITORY is a clone of github.com/TIGER-AI-Lab/MMLU-Pro, ROUTING a folder with its re-scored
outcomes (prompts, correct, output_tokens as Parquet). A letter that the outcomes contradict is
replaced: by the right one where they say right, by none where they say wrong.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd

COMMIT = "f418b116db00b065c2aea046518d8fcf74d39872"
SIZES_B = {
    "Phi-3-mini-4k-instruct": 3.8,
    "Yi-6b-Chat": 6.1,
    "Mistral-7B-Instruct-v0.2": 7.2,
    "Mistral-7B-v0.1": 7.2,
    "mathstral-7B": 7.2,
    "Qwen1.5-7B-Chat": 7.7,
    "Meta-Llama-3_1-8B-Instruct": 8.0,
    "gemma-7b": 8.5,
}
PROMPTS, SEED = 2000, 0


def letters(repository: str, name: str) -> pd.Series[str]:
    """Return the letter that an LLM gave to each question."""
    path = f"{COMMIT}:eval_results/model_outputs_{name}_5shots.zip"
    packed = subprocess.run(
        ["git", "-C", repository, "show", path], capture_output=True, check=True
    )
    archive = zipfile.ZipFile(io.BytesIO(packed.stdout))
    rows = json.loads(archive.read(archive.namelist()[0]))
    frame = pd.DataFrame(rows)[["question_id", "pred"]].drop_duplicates("question_id")
    return frame.set_index("question_id").pred


def main(repository: str, routing: str, out: str) -> None:
    """Write the folder."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    names = list(SIZES_B)
    parts = ("prompts", "correct", "output_tokens")
    prompts, correct, tokens = (
        pd.read_parquet(Path(routing) / f"{part}.parquet").set_index("question_id")
        for part in parts
    )
    drawn = prompts.sample(PROMPTS, random_state=SEED).sort_index().index
    right = prompts.answer.loc[drawn]
    answers = {}
    for name in names:
        given, score = letters(repository, name).reindex(drawn), correct[name].loc[drawn]
        given = given.where(score != 1, right)
        answers[name] = given.where((score == 1) | (given != right))
    tables = {
        "prompts": prompts.loc[drawn, ["category", "prompt_tokens"]],
        "correct": correct.loc[drawn, names].astype(int),
        "output_tokens": tokens.loc[drawn, names].astype(int),
        "answers": pd.DataFrame(answers),
    }
    for stem, table in tables.items():
        table.to_csv(folder / f"{stem}.csv")
    models = pd.DataFrame({"model": names, "params_total_b": SIZES_B.values()})
    models.to_csv(folder / "models.csv", index=False)
    told = {
        "title": "Letters of eight LLMs on 2,000 questions of MMLU-Pro",
        "source": "github:TIGER-AI-Lab/MMLU-Pro:eval_results/model_outputs_*_5shots.zip",
        "commit": COMMIT,
        "licence": "Apache-2.0",
        "drawn": f"{PROMPTS} of {len(prompts)} questions, pandas sample, seed {SEED}",
        "synthetic": False,
    }
    (folder / "provenance.json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
