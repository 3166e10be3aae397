"""Derive cluster tables from an outcome matrix (prompts x LLMs, 0/1) and prompt embeddings.

1. Prompts are split at random within each category into training, selection and test parts.
2. Each category is cut into clusters by k-means on the embeddings of its training prompts; the
   other prompts join the nearest centre. Clusters are shared out in proportion to prompts.
3. Accuracies come from the training split only, shrunk towards the LLM's accuracy in the category
   (`moe2opt.selection.outcomes.shrink`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moe2opt.canonical.validate import real_array
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.selection.outcomes.partition import Partition, partition_prompts
from moe2opt.selection.outcomes.shrink import category_rates, pooled_ratio, shrink
from moe2opt.selection.outcomes.tables import SPLITS, ClusterTables, Llm

if TYPE_CHECKING:
    import pandas as pd


def derive_tables(
    outcomes: pd.DataFrame,
    prompts: pd.DataFrame,
    embeddings: npt.ArrayLike,
    output_tokens: pd.DataFrame,
    *,
    llms: Sequence[Llm],
    clusters: int = 200,
    splits: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    provenance: dict[str, Any] | None = None,
) -> ClusterTables:
    """Derive cluster tables; the same input and seed give the same tables.

    Parameters
    ----------
    outcomes
        Rows are prompts, columns LLMs: 1 correct, 0 wrong, NaN not run. The index names prompts.
    prompts
        One row per prompt in the same order, columns ``category`` and ``prompt_tokens``.
    embeddings
        ``(prompts, dimensions)`` vectors in the same order.
    output_tokens
        Same shape as `outcomes`: tokens of each answer.
    llms
        The models (columns of `outcomes`) to keep, with their sizes.
    clusters
        Number of clusters in total; every category gets at least one.
    splits
        Shares of the training, selection and test split.
    seed
        Seed of the split and of the starting centres.
    provenance
        Entries for the sidecar; the rules used are added.

    Raises
    ------
    InputError
        Naming the array, column or LLM at fault.
    """
    names = [llm.name for llm in llms]
    correct = _matrix("outcomes", outcomes, names)
    tokens = _matrix("output_tokens", output_tokens, names)
    vectors = real_array("embeddings", embeddings, 2)
    category, lengths = _prompt_columns(prompts)
    _check_shapes(len(category), correct, tokens, vectors)
    _check_entries(correct, tokens)
    _check_options(outcomes, category, splits, clusters)
    part = partition_prompts(vectors, category, splits, clusters, seed)
    run, hits = _counts(correct, part)
    pooled = category_rates(run[0], hits[0], part.categories, names)
    accuracy, strengths = shrink(run[0], hits[0], pooled, part.categories)
    rules = _rules(clusters, splits, seed, dict(zip(names, strengths, strict=True)))
    return ClusterTables(
        llms=tuple(llms),
        clusters=part.labels,
        categories=part.categories,
        prompts=_counts(np.zeros((len(category), 1)), part)[0][:, :, 0],
        run=run,
        correct=hits,
        accuracy=accuracy,
        prompt_tokens=_training_means(lengths[:, None], part)[:, 0],
        output_tokens=_training_means(np.where(np.isnan(correct), np.nan, tokens), part),
        assignment=tuple(
            zip(map(str, outcomes.index), part.cluster.tolist(), part.split.tolist(), strict=True)
        ),
        provenance={**(provenance or {}), **rules},
    )


def _matrix(name: str, frame: pd.DataFrame, llms: list[str]) -> FloatArray:
    missing = [llm for llm in llms if llm not in frame.columns]
    if missing:
        raise InputError(f"{name}: no column for LLM '{missing[0]}'")
    try:
        return frame[llms].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: not a matrix of numbers: {error}") from error


def _prompt_columns(prompts: pd.DataFrame) -> tuple[npt.NDArray[np.str_], FloatArray]:
    for name in ("category", "prompt_tokens"):
        if name not in prompts.columns:
            raise InputError(f"prompts: column '{name}' is missing")
    if prompts["category"].isna().any():
        raise InputError(f"prompts: row {int(prompts['category'].isna().argmax())} has no category")
    lengths = real_array(
        "prompts.prompt_tokens", prompts["prompt_tokens"].to_numpy(), 1, nonnegative=True
    )
    return np.asarray(prompts["category"].astype(str).to_list()), lengths


def _check_shapes(count: int, correct: FloatArray, tokens: FloatArray, vectors: FloatArray) -> None:
    for name, array in (("outcomes", correct), ("output_tokens", tokens), ("embeddings", vectors)):
        if len(array) != count:
            raise InputError(f"{name}: {len(array)} rows for {count} prompts")


def _check_entries(correct: FloatArray, tokens: FloatArray) -> None:
    run = ~np.isnan(correct)
    for name, array, bad, rule in (
        ("outcomes", correct, run & (correct != 0) & (correct != 1), "0, 1 or NaN"),
        ("output_tokens", tokens, run & ~((tokens >= 0) & (tokens < np.inf)), "a count"),
    ):
        for row, column in np.argwhere(bad)[:1]:
            value = array[row, column]
            raise InputError(f"{name}[{row}, {column}] is {value:g}; expected {rule}")


def _check_options(
    outcomes: pd.DataFrame,
    category: npt.NDArray[np.str_],
    splits: tuple[float, float, float],
    clusters: int,
) -> None:
    if not outcomes.index.is_unique:
        repeated = outcomes.index[outcomes.index.duplicated()][0]
        raise InputError(f"outcomes: prompt '{repeated}' appears twice")
    if len(splits) != 3 or min(splits) < 0 or splits[0] <= 0 or abs(sum(splits) - 1) > 1e-9:
        raise InputError("splits: expected three shares that sum to 1, the first one positive")
    if clusters < len(np.unique(category)):
        raise InputError(f"clusters: {clusters} is below the number of categories")


def _counts(correct: FloatArray, part: Partition) -> tuple[IntArray, IntArray]:
    """Return ``(3, C, M)`` runs and correct answers by split and cluster."""
    run = np.zeros((3, len(part.labels), correct.shape[1]), dtype=np.int64)
    hits = np.zeros_like(run)
    place = (part.split, part.cluster)
    np.add.at(run, place, (~np.isnan(correct)).astype(np.int64))
    np.add.at(hits, place, np.nan_to_num(correct).astype(np.int64))
    return run, hits


def _training_means(values: FloatArray, part: Partition) -> FloatArray:
    """Return ``(C, M)`` means over the training split; an empty cell takes its category's."""
    train = part.split == 0
    totals = np.zeros((len(part.labels), values.shape[1]))
    counts = np.zeros_like(totals)
    np.add.at(totals, part.cluster[train], np.nan_to_num(values[train]))
    np.add.at(counts, part.cluster[train], ~np.isnan(values[train]))
    fallback = pooled_ratio(totals, counts, part.categories)
    means: FloatArray = np.divide(totals, counts, out=fallback, where=counts > 0)
    return means


def _rules(
    clusters: int, splits: tuple[float, float, float], seed: int, strengths: dict[str, float]
) -> dict[str, Any]:
    return {
        "derived_by": "moe2opt.selection.outcomes.derive.derive_tables",
        "seed": seed,
        "clusters_asked": clusters,
        "split_shares": dict(zip(SPLITS, splits, strict=True)),
        "split_rule": "random within each category, numpy default_rng(seed)",
        "cluster_rule": "category x k-means of the training embeddings, k-means++ start; "
        "other prompts join the nearest centre",
        "accuracy_rule": "training split only; (correct + s * category accuracy) / (run + s), "
        "s = (1 - rho) / rho with the ANOVA intra-cluster correlation rho of the LLM",
        "token_rule": "means over the training split",
        "prior_strength_prompts": {
            name: None if not np.isfinite(s) else round(s, 3) for name, s in strengths.items()
        },
    }
