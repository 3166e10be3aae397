"""Cluster tables: how well and how verbosely each LLM answers each cluster of prompts.

A table folder holds ``llms.csv``, ``clusters.csv``, ``outcomes.csv``, ``split.csv`` and the
sidecar ``provenance.json``; no prompt and no single outcome is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.files import read_json
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.schema.csv import (
    COUNT,
    NAME,
    POSITIVE,
    SHARE,
    TEXT,
    Column,
    Row,
    read_table,
    write_table,
)
from moe2opt.writing import write_text

#: The parts of the prompts: what accuracies are learnt on, chosen on, and reported on.
SPLITS = ("train", "select", "test")

_LLM_COLUMNS = {
    "llm": NAME,
    "params_total_b": POSITIVE,
    "params_active_b": POSITIVE,
    "open_weights": Column("integer", least=0, most=1),
    "source": TEXT,
}

_CLUSTER_COLUMNS = {
    "cluster": NAME,
    "category": NAME,
    "prompts_train": COUNT,
    "prompts_select": COUNT,
    "prompts_test": COUNT,
    "mean_prompt_tokens": Column("number", least=0),
}

_OUTCOME_COLUMNS = {
    "cluster": NAME,
    "llm": NAME,
    **{f"{what}_{split}": COUNT for split in SPLITS for what in ("run", "correct")},
    "accuracy": SHARE,
    "mean_output_tokens": Column("number", least=0),
}

_SPLIT_COLUMNS = {"prompt": NAME, "cluster": NAME, "split": Column(choices=SPLITS)}


@dataclass(frozen=True, slots=True)
class Llm:
    """A language model of the pool.

    Attributes
    ----------
    name
        Name in the outcome matrix.
    params_total_b, params_active_b
        Parameters in memory and used per token, in units of 1e9.
    open_weights
        Whether anybody can deploy it.
    source
        Where the figures come from.
    """

    name: str
    params_total_b: float
    params_active_b: float
    open_weights: bool = True
    source: str = "not stated"


@dataclass(frozen=True, slots=True, eq=False)
class ClusterTables:
    """Outcomes of M LLMs on C clusters of prompts, every cluster within one category.

    Attributes
    ----------
    llms
        The M models.
    clusters, categories
        Name and category of each of the C clusters.
    prompts
        ``(3, C)`` number of prompts in each split (train, select, test).
    run, correct
        ``(3, C, M)`` prompts that the LLM was run on, and how many it answered correctly.
    accuracy
        ``(C, M)`` probability of a correct answer, from the training split only.
    prompt_tokens
        ``(C,)`` mean prompt length in tokens, training split.
    output_tokens
        ``(C, M)`` mean answer length in tokens, training split.
    assignment
        Prompt, cluster index and split index of every prompt, when known.
    provenance
        Source, licence, seed, rules: whatever is needed to derive the tables again.
    """

    llms: tuple[Llm, ...]
    clusters: tuple[str, ...]
    categories: tuple[str, ...]
    prompts: IntArray
    run: IntArray
    correct: IntArray
    accuracy: FloatArray
    prompt_tokens: FloatArray
    output_tokens: FloatArray
    assignment: tuple[tuple[str, int, int], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clusters, models = len(self.clusters), len(self.llms)
        shapes = {
            "prompts": (3, clusters),
            "run": (3, clusters, models),
            "correct": (3, clusters, models),
            "accuracy": (clusters, models),
            "prompt_tokens": (clusters,),
            "output_tokens": (clusters, models),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise InputError(f"{name}: shape {getattr(self, name).shape}, expected {shape}")
        if not ((self.accuracy >= 0) & (self.accuracy <= 1)).all():
            raise InputError("accuracy: every entry must lie within 0..1")
        for name in dict.fromkeys(self.categories):
            if not self.prompts[0, [category == name for category in self.categories]].any():
                raise InputError(f"prompts: category '{name}' has no training prompt")

    @property
    def weights(self) -> FloatArray:
        """``(C,)`` share of the training prompts in each cluster; they sum to one."""
        train = self.prompts[0].astype(np.float64)
        weights: FloatArray = train / train.sum()
        return weights

    @property
    def synthetic(self) -> bool:
        """Whether the provenance calls the outcomes synthetic."""
        return bool(self.provenance.get("synthetic", False))

    def restricted_to(self, names: list[str]) -> ClusterTables:
        """Return the tables of the LLMs `names`, in that order."""
        known = [llm.name for llm in self.llms]
        index = [known.index(name) for name in names]
        return replace(
            self,
            llms=tuple(self.llms[m] for m in index),
            run=self.run[:, :, index],
            correct=self.correct[:, :, index],
            accuracy=self.accuracy[:, index],
            output_tokens=self.output_tokens[:, index],
        )


def write_tables(tables: ClusterTables, folder: str | Path) -> None:
    """Write the tables into `folder`, which is created where it is missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    llms = (
        (m.name, m.params_total_b, m.params_active_b, int(m.open_weights), m.source)
        for m in tables.llms
    )
    write_table(folder / "llms.csv", list(_LLM_COLUMNS), llms)
    clusters = (
        (name, category, *prompts.tolist(), _short(tokens))
        for name, category, prompts, tokens in zip(
            tables.clusters, tables.categories, tables.prompts.T, tables.prompt_tokens, strict=True
        )
    )
    write_table(folder / "clusters.csv", list(_CLUSTER_COLUMNS), clusters)
    write_table(folder / "outcomes.csv", list(_OUTCOME_COLUMNS), _outcome_rows(tables))
    split = ((p, tables.clusters[c], SPLITS[s]) for p, c, s in tables.assignment)
    write_table(folder / "split.csv", list(_SPLIT_COLUMNS), split)
    text = json.dumps(tables.provenance, indent=2, ensure_ascii=False)
    write_text(folder / "provenance.json", text + "\n")


