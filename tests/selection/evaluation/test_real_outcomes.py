"""The gate on real outcomes; the data are looked for beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli.app import app
from moe2opt.selection.evaluation.policies import TestPart
from moe2opt.selection.evaluation.realised import evaluate_on_test, expert_accuracy
from moe2opt.selection.evaluation.report import Evaluation
from moe2opt.selection.evaluation.sets import best_single
from moe2opt.selection.gate import GateSettings, train_gate
from moe2opt.selection.gate.audit import compare_masked, violations
from moe2opt.selection.outcomes.folder import read_outcome_folder
from moe2opt.selection.outcomes.partition import split_four

from .real import FREE, mmlu_pro, routerdc

pytestmark = pytest.mark.slow

SPLITS = (0.5, 0.1, 0.2, 0.2)


def evaluation(folder: Path, backend: str, more: str = "") -> Evaluation:
    """Evaluate the outcome folder in `folder` without a budget."""
    path = folder / "real.yaml"
    path.write_text(FREE.format(backend=backend, more=more, seed=0))
    return evaluate_on_test(mo.load(path, allow_outside=True), mo.solve, replicates=500)


@pytest.mark.parametrize("backend", ["sklearn", "torch"])
def test_gate_beats_the_best_single_llm(shared_data: Path, tmp_path: Path, backend: str) -> None:
    """On MMLU-Pro, pool up to 14 B, gate and selection beat the best single LLM by two points."""
    if backend == "torch":
        pytest.importorskip("torch")
    mmlu_pro(shared_data, tmp_path / "outcomes")
    done = evaluation(tmp_path, backend)
    single = done.row("best single LLM").against_plan
    assert single.mean < -0.02
    assert single.high < 0


def lead(instance: Any) -> float:
    """Return the test accuracy of the plan less that of the best single LLM, in points."""
    chosen = np.flatnonzero(mo.solve(instance).x)
    test = TestPart(instance, instance.split.members("test"))
    answer = test.by_gate(chosen).first
    single = best_single(instance.problem(), expert_accuracy(instance))
    assert single is not None
    own = test.score[np.arange(len(answer)), answer]
    return 100 * float(np.nanmean(own - test.score[:, single[0]]))


def test_specialists_gain_three_points(shared_data: Path, tmp_path: Path) -> None:
    """On RouterDC's specialists the lead over the best single LLM is three points over splits."""
    routerdc(shared_data, tmp_path / "outcomes")
    path = tmp_path / "real.yaml"
    more = ", features: text, assumed_prompt_tokens: 150, assumed_output_tokens: 150"
    path.write_text(FREE.format(backend="sklearn", more=more, seed=0))
    leads = [lead(mo.load(path, overrides=[f"splits.seed={seed}"])) for seed in range(3)]
    assert np.mean(leads) >= 3
    assert min(leads) > 1.5


def test_grid_is_certified_and_level(shared_data: Path, tmp_path: Path) -> None:
    """On MMLU-Pro every cell is a certified optimum, level with every baseline in nine of ten."""
    mmlu_pro(shared_data, tmp_path / "outcomes")
    source = Path(__file__).resolve().parents[3] / "problems/selection/mmlu_pro_edge.yaml"
    text = source.read_text().partition("scenarios:")[0]
    text = text.replace("tables: mmlu_pro\nllms:", "gate: {backend: sklearn}\nexperts:")
    text = text.replace("experts: {", "experts: {outcomes: outcomes, ")
    (tmp_path / "edge.yaml").write_text(text)
    words = ["evaluate", str(tmp_path / "edge.yaml"), "--allow-outside", "--json", "--quiet"]
    words += ["--grid", "energy_j_per_prompt=60:1200:4", "--grid", "delay.limit_s=4:60:3"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.stderr
    content = json.loads(ran.stdout)
    cells = content["cells"]
    assert len(cells) == 12
    assert all(cell["certified"] and cell["status"] == "OPTIMAL" for cell in cells)
    every = content["tallies"][-1]
    assert every["policy"] == "every baseline"
    assert every["level"] >= 0.9 * every["cells"]
    assert every["worst"] < 0.01


def test_masking_costs_little(shared_data: Path) -> None:
    """Over random sets of LLMs, a gate trained anew gains less than half a point on average."""
    outcomes = read_outcome_folder(shared_data / "routing" / "mmlu_pro")
    pool = [llm.name for llm in outcomes.llms if llm.params_total_b <= 14]
    outcomes = outcomes.restricted_to(pool)
    split = split_four(outcomes.category, SPLITS, 0)
    settings = GateSettings(backend="sklearn")
    gate = train_gate(outcomes, split, settings)
    rng = np.random.default_rng(0)
    sets = [[pool[m] for m in rng.permutation(len(pool))[: rng.integers(2, 9)]] for _ in range(20)]
    found = compare_masked(outcomes, split, gate, settings, sets)
    gains = np.array([row.retrained_accuracy - row.masked_accuracy for row in found])
    assert abs(gains.mean()) < 0.005
    test = split.members("test")
    scores = gate.scores(outcomes.vectors[test], outcomes.category[test])
    counted = violations(scores, outcomes.score[test], 500, seed=0)
    assert counted.surrogate == 0
    assert 0 < counted.realised < 0.5
