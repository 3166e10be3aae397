"""Outcomes of another domain are run by YAML and command line alone, hard and soft scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from moe2opt.cli.app import app

LLMS = ("small", "tutor", "lawyer", "large")

CONFIG = """\
schema_version: 1
problem: selection
name: theirs
experts: {outcomes: made/outcomes, features: text}
measured: lab.csv
precisions: [{name: q4}, {name: q8}]
servers:
  - {name: box, device: our box, memory_gib: 16, uplink_mbps: 50, downlink_mbps: 50,
     llms: [small, tutor, lawyer], precisions: [q4], money_per_hour: 0.3, billed: busy}
  - {name: cloud, api: true, llms: [large]}
money: {limit_per_prompt: 0.02, counts: one}
delay: {limit_s: {law: 8, school: 6}}
gate: {backend: sklearn}
"""


def write(folder: Path, *, soft: bool) -> None:
    """Write a table of scores, prices and lengths, one of sizes, and one of measurements."""
    rng, count = np.random.default_rng(5), 160
    domain = rng.integers(0, 2, count)
    chance = np.array([[0.3, 0.3], [0.4, 0.8], [0.8, 0.3], [0.85, 0.85]])[:, domain].T
    score = rng.beta(8 * chance, 8 * (1 - chance)).round(3)
    if not soft:
        score = (rng.random(score.shape) < chance).astype(float)
    names = np.array(["law", "school"])[domain]
    frame = pd.DataFrame({
        "sample_id": [f"t-{k}" for k in range(count)],
        "prompt": [f"a question of {name} number {k}" for k, name in enumerate(names)],
        "eval_name": names,
    })  # fmt: skip
    for m, llm in enumerate(LLMS):
        frame[llm] = score[:, m]
        frame[f"{llm}|output_tokens"] = rng.integers(20, 200, count)
        frame[f"{llm}|input_tokens"] = 60
    frame.to_csv(folder / "theirs.csv", index=False)
    sizes = pd.DataFrame({"model": LLMS[:3], "params_total_b": [1.5, 7, 7]})
    sizes.to_csv(folder / "sizes.csv", index=False)
    (folder / "lab.csv").write_text(
        "llm,server,precision,category,s_per_prompt,j_per_prompt,usd_per_million_output_tokens\n"
        "small,box,q4,,1.5,40,\ntutor,box,q4,,4,150,\nlawyer,box,q4,law,4.25,155,\n"
        "lawyer,box,q4,school,3.75,140,\nlarge,cloud,,,2,,60\n"
    )
    (folder / "theirs.yaml").write_text(CONFIG)


def run(*words: object) -> Any:
    """Run the command line; it must succeed."""
    ran = CliRunner().invoke(app, [str(word) for word in words])
    assert ran.exit_code == 0, (words, ran.output)
    return ran


@pytest.mark.slow
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_from_tables_to_evaluation(soft: bool, tmp_path: Path, monkeypatch: Any) -> None:
    """Import, check, train, solve, verify and evaluate take nothing but files and commands."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, soft=soft)
    run("outcomes", "theirs.csv", "--out", "made", "--models", "sizes.csv", "--quiet")
    assert "theirs.yaml: ok" in run("check", "theirs.yaml").output
    run("gate", "train", "theirs.yaml", "--quiet")
    run("solve", "theirs.yaml", "--out", "results", "--quiet")
    run("verify", "results/result.json", "theirs.yaml", "--quiet")
    plan = json.loads(Path("results/result.json").read_text())["plan"]
    assert [tuple(row)[:4] for row in plan["measured"]["rows"]][3] == (
        "lawyer", "box", "q4", "school",
    )  # fmt: skip
    assert "large" in [expert["llm"] for expert in plan["experts"]]
    assert 0 < plan["money"]["per_prompt"] <= 0.02
    told = json.loads(run("evaluate", "theirs.yaml", "--bootstrap", 50, "--json").stdout)
    rows = {row["policy"]: row for row in told["rows"]}
    best = rows["best single LLM"]["accuracy"]["mean"]
    assert rows["moe2"]["accuracy"]["mean"] >= best - 0.05
    cheaper = rows["cost-aware routing"]
    assert "price at most" in cheaper["note"] and "USD per prompt" in cheaper["note"]
