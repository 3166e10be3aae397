"""Outcome folders made from the third-party data beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

#: Deployment of a real outcome folder without any budget that binds.
FREE = """\
schema_version: 1
problem: selection
name: real
experts: {{outcomes: outcomes, max_params_b: 14{more}}}
precisions: [{{name: fp16}}]
servers:
  - {{name: box, device: Jetson AGX Orin 64GB, count: 16, uplink_mbps: 100, downlink_mbps: 100}}
gate: {{backend: {backend}}}
splits: {{seed: {seed}}}
"""

#: Parameters of the specialists in 1e9, as their names or base models say.
SPECIALISTS = {"Mistral": 7.2, "zephyr": 7.2, "mistral": 7.2, "lama-3": 8.0, "llama3": 8.0}


def mmlu_pro(data: Path, folder: Path) -> Path:
    """Link the MMLU-Pro outcomes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (data / "routing" / "mmlu_pro").iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def routerdc(data: Path, folder: Path) -> Path:
    """Write the outcomes of the seven specialists as an outcome folder without any lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.read_parquet(data / "routing" / "routerdc" / "split2_model7.parquet")
    row = pd.DataFrame({"row": range(len(table))})
    models = list(table.columns[3:])
    prompts = row.assign(question=table["question"], category=table["file"])
    prompts.to_parquet(folder / "prompts.parquet")
    pd.concat([row, table[models]], axis=1).to_parquet(folder / "correct.parquet")
    sizes = [next(b for part, b in SPECIALISTS.items() if part in name) for name in models]
    sheet = pd.DataFrame({"model": models, "params_total_b": sizes})
    sheet.to_csv(folder / "models.csv", index=False)
    return folder
