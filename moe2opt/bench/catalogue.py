"""The deployment catalogue LLM x precision x server of ``mmlu_pro_edge``, at three granularities.

All 24 open LLMs of the built-in tables, no deadline; the rows are the memory of every server and,
except in the third variant, the energy budget. Clusters are those of the built-in tables, or
single prompts: these are prompts outside the training split, and the accuracy of an LLM on one of
them is the score of a ridge regression on the prompt's embedding and category, fitted to the
training split (an estimate, not an outcome).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moe2opt.archive import read_npz
from moe2opt.bench.cases import Built, data_file
from moe2opt.library import find
from moe2opt.profiles import builtin_profiles, read_profiles
from moe2opt.result import FloatArray, IntArray
from moe2opt.schema import read_file
from moe2opt.selection import SelectionConfig
from moe2opt.selection.outcomes.tables import ClusterTables, read_tables
from moe2opt.selection.question import assemble

#: Joules per prompt of each energy level; None for no budget.
ENERGY_J_PER_PROMPT: dict[str, float | None] = {"tight": 500.0, "medium": 3000.0, "none": None}

#: Penalty of the ridge regression, in units of prompts.
_RIDGE = 30.0

_SEED = 0


def build_catalogue_case(arguments: dict[str, Any], data: Path | None) -> Built:
    """Follow the recipe ``catalogue``: arguments are ``servers``, ``energy`` and ``prompts``.

    With ``prompts`` None the clusters of the built-in tables are used.
    """
    path = find("mmlu_pro_edge")
    tables = read_tables(path.parent / "mmlu_pro")
    note = "accuracies of clusters, shrunken estimates from the training split"
    if arguments["prompts"] is not None:
        tables = single_prompts(tables, arguments["prompts"], data)
        note = "single prompts: ridge scores, not outcomes"
    config = _config(path, arguments["servers"], ENERGY_J_PER_PROMPT[arguments["energy"]])
    instance = assemble(config, tables, read_profiles(builtin_profiles()))
    return Built(instance.problem(), note=note)


def single_prompts(tables: ClusterTables, count: int, data: Path | None) -> ClusterTables:
    """Return tables whose clusters are `count` single prompts outside the training split."""
    folder = data_file(data, "routing", "mmlu_pro")
    prompts = pd.read_parquet(folder / "prompts.parquet")
    correct = pd.read_parquet(folder / "correct.parquet")[[llm.name for llm in tables.llms]]
    vectors = read_npz(folder / "embeddings_minilm_pca64.npz")["emb"].astype(np.float64)
    train = {prompt for prompt, _, split in tables.assignment if split == 0}
    known = prompts["question_id"].astype(str).isin(train).to_numpy()
    unseen = np.flatnonzero(~known)
    picked = np.sort(np.random.default_rng(_SEED).permutation(unseen)[:count])
    categories = prompts["category"].astype(str).to_numpy()
    features = np.column_stack([np.asarray(pd.get_dummies(categories), dtype=float), vectors])
    outcomes = correct.to_numpy(dtype=np.float64, na_value=np.nan)
    scores = ridge_scores(features, outcomes, known, picked)
    return _as_clusters(tables, prompts, picked, scores)


def ridge_scores(
    features: FloatArray, outcomes: FloatArray, train: Any, picked: IntArray
) -> FloatArray:
    """Return the ``(picked, LLMs)`` scores of one ridge regression per LLM, cut to [0, 1]."""
    columns = []
    for outcome in outcomes.T:
        rows = train & ~np.isnan(outcome)
        known = features[rows]
        gram = known.T @ known + _RIDGE * np.eye(features.shape[1])
        columns.append(features[picked] @ np.linalg.solve(gram, known.T @ outcome[rows]))
    return np.clip(np.stack(columns, axis=1), 0.0, 1.0)


def _as_clusters(
    tables: ClusterTables, prompts: pd.DataFrame, picked: IntArray, scores: FloatArray
) -> ClusterTables:
    """Return the tables with one cluster per picked prompt; answer lengths are category means."""
    category = prompts["category"].astype(str).to_numpy()[picked]
    mean_tokens = {
        name: np.average(
            tables.output_tokens[members], axis=0, weights=tables.prompts[0][members] + 1e-9
        )
        for name in set(tables.categories)
        for members in [np.flatnonzero(np.asarray(tables.categories) == name)]
    }
    count, llms = scores.shape
    return replace(
        tables,
        clusters=tuple(prompts["question_id"].astype(str).to_numpy()[picked].tolist()),
        categories=tuple(category.tolist()),
        prompts=np.ones((3, count), dtype=np.int64),
        run=np.zeros((3, count, llms), dtype=np.int64),
        correct=np.zeros((3, count, llms), dtype=np.int64),
        accuracy=scores,
        prompt_tokens=prompts["prompt_tokens"].to_numpy(dtype=np.float64)[picked],
        output_tokens=np.stack([mean_tokens[name] for name in category]),
        assignment=(),
    )


def _config(path: Path, servers: int, limit_j: float | None) -> SelectionConfig:
    """Return the built-in configuration with half of the servers of each device type."""
    data = {k: v for k, v in read_file(path).data.items() if k not in ("solver", "scenarios")}
    kinds = {server["device"]: server for server in data["servers"]}
    data["servers"] = [
        {**server, "name": name.split()[0].lower(), "count": servers // len(kinds)}
        for name, server in kinds.items()
    ]
    data["llms"] = {}
    data["delay"] = {**data["delay"], "limit_s": None}
    data["energy"] = None if limit_j is None else {"limit_j_per_prompt": limit_j, "counts": "all"}
    return SelectionConfig.model_validate(data)
