"""From a YAML file with an outcome folder to a certified plan and its evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli import app
from moe2opt.result import InputError
from moe2opt.selection import gated
from moe2opt.selection.evaluation.intervals import bootstrap_means, estimate
from moe2opt.selection.evaluation.realised import evaluate_on_test, expert_accuracy
from moe2opt.selection.plan import GatedPlan
from moe2opt.selection.question import GatedInstance

Project = Callable[..., Path]


def load(path: Path, **overrides: object) -> GatedInstance:
    """Load a configuration as the gated instance that it must be."""
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    instance = mo.load(path, overrides=keys)
    assert isinstance(instance, GatedInstance)
    return instance


def verb(*arguments: object) -> tuple[int, str, str]:
    """Run a command and return exit code, stdout and stderr."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_yaml_alone_leads_to_a_plan(project: Project, tmp_path: Path) -> None:
    """check, gate train, solve, verify and evaluate accept a hidden matrix with a YAML alone."""
    path = project()
    assert verb("check", path)[0] == 0
    code, out, _ = verb("gate", "train", path)
    assert (code, (tmp_path / "invented.gate" / "gate.json").exists()) == (0, True), out
    assert "log-loss" in out
    code, out, err = verb("solve", path, "--out", tmp_path / "run", "--json", "--quiet")
    assert code == 0, err
    result = json.loads(out)
    assert result["status"] == "OPTIMAL"
    assert result["certificate"]["kind"] == "checked"
    assert result["provenance"]["split"]["seed"] == 0
    assert set(result["provenance"]["split"]["prompts"]) == {
        "train", "validation", "select", "test"
    }  # fmt: skip
    assert verb("verify", tmp_path / "run" / "result.json", path)[0] == 0
    code, out, err = verb("evaluate", path, "--bootstrap", 100, "--out", tmp_path / "ev", "--quiet")
    assert code == 0, err
    table = pd.read_csv(tmp_path / "ev" / "evaluation.csv").set_index("policy")
    assert {
        "moe2", "moe2, selected on train", "best single LLM", "random feasible set",
        "greedy by accuracy", "greedy by accuracy per joule", "lazy greedy on the objective",
        "majority vote", "uniform routing", "gate retrained for the set", "cost-aware routing",
        "per-prompt oracle of the set", "largest LLM of the pool",
    } <= set(table.index)  # fmt: skip


def test_objective_is_the_mean_of_the_highest_scores(project: Project) -> None:
    """The plan's value, recomputed from the gate by hand, is the solver's and the bound's."""
    instance = load(project())
    result = mo.solve(instance)
    chosen = np.flatnonzero(result.x)
    rows = instance.split.members("select")
    by_hand = instance.expert_scores[np.ix_(rows, chosen)].max(axis=1).mean()
    assert result.objective == pytest.approx(by_hand, rel=1e-12)
    assert mo.certify(instance, result).kind == "checked"


def test_late_experts_are_worth_nothing(project: Project) -> None:
    """In a category whose deadline an expert misses, it has no value and answers nothing."""
    path = project(extra="delay: {limit_s: {tides: 4}}\n")
    instance = load(path)
    problem = instance.problem()
    tides = instance.categories.index("tides")
    late = instance.late[tides]
    rows = instance.outcomes.category[instance.members()] == "tides"
    assert late.any()
    assert not late.all()
    assert problem.values[np.ix_(rows, late)].max() == 0
    assert problem.values[np.ix_(~rows, late)].min() > 0
    plan = mo.solve(instance).plan
    assert instance.check(plan) == []


def test_robust_budgets(project: Project) -> None:
    """A robust budget works with a gate too, and is never better than a plain one."""
    plain = mo.solve(load(project(extra="delay: {limit_s: 9}\n")))
    robust = mo.solve(load(project(extra="delay: {limit_s: 9}\nrobust: {quantile: 0.9}\n")))
    assert robust.plan is not None
    assert robust.objective <= plain.objective + 1e-12


