"""The verbs pareto, sweep and fleet: files, exit codes, and what they print."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

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
    assert json.loads(run(*energy, "--check", "--json").stdout)["ok"]
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
    told = json.loads(run(*fleet, "--check", "--json").stdout)
    assert told.pop("provisos")[0].startswith("optimal only within a relative gap of 0.2;")
    assert told == {"ok": True, "sites": 4, "failures": []}
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("limit: 400", "limit: 1"), encoding="utf-8")
    impossible = run("fleet", file, "--backend", "serial")
    assert impossible.exit_code == 3
    assert "no plans keep 1 of" in impossible.stdout
    assert run("fleet", tmp_path / "none.yaml").exit_code == 2


def test_failed_fronts_leave_no_configuration(tmp_path: Path) -> None:
    """A grid without its range is an error that leaves no file in ``--out``."""
    grid = ("pareto", "tiny", "--x", "energy_j_per_prompt", "--y", "delay.limit_s")
    assert run(*grid, "--quiet", "--out", tmp_path).exit_code == 2
    assert not list(tmp_path.iterdir())


def test_interrupted_fronts_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A front that Ctrl-C cut short says how many of its points there are, and is no success."""
    from moe2opt.pareto.ledger import Ledger

    solved = Ledger._solved

    def cut_short(self: Ledger, *arguments: Any) -> Any:
        known = solved(self, *arguments)
        self.interrupted = True
        return known

    monkeypatch.setattr(Ledger, "_solved", cut_short)
    shown = run("pareto", "tiny", "--x", "energy_j_per_prompt", "--points", 60, "--quiet")
    assert "interrupted: 1 of 60 points" in shown.stdout
    assert shown.exit_code == 5


@pytest.mark.parametrize("dimensions", [1, 2])
def test_points_without_a_plan_are_not_certified(dimensions: int) -> None:
    """A point that a limit left without a plan has a proven bound, and is not called certified."""
    import moe2opt as mo
    from moe2opt.pareto import grid, verify

    tiny, settings = mo.load("tiny"), {"solver": "polyblock", "node_limit": 0}
    axes = {"energy_j_per_prompt": [100, 200], "memory_gib[fast]": [16, 24]}
    name = next(iter(axes))
    found: Any = mo.pareto(tiny, name, budgets=axes[name], **settings)
    if dimensions == 2:
        found = grid(tiny, axes, **settings)
    open_points = [cell for cell in found if cell.status == "NO_SOLUTION"]
    assert open_points
    assert all(math.isfinite(cell.bound) and not cell.certified for cell in open_points)
    assert not found.certified
    assert verify(found, tiny) == []


def test_monotone_objectives_have_no_budget_axis() -> None:
    """A problem without budget rows is refused with what can be done instead."""
    import moe2opt as mo
    from moe2opt.result import InputError

    box = mo.MonotoneProblem(lower=[0], upper=[3], objective=lambda x: x.sum(axis=1))
    with pytest.raises(InputError, match="no budget rows to vary"):
        mo.pareto(box, "delay")
