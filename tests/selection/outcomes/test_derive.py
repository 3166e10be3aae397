"""Deriving cluster tables from an outcome matrix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.result import InputError
from moe2opt.selection import ClusterTables, derive_from_files, derive_tables, write_tables
from moe2opt.selection.outcomes.partition import apportion
from moe2opt.selection.outcomes.shrink import shrink
from moe2opt.selection.outcomes.tables import Llm

PROMPTS = 240
LLMS = (Llm("small", 1.0, 1.0), Llm("large", 4.0, 2.0))


def example() -> dict[str, Any]:
    """Draw outcomes of two LLMs: each is good on the half of the embedding space of its own."""
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(PROMPTS, 3)) + 4 * rng.integers(0, 2, size=(PROMPTS, 1))
    chance = np.where(vectors[:, :1] > 2, [[0.9, 0.2]], [[0.3, 0.8]])
    correct = (rng.random((PROMPTS, 2)) < chance).astype(float)
    index = pd.Index([f"q{k}" for k in range(PROMPTS)], name="prompt")
    categories = np.repeat(["law", "math", "art"], [120, 80, 40])
    return {
        "outcomes": pd.DataFrame(correct, index, columns=["small", "large"]),
        "prompts": pd.DataFrame(
            {"category": categories, "prompt_tokens": np.arange(PROMPTS) + 10}, index
        ),
        "embeddings": vectors,
        "output_tokens": pd.DataFrame(
            rng.integers(5, 50, (PROMPTS, 2)), index, columns=["small", "large"]
        ),
    }


def derive(data: dict[str, Any], **options: Any) -> ClusterTables:
    """Derive twelve clusters from the example."""
    return derive_tables(**{"llms": LLMS, "clusters": 12, **data, **options})


def same(a: ClusterTables, b: ClusterTables, names: tuple[str, ...]) -> bool:
    """Tell whether two tables agree in some arrays."""
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


ARRAYS = ("prompts", "run", "correct", "accuracy", "prompt_tokens", "output_tokens", "assignment")


def test_same_seed_same_tables() -> None:
    """The tables depend on the data and the seed only."""
    assert same(derive(example()), derive(example()), ARRAYS)
    assert not same(derive(example()), derive(example(), seed=1), ("run",))


def test_every_prompt_is_counted_once() -> None:
    """Splits follow their shares within each category, and clusters stay inside categories."""
    data = example()
    tables = derive(data)
    assert tables.prompts.sum() == PROMPTS
    assert tables.prompts.sum(axis=1).tolist() == [144, 48, 48]
    assert (tables.run == tables.prompts[:, :, None]).all()
    for k, (prompt, cluster, _) in enumerate(tables.assignment):
        assert prompt == data["prompts"].index[k]
        assert tables.categories[cluster] == data["prompts"]["category"].iloc[k]
    assert tables.weights.sum() == pytest.approx(1)
    assert len(tables.clusters) == 12


def test_counts_are_those_of_the_matrix() -> None:
    """Runs and correct answers of each cluster and split are plain sums of the outcomes."""
    data = example()
    data["outcomes"].iloc[::5, 1] = np.nan
    tables = derive(data)
    matrix = data["outcomes"].to_numpy()
    for cluster in range(len(tables.clusters)):
        for split in range(3):
            members = [
                k for k, (_, c, s) in enumerate(tables.assignment) if (c, s) == (cluster, split)
            ]
            assert (tables.run[split, cluster] == (~np.isnan(matrix[members])).sum(axis=0)).all()
            assert (tables.correct[split, cluster] == np.nansum(matrix[members], axis=0)).all()


def test_accuracies_see_the_training_split_only() -> None:
    """Flipping every outcome and token count outside the training split changes no estimate."""
    data = example()
    tables = derive(data)
    outside = [k for k, (_, _, split) in enumerate(tables.assignment) if split]
    data["outcomes"].iloc[outside] = 1 - data["outcomes"].iloc[outside]
    data["output_tokens"].iloc[outside] = 999
    flipped = derive(data)
    assert same(tables, flipped, ("accuracy", "output_tokens", "prompt_tokens", "prompts"))
    assert not np.array_equal(tables.correct, flipped.correct)


def test_clusters_ignore_embeddings_of_test_prompts() -> None:
    """Moving the test prompts far away leaves the clusters of the training prompts in place."""
    data = example()
    tables = derive(data)
    outside = [k for k, (_, _, split) in enumerate(tables.assignment) if split]
    data["embeddings"][outside] += 50
    moved = derive(data)
    assert np.array_equal(tables.prompts[0], moved.prompts[0])
    assert np.array_equal(tables.accuracy, moved.accuracy)


@given(
    run=st.lists(st.integers(0, 40), min_size=4, max_size=4),
    rate=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_shrunk_accuracies_lie_between_data_and_category(run: list[int], rate: list[float]) -> None:
    """Each estimate lies between the observed rate and the category's, and in 0..1."""
    runs = np.array(run)[:, None]
    correct = np.round(runs * np.array(rate)[:, None]).astype(int)
    pooled = np.full((4, 1), correct.sum() / max(1, runs.sum()))
    accuracy, strengths = shrink(runs, correct, pooled, ["a"] * 4)
    observed = np.divide(correct, runs, out=pooled.copy(), where=runs > 0)
    low, high = np.minimum(observed, pooled), np.maximum(observed, pooled)
    assert ((accuracy >= low - 1e-12) & (accuracy <= high + 1e-12)).all()
    assert strengths[0] > 0