def test_plan_survives_json(project: Project) -> None:
    """A plan read back from JSON is the same plan and is accepted; a bettered figure is not."""
    instance = load(project())
    plan = mo.solve(instance).plan
    content = json.loads(json.dumps(plan.to_dict()))
    again = GatedPlan.from_dict(content)
    assert instance.check(again) == []
    assert instance.evaluate(again) == pytest.approx(plan.predicted_accuracy, rel=1e-12)
    content["predicted_accuracy"] += 0.01
    assert any("predicted" in fault for fault in instance.check(GatedPlan.from_dict(content)))
    content["experts"][0]["llm"] = "nobody"
    assert "no expert" in instance.check(GatedPlan.from_dict(content))[0]


def test_plan_tells_what_it_rests_on(project: Project) -> None:
    """The summary names gate, split, left-out LLMs and missing outcomes."""
    text = mo.solve(load(project())).plan.summary()
    assert "sigmoid (sklearn), platt calibration" in text
    assert "invented-58 is not offered" in text
    assert "outcomes are missing" in text


def test_pool_is_filtered(project: Project) -> None:
    """Only LLMs of known size up to the limit are offered, less the excluded ones."""
    instance = load(project(), experts__exclude=["invented-00"])
    sizes = {llm.name: llm.params_total_b for llm in instance.outcomes.llms}
    offered = {expert.llm for expert in instance.experts}
    assert offered == {n for n, size in sizes.items() if size <= 14} - {"invented-00"}


def test_llm_that_was_never_run(project: Project, tmp_path: Path) -> None:
    """An LLM without any outcome is left out of pool and gate, with a note, and nothing breaks."""
    path = project()
    table = pd.read_parquet(tmp_path / "outcomes" / "correct.parquet")
    table["invented-02"] = pd.array([None] * len(table), dtype="Int8")
    table.to_parquet(tmp_path / "outcomes" / "correct.parquet")
    instance = load(path)
    assert "invented-02" not in {expert.llm for expert in instance.experts}
    assert "invented-02" not in instance.gate.llms
    assert any("invented-02 is not offered" in note for note in instance.notes)
    assert mo.solve(instance).status == "OPTIMAL"


def test_one_gate_serves_every_pool(project: Project) -> None:
    """The gate knows all LLMs of the matrix, so a larger pool needs no new one."""
    path = project()
    assert verb("gate", "train", path, "--quiet")[0] == 0
    small, large = load(path), load(path, experts__max_params_b=100)
    assert len(large.experts) > len(small.experts)
    assert small.gate.llms == large.gate.llms


WRONG = [
    ({"gate.head": "softmax"}, "gate.head: .* was trained with 'sigmoid'"),
    ({"splits.seed": 1}, "was trained on another split"),
    ({"experts.exclude": ["invented-oo"]}, "experts.exclude: 'invented-oo' is not in the outcomes"),
    ({"experts.max_params_b": 0.01}, "experts: no LLM"),
    ({"experts.outcomes": "elsewhere"}, "experts.outcomes: .*is not a folder"),
    ({"experts.outcomes": "../.."}, "leaves the folder"),
    ({"splits.train": 0.9}, "the shares sum to"),
    ({"gate.calibration": "none", "gate.head": "softmax"}, "softmax head needs"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "message"), WRONG, ids=[str(o) for o, _ in WRONG])
def test_wrong_files_are_told(project: Project, overrides: dict[str, object], message: str) -> None:
    """What does not fit together is an input error that names the key."""
    path = project()
    if "was trained" in message:
        assert verb("gate", "train", path, "--quiet")[0] == 0
    with pytest.raises(InputError, match=message):
        mo.load(path, overrides=overrides).problem()


def test_other_outcomes_need_a_new_gate(project: Project, tmp_path: Path) -> None:
    """A stored gate is refused once the outcomes have changed."""
    path = project()
    assert verb("gate", "train", path, "--quiet")[0] == 0
    table = pd.read_parquet(tmp_path / "outcomes" / "correct.parquet")
    table.loc[0, "invented-00"] = 1 - (table.loc[0, "invented-00"] or 0)
    table.to_parquet(tmp_path / "outcomes" / "correct.parquet")
    code, _, err = verb("solve", path, "--quiet")
    assert code == 2
    assert "trained on other outcomes" in err