def read_tables(folder: str | Path) -> ClusterTables:
    """Read tables written by `write_tables`.

    Raises
    ------
    InputError
        With one line ``file:line: column: problem`` for each fault, or for outcomes that are
        missing, repeated, or counted above the number of runs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"tables: {folder} is not a folder")
    llm_rows = read_table(folder / "llms.csv", _LLM_COLUMNS, unique=["llm"])
    clusters = read_table(folder / "clusters.csv", _CLUSTER_COLUMNS, unique=["cluster"])
    path = folder / "outcomes.csv"
    outcomes = read_table(path, _OUTCOME_COLUMNS, unique=["cluster", "llm"])
    llms = tuple(_llm(row) for row in llm_rows)
    names, places = [m.name for m in llms], [row["cluster"] for row in clusters]
    grid = _grid(path, outcomes, places, names)
    provenance = read_json(folder / "provenance.json")
    if not isinstance(provenance, dict):
        raise InputError(f"{folder / 'provenance.json'}: expected an object")
    return ClusterTables(
        llms=llms,
        clusters=tuple(places),
        categories=tuple(row["category"] for row in clusters),
        prompts=np.array([[r[f"prompts_{s}"] for r in clusters] for s in SPLITS], dtype=np.int64),
        run=_layers(grid, "run"),
        correct=_layers(grid, "correct"),
        accuracy=_layer(grid, "accuracy"),
        prompt_tokens=np.array([row["mean_prompt_tokens"] for row in clusters], dtype=np.float64),
        output_tokens=_layer(grid, "mean_output_tokens"),
        assignment=_read_split(folder / "split.csv", places),
        provenance=provenance,
    )


def _outcome_rows(tables: ClusterTables) -> Iterator[tuple[object, ...]]:
    for c, cluster in enumerate(tables.clusters):
        for m, llm in enumerate(tables.llms):
            counts = [int(part[s, c, m]) for s in range(3) for part in (tables.run, tables.correct)]
            accuracy, tokens = tables.accuracy[c, m], tables.output_tokens[c, m]
            yield (cluster, llm.name, *counts, f"{accuracy:.6f}", _short(tokens))


def _short(value: float) -> str:
    return f"{value:.2f}"


def _llm(row: Row) -> Llm:
    if row["params_active_b"] > row["params_total_b"]:
        raise InputError(f"llms.csv: {row['llm']}: params_active_b exceeds params_total_b")
    sizes = (row["params_total_b"], row["params_active_b"])
    return Llm(row["llm"], *sizes, bool(row["open_weights"]), row["source"])


def _grid(path: Path, rows: list[Row], clusters: list[str], llms: list[str]) -> list[list[Row]]:
    cells = {(row["cluster"], row["llm"]): row for row in rows}
    for row in rows:
        where = f"{path}: cluster {row['cluster']}, llm {row['llm']}"
        if row["cluster"] not in clusters or row["llm"] not in llms:
            raise InputError(f"{where}: not in clusters.csv or not in llms.csv")
        for split in SPLITS:
            if row[f"correct_{split}"] > row[f"run_{split}"]:
                raise InputError(f"{where}: correct_{split} exceeds run_{split}")
    missing = [(c, m) for c in clusters for m in llms if (c, m) not in cells]
    if missing:
        raise InputError(f"{path}: no row for cluster {missing[0][0]}, llm {missing[0][1]}")
    return [[cells[c, m] for m in llms] for c in clusters]


def _layer(grid: list[list[Row]], name: str) -> FloatArray:
    return np.array([[cell[name] for cell in row] for row in grid], dtype=np.float64)


def _layers(grid: list[list[Row]], name: str) -> IntArray:
    layers = [[[cell[f"{name}_{s}"] for cell in row] for row in grid] for s in SPLITS]
    return np.array(layers, dtype=np.int64)


def _read_split(path: Path, clusters: list[str]) -> tuple[tuple[str, int, int], ...]:
    if not path.exists():
        return ()
    place = {name: c for c, name in enumerate(clusters)}
    rows = read_table(path, _SPLIT_COLUMNS, unique=["prompt"])
    unknown = [row for row in rows if row["cluster"] not in place]
    if unknown:
        raise InputError(f"{path}: prompt {unknown[0]['prompt']}: unknown cluster")
    return tuple((r["prompt"], place[r["cluster"]], SPLITS.index(r["split"])) for r in rows)
