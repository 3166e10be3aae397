"""Outcome folders: what is read, what is refused, and how it is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from selection.invented import save, write_folder

from moe2opt.result import InputError
from moe2opt.selection.outcomes import files as outcome_files
from moe2opt.selection.outcomes.folder import Assumed, read_outcome_folder
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.partition import Split


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a small valid folder of CSV tables."""
    return write_folder(tmp_path / "outcomes", prompts=20, llms=4, suffix=".csv")


def edit(folder: Path, name: str, row: int, column: str, value: object) -> None:
    """Change one cell of a table."""
    path = folder / f"{name}.csv"
    table = pd.read_csv(path).astype(object)
    table.loc[row, column] = value
    save(table, path)


def test_both_formats_read_alike(tmp_path: Path) -> None:
    """The same outcomes as Parquet and as CSV give the same matrix."""
    pytest.importorskip("pyarrow")
    first, second = (
        read_outcome_folder(write_folder(tmp_path / end, 30, 5, suffix=f".{end}"))
        for end in ("parquet", "csv")
    )
    assert first.digest == second.digest
    assert np.array_equal(first.output_tokens, second.output_tokens, equal_nan=True)


def test_index_is_a_column(tmp_path: Path) -> None:
    """Parquet tables that pandas wrote with the prompts as their index read alike."""
    pytest.importorskip("pyarrow")
    folder = write_folder(tmp_path / "outcomes", 30, 5)
    before = read_outcome_folder(folder).digest
    for name in ("prompts", "correct", "output_tokens"):
        path = folder / f"{name}.parquet"
        pd.read_parquet(path).set_index("prompt_id").to_parquet(path)
    assert read_outcome_folder(folder).digest == before


def test_what_is_read(folder: Path) -> None:
    """Names, categories, sizes, outcomes, lengths and vectors arrive where they belong."""
    table = pd.read_csv(folder / "correct.csv").set_index("prompt_id")
    found = read_outcome_folder(folder)
    assert list(found.prompts) == list(table.index)
    assert found.names == list(table.columns)
    assert np.array_equal(found.score, table.to_numpy(dtype=float), equal_nan=True)
    assert found.vectors.shape == (20, 8)
    assert np.isnan(found.llms[2].params_total_b)


def test_rows_are_matched_by_name(folder: Path) -> None:
    """Tables in another row order than the prompts give the same matrix."""
    before = read_outcome_folder(folder)
    for name in ("correct", "output_tokens"):
        table = pd.read_csv(folder / f"{name}.csv")
        save(table.iloc[::-1], folder / f"{name}.csv")
    after = read_outcome_folder(folder)
    assert before.digest == after.digest
    assert np.array_equal(before.output_tokens, after.output_tokens, equal_nan=True)


def test_names_may_stand_in_any_column(folder: Path) -> None:
    """The prompts are named by the column that all tables share, wherever it stands."""
    before = read_outcome_folder(folder)
    table = pd.read_csv(folder / "prompts.csv")
    save(table[[*table.columns[1:], table.columns[0]]], folder / "prompts.csv")
    assert read_outcome_folder(folder).digest == before.digest


FAULTS = [
    (("correct", 3, "invented-01", 2), r"correct\.csv: row 4 \('q00003'\).*'invented-01': 2"),
    (("correct", 0, "invented-00", "yes"), r"row 1 \('q00000'\).*'yes' is not a number"),
    (("output_tokens", 5, "invented-02", -7), r"row 6 \('q00005'\).*-7 is not a length"),
    (("prompts", 4, "category", ""), r"prompts\.csv: row 5 \('q00004'\).*'category' is empty"),
    (("prompts", 4, "prompt_tokens", -1), r"row 5 \('q00004'\).*-1 is not a length"),
    (("prompts", 4, "prompt_id", "q00003"), r"row 5: 'q00003' appears twice"),
    (("correct", 4, "prompt_id", "q7"), r"correct\.csv: 1 \('q00004'\) of the prompts have no row"),
    (("models", 1, "model", "invented-99"), r"'invented-01' is an unknown model.*did you mean"),
    (("models", 1, "params_total_b", -3), r"models\.csv: row 2 .*params_total_b: -3 is not a pos"),
    (("models", 1, "open_weights", 2), r"models\.csv: row 2 .*open_weights: 2 is not 0 or 1"),
]


@pytest.mark.parametrize(("cell", "message"), FAULTS, ids=[str(cell) for cell, _ in FAULTS])
def test_faults_name_their_cell(
    folder: Path, cell: tuple[str, int, str, object], message: str
) -> None:
    """Each wrong cell is told with file, row, prompt and column."""
    edit(folder, *cell)
    with pytest.raises(InputError, match=message):
        read_outcome_folder(folder)


def test_all_faults_of_a_table_are_told(folder: Path) -> None:
    """Several wrong cells are told at once, not one by one."""
    edit(folder, "correct", 3, "invented-01", 2)
    edit(folder, "correct", 8, "invented-02", -1)
    with pytest.raises(InputError) as error:
        read_outcome_folder(folder)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("name", ["prompts.csv", "correct.csv", "output_tokens.csv", "models.csv"])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    """A missing table is told by its name."""
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name.split('.')[0]}.* missing"):
        read_outcome_folder(folder)