def test_check_tells_the_cell(project: Project, tmp_path: Path) -> None:
    """`moe2opt check` tells file, key and cell of a wrong score, and exits with 2."""
    path = project()
    table = pd.read_parquet(tmp_path / "outcomes" / "correct.parquet")
    table["invented-03"] = table["invented-03"].astype("float64")
    table.loc[7, "invented-03"] = 1.5
    table.to_parquet(tmp_path / "outcomes" / "correct.parquet")
    code, _, err = verb("check", path)
    assert code == 2
    assert "correct.parquet: row 8 ('q00007'), column 'invented-03': 1.5 is not a score" in err


def test_sections_do_not_mix(project: Project) -> None:
    """`tables` beside `experts`, or `llms` beside it, is refused with what to do instead."""
    path = project(extra="tables: somewhere\n")
    with pytest.raises(InputError, match="either `tables` or `experts`"):
        mo.load(path)
    with pytest.raises(InputError, match="go there"):
        mo.load(project(extra="llms: {max_params_b: 3}\n"))


def test_evaluate_needs_outcomes() -> None:
    """A file with cluster tables has no single outcomes to evaluate, and the message says so."""
    code, _, err = verb("evaluate", "tiny")
    assert code == 2
    assert "experts: {outcomes: FOLDER}" in err


def test_evaluation_of_a_plan(project: Project, tmp_path: Path) -> None:
    """Realised figures of the plan, recomputed by hand from the outcomes, agree with the table."""
    path = project()
    table = pd.read_parquet(tmp_path / "outcomes" / "correct.parquet")
    table.fillna(0).to_parquet(tmp_path / "outcomes" / "correct.parquet")  # all are compared
    instance = load(path)
    done = evaluate_on_test(instance, mo.solve, replicates=50)
    plan = mo.solve(instance).plan
    row = done.row("moe2")
    assert row.accuracy.mean == pytest.approx(plan.test_accuracy)
    assert row.against_plan.mean == 0
    assert row.accuracy.low <= row.accuracy.mean <= row.accuracy.high
    oracle = done.row("per-prompt oracle of the set")
    assert "upper bound" in oracle.note
    assert oracle.accuracy.mean >= row.accuracy.mean
    assert done.row("majority vote").energy_j_per_prompt.mean > row.energy_j_per_prompt.mean
    assert done.row("majority vote").all_energy_j_per_prompt == pytest.approx(
        done.row("majority vote").energy_j_per_prompt.mean
    )
    assert done.provenance["split"] == instance.split.record()


def test_realised_costs_follow_the_single_answer(project: Project) -> None:
    """Averaged over the learning prompts of a category, realised joules are the expected ones."""
    instance = load(project())
    experts = np.arange(4)
    learn = instance.split.members("train", "validation")
    opera = learn[instance.outcomes.category[learn] == "opera"]
    delay_s, energy_j, _ = instance.realised(opera, experts)
    k = instance.categories.index("opera")
    assert energy_j[:, experts].mean(axis=0) == pytest.approx(
        instance.energy_j[k, experts], rel=0.02
    )
    assert delay_s[:, experts].mean(axis=0) == pytest.approx(instance.delay_s[k, experts], rel=0.02)
    assert np.ptp(energy_j[:, 0]) > 0


def test_test_part_is_not_looked_at(project: Project, tmp_path: Path) -> None:
    """Turning around all outcomes of the test part changes no choice, only the report."""
    path = project()
    before = load(path)
    chosen = mo.solve(before).x
    ranked = expert_accuracy(before)
    table = pd.read_parquet(tmp_path / "outcomes" / "correct.parquet").set_index("prompt_id")
    names = [before.outcomes.prompts[k] for k in before.split.members("test")]
    own = table.index.isin(names)
    table = table.astype("float64")
    table = pd.concat([table[~own], 1 - table[own]])
    table.reset_index().to_parquet(tmp_path / "outcomes" / "correct.parquet")
    after = load(path)
    assert mo.solve(after).x.tolist() == chosen.tolist()
    assert expert_accuracy(after).tolist() == ranked.tolist()
    assert mo.solve(after).plan.test_accuracy != mo.solve(before).plan.test_accuracy


def test_joint_budget_is_kept(project: Project) -> None:
    """With an expected-energy budget the priced policies appear, with their bound."""
    path = project(energy=2000, extra="routing: {energy_j_per_prompt: 130, top_k: 3}\n")
    done = evaluate_on_test(load(path), mo.solve, replicates=20)
    joint = done.row("joint set and prices")
    assert joint.promised >= done.row("cost-aware routing").promised - 1e-9
    assert "is possible" in joint.note
    assert joint.energy_j_per_prompt.mean < 150
    assert done.row("top-3 vote").prompts > 0


