"""Plans and baselines over a grid of budgets, on the test part."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.canonical import FacilityProblem
from moe2opt.cli.app import app
from moe2opt.pareto.axes import axes_of, check_axes
from moe2opt.result import InputError
from moe2opt.selection.evaluation.grid import SolvedCell, evaluate_grid
from moe2opt.selection.evaluation.grid_report import GridEvaluation, Rival
from moe2opt.selection.evaluation.policies import TestPart
from moe2opt.selection.evaluation.realised import evaluate_on_test, facts_of
from moe2opt.selection.evaluation.sets import baseline_sets

BUDGETS = (40.0, 90.0, 150.0, 300.0)


@cache
def tiny() -> Any:
    """Return the tiny gated instance."""
    return mo.load("tiny_gate")


def complete() -> Any:
    """Return the tiny instance with every outcome known: unknown answers count as wrong."""
    own = tiny().outcomes
    return replace(tiny(), outcomes=replace(own, score=np.nan_to_num(own.score)))


def solved(budget: float, instance: Any = None) -> SolvedCell:
    """Return the solved cell of an energy budget."""
    instance = instance or tiny()
    problem = instance.problem()
    limits = problem.budgets.copy()
    limits[instance.row_names().index("energy_j_per_prompt")] = budget
    problem = problem.with_budgets(limits)
    found = mo.solve(problem)
    proof = (str(found.status), True, found.objective, found.bound)
    return SolvedCell((budget,), instance, problem, found.x, *proof)


@cache
def done() -> GridEvaluation:
    """Return the evaluation over four energy budgets."""
    return evaluate_grid(["energy_j_per_prompt"], map(solved, BUDGETS), retrain=True)


def test_cell_agrees_with_evaluate() -> None:
    """At the file's own budget the figures are those of `evaluate`."""
    instance = complete()
    own = evaluate_on_test(instance, mo.solve, replicates=20)
    (cell,) = evaluate_grid(["energy"], [solved(150.0, instance)]).cells
    assert cell.accuracy == pytest.approx(own.row("moe2").accuracy.mean)
    for rival in cell.rivals:
        row = own.row(rival.policy)
        assert rival.accuracy == pytest.approx(row.accuracy.mean), rival.policy


def test_differences_are_paired() -> None:
    """A difference is the mean over the prompts, with the standard error of such pairs."""
    instance = complete()
    cell, test = solved(150.0, instance), TestPart(instance, instance.split.members("test"))
    chosen = np.flatnonzero(cell.x)
    answer = test.by_gate(chosen).first
    single = baseline_sets(cell.problem, facts_of(instance))
    (one,) = single["best single LLM"]
    gap = test.score[:, one] - test.score[np.arange(len(answer)), answer]
    found = evaluate_grid(["energy"], [cell]).cells[0]
    rival = next(rival for rival in found.rivals if rival.policy == "best single LLM")
    assert rival.difference == pytest.approx(gap.mean())
    assert rival.error == pytest.approx(gap.std(ddof=1) / np.sqrt(len(gap)))


def test_every_baseline_is_there() -> None:
    """Each cell has the baselines that keep its budgets."""
    assert {
        "best single LLM", "greedy by accuracy", "greedy by accuracy per joule",
        "lazy greedy on the objective", "random feasible set", "majority vote", "uniform routing",
        "category table", "gate retrained for the set", "all experts that fit", "best per category",
        "nearest-neighbour router", "ridge router", "cheapest good enough",
        "StageRoute-like shares",
    } == {rival.policy for cell in done().cells for rival in cell.rivals}  # fmt: skip


def test_deployed_sets_of_baselines_are_in_the_table() -> None:
    """The table says what every baseline deploys; a random policy lists all of its sets."""
    table = done().to_frame()
    assert (table["deployed"].str.len() > 0).all()
    drawn = table.query("policy == 'random feasible set'")["deployed"].iloc[0]
    assert len(drawn.split("; ")) == 20


def test_baseline_sets_keep_the_budgets() -> None:
    """Every set that a cell compares with is feasible in that cell."""
    for budget in BUDGETS:
        cell = solved(budget)
        for name, chosen in baseline_sets(cell.problem, facts_of(tiny())).items():
            x = np.zeros(cell.problem.size, dtype=np.int64)
            x[[] if chosen is None else chosen] = 1
            assert chosen is None or cell.problem.is_feasible(x), name


def test_tallies_count_by_hand() -> None:
    """Counts, means and the worst cell are those of the single cells."""
    tallies = {tally.policy: tally for tally in done().tallies()}
    assert tallies["every baseline"].cells == len(BUDGETS)
    for name, tally in tallies.items():
        if name == "every baseline":
            continue
        rivals = [r for cell in done().cells for r in cell.rivals if r.policy == name]
        assert tally.beaten == sum(r.difference <= 1e-12 for r in rivals)
        assert tally.worst == max(r.difference for r in rivals)
        assert tally.mean == pytest.approx(np.mean([r.difference for r in rivals]))
    worst = max(tally.worst for tally in tallies.values())
    assert tallies["every baseline"].worst == worst


