"""The verbs pareto, sweep and fleet: files, exit codes, and what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from moe2opt.cli import app
from moe2opt.pareto import Front, Grid


def run(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_front_is_written_and_checked(tmp_path: Path) -> None:
    """``pareto`` writes front, table and results, which ``--check`` accepts and then rejects."""
    energy = ("pareto", "tiny", "--x", "energy_j_per_prompt", "--quiet", "--out", tmp_path)
    shown = run(*energy, "--json")
    assert shown.exit_code == 0
    front = Front.load(tmp_path / "front.json")
    assert json.loads(shown.stdout)["points"] == front.to_dict()["points"]
    assert (tmp_path / "front.csv").read_text(encoding="utf-8").count("\n") == len(front) + 1
    assert run(*energy, "--check").exit_code == 0
    text = (tmp_path / "front.json").read_text(encoding="utf-8")
    best = max(point.objective for point in front)
    (tmp_path / "front.json").write_text(text.replace(repr(best), "0.99"), encoding="utf-8")
    assert run(*energy, "--check").exit_code == 6


def test_grid_is_written(tmp_path: Path) -> None:
    """Two axes give a grid, one axis a key of the file."""
    shown = run(
        "pareto", "tiny", "--x", "energy_j_per_prompt", "--x-range", "40:150", "--y",
        "delay.limit_s", "--y-budgets", "1,2", "--points", 3, "--out", tmp_path,
    )  # fmt: skip
    assert shown.exit_code == 0
    grid = Grid.load(tmp_path / "grid.json")
    assert grid.shape == (3, 2)
    assert grid.certified
    assert "objective" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--x", "energy"), 2),
        (("--x", "energy_j_per_prompt", "--x-range", "5"), 2),
        (("--x", "energy_j_per_prompt", "--x-budgets", "a"), 2),
        (("--x", "delay.limit_s", "--x-range", "3:1"), 2),
        (("--x", "energy_j_per_prompt", "--y", "delay.limit_s"), 2),
        (("--x", "energy_j_per_prompt", "--check"), 2),
        (("--x", "energy_j_per_prompt", "--x-budgets", "1,2"), 3),
        (("--x", "energy_j_per_prompt", "--scenario", "none"), 2),
    ],
)
def test_exit_codes(arguments: tuple[str, ...], code: int) -> None:
    """Bad names, ranges and budgets exit with 2, budgets without any plan with 3."""
    assert run("pareto", "tiny", "--quiet", *arguments).exit_code == code


def test_sweep_verb(tmp_path: Path) -> None:
    """``sweep`` writes its table, says what failed with exit code 5, and goes on where it was."""
    sweep = ("sweep", "tiny", "--out", tmp_path, "--backend", "serial", "--quiet")
    shown = run(*sweep, "--over", "energy.limit_j_per_prompt=-1,130", "--json")
    assert shown.exit_code == 5
    again = run(*sweep, "--over", "energy.limit_j_per_prompt=130", "--scenarios", "base", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["reused"] == 1
    assert run(*sweep, "--over", "energy").exit_code == 2


def test_fleet_verb(tmp_path: Path) -> None:
    """``fleet`` writes plan and proofs, which ``--check`` accepts."""
    file = tmp_path / "fleet.yaml"
    file.write_text(
        "fleet: 1\nname: f\nrow: energy_j_per_prompt\nlimit: 400\n"
        "sites:\n  - {name: s, config: tiny, count: 4, vary: {use: 0.1}}\n",
        encoding="utf-8",
    )
    fleet = ("fleet", file, "--backend", "serial", "--gap", "0.2", "--out", tmp_path / "out")
    shown = run(*fleet)
    assert shown.exit_code == 0
    assert "4 distinct" in shown.stdout
    assert json.loads((tmp_path / "out" / "fleet.json").read_text(encoding="utf-8"))["certified"]
    assert run(*fleet, "--check", "--quiet").exit_code == 0
    assert run("fleet", tmp_path / "none.yaml").exit_code == 2
