"""Plans of the question ``levels`` are the best the table has, and say what rules in use give."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from level_files import TABLE, YAML, cases, solved, written
from mutations_of_results import FREE, mutations
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli.app import app
from moe2opt.errors import InputError
from moe2opt.levels import Case, LevelsInstance, LevelsPlan
from moe2opt.levels.baselines import greedy, uniform
from moe2opt.levels.judge import faults, total
from moe2opt.verify import judged


def test_the_tiny_instance_of_the_reference(tmp_path: Path) -> None:
    """With a sum of ranks of 112 the plan is 32/16/64, and no equal ranks come near."""
    result = solved(mo.load(written(tmp_path)))
    assert result.plan.choices == {"dtd": "32", "mnist": "16", "cars": "64"}
    assert f"{result.objective:.6f}" == "2.529183"
    beside = {rival.name: rival for rival in result.plan.baselines}
    assert f"{beside['uniform (32)'].value:.6f}" == "2.511775"
    assert beside["greedy"].verdict == "as good here"


def test_equal_ranks_are_best_where_the_budget_just_holds_them(tmp_path: Path) -> None:
    """With a sum of ranks of 96 the best plan is the uniform one, and the plan says so."""
    plan = solved(mo.load(written(tmp_path), overrides={"budgets.rank": 96})).plan
    assert set(plan.choices.values()) == {"32"}
    assert any(note.startswith("uniform (32) is as good here") for note in plan.notes)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_plans_are_those_of_enumeration(case: Case) -> None:
    """The plan is as good as the best of all choices within the budgets, or there is none."""
    plans = [
        dict(zip(case.menus, levels, strict=True))
        for levels in itertools.product(*case.menus.values())
    ]
    totals = [total(case, plan) for plan in plans if not faults(case, plan)]
    result = mo.solve(LevelsInstance(case))
    if not totals:
        assert result.status is mo.Status.INFEASIBLE
        return
    best = min(totals) if case.measure.minimizes else max(totals)
    assert result.plan is not None and result.plan.total == best
    for rule in (uniform, greedy):
        found = rule(case)
        assert found is None or (not faults(case, found) and found in plans)
    for rival in result.plan.baselines:
        assert rival.gain is None or rival.gain >= 0


def test_the_sense_of_the_table_is_the_sense_of_the_answer(tmp_path: Path) -> None:
    """Errors that are to be small are shown as they are, their bound from below."""
    errors = "layer,blocks,error,mb\na,1,5,1\na,2,2,2\nb,1,4,1\nb,2,3,2\n"
    yaml = """\