def test_shrinkage_follows_its_formula() -> None:
    """With the strength s that is reported, p = (x + s * category) / (n + s)."""
    run = np.array([[10], [20], [30], [12]])
    correct = np.array([[1], [18], [9], [11]])
    pooled = np.full((4, 1), correct.sum() / run.sum())
    accuracy, (strength,) = shrink(run, correct, pooled, ["a"] * 4)
    assert accuracy == pytest.approx((correct + strength * pooled) / (run + strength))
    assert 0 < strength < 20


def test_equal_clusters_collapse_to_the_category() -> None:
    """Clusters that differ less than chance would make them get the category's accuracy."""
    run, correct = np.full((3, 1), 10), np.array([[5], [5], [5]])
    accuracy, strengths = shrink(run, correct, np.full((3, 1), 0.5), ["a"] * 3)
    assert (accuracy == 0.5).all()
    assert strengths == [np.inf]


def test_shrinkage_estimates_the_truth_better_than_raw_rates() -> None:
    """On drawn beta-binomial clusters the mean squared error falls by a third or more."""
    rng = np.random.default_rng(3)
    truth = rng.beta(6, 6, size=(400, 1))
    run = np.full((400, 1), 15)
    correct = rng.binomial(run, truth)
    pooled = np.full((400, 1), correct.sum() / run.sum())
    accuracy, (strength,) = shrink(run, correct, pooled, ["a"] * 400)
    assert ((accuracy - truth) ** 2).mean() < 0.67 * ((correct / run - truth) ** 2).mean()
    assert strength == pytest.approx(12, rel=0.3)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(0, 100))
def test_seats_are_apportioned(sizes: list[int], extra: int) -> None:
    """Every category gets a cluster, none more than it has prompts, and all seats are used."""
    seats = len(sizes) + extra
    given_out = apportion(np.array(sizes), seats)
    assert given_out.sum() == min(seats, sum(sizes))
    assert (given_out >= 1).all()
    assert (given_out <= sizes).all()
    more = apportion(np.array(sizes), seats + 1)
    assert (more >= given_out).all()


def test_an_llm_never_run_on_a_cluster_takes_its_category() -> None:
    """A cell without training runs gets the category's accuracy and token count."""
    data = example()
    tables = derive(data)
    members = [k for k, (_, cluster, _) in enumerate(tables.assignment) if cluster == 0]
    data["outcomes"].iloc[members, 0] = np.nan
    data["output_tokens"] = data["output_tokens"].astype(float)
    data["output_tokens"].iloc[members, 0] = np.nan
    sparse = derive(data)
    category = [c for c, name in enumerate(sparse.categories) if name == sparse.categories[0]]
    rate = sparse.correct[0, category, 0].sum() / sparse.run[0, category, 0].sum()
    assert sparse.run[:, 0, 0].sum() == 0
    assert sparse.accuracy[0, 0] == pytest.approx(rate)
    assert np.isfinite(sparse.output_tokens).all()


