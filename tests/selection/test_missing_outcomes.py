"""LLMs that were never run in a category neither serve it nor win a comparison by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import moe2opt as mo
from moe2opt.selection.evaluation.intervals import common_prompts
from moe2opt.selection.evaluation.realised import evaluate_on_test

CONFIG = """\
schema_version: 1
problem: selection
name: missing
experts: {outcomes: outcomes, assumed_output_tokens: 100}
precisions: [{name: fp16}]
servers: [{name: box, device: RTX 4090, memory_gib: 100, uplink_mbps: 99, downlink_mbps: 99}]
gate: {backend: sklearn}
"""

COUNT = 600
HARD = np.arange(COUNT) >= COUNT // 2


@pytest.fixture
def missing(tmp_path: Path) -> Path:
    """Return a file whose LLM `easyonly` was run on the easy category alone."""
    rng = np.random.default_rng(0)
    scores = {
        "good": rng.random(COUNT) < np.where(HARD, 0.6, 0.9),
        "easyonly": rng.random(COUNT) < 0.8,
        "weak": rng.random(COUNT) < np.where(HARD, 0.2, 0.7),
    }
    correct = pd.DataFrame({name: own.astype(float) for name, own in scores.items()})
    correct.loc[HARD, "easyonly"] = np.nan
    ids = [f"p{k}" for k in range(COUNT)]
    category = np.where(HARD, "hard", "easy")
    folder = tmp_path / "outcomes"
    folder.mkdir()
    correct.insert(0, "id", ids)
    correct.to_csv(folder / "correct.csv", index=False)
    prompts = pd.DataFrame({"id": ids, "category": category, "prompt_tokens": 50})
    prompts.to_csv(folder / "prompts.csv", index=False)
    models = pd.DataFrame({"model": list(scores), "params_total_b": 7})
    models.to_csv(folder / "models.csv", index=False)
    np.savez(folder / "embeddings.npz", emb=rng.normal(size=(COUNT, 8)).astype("f4"))
    (tmp_path / "missing.yaml").write_text(CONFIG)
    return tmp_path / "missing.yaml"


@pytest.mark.parametrize("most", [1, 2])
def test_nobody_serves_what_he_was_never_asked(missing: Path, most: int) -> None:
    """The LLM without outcomes in a category answers no prompt of it, and a note says so."""
    instance = mo.load(missing, overrides=[f"max_experts={most}"])
    result = mo.solve(instance)
    table, names = result.plan.routing["table"], [e.llm for e in result.plan.experts]
    assert "good" in names
    hard = dict(zip(names, table["in_time"][1], strict=True))
    assert hard == {name: name != "easyonly" for name in names}
    assert mo.certify(instance, result).kind == "checked"
    assert any("easyonly has no outcomes in hard" in note for note in result.plan.caveats)


def test_no_set_without_somebody_who_was_asked(missing: Path) -> None:
    """Deploying only an LLM that was never run in a category is proven infeasible."""
    instance = mo.load(missing, overrides=["experts.include=[easyonly, weak]", "max_experts=1"])
    assert [e.llm for e in mo.solve(instance).plan.experts] == ["weak"]
    x = np.array([1, 0])
    assert not instance.problem().is_feasible(x)
    assert any("an expert with outcomes there" in name for name in instance.cover_names())


def test_late_where_tried_and_untried_where_in_time(missing: Path) -> None:
    """Where those in time were never tried, infeasibility is proven and named."""
    models = missing.parent / "outcomes" / "models.csv"
    models.write_text("model,params_total_b\ngood,70\neasyonly,1\nweak,70\n")
    words = ["delay.limit_s={hard: 3}", "precisions=[{name: q4}]"]
    instance = mo.load(missing, overrides=words)
    result = mo.solve(instance)
    assert result.status == mo.Status.INFEASIBLE
    assert "experts_late_or_without_outcomes[hard]" in instance.row_names()


def test_comparisons_are_on_common_prompts(missing: Path) -> None:
    """No policy that the plan is compared with, and not the plan, lead by prompts left out."""
    path = missing.parent / "outcomes" / "correct.csv"
    correct = pd.read_csv(path)
    correct.loc[np.arange(COUNT) % 9 == 0, "weak"] = np.nan
    correct.to_csv(path, index=False)
    instance = mo.load(missing, overrides=["max_experts=2"])
    done = evaluate_on_test(instance, mo.solve, replicates=20)
    plan, oracle = done.row("moe2"), done.row("per-prompt oracle of the set")
    assert 0.9 * len(instance.split.members("test")) <= plan.prompts == oracle.prompts
    assert oracle.accuracy.mean >= plan.accuracy.mean
    (level,) = (line for line in done.summary().splitlines() if line.startswith("Level with"))
    assert "lazy greedy on the objective" in level
    assert "oracle" not in level
    for row in done.rows:
        if row.prompts == plan.prompts:
            gap = row.accuracy.mean - plan.accuracy.mean
            assert row.against_plan.mean == pytest.approx(gap)


def test_a_policy_with_gaps_stands_aside() -> None:
    """A policy without most outcomes takes no prompts from the comparison of the others."""
    known = np.ones((100, 4), dtype=bool)
    known[:5, 1], known[5:8, 2], known[:80, 3] = False, False, False
    compared = common_prompts(known, 0)
    assert compared.sum(axis=0).tolist() == [92, 92, 92, 20]
    assert (compared[:, 0] == known[:, :3].all(axis=1)).all()


def test_tables_bar_what_was_never_run(missing: Path) -> None:
    """Tables by cluster bar an LLM from a category in which it has no training outcome."""
    instance = mo.load(missing)
    tables = instance.outcomes.category_tables(instance.split)
    assert tables.run[0, 1].tolist() == [180, 0, 180]
    assert instance.untried.tolist() == [[False] * 3, [False, True, False]]
