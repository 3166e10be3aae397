"""Sweeps run what is asked once, keep it, and go on where they stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli import app
from moe2opt.result import InputError
from moe2opt.sweep import Spec
from moe2opt.sweep.spec import spec_of, split_values

OVER = {"energy.limit_j_per_prompt": [50, 130], "delay.limit_s": [1, 2]}


def untimed(rows: Any) -> list[dict[str, Any]]:
    """Return rows without their times."""
    return [{k: v for k, v in row.items() if not k.endswith("_s") or "." in k} for row in rows]


def test_every_combination_is_a_row(tmp_path: Path) -> None:
    """Scenarios times values give one row each, in order, with what solving alone gives."""
    found = mo.sweep("tiny", OVER, ["base", "infeasible"], out=tmp_path)
    assert len(found) == 8
    assert [row["scenario"] for row in found.rows] == ["base"] * 4 + ["infeasible"] * 4
    row = found.rows[1]
    overrides = {"energy.limit_j_per_prompt": 50, "delay.limit_s": 2}
    assert row["objective"] == mo.solve(mo.load("tiny", overrides=overrides)).objective
    assert row["certified"]
    assert {"sweep.csv", "sweep.json", "cells"} <= {path.name for path in tmp_path.iterdir()}


def test_results_are_kept(tmp_path: Path) -> None:
    """Running again solves nothing; a wider sweep solves only what is new."""
    first = mo.sweep("tiny", OVER, out=tmp_path)
    again = mo.sweep("tiny", OVER, out=tmp_path)
    assert (first.reused, again.reused) == (0, 4)
    assert again.rows == first.rows
    wider = {**OVER, "delay.limit_s": [1, 2, 3]}
    assert mo.sweep("tiny", wider, out=tmp_path).reused == 4
    assert mo.sweep("tiny", OVER, out=tmp_path, rel_gap=0.5).reused == 0


def test_changed_data_are_solved_again(tmp_path: Path, checkout: Path) -> None:
    """A cell is found again as long as no file that it reads has changed."""
    import shutil

    folder = checkout / "problems" / "selection"
    source = next(folder.glob("**/tiny.yaml"))
    shutil.copytree(source.parent, tmp_path / "data")
    config, out = tmp_path / "data" / "tiny.yaml", tmp_path / "out"
    mo.sweep(config, {"delay.limit_s": [1]}, out=out)
    assert mo.sweep(config, {"delay.limit_s": [1]}, out=out).reused == 1
    table = next((tmp_path / "data" / "tiny_tables").glob("*.csv"))
    table.write_text(table.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert mo.sweep(config, {"delay.limit_s": [1]}, out=out).reused == 0


def test_failed_cells_are_rows(tmp_path: Path) -> None:
    """A value that the file does not allow is a row with its error, and is tried again."""
    over = {"energy.limit_j_per_prompt": [-1, 130]}
    found = mo.sweep("tiny", over, out=tmp_path)
    assert [row["status"] for row in found.rows] == ["ERROR", "OPTIMAL"]
    assert "energy.limit_j_per_prompt" in found.failures[0]["error"]
    assert mo.sweep("tiny", over, out=tmp_path).reused == 1


def test_processes_give_the_same_rows(tmp_path: Path) -> None:
    """Two worker processes give the rows that one process gives."""
    serial = mo.sweep("tiny", OVER, out=tmp_path / "a")
    process = mo.sweep("tiny", OVER, out=tmp_path / "b", backend="process", workers=2)
    assert untimed(serial.rows) == untimed(process.rows)
    assert serial.addresses == process.addresses


def test_sweep_files(tmp_path: Path) -> None:
    """A sweep file says what the arguments say; arguments go first."""
    file = tmp_path / "my.yaml"
    file.write_text(
        "config: tiny\nover:\n  delay.limit_s: [1, 2]\nscenarios: [base, infeasible]\n"
        "settings: {rel_gap: 0.01}\n",
        encoding="utf-8",
    )
    spec = spec_of(file)
    assert len(spec.tasks()) == 4
    assert spec.settings == {"rel_gap": 0.01}
    assert len(spec_of(file, scenarios=["base"], rel_gap=0.5).tasks()) == 2
    file.write_text("config: tiny\novr: {}\n", encoding="utf-8")
    with pytest.raises(InputError, match="ovr"):
        spec_of(file)


def test_values_are_split_outside_brackets() -> None:
    """Commas within brackets and quotes belong to a value."""
    assert split_values("1,[2, 3],'a,b', {x: 1, y: 2}") == ["1", "[2, 3]", "'a,b'", "{x: 1, y: 2}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"over": ["delay.limit_s"]}, "KEY=VALUE"),
        ({"over": {"delay.limit_s": []}}, "no value"),
        ({"over": ["a=1", "a=2"]}, "twice"),
        ({"scenarios": ["infeasable"]}, "did you mean 'infeasible'"),
        ({"backend": "threads"}, "backend"),
        ({"backend": "process", "scheduler": "tcp://x:1"}, "scheduler"),
        ({"workers": 0, "backend": "process"}, "workers"),
        ({"time_limit": 3}, "time_limit_s"),
    ],
)
def test_bad_sweeps_are_told(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    """What cannot be understood is an error before anything runs."""
    with pytest.raises(InputError, match=message):
        mo.sweep("tiny", out=tmp_path, **arguments)


def test_table_is_tidy(tmp_path: Path) -> None:
    """The table has a column per key, numbers as numbers, and the same rows as Parquet."""
    found = mo.sweep("tiny", {"energy.limit_j_per_prompt": [1, 130]}, out=tmp_path)
    frame = found.to_frame()
    assert frame["status"].tolist() == ["INFEASIBLE", "OPTIMAL"]
    assert frame["objective"].tolist()[0] == float("-inf")
    parquet = tmp_path / "sweep.parquet"
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pandas as pd

    assert pd.read_parquet(parquet)["status"].tolist() == frame["status"].tolist()


def test_addresses_do_not_depend_on_order() -> None:
    """A cell has one address whatever sweep it belongs to."""
    from moe2opt.sweep.store import Addresses

    one = Spec(mo.load("tiny").source.path, {"delay.limit_s": ("1", "2")})
    other = Spec(mo.load("tiny").source.path, {"delay.limit_s": ("2",)})
    names = Addresses()
    assert names.of(one.tasks()[1]) == names.of(other.tasks()[0])
    assert json.dumps(names.of(one.tasks()[0])) != json.dumps(names.of(one.tasks()[1]))


def test_weights_of_models_are_not_read_in_full(tmp_path: Path) -> None:
    """A file of terabytes has an address at once, and another one when it grows."""
    from moe2opt.sweep.store import Addresses

    weights, config = tmp_path / "model.gguf", tmp_path / "place.yaml"
    config.write_text("problem: place\nmodel: model.gguf\n")
    task = Spec(config, {}).tasks()[0]
    found = set()
    for size in (2**42, 2**42 + 1):
        with weights.open("wb") as stream:
            stream.write(b"GGUF")
            stream.truncate(size)
        found.add(Addresses().of(task))
    assert len(found) == 2


def test_what_is_no_address_is_told(tmp_path: Path) -> None:
    """A scheduler without a port is bad input, not a fault of moe2opt."""
    pytest.importorskip("distributed", reason="needs the extra `dask`")
    with pytest.raises(InputError, match="Dask scheduler here: missing port"):
        mo.sweep("tiny", out=tmp_path, backend="dask", scheduler="here")


def test_a_key_of_one_value_is_a_column(tmp_path: Path) -> None:
    """`--set` fixes a key in all cells, `--check` reads it from the folder; lists are refused."""
    base = ["sweep", "tiny", "--out", str(tmp_path), "--backend", "serial", "--quiet"]
    words = [*base, "--set", "delay.limit_s=2", "--over", "energy.limit_j_per_prompt=50,130"]
    run = CliRunner().invoke
    assert run(app, words).exit_code == 0
    found = pd.read_csv(tmp_path / "sweep.csv")
    assert found["delay.limit_s"].tolist() == [2, 2]
    assert found["energy.limit_j_per_prompt"].tolist() == [50, 130]
    checked = run(app, ["sweep", "tiny", "--out", str(tmp_path), "--check"])
    assert (checked.exit_code, checked.stdout) == (0, "2 cells: every one holds\n")
    for text in ("delay.limit_s=1,2", "delay.limit_s", "delay.limit_s=", "=2"):
        wrong = run(app, [*base, "--set", text])
        assert wrong.exit_code == 2
        assert f"--set {text}: expected KEY=VALUE; several values go with --over" in wrong.stderr