schema_version: 1
problem: levels
name: blocks
table: t.csv
group: layer
option: blocks
value: {column: error, sense: min, unit: nats, weights: {a: 1, b: 10}}
budgets: {mb: 3}
"""
    folder = written(tmp_path, yaml, t=errors)
    content = json.loads(
        CliRunner().invoke(app, ["solve", str(folder), "--json", "--quiet"]).stdout
    )
    assert content["plan"]["choices"] == {"a": "1", "b": "2"}
    told = content["sense"], content["unit"], content["objective"]
    assert told == ("minimize", "nats", 35.0)
    assert content["bound"] <= 35.0


def test_gains_within_two_standard_errors_say_so(tmp_path: Path) -> None:
    """Only groups that differ count, and a gain that noise explains is called that."""
    rows = ["task,rank,accuracy,accuracy_se,bytes"]
    rows += ["a,1,0.5,0.01,1", "a,2,0.52,0.03,2", "b,1,0.7,0.5,1", "b,2,0.7,0.5,2"]
    yaml = YAML.replace("rank: 112", "bytes: 3") + "baselines: [uniform, plan: w.csv]\n"
    folder = written(tmp_path, yaml, t="\n".join(rows), w="task,rank\nb,1\na,1\n")
    plan = solved(mo.load(folder)).plan
    assert plan.choices == {"a": "2", "b": "1"}
    rival = {rival.name: rival for rival in plan.baselines}["w"]
    assert rival.standard_error == pytest.approx(math.hypot(0.01, 0.03))
    assert "within two standard errors" in rival.verdict
    assert any("no larger than noise" in note for note in plan.notes)


def test_a_cautious_plan_leaves_what_is_uncertain(tmp_path: Path) -> None:
    """Two standard errors worse, a sure gain is taken before a larger one that may be none."""
    rows = ["task,rank,accuracy,accuracy_se,bytes"]
    rows += ["a,1,0.5,0.01,1", "a,2,0.58,0.04,2", "b,1,0.7,0.01,1", "b,2,0.75,0.01,2"]
    yaml = YAML.replace("rank: 112", "bytes: 3")
    choices = []
    for caution in (0, 2):
        own = yaml.replace("value: accuracy", f"value: {{column: accuracy, caution: {caution}}}")
        plan = solved(mo.load(written(tmp_path, own, t="\n".join(rows)))).plan
        choices.append(list(plan.choices.values()))
        assert any("2 standard errors worse" in note for note in plan.notes) == (caution == 2)
    assert choices == [["2", "1"], ["1", "2"]]
    assert plan.total == pytest.approx(0.48 + 0.73)


def test_a_named_plan_that_breaks_a_budget_says_which(tmp_path: Path) -> None:
    """A plan of others that uses too much is shown with its value and its fault."""
    yaml = YAML + "baselines: [plan: w.csv]\n"
    folder = written(tmp_path, yaml, w="task,rank\ndtd,64\nmnist,64\ncars,64\n")
    (rival,) = solved(mo.load(folder)).plan.baselines
    assert (rival.gain, rival.verdict) == (None, "breaks rank: 192 is more than 112")


def test_an_exported_plan_is_read_as_a_baseline(tmp_path: Path) -> None:
    """The CSV of an export is a named plan as good as the plan, and JSON holds the same."""
    folder = written(tmp_path)
    solved(mo.load(folder)).save(tmp_path / "result.json")
    for form, name in (("csv", "w.csv"), ("json", "w.json")):
        command = ["export", str(tmp_path / "result.json"), "--to", form]
        done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / name), "--quiet"])
        assert done.exit_code == 0, done.output
    again = written(tmp_path, YAML + "baselines: [plan: w.csv]\n")
    plan = solved(mo.load(again)).plan
    assert plan.baselines[0].verdict == "as good here"
    assert json.loads((tmp_path / "w.json").read_text()) == plan.choices


def test_changes_of_a_stored_result_are_rejected(tmp_path: Path) -> None:
    """A stored result is accepted as it is, and rejected with any of its leaves changed."""
    target = mo.load(written(tmp_path))
    mo.solve(target).save(tmp_path / "result.json")
    content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert judged(content, tmp_path, target).failures == ()
    free = (*FREE, "provenance.scenario", "provenance.overrides")
    changed = list(mutations(content, 150, free))
    accepted = [what for what, mutant in changed if judged(mutant, tmp_path, target).ok]
    assert len(changed) >= 100 and accepted == []


def test_plans_are_read_back_and_judged_by_the_table(tmp_path: Path) -> None:
    """A plan survives JSON; one with a foreign option or too much use is found out."""
    target = mo.load(written(tmp_path))
    plan = solved(target).plan
    again = LevelsPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan and target.check(again) == []
    assert list(plan.to_frame()["option"]) == ["32", "16", "64"]
    over = LevelsPlan.from_dict(plan.to_dict() | {"choices": plan.choices | {"mnist": "64"}})
    assert target.check(over) == ["rank: 160 is more than 112"]
    wrong = LevelsPlan.from_dict(plan.to_dict() | {"choices": {"mnist": "63"}})
    assert target.check(wrong) == ["plan: mnist has no option '63'"]
    with pytest.raises(InputError, match="not a plan of levels"):
        LevelsPlan.from_dict({})


def test_fronts_sweeps_and_reports_ask_no_more(tmp_path: Path) -> None:
    """A front over the budget, a sweep of it and a report of a folder work as for any question."""
    config = written(tmp_path)
    front = mo.pareto(mo.load(config), x="rank", points=4)
    assert all(point.status == "OPTIMAL" for point in front.points)
    runs = [
        ["solve", config, "--out", tmp_path / "out", "--quiet"],
        ["sweep", config, "--over", "budgets.rank=96,112", "--out", tmp_path / "sweep", "--quiet"],
        ["report", tmp_path / "out", "--quiet"],
    ]
    for command in runs:
        done = CliRunner().invoke(app, list(map(str, command)))
        assert done.exit_code == 0, done.output
    assert "Which option each group has" in (tmp_path / "out" / "report.html").read_text()


#: What stands there, what is written instead (in the configuration or the table), the message.
BAD: list[tuple[str, str, str]] = [
    ("value: accuracy", "value: acuracy",
     "value.column: t.csv has no column 'acuracy'; did you mean 'accuracy'?"),
    ("value: accuracy", "value: {column: accuracy, sense: up}", "value.sense: "),
    ("value: accuracy", "value: {column: accuracy, se: error}", "has no column 'error'"),
    ("value: accuracy", "value: {column: accuracy, caution: 2}",
     "value.caution: t.csv has no column of standard errors"),
    ("value: accuracy", "value: {column: accuracy, weights: {dtd: 1}}",
     "value.weights: nothing is said of mnist, cars"),
    ("value: accuracy", "value: {column: accuracy, weights: {dtd: 1, mnist: 1, car: 1}}",
     "value.weights: the table has no 'car'; did you mean 'cars'?"),
    ("value: accuracy", "value: {column: accuracy, weights: {dtd: -1, mnist: 1, cars: 1}}",
     "value.weights"),
    ("value: accuracy", "value: {column: accuracy, weights: w.csv}", "w.csv: No such file"),
    ("budgets: {rank: 112}", "budgets: {}", "budgets: "),
    ("budgets: {rank: 112}", "budgets: {rank: -1}", "budgets.rank: "),
    ("budgets: {rank: 112}", "budgets: {rank: .nan}", "budgets.rank: "),
    ("budgets: {rank: 112}", "budgets: {ranks: 112}",
     "budgets.ranks: t.csv has no column 'ranks'; did you mean 'rank'?"),
    ("budgets: {rank: 112}", "budgets: {ra: 112}", "did you mean 'rank'?"),
    ("budgets: {rank: 112}", "budgets: {memory: 112}",
     "budgets.memory: t.csv has no column 'memory'; its unit is missing: did you mean"),
    ("group: task", "group: rank", "option: 'rank' is the column of the groups"),
    ("group: task\n", "", "group: required key is missing"),
    ("table: t.csv", "table: ../t.csv", "table: '../t.csv' leaves the folder"),
    ("table: t.csv", "table: none.csv", "none.csv: No such file"),
    ("budgets: {rank: 112}", "budgets: {rank: 112}\nbaselines: [best]", "baselines.0"),
    ("budgets: {rank: 112}", "budgets: {rank: 112}\nbaselines: [greedy, greedy]",
     "baselines.1: 'greedy' is there twice"),
    ("budgets: {rank: 112}", "budgets: {rank: 112}\nbaselines: [plan: few.csv]",
     "few.csv: no option for mnist, cars"),
    ("budgets: {rank: 112}", "budgets: {rank: 112}\nbaselines: [plan: odd.csv]",
     "odd.csv: dtd has no option '33'"),
    ("dtd,8,0.68883\n", "dtd,8,0.68883\ndtd,8,0.7\n", "t.csv:3: task, rank: 'dtd, 8"),
    ("dtd,8,0.68883", "dtd,8,nan", "t.csv:2: accuracy: nan is not finite"),
    ("dtd,8,0.68883", "dtd,8,", "t.csv:2: accuracy: the cell is empty"),
    ("dtd,8,0.68883", "dtd,8,high", "t.csv:2: accuracy: 'high' is not a number"),
    ("dtd,8,0.68883", "dtd,-8,0.68883", "t.csv:2: rank: -8 is outside 0..inf"),
    ("dtd,8,0.68883", ",8,0.68883", "t.csv:2: task: the cell is empty"),
    ("dtd,8,0.68883", "dtd,8", "t.csv:2: 2 cells, the header has 3"),
    ("task,rank,accuracy", "task,rank,accuracy,rank", "column 'rank' appears twice"),
    (TABLE, "task,rank,accuracy\n", "table: t.csv has no rows"),
    (TABLE, "", "t.csv:1: the file is empty; expected a header"),
    (TABLE, f"\n{TABLE}", "t.csv:1: the line is empty; expected a header"),
    (TABLE, f"# ranks\n{TABLE}", "group: t.csv has no column 'task'; it has '# ranks'"),
    (TABLE, TABLE.replace(",", ";"), "t.csv:1: cells are separated by semicolons"),
    (TABLE, TABLE.replace(",", "\t"), "t.csv:1: cells are separated by tabs"),
    ("task,rank", "Task,rank", "group: t.csv has no column 'task'; did you mean 'Task'?"),
    ("dtd,8,0.68883", "\"dtd,8,0.68883", "t.csv: cannot be read as CSV: "),
    ("dtd,8,0.68883", "dtd,8,\"0,68883\"", "t.csv:2: accuracy: '0,68883' is not a number"),
    ("dtd,8,0.68883", "dtd,8,0,68883", "t.csv:2: 4 cells, the header has 3"),
    ("dtd,8,0.68883", "dtd,1_6,0.68883", "t.csv:2: rank: '1_6' is not a number"),
    ("dtd,8,0.68883", "dtd,\N{ARABIC-INDIC DIGIT EIGHT},0.68883", "t.csv:2: rank: "),
    ("dtd,8,0.68883", "dtd,8,68.9 %", "t.csv:2: accuracy: '68.9 %' is not a number"),
    ("dtd,8,0.68883", "dt\u200bd,8,0.68883", "t.csv:2: task: character U+200B is not allowed"),
    ("budgets: {rank: 112}", "budgets: {rank: 112 MB}", "budgets.rank: expected a number"),
    ("budgets: {rank: 112}", "budgets: {rank: \"112\"}", "got '112'; remove the quotes"),
    ("budgets: {rank: 112}", "budgets: {rank: yes}", "budgets.rank: expected a number"),
    ("budgets: {rank: 112}", "budgets:\n\trank: 112", "not YAML: found character"),
    ("problem: levels", "problem: level", "did you mean 'levels'?"),
    ("name: ranks", "name: ranks\nname: ranks", "name: duplicate key"),
    ("value: accuracy", "value: [accuracy]", "value: expected text or a section"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BAD)
def test_bad_input_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A fault of configuration or tables is one line that names key, file and line, or column."""
    table = TABLE
    if "memory" in new:
        table = "".join(f"{line},memory_mb\n" if k == 0 else f"{line},1\n"
                        for k, line in enumerate(TABLE.splitlines()))  # fmt: skip
    texts = {"few": "task,rank\ndtd,8\n", "odd": "task,rank\ndtd,33\n"}
    config = written(tmp_path, YAML.replace(old, new, 1), t=table.replace(old, new, 1), **texts)
    with pytest.raises(InputError) as error:
        mo.load(config)
    assert message in str(error.value)