def test_unaffordable_expected_budget(project: Project) -> None:
    """An expected-energy budget below the cheapest routing is told, not promised anything."""
    path = project(energy=2000, extra="routing: {energy_j_per_prompt: 1}\n")
    row = evaluate_on_test(load(path), mo.solve, replicates=20).row("cost-aware routing")
    assert row.promised is None
    assert "cannot be kept" in row.note


def test_recorded_answers_make_votes_exact(project: Project, tmp_path: Path) -> None:
    """With answers in the folder the vote is by answer, and never rated below its lower bound."""
    path = project(energy=2000)
    bound = evaluate_on_test(load(path), mo.solve, replicates=20).row("majority vote")
    table = pd.read_parquet(tmp_path / "outcomes" / "correct.parquet").set_index("prompt_id")
    rng = np.random.default_rng(0)
    wrong = rng.choice(list("BCDEFG"), size=table.shape)
    answers = np.where(table.fillna(0).to_numpy(dtype=float) == 1, "A", wrong)
    given = pd.DataFrame(answers, index=table.index, columns=table.columns).reset_index()
    given.to_parquet(tmp_path / "outcomes" / "answers.parquet")
    exact = evaluate_on_test(load(path), mo.solve, replicates=20).row("majority vote")
    assert "exact" in exact.note
    assert "lower bound" in bound.note
    assert exact.accuracy.mean > bound.accuracy.mean


def test_unused_settings_need_no_new_gate(project: Project) -> None:
    """A gate trained without torch is not refused for settings that only torch reads."""
    path = project()
    assert verb("gate", "train", path, "--quiet")[0] == 0
    assert load(path, gate__hidden=3).gate.head == "sigmoid"


def test_verbs_print_json(project: Project, tmp_path: Path) -> None:
    """`gate train --json` and `evaluate --json` print one object with record and rows."""
    path = project()
    code, out, _ = verb("gate", "train", path, "--json", "--out", tmp_path / "elsewhere")
    content = json.loads(out)
    assert (code, content["folder"]) == (0, str(tmp_path / "elsewhere"))
    assert content["measures"]["test"]["prompts"] == 120
    assert not (tmp_path / "invented.gate").exists()
    code, out, _ = verb("evaluate", path, "--json", "--quiet", "--bootstrap", 20)
    rows = {row["policy"]: row for row in json.loads(out)["rows"]}
    assert code == 0
    assert rows["moe2"]["against_plan"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_too_many_scores_are_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts times experts beyond the limit are refused before anything is computed."""
    monkeypatch.setattr(gated, "LARGEST_CELLS", 1000)
    with pytest.raises(InputError, match="600 prompts x 58 experts are more than 1,000"):
        mo.load(project())


def test_intervals_cover() -> None:
    """A 95 % bootstrap interval of a mean holds the truth in 95 % of draws, give or take."""
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        column = (rng.random((150, 1)) < 0.4).astype(float)
        found = estimate(column[:, 0], bootstrap_means(column, 300, seed)[:, 0])
        hits += found.low <= 0.4 <= found.high
    assert 180 <= hits <= 199


def test_paired_differences_are_sharper() -> None:
    """Two policies that nearly agree have a narrow difference although both are uncertain."""
    rng = np.random.default_rng(0)
    first = (rng.random(400) < 0.5).astype(float)
    second = first.copy()
    second[:8] = 1 - second[:8]
    drawn = bootstrap_means(np.column_stack([first, second]), 500, 0)
    alone = estimate(first, drawn[:, 0])
    paired = estimate(second - first, drawn[:, 1] - drawn[:, 0])
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_missing_outcomes_stay_out_of_means() -> None:
    """A prompt whose outcome is unknown counts in no mean, neither as right nor as wrong."""
    column = np.array([[1.0], [np.nan], [0.0], [1.0]])
    found = estimate(column[:, 0], bootstrap_means(column, 50, 0)[:, 0])
    assert found.mean == pytest.approx(2 / 3)
    assert estimate(np.full(3, np.nan), np.full(2, np.nan)).mean is None
