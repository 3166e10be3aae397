"""Plans of ``levels`` whose weights may deviate are the best in the worst case."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from level_files import YAML, cases, solved, written
from mutations_of_results import FREE, mutations
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli.app import app
from moe2opt.errors import InputError
from moe2opt.levels import Case, LevelsInstance, LevelsPlan
from moe2opt.levels.judge import faults, levels_of, total
from moe2opt.verify import judged


def worst(case: Case, plan: dict[str, Any]) -> float:
    """Return the sum of a plan by trying every set of weights at every end of their intervals."""
    sums = []
    for off in itertools.combinations(plan, case.deviating):
        for ends in itertools.product(*(case.intervals[group] for group in off)):
            weights = case.weights | dict(zip(off, ends, strict=True))
            sums.append(math.fsum(weights[group] * plan[group].value for group in plan))
    return max(sums) if case.measure.minimizes else min(sums)


@st.composite
def doubtful(draw: st.DrawFn) -> Case:
    """Draw a case whose weights lie in intervals, some values below zero."""
    case = draw(cases())
    menus = {
        group: tuple(replace(level, value=level.value - draw(st.integers(0, 5))) for level in menu)
        for group, menu in case.menus.items()
    }
    widths = st.tuples(st.integers(0, 3), st.integers(0, 3))
    intervals = {}
    for group, weight in case.weights.items():
        below, above = draw(widths)
        intervals[group] = (max(weight - below, 0.0), weight + above)
    count = draw(st.integers(0, len(menus)))
    return replace(case, menus=menus, intervals=intervals, deviating=count)


@settings(max_examples=60, deadline=None)
@given(doubtful())
def test_plans_are_the_best_of_all_worst_cases(case: Case) -> None:
    """Of all plans within the budgets none has a better worst case, by trying every deviation."""
    plans = [
        dict(zip(case.menus, levels, strict=True))
        for levels in itertools.product(*case.menus.values())
    ]
    sums = [worst(case, plan) for plan in plans if not faults(case, plan)]
    target = LevelsInstance(case)
    if not sums:
        assert mo.solve(target).status is mo.Status.INFEASIBLE
        return
    plan = solved(target).plan
    assert plan.total == (min(sums) if case.measure.minimizes else max(sums))
    assert worst(case, levels_of(case, plan.choices)) == plan.total
    assert sum(choice.deviates for choice in plan.groups) <= case.deviating
    assert all(rival.gain is None or rival.gain >= 0 for rival in plan.baselines)


def test_a_class_whose_share_is_unsure_is_not_turned_away() -> None:
    """With one of three shares off by half, all classes are served: worse as given, surer."""
    settings = {"value.intervals": 0.5, "value.deviating": 1}
    target: Any = mo.load("prism_class_levels", overrides=settings)
    plan = solved(target).plan
    given = solved(mo.load("prism_class_levels")).plan
    assert (f"{plan.total:.4f}", f"{plan.nominal:.4f}") == ("0.5106", "0.6258")
    at_worst = total(target.case, levels_of(target.case, given.choices))
    assert (f"{given.total:.4f}", f"{at_worst:.4f}") == ("0.6645", "0.4982")
    assert "reject" in given.choices.values() and "reject" not in plan.choices.values()
    assert sum(choice.deviates for choice in plan.groups) == 1


def test_more_deviations_never_help() -> None:
    """The worst case falls with the number of weights that deviate, from none to all."""
    sums = [
        solved(
            mo.load("smile_ranks", overrides={"value.intervals": 0.5, "value.deviating": k})
        ).plan
        for k in range(9)
    ]
    assert [plan.total for plan in sums] == sorted((plan.total for plan in sums), reverse=True)
    assert sums[0].total == sums[0].nominal
    assert sums[8].total == pytest.approx(0.5 * sums[8].nominal)


def test_intervals_are_read_from_a_table_or_given_by_group(tmp_path: Path) -> None:
    """A CSV of low and high, ends by group and a share for all say the same."""
    rows = "task,low,high\ndtd,0.5,1.5\nmnist,0.5,1.5\ncars,0.5,1.5\n"
    ends = "{dtd: [0.5, 1.5], mnist: [0.5, 1.5], cars: [0.5, 1.5]}"
    totals = set()
    for told in ("0.5", "w.csv", ends):
        value = f"value: {{column: accuracy, intervals: {told}, deviating: 1}}"
        path = written(tmp_path, YAML.replace("value: accuracy", value), w=rows)
        plan = solved(mo.load(path)).plan
        totals.add(plan.total)
        assert any("1 of the weights anywhere in their intervals" in note for note in plan.notes)
    assert len(totals) == 1


def test_fronts_stored_results_and_conflicts_speak_of_budgets_only(tmp_path: Path) -> None:
    """A front over a budget and a conflict show no rows that only find the worst case."""
    value = "value: {column: accuracy, intervals: 0.5, deviating: 1}"
    config = written(tmp_path, YAML.replace("value: accuracy", value))
    target: Any = mo.load(config)
    front = mo.pareto(target, x="rank", points=4)
    assert all(point.status == "OPTIMAL" for point in front.points)
    for point in front.points:
        alone = solved(mo.load(config, overrides={"budgets.rank": point.budget}))
        assert alone.objective == pytest.approx(point.objective, rel=1e-12)
    mo.solve(target).save(tmp_path / "result.json")
    content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert judged(content, tmp_path, target).failures == ()
    free = (*FREE, "provenance.scenario", "provenance.overrides")
    changed = list(mutations(content, 100, free))
    assert [what for what, mutant in changed if judged(mutant, tmp_path, target).ok] == []
    assert LevelsPlan.from_dict(content["plan"]) == mo.solve(target).plan
    low = ["solve", str(config), "--set", "budgets.rank=20", "--json", "--quiet"]
    run = CliRunner().invoke(app, low)
    assert run.exit_code == 3
    assert json.loads(run.stdout)["certificate"]["conflict"]["budgets"] == ["rank"]


#: What is written in place of the value, and the message.
BAD = [
    ("deviating: 1", "value: deviating: there are no intervals"),
    ("intervals: 0.2, deviating: -1", "value.deviating: "),
    ("intervals: 0.2, deviating: 1.5", "value.deviating: "),
    ("intervals: 1.2", "value.intervals"),
    ("intervals: {dtd: [0.5, 2]}", "value.intervals: nothing is said of mnist, cars"),
    ("intervals: {dtd: [1, 1], mnist: [1, 1], cars: [1.5, 2]}",
     "value.intervals: cars: 1.5 to 2 does not hold its weight 1"),
    ("intervals: {dtd: [2, 0.5], mnist: [1, 1], cars: [1, 1]}",
     "value.intervals: dtd: 2 to 0.5 does not hold its weight 1"),
    ("intervals: {dtd: [0.5], mnist: [1, 1], cars: [1, 1]}", "value.intervals"),
    ("intervals: none.csv", "none.csv: No such file"),
    ("intervals: t.csv", "value.intervals.low: t.csv has no column 'low'"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "message"), BAD)
def test_bad_intervals_are_named(tmp_path: Path, keys: str, message: str) -> None:
    """A fault of intervals or their number is one line that names the key or the file."""
    value = f"value: {{column: accuracy, {keys}}}"
    config = written(tmp_path, YAML.replace("value: accuracy", value))
    with pytest.raises(InputError) as error:
        mo.load(config)
    assert message in str(error.value)


def test_a_budget_of_nothing_is_proven() -> None:
    """Where every class is turned away, no option is better by rounding: the proof holds."""
    overrides = {"budgets.quarters": 0}
    plan = solved(mo.load("prism_class_levels", "unsure", overrides)).plan
    assert (set(plan.choices.values()), plan.total) == ({"reject"}, 0.0)
