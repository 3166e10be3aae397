"""What a flag cannot be is told by its name, and before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result as Ran

Run = Callable[..., Ran]

OUT = Path("out")


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (("solve", "tiny", "--time-limit", -1), "--time-limit"),
        (("solve", "tiny", "--time-limit", "nan"), "--time-limit"),
        (("solve", "tiny", "--gap", "inf"), "--gap"),
        (("solve", "tiny", "--node-limit", -1), "--node-limit"),
        (("solve", "tiny", "--memory-limit", 0), "--memory-limit"),
        (("solve", "tiny", "--threads", 0), "--threads"),
        (("solve", "tiny", "--seed", -1), "--seed"),
        (("pareto", "tiny", "--x", "energy_j_per_prompt", "--gap", -1), "--gap"),
        (("sweep", "tiny", "--out", OUT, "--time-limit", -1), "--time-limit"),
        (("fleet", "fleet.yaml", "--gap", "nan"), "--gap"),
        (("solve", "tiny", "--proof", "short"), "--proof"),
        (("bench", "--time-limit", 0), "--time-limit"),
        (("bench", "--seeds", 0), "--seeds"),
        (("evaluate", "tiny_gate", "--splits", 0), "--splits"),
        (("evaluate", "tiny_gate", "--splits", 101), "--splits"),
        (("evaluate", "tiny_gate", "--bootstrap", 0), "--bootstrap"),
        (("bench", "--clock", "sun"), "--clock"),
        (("replay", "mobile_edge", "synthetic_walk", "--duration", 0), "--duration"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_numbers_are_refused_by_the_name_of_their_flag(
    moe2opt: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...],
    flag: str,
) -> None:  # fmt: skip
    """A number out of range ends with 2 and the flag as the user wrote it; nothing is made."""
    monkeypatch.chdir(tmp_path)
    ran = moe2opt(*words)
    assert ran.exit_code == 2
    assert f"Invalid value for '{flag}': " in ran.stderr
    assert "Input should be" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs a folder that nobody can write to")
@pytest.mark.parametrize("verb", ["solve", "pareto"])
def test_folders_that_cannot_be_written_are_told_before_the_work(
    moe2opt: Run, tiny_file: Path, verb: str
) -> None:
    """A folder that is there but takes no file ends with 2 before the solver is called."""
    more = {"solve": (), "pareto": ("--x", "budgets[0]")}[verb]
    ran = moe2opt(verb, tiny_file, *more, "--out", "/sys", "--json")
    assert ran.exit_code == 2
    assert "error: --out /sys: " in ran.stderr
    assert ran.stdout == ""
    assert "budgets known" not in ran.stderr
    assert "BestBound" not in ran.stderr


@pytest.mark.parametrize("verb", ["certificate", "export", "report"])
def test_files_that_cannot_be_written_are_told_before_the_work(
    moe2opt: Run, tmp_path: Path, verb: str
) -> None:
    """The place of a file is judged before what it is made of is read."""
    result, out = tmp_path / "result.json", tmp_path / "file" / "out"
    (tmp_path / "file").write_text("", encoding="utf-8")
    words = {
        "certificate": (result, "tiny"),
        "export": (result, "--to", "json"),
        "report": (tmp_path,),
    }[verb]
    ran = moe2opt(verb, *words, "--out", out)
    assert ran.exit_code == 2
    assert ran.stderr == f"error: --out {out}: Not a directory\n"


def test_a_file_is_no_folder(moe2opt: Run, tmp_path: Path) -> None:
    """`report --out` of a folder is refused at once, as the page is a file."""
    ran = moe2opt("report", tmp_path, "--out", tmp_path)
    assert (ran.exit_code, ran.stderr) == (2, f"error: --out {tmp_path}: Is a directory\n")


def test_tables_say_statuses_in_words(moe2opt: Run, tiny_file: Path, tmp_path: Path) -> None:
    """Tables of fronts and sweeps name a status as `solve` does, and one cell is a cell."""
    front = moe2opt("pareto", tiny_file, "--x", "budgets[0]", "--x-budgets", "0,1", "--quiet")
    assert "optimal" in front.stdout
    assert "OPTIMAL" not in front.stdout
    flags = ("--scenarios", "infeasible", "--backend", "serial", "--quiet")
    swept = moe2opt("sweep", "tiny", "--out", tmp_path / "swept", *flags)
    assert "1 cell: 1 infeasible; 0 were there before" in swept.stdout


def test_a_sweep_has_units(moe2opt: Run, tmp_path: Path) -> None:
    """The objective of a sweep's table has the unit of its question."""
    flags = ("--gap", "0.5", "--backend", "serial", "--quiet")
    ran = moe2opt("sweep", "tinymoe", "--out", tmp_path, *flags)
    assert ran.exit_code == 0
    assert "objective (s per token)" in ran.stdout


def test_one_node_is_a_node(moe2opt: Run, tiny_file: Path) -> None:
    """Reports say '1 node' and 'node limit'."""
    ran = moe2opt("solve", tiny_file, "--solver", "exhaustive", "--node-limit", 1)
    assert "exhaustive, 1 node, " in ran.stderr
    assert "(node limit)" in ran.stdout