def spoil(data: dict[str, Any], what: str) -> dict[str, Any]:
    """Return the example with one fault, and the options to derive it with."""
    options: dict[str, Any] = {}
    if what == "value":
        data["outcomes"].iloc[3, 1] = 0.5
    elif what == "rows":
        data["embeddings"] = data["embeddings"][:-1]
    elif what == "nan":
        data["embeddings"][2, 1] = np.nan
    elif what == "tokens":
        data["output_tokens"] = data["output_tokens"].astype(float)
        data["output_tokens"].iloc[4, 0] = np.nan
    elif what == "category":
        data["prompts"].iloc[5, 0] = None
    elif what == "column":
        data["prompts"] = data["prompts"].drop(columns="prompt_tokens")
    elif what == "llm":
        options["llms"] = (*LLMS, Llm("huge", 9.0, 9.0))
    elif what == "text":
        data["outcomes"] = data["outcomes"].astype(object)
        data["outcomes"].iloc[0, 0] = "yes"
    elif what == "never":
        data["outcomes"]["large"] = np.nan
    elif what == "twice":
        data["outcomes"].index = data["outcomes"].index.where(data["outcomes"].index != "q9", "q8")
    elif what == "splits":
        options["splits"] = (0.5, 0.2, 0.2)
    elif what == "clusters":
        options["clusters"] = 2
    return {**data, **options}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("value", r"outcomes\[3, 1\] is 0.5; expected 0, 1 or NaN"),
        ("rows", "embeddings: 239 rows for 240 prompts"),
        ("nan", r"embeddings\[2, 1\] is nan"),
        ("tokens", r"output_tokens\[4, 0\] is nan; expected a count"),
        ("category", "prompts: row 5 has no category"),
        ("column", "prompts: column 'prompt_tokens' is missing"),
        ("llm", "outcomes: no column for LLM 'huge'"),
        ("text", "outcomes: not a matrix of numbers"),
        ("never", "LLM 'large' was never run on a training prompt"),
        ("twice", "outcomes: prompt 'q8' appears twice"),
        ("splits", "splits: expected three shares that sum to 1"),
        ("clusters", "clusters: 2 is below the number of categories"),
    ],
)
def test_bad_input_is_named(what: str, message: str) -> None:
    """Each fault of the input is reported with the array and the place."""
    with pytest.raises(InputError, match=message):
        derive(spoil(example(), what))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_give_the_same_tables(tmp_path: Path, suffix: str) -> None:
    """CSV and Parquet files give the tables that the arrays in memory give."""
    data = example()
    data["outcomes"].iloc[::7, 0] = np.nan
    frames = {
        "outcomes": data["outcomes"],
        "prompts": data["prompts"],
        "output_tokens": data["output_tokens"],
        "embeddings": pd.DataFrame(
            data["embeddings"], data["outcomes"].index, columns=["e0", "e1", "e2"]
        ),
        "llms": pd.DataFrame(
            {"llm": ["small", "large"], "params_total_b": [1, 4], "params_active_b": [None, 2]}
        ).set_index("llm"),
    }
    paths = {name: tmp_path / f"{name}{suffix}" for name in frames}
    for name, frame in frames.items():
        table = frame.reset_index()
        if suffix == ".csv":
            table.to_csv(paths[name], index=False)
        else:
            table.to_parquet(paths[name])
    read = derive_from_files(**paths, clusters=12)
    assert same(read, derive(data), ARRAYS)
    assert [(m.params_total_b, m.params_active_b) for m in read.llms] == [(1, 1), (4, 2)]


def test_files_out_of_order_are_refused(tmp_path: Path) -> None:
    """Files that list prompts in different orders, or cannot be read, are refused by name."""
    data = example()
    paths = {n: tmp_path / f"{n}.csv" for n in ("outcomes", "prompts", "output_tokens", "llms")}
    for name in ("outcomes", "prompts", "output_tokens"):
        data[name].to_csv(paths[name])
    paths["embeddings"] = tmp_path / "e.npy"
    np.save(paths["embeddings"], data["embeddings"])
    paths["llms"].write_text("llm,params_total_b\nsmall,1\n", encoding="utf-8")
    assert derive_from_files(**paths, clusters=12).llms[0].name == "small"
    data["prompts"].iloc[::-1].to_csv(paths["prompts"])
    with pytest.raises(InputError, match="prompts: the first column must list the prompts"):
        derive_from_files(**paths)
    with pytest.raises(InputError, match=r"none\.csv: No such file"):
        derive_from_files(**{**paths, "outcomes": tmp_path / "none.csv"})
    paths["embeddings"].write_bytes(b"not an array")
    with pytest.raises(InputError, match=r"e\.npy: cannot be read as NPY"):
        derive_from_files(**{**paths})


def test_committed_tables_can_be_derived_again(
    tmp_path: Path, checkout: Path, shared_data: Path
) -> None:
    """Deriving from the outcome matrix gives the committed files, byte by byte."""
    committed = checkout / "problems" / "selection" / "mmlu_pro"
    source = shared_data / "routing" / "mmlu_pro"
    kept = json.loads((committed / "provenance.json").read_text(encoding="utf-8"))
    tables = derive_from_files(
        source / "correct.parquet",
        source / "prompts.parquet",
        source / "embeddings_minilm_pca64.npz",
        source / "output_tokens.parquet",
        committed / "llms.csv",
        clusters=200,
        seed=0,
        provenance={key: kept[key] for key in list(kept)[: list(kept).index("derived_by")]},
    )
    write_tables(tables, tmp_path)
    for path in sorted(committed.iterdir()):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name
