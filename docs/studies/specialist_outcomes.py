"""Turn RouterDC's table of specialists into an outcome folder (docs/reference/outcome-format.md).

Usage, from the checkout::

    python docs/studies/specialist_outcomes.py split2_model7.parquet FOLDER

The table is not part of this project: github.com/shuhao02/RouterDC (commit 0e63989c) has no
licence file. Its columns are ``file``, ``idx``, ``question`` and the scores of seven LLMs of 7 to
8 B; data sets become categories. It has no lengths of prompts and answers: name some in the
configuration.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

#: Parameters in 1e9, by a part of the name: what the names or the base models' cards say.
SIZES_B = {"mistral": 7.2, "zephyr": 7.2, "llama-3": 8.0, "llama3": 8.0}

_KEYS = ("file", "idx", "question")


def write(table: Path, folder: Path) -> Path:
    """Write the folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    read = pd.read_parquet(table)
    names = [name for name in read.columns if name not in _KEYS]
    row = pd.DataFrame({"row": range(len(read))})
    prompts = row.assign(question=read["question"], category=read["file"])
    prompts.to_parquet(folder / "prompts.parquet")
    pd.concat([row, read[names]], axis=1).to_parquet(folder / "correct.parquet")
    sizes = [next(b for part, b in SIZES_B.items() if part in name.lower()) for name in names]
    sheet = pd.DataFrame({"model": names, "params_total_b": sizes})
    sheet.to_csv(folder / "models.csv", index=False)
    about = {
        "title": "scores of seven specialists on 15 data sets (RouterDC)",
        "source": "github.com/shuhao02/RouterDC, commit 0e63989c, split2_model7",
        "licence": "none stated: for local use only",
    }
    (folder / "provenance.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), Path(sys.argv[2])))
