"""`sweep --check` believes no file: results are judged, rows and tables rebuilt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mutations_of_results import mutations
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli import app
from moe2opt.errors import InputError
from moe2opt.sweep import Checked, verify_sweep

OVER = {"energy.limit_j_per_prompt": [50, 130]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a sweep of four cells."""
    folder = tmp_path_factory.mktemp("sweep")
    mo.sweep("tiny", OVER, ["base", "infeasible"], out=folder, rel_gap=0.0)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def cell(folder: Path, number: int) -> Path:
    """Return the folder of a cell."""
    return folder / "cells" / json.loads((folder / "sweep.json").read_text())["cells"][number]


def change(path: Path, edit: Callable[[Any], None]) -> None:
    """Edit a JSON file."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_what_was_written_holds(made: Path) -> None:
    """A sweep is accepted as it is, by what its folder names or by the same arguments."""
    assert verify_sweep(made, "tiny") == Checked(4, ())
    assert verify_sweep(made, "tiny", OVER, ["base", "infeasible"], rel_gap=0.0).failures == ()
    other = verify_sweep(made, "tiny", OVER, ["base"], rel_gap=0.0)
    assert "sweep.json" in other.failures[0]


def test_changed_rows_are_rejected(tmp_path: Path) -> None:
    """Any leaf of a row that was changed is found."""
    mo.sweep("tiny", out=tmp_path)
    path = cell(tmp_path, 0) / "row.json"
    row = json.loads(path.read_text())
    for what, mutant in mutations(row, 25, ("wall_s",)):
        path.write_text(json.dumps(mutant))
        assert verify_sweep(tmp_path, "tiny").failures, f"{what} was accepted"


def rename(folder: Path) -> None:
    """Call an LLM of a plan by another name."""
    path = cell(folder, 1) / "result.json"
    name = mo.solve(mo.load("tiny")).plan.to_frame()["llm"].iloc[0]
    path.write_text(path.read_text().replace(f'"{name}', '"other'))


def swap(folder: Path) -> None:
    """Put two cells in each other's place."""
    one, two, spare = cell(folder, 0), cell(folder, 1), folder / "spare"
    one.rename(spare)
    two.rename(one)
    spare.rename(two)


def lose(folder: Path) -> None:
    """Delete a cell."""
    shutil.rmtree(cell(folder, 2))


def improve(folder: Path) -> None:
    """Write another objective into the table."""
    table = pd.read_csv(folder / "sweep.csv")
    table.loc[0, "objective"] = 0.999
    table.to_csv(folder / "sweep.csv", index=False)


def shorten(folder: Path) -> None:
    """Drop the last row of the table."""
    lines = (folder / "sweep.csv").read_text().splitlines(keepends=True)
    (folder / "sweep.csv").write_text("".join(lines[:-1]))


def widen(folder: Path) -> None:
    """Claim that another gap was asked for."""
    change(folder / "sweep.json", lambda content: content["settings"].update(rel_gap=0.5))


def forget(folder: Path) -> None:
    """Drop what the run was asked for from a result."""
    change(cell(folder, 1) / "result.json", lambda c: c["provenance"].update(options={}))


def columns(folder: Path) -> None:
    """Write another objective into the Parquet table."""
    table = pd.read_parquet(folder / "sweep.parquet")
    table["objective"] = 0.999
    table.to_parquet(folder / "sweep.parquet", index=False)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (widen, "result.json: rel_gap: the run had 0.0, the sweep 0.5"),
        (forget, "result.json: rel_gap: the run had None, the sweep 0.0"),
        (rename, "cell scenario=base, energy.limit_j_per_prompt=130: result.json: plan"),
        (swap, "its scenario and overrides are those of another cell"),
        (lose, "cell scenario=infeasible, energy.limit_j_per_prompt=50: is missing"),
        (improve, "sweep.csv:2: not the row of its cell"),
        (shorten, "sweep.csv: 3 rows, 4 cells"),
        (columns, "sweep.parquet: not the table"),
        (lambda f: (cell(f, 0) / "row.json").write_text("{"), "row.json"),
        (lambda f: (cell(f, 0) / "result.json").unlink(), "result.json"),
        (lambda f: (f / "sweep.csv").unlink(), "sweep.csv"),
        (lambda f: change(f / "sweep.json", lambda c: c["cells"].pop()), "3 entries for 4 cells"),
        (lambda f: change(f / "sweep.json", lambda c: c.update(extra=1)), "sweep.json.extra"),
    ],
)  # fmt: skip
def test_faults_end_with_6(folder: Path, fault: Callable[[Path], None], told: str) -> None:
    """Each fault is one line on stderr, and the exit code is 6; a sound folder ends with 0."""
    words = ["sweep", "tiny", "--out", str(folder), "--check"]
    sound = CliRunner().invoke(app, words)
    assert (sound.exit_code, sound.stdout) == (0, "4 cells: every one holds\n")
    fault(folder)
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 6
    assert told in ran.stderr
    assert ran.stdout == "4 cells: REJECTED\n"


def test_failed_cells_and_gaps_are_told(tmp_path: Path) -> None:
    """A cell that failed proves nothing, and says so; nor does a wide gap hide."""
    over = {"energy.limit_j_per_prompt": [-1, 130]}
    mo.sweep("tiny", over, out=tmp_path, rel_gap=0.5)
    found = verify_sweep(tmp_path, "tiny")
    assert found.failures == ()
    assert "failed when it ran" in found.provisos[0]
    path = cell(tmp_path, 0) / "row.json"
    change(path, lambda row: row.update(objective=1.0))
    assert "objective" in verify_sweep(tmp_path, "tiny").failures[0]


@pytest.mark.parametrize("content", ["[]", '{"cells": ["../../x"]}', '{"cells": []}', "{"])
def test_what_is_no_sweep_is_told(tmp_path: Path, content: str) -> None:
    """A folder without a sweep is bad input."""
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(InputError, match="sweep"):
        verify_sweep(tmp_path, "tiny")