def test_vectors_must_fit(folder: Path) -> None:
    """Too few rows of vectors, a hole in them, or none at all: each is told, with the counts."""
    path = folder / "embeddings_invented.npz"
    np.savez(path, emb=np.zeros((19, 8)))
    with pytest.raises(InputError, match="19 rows of vectors for 20 prompts"):
        read_outcome_folder(folder)
    np.savez(path, emb=np.where(np.arange(160).reshape(20, 8) == 35, np.nan, 0.0))
    with pytest.raises(InputError, match=r"row 5 \('q00004'\) holds a missing"):
        read_outcome_folder(folder)
    np.savez(path, other=np.zeros((20, 8)))
    with pytest.raises(InputError, match=r"no array 'emb' \(it holds other\)"):
        read_outcome_folder(folder)
    path.unlink()
    with pytest.raises(InputError, match=r"embeddings\*\.npz is missing"):
        read_outcome_folder(folder)


def test_pickled_vectors_are_refused(folder: Path) -> None:
    """An archive whose array would have to be unpickled is an input error."""
    np.savez(folder / "embeddings_invented.npz", emb=np.array([[{}]], dtype=object))
    with pytest.raises(InputError, match="cannot be read as NPZ"):
        read_outcome_folder(folder)


def test_own_features(folder: Path, tmp_path: Path) -> None:
    """Features of the user's own replace the embeddings: from CSV by name, or from the words."""
    ids = pd.read_csv(folder / "prompts.csv")["prompt_id"]
    own = pd.DataFrame({"prompt_id": ids[::-1], "a": np.arange(20.0)})
    save(own, tmp_path / "own.csv")
    assert read_outcome_folder(folder, features=tmp_path / "own.csv").vectors[0, 0] == 19
    assert read_outcome_folder(folder, features="text").vectors.shape[0] == 20
    save(own.iloc[1:], tmp_path / "own.csv")
    with pytest.raises(InputError, match="no row for prompt 'q00019'"):
        read_outcome_folder(folder, features=tmp_path / "own.csv")


def test_lengths_may_be_assumed(folder: Path) -> None:
    """Without lengths the user's own assumption is used and noted; without one it is an error."""
    (folder / "output_tokens.csv").unlink()
    table = pd.read_csv(folder / "prompts.csv").drop(columns="prompt_tokens")
    save(table, folder / "prompts.csv")
    with pytest.raises(InputError, match="assumed_prompt_tokens"):
        read_outcome_folder(folder)
    found = read_outcome_folder(folder, assumed=Assumed(50, 120))
    assert found.prompt_tokens.tolist() == [50] * 20
    assert np.nanmax(found.output_tokens) == np.nanmin(found.output_tokens) == 120
    assert sum("assumed" in note for note in found.notes) == 2


def test_answers_are_numbered(folder: Path) -> None:
    """Answers are optional; equal texts get equal numbers and an empty cell a negative one."""
    ids = pd.read_csv(folder / "prompts.csv")["prompt_id"]
    given = pd.DataFrame({f"invented-0{k}": ["A", "B"] * 10 for k in range(4)})
    given.iloc[0, 1] = None
    save(pd.concat([ids, given], axis=1), folder / "answers.csv")
    answers = read_outcome_folder(folder).answers
    assert answers is not None
    assert answers[0, 0] == answers[2, 3] != answers[1, 0]
    assert answers[0, 1] < 0


def test_huge_tables_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive larger than the limit is refused before it is unpacked."""
    monkeypatch.setattr(outcome_files, "LARGEST_CELLS", 10)
    with pytest.raises(InputError, match="unpacks to"):
        read_outcome_folder(folder)


def test_missing_reader_is_told(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow the message says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"moe2opt\[parquet\]"):
        read_outcome_folder(invented)


def test_category_tables_count_right(matrix: OutcomeMatrix, split: Split) -> None:
    """The tables by category hold exactly the outcomes of each part."""
    tables = matrix.category_tables(split)
    assert tables.run.sum() == matrix.observed.sum()
    assert tables.correct.sum() == np.nansum(matrix.score)
    first = matrix.category == matrix.categories[0]
    learn = first & (split.part < 2)
    assert tables.accuracy[0, 0] == pytest.approx(np.nanmean(matrix.score[learn, 0]))
    assert tables.output_tokens[0, 0] == pytest.approx(np.nanmean(matrix.output_tokens[learn, 0]))


def test_words_are_reduced_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear algebra that would only wait for other threads has none while it reduces texts."""
    import scipy.sparse.linalg as linalg
    from threadpoolctl import threadpool_info

    from moe2opt.selection.outcomes.text import hashed_text

    seen: list[int] = []
    plain = linalg.svds

    def watched(*given: Any, **named: Any) -> Any:
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return plain(*given, **named)

    monkeypatch.setattr(linalg, "svds", watched)
    assert hashed_text(["one two", "two three", "three four"], 2).shape == (3, 2)
    assert set(seen) == {1}
