"""An evaluation that a user reported: eight LLMs on two kinds of servers, 400 joules a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import moe2opt as mo
from moe2opt.selection.evaluation.policies import TestPart
from moe2opt.selection.evaluation.realised import facts_of
from moe2opt.selection.evaluation.sets import baseline_sets

#: Weights in units of 1e9, chance of an answer, and what each category adds to its logit.
LLMS: dict[str, tuple[float, float, tuple[float, float, float]]] = {
    "Qwen2.5-1.5B": (1.54, 0.35, (0.2, 0, -0.2)),
    "Qwen2.5-3B": (3.09, 0.48, (0.25, 0.05, -0.2)),
    "Qwen2.5-7B": (7.62, 0.62, (0.3, 0.2, -0.3)),
    "Qwen2.5-14B": (14.8, 0.72, (0.25, 0.1, -0.2)),
    "Llama-3.2-3B": (3.21, 0.42, (-0.3, 0, 0.4)),
    "Llama-3.1-8B": (8.03, 0.60, (-0.3, 0.1, 0.5)),
    "Mistral-7B": (7.25, 0.52, (-0.6, -0.2, 0.7)),
    "Mistral-Nemo-12B": (12.2, 0.63, (-0.4, -0.2, 0.7)),
}
CATEGORIES, COUNT = ["math", "code", "general"], 400

CONFIG = """\
schema_version: 1
problem: selection
name: mine
experts: {outcomes: outcomes}
precisions: [{name: q4}]
servers:
  - {name: orin, device: Jetson AGX Orin 64GB, count: 2, reserve_gib: 8,
     uplink_mbps: 19, downlink_mbps: 90, round_trip_ms: 10}
  - {name: rtx, device: RTX 4090, count: 2, reserve_gib: 2,
     uplink_mbps: 19, downlink_mbps: 90, round_trip_ms: 10}
energy: {limit_j_per_prompt: 400}
delay: {limit_s: 10}
gate: {backend: sklearn}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Any:
    """Return the instance, its outcomes drawn as they were reported."""
    rng = np.random.default_rng(7)
    category = rng.choice(CATEGORIES, COUNT, p=[0.35, 0.25, 0.4])
    vectors = rng.normal(size=(COUNT, 16))
    for i, name in enumerate(CATEGORIES):
        vectors[category == name, i] += 3
    directions = {llm: rng.normal(size=16) * 0.35 for llm in LLMS}
    hardness = rng.normal(size=COUNT)
    correct, tokens = {}, {}
    for llm, (_, base, extra) in LLMS.items():
        added = np.array([extra[CATEGORIES.index(name)] for name in category])
        logit = np.log(base / (1 - base)) + added * 1.5 + vectors[:, 3:] @ directions[llm][3:]
        correct[llm] = (rng.random(COUNT) < 1 / (1 + np.exp(hardness - logit))).astype(int)
        mean = np.array([{"math": 260, "code": 320, "general": 120}[name] for name in category])
        longer = 1.3 if llm.startswith("Qwen") else 1
        tokens[llm] = np.maximum(5, mean * rng.lognormal(0, 0.4, COUNT) * longer).astype(int)
    prompts = {"category": category, "prompt_tokens": rng.integers(40, 400, COUNT)}
    folder = tmp_path / "outcomes"
    folder.mkdir()
    ids = {"prompt_id": [f"q{k:04d}" for k in range(COUNT)]}
    tables = {"prompts": prompts, "correct": correct, "output_tokens": tokens}
    for name, columns in tables.items():
        pd.DataFrame(ids | columns).to_csv(folder / f"{name}.csv", index=False)
    models = {"model": list(LLMS), "params_total_b": [size for size, _, _ in LLMS.values()]}
    pd.DataFrame(models).to_csv(folder / "models.csv", index=False)
    np.savez(folder / "embeddings.npz", emb=vectors.astype("f4"))
    (tmp_path / "mine.yaml").write_text(CONFIG)
    return mo.load(tmp_path / "mine.yaml")


def test_rules_deploy_one_copy_of_each_llm(mine: Any) -> None:
    """Greedy by accuracy deploys three LLMs, 55.0 +- 11 %, instead of three copies, 37.5 %."""
    sets = baseline_sets(mine.problem(), facts_of(mine))
    deployed = {
        name: [mine.experts[i].llm for i in chosen]
        for name, chosen in sets.items()
        if chosen is not None
    }
    assert deployed["best single LLM"] == ["Llama-3.2-3B"]
    assert deployed["greedy by accuracy"] == ["Qwen2.5-1.5B", "Qwen2.5-3B", "Llama-3.2-3B"]
    for llms in deployed.values():
        assert len(set(llms)) == len(llms)
    test = TestPart(mine, mine.split.members("test"))

    def accuracy(name: str) -> float:
        answers = test.by_gate(sets[name]).first
        return 100 * float(test.score[np.arange(len(answers)), answers].mean())

    assert accuracy("best single LLM") == 37.5
    assert accuracy("greedy by accuracy") == pytest.approx(55.0, abs=11)
    assert accuracy("greedy by accuracy") > 45