def test_level_allows_for_chance() -> None:
    """A baseline is better only when its lead exceeds 1.96 standard errors of the pairs."""
    rival = Rival("a", 9, 0.5, 0.019, 0.01, 1.0, 1.0)
    assert not rival.beaten
    assert rival.level
    assert not replace(rival, difference=0.020).level
    assert replace(rival, difference=0.0, error=0.0).beaten


def test_losses_name_the_baseline() -> None:
    """A cell with a baseline that is better beyond chance is listed, with the best of them."""
    cell = done().cells[0]
    better = (Rival("a", 9, 0, 0.1, 0.01, 0, 0), Rival("b", 9, 0, 0.2, 0.01, 0, 0))
    faked = replace(done(), cells=(replace(cell, rivals=better),))
    (loss,) = faked.losses()
    assert loss == {"energy_j_per_prompt": BUDGETS[0], "policy": "b", "difference": 0.2}
    assert "b in 1 of the cells" in faked.summary()


def test_cells_without_a_plan_count_nowhere() -> None:
    """An infeasible cell has no figures and is no win."""
    cell = replace(solved(BUDGETS[0]), x=None, status="INFEASIBLE", objective=-np.inf)
    found = evaluate_grid(["energy"], [cell, solved(150.0)])
    assert found.tallies()[-1].cells == 1
    assert "1 infeasible" in found.summary()
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["cells"][0]["accuracy"] is None
    assert len(found.to_frame().query("policy == 'moe2'")) == 2


def test_other_problems_are_refused() -> None:
    """No cell, and a problem that is not one column per expert, are input errors."""
    with pytest.raises(InputError, match="no cells"):
        evaluate_grid(["a"], [])
    small = FacilityProblem(values=[[1.0]], costs=[[1.0]], budgets=[1.0])
    with pytest.raises(InputError, match="not that of its instance"):
        evaluate_grid(["a"], [replace(solved(150.0), problem=small)])
    mixed = mo.load("tiny_gate", overrides=["objective=masked_softmax"])
    with pytest.raises(InputError, match="grid: compares deployments on sums"):
        evaluate_grid(["a"], [replace(solved(150.0), instance=mixed)])


def test_axes_of_the_command_line() -> None:
    """Budgets are listed, or in equal ratios between two ends."""
    assert axes_of(["a=1:100:3", "b.c=4,5"]) == {"a": [1.0, 10.0, 100.0], "b.c": [4.0, 5.0]}


@pytest.mark.parametrize("text", ["a", "a=", "a=x", "a=1:2", "a=2:1:3", "a=1:2:1", "=1,2"])
def test_bad_axes(text: str) -> None:
    """Another form is an input error that repeats the text."""
    with pytest.raises(InputError, match="--grid"):
        axes_of([text])


def test_too_few_numbers_name_the_form() -> None:
    """A range without its count is told the form, not what Python missed."""
    with pytest.raises(InputError, match="expected NAME=LOW:HIGH:COUNT"):
        axes_of(["energy_j_per_prompt=50:200"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("energy", "is no number in the configuration; did you mean 'energy_j_per_prompt'"),
        ("delay.limit_s", "is not set as a number in this file"),
        ("energy.limit_j_per_promt", "did you mean 'energy.limit_j_per_prompt'"),
    ],
)
def test_axes_are_checked_before_anything_is_computed(name: str, words: str) -> None:
    """A section, a key that is not set and a misspelt key are refused by the file alone."""
    config = {"energy": {"limit_j_per_prompt": 100.0}, "servers": [{"name": "a", "n": 2}]}
    check_axes(config, ["energy.limit_j_per_prompt", "servers.a.n", "servers.0.n", "any_row"])
    with pytest.raises(InputError, match=words):
        check_axes(config, [name])


def test_command_writes_tables_and_pictures(tmp_path: Path) -> None:
    """`evaluate --grid` certifies every cell and writes tables, maps and curves."""
    words = ["evaluate", "tiny_gate", "--set", "delay.limit_s=20", "--out", str(tmp_path), "--json"]
    words += ["--quiet", "--grid", "energy_j_per_prompt=60,150", "--grid", "delay.limit_s=2,20"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.stderr
    content = json.loads(ran.stdout)
    assert [cell["certified"] for cell in content["cells"]] == [True] * 4
    sets = pd.read_csv(tmp_path / "grid_sets.csv")
    assert sets["status"].tolist() == ["OPTIMAL"] * 4
    table = pd.read_csv(tmp_path / "grid_evaluation.csv").query("policy == 'moe2'")
    assert table["budget energy_j_per_prompt"].tolist() == [60, 60, 150, 150]
    assert (table["energy_j_per_prompt"] < 150).all()
    for name in ("grid_map.png", "grid_curves.png", "grid_curves_reverse.png", "grid.json"):
        assert (tmp_path / name).stat().st_size > 0
    again = CliRunner().invoke(app, ["evaluate", "tiny_gate", "--retrain"])
    assert again.exit_code == 2
    assert "--retrain: goes with --grid" in again.stderr