#: Built-in problems: scenario, value of the plan, and of the best uniform plan (None for none).
BUILT_IN = [
    ("smile_ranks", None, "0.883726", "0.881827"),
    ("smile_ranks", "mean_rank_16", "0.869291", "0.866096"),
    ("smile_ranks", "mean_rank_64", "0.890584", "0.888677"),
    ("prism_class_levels", None, "0.664455", "0.637925"),
    ("tinymoe_blocks", None, "0.084890", "0.120500"),
    ("ewemoe_ratio", None, "0.893392", "0.891914"),
    ("teal_blocks", "relative", "31.742261", "31.999998"),
    ("teal_blocks", "llama_3_8b", "12.725587", "18.653562"),
]


@pytest.mark.parametrize(("name", "scenario", "value", "same"), BUILT_IN)
def test_published_tables_give_the_documented_gains(
    name: str, scenario: str | None, value: str, same: str
) -> None:
    """Plans on published tables have the sums of the page, and so do equal options for all."""
    target = mo.load(name, scenario)
    plan = solved(target).plan
    found = uniform(target.case)
    assert found is not None
    assert (f"{plan.total:.6f}", f"{total(target.case, found):.6f}") == (value, same)


@pytest.mark.slow
def test_the_measured_sparsities_make_the_difference_to_the_nominal_ones() -> None:
    """By the grid's own sparsities the error is 30.53, by those that were measured 30.63."""
    case = mo.load("teal_blocks").case
    nominal = {
        group: tuple(replace(level, uses=(1 - float(level.option),)) for level in menu)
        for group, menu in case.menus.items()
    }
    assert f"{solved(LevelsInstance(replace(case, menus=nominal))).plan.total:.4f}" == "30.5293"
    assert f"{solved(mo.load('teal_blocks')).plan.total:.4f}" == "30.6348"


