"""The gate on real outcomes; the data are looked for beside the checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gate.real import FREE, mmlu_pro, routerdc

import moe2opt as mo
from moe2opt.selection.evaluate_report import Evaluation
from moe2opt.selection.evaluate_test import evaluate_on_test
from moe2opt.selection.gate import GateSettings, train_gate
from moe2opt.selection.gate.audit import compare_masked, violations
from moe2opt.selection.outcome_folder import read_outcome_folder
from moe2opt.selection.partition import split_four

pytestmark = pytest.mark.slow

SPLITS = (0.5, 0.1, 0.2, 0.2)


def evaluation(folder: Path, backend: str, more: str = "") -> Evaluation:
    """Evaluate the outcome folder in `folder` without a budget."""
    path = folder / "real.yaml"
    path.write_text(FREE.format(backend=backend, more=more, seed=0))
    return evaluate_on_test(mo.load(path, allow_outside=True).instance, mo.solve, replicates=500)


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


def test_specialists_gain_more(shared_data: Path, tmp_path: Path) -> None:
    """On RouterDC's specialists the gain over the best single LLM is beyond chance."""
    routerdc(shared_data, tmp_path / "outcomes")
    more = ", features: text, assumed_prompt_tokens: 150, assumed_output_tokens: 150"
    single = evaluation(tmp_path, "sklearn", more).row("best single LLM").against_plan
    assert single.mean < -0.02
    assert single.high < 0


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
