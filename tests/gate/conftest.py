"""Synthetic outcome folders: invented LLMs, categories, answers and embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moe2opt.selection.gate import Gate, GateSettings, train_gate
from moe2opt.selection.outcomes.folder import read_outcome_folder
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.partition import Split, split_four

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


@pytest.fixture(scope="session")
def invented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a synthetic outcome folder of 60 LLMs; tests must not change it."""
    pytest.importorskip("pyarrow")
    return write_folder(tmp_path_factory.mktemp("outcomes") / "invented")


@pytest.fixture(scope="session")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> OutcomeMatrix:
    """Return synthetic outcomes of 16 LLMs in memory."""
    folder = tmp_path_factory.mktemp("outcomes") / "small"
    return read_outcome_folder(write_folder(folder, llms=16, suffix=".csv"))


@pytest.fixture(scope="session")
def split(matrix: OutcomeMatrix) -> Split:
    """Return the default split of the synthetic outcomes."""
    return split_four(matrix.category, (0.5, 0.1, 0.2, 0.2), 0)


@pytest.fixture(scope="session")
def gate(matrix: OutcomeMatrix, split: Split) -> Gate:
    """Return a gate trained on the synthetic outcomes without torch."""
    return train_gate(matrix, split, GateSettings(backend="sklearn"))


@pytest.fixture
def project(tmp_path: Path, invented: Path, checkout: Path) -> Callable[..., Path]:
    """Return a function that writes a configuration beside a copy of the synthetic folder."""
    import shutil

    def write(name: str = "invented", energy: float = 300, extra: str = "") -> Path:
        shutil.copytree(invented, tmp_path / "outcomes", dirs_exist_ok=True)
        profiles = checkout / "problems" / "selection" / "tiny_profiles"
        shutil.copytree(profiles, tmp_path / "profiles", dirs_exist_ok=True)
        path = tmp_path / f"{name}.yaml"
        path.write_text(CONFIG.format(name=name, folder="outcomes", energy=energy) + extra)
        return path

    return write