def test_a_class_is_turned_away_where_that_serves_more_requests() -> None:
    """With 14 quarters on average the class of the largest needs is rejected, with 18 none is."""
    assert list(solved(mo.load("prism_class_levels")).plan.choices.values()) == [
        "20",
        "22",
        "reject",
    ]
    assert "reject" not in solved(mo.load("prism_class_levels", "eighteen")).plan.choices.values()


@pytest.mark.parametrize("scenario", [None, "relative", "llama_3_8b", "llama_3_8b_relative"])
def test_a_note_speaks_of_other_scenarios(scenario: str | None) -> None:
    """No scenario of the sparsities refers to itself, or to weights that it does not have."""
    notes = mo.load("teal_blocks", scenario).caveats
    assert not any(note.endswith(f"see the scenario {scenario}") for note in notes)
    assert any("all 1 here" in note for note in notes) == (scenario in (None, "llama_3_8b"))


def test_the_gain_over_one_ratio_is_within_noise() -> None:
    """The plan on the E-WEMoE grid says that its gain is no larger than noise makes it."""
    plan = solved(mo.load("ewemoe_ratio")).plan
    assert any("over uniform (0.9) is no larger than noise" in note for note in plan.notes)


def test_the_greedy_rule_ends_and_is_near_on_errors_of_layers() -> None:
    """From the best options down, rounding alone is no progress; the end is within 1.1 %."""
    case = mo.load("teal_blocks").case
    found = greedy(case)
    assert found is not None and faults(case, found) == []
    assert 30.634764 <= total(case, found) <= 30.634764 * 1.011


def test_a_published_plan_that_breaks_its_own_budget_is_shown() -> None:
    """The setting that SwapMoE's table gives for 3.5 GiB uses 3.58, and the plan says so."""
    plan = solved(mo.load("swapmoe_memory")).plan
    assert plan.choices == {"Switch-Transformer-16": "planned for 3 GiB"}
    assert plan.baselines[1].verdict == "breaks memory_gib: 3.58 is more than 3.5"
