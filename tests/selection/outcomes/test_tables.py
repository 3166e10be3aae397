"""Cluster tables on disk."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe2opt.result import InputError
from moe2opt.selection import read_tables, write_tables


@pytest.fixture
def folder(tmp_path: Path, checkout: Path) -> Path:
    """Return a copy of the tiny tables that may be spoilt."""
    target = tmp_path / "tables"
    shutil.copytree(checkout / "problems" / "selection" / "tiny_tables", target)
    return target


def test_round_trip(folder: Path, tmp_path: Path) -> None:
    """Tables that are written and read again are the same, the assignment included."""
    tables = read_tables(folder)
    assert tables.assignment == ()
    tables = replace(tables, assignment=(("q1", 0, 2), ("q2", 5, 0)))
    write_tables(tables, tmp_path / "copy")
    copy = read_tables(tmp_path / "copy")
    for name in ("llms", "clusters", "categories", "assignment", "provenance"):
        assert getattr(copy, name) == getattr(tables, name)
    for name in ("prompts", "run", "correct", "accuracy", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(copy, name), getattr(tables, name))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("outcomes.csv", "code/0,alpha,10,2", "code/0,alpha,10,12", "correct_train exceeds run"),
        ("outcomes.csv", "code/0,alpha", "code/9,alpha", "cluster code/9, llm alpha: not in"),
        ("outcomes.csv", "code/0,alpha", "code/0,beta", "outcomes.csv:3: cluster, llm: 'code/0, b"),
        ("outcomes.csv", "0.200000", "1.2", "outcomes.csv:2: accuracy: 1.2 is outside 0..1"),
        ("clusters.csv", "prose/2,prose,10,0,10,50.00\n", "", "cluster prose/2, llm alpha: not in"),
        ("clusters.csv", "\n", "\nnew/0,new,10,0,0,50\n", "no row for cluster new/0, llm alpha"),
        ("llms.csv", "beta,2.0,2.0", "beta,2.0,3.0", "beta: params_active_b exceeds"),
        ("provenance.json", "{", "", "provenance.json: not JSON"),
        ("provenance.json", "{", '["a"]\n#', "provenance.json: not JSON"),
    ],
)
def test_faults_are_named(folder: Path, file: str, old: str, new: str, message: str) -> None:
    """A fault in any file is reported with its place."""
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_tables(folder)


def test_split_file_is_checked(folder: Path) -> None:
    """Prompts of unknown clusters or splits, and prompts listed twice, are refused."""
    for line, message in [
        ("q1,code/7,train", "prompt q1: unknown cluster"),
        ("q1,code/0,dev", "split: 'dev' is not one of train, select, test"),
        ("q1,code/0,test\nq1,code/1,test", "'q1' repeats line 2"),
    ]:
        text = f"prompt,cluster,split\n{line}\n"
        (folder / "split.csv").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            read_tables(folder)


def test_provenance_is_an_object(folder: Path) -> None:
    """A sidecar that is JSON but not an object is refused."""
    (folder / "provenance.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="expected an object"):
        read_tables(folder)


def test_arrays_are_checked(folder: Path) -> None:
    """Shapes, ranges and categories without training prompts are refused in memory too."""
    tables = read_tables(folder)
    with pytest.raises(InputError, match=r"accuracy: shape \(3, 6\), expected \(6, 3\)"):
        replace(tables, accuracy=tables.accuracy.T)
    with pytest.raises(InputError, match=r"within 0\.\.1"):
        replace(tables, accuracy=tables.accuracy + 1)
    with pytest.raises(InputError, match="category 'code' has no training prompt"):
        replace(tables, prompts=tables.prompts * np.array([0, 0, 0, 1, 1, 1]))


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that does not exist is named."""
    with pytest.raises(InputError, match="is not a folder"):
        read_tables(tmp_path / "none")
