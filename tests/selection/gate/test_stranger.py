"""Somebody else's outcomes: from a folder and a YAML file to a checked plan and its evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from moe2opt.cli.app import app

LLMS = 60
CATEGORIES = ("agronomie", "code review", "legal Q&A", "maths: algebra", "médecine", "travel/geo")

CONFIG = """\
schema_version: 1
problem: selection
name: theirs
experts: {outcomes: theirs, max_params_b: 14}
precisions: [{name: q4}, {name: q8}]
servers:
  - {name: orin, device: Jetson AGX Orin 64GB, count: 2, uplink_mbps: 100, downlink_mbps: 100}
  - {name: gpu, device: RTX 4090, uplink_mbps: 100, downlink_mbps: 100}
energy: {limit_j_per_prompt: 600}
delay: {limit_s: 15}
gate: {backend: sklearn}
"""


def write_theirs(folder: Path, prompts: int = 900, seed: int = 7) -> list[str]:
    """Write invented outcomes in the layout of the MMLU-Pro folder; return the LLMs' names.

    Rows of the tables are in different orders, a tenth of the LLMs is a mixture of experts, cells
    are missing singly and in blocks, one LLM was hardly run, three are closed.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir()
    category = rng.choice(len(CATEGORIES), prompts)
    vectors = rng.normal(size=(prompts, 16))
    vectors[:, : len(CATEGORIES)] += np.eye(len(CATEGORIES))[category]
    size = np.round(np.exp(rng.normal(2, 0.9, LLMS)), 1)
    skill = 0.4 * np.log(size) - 1.2 + rng.normal(0, 0.8, (len(CATEGORIES), LLMS))[category]
    chance = 1 / (1 + np.exp(-skill - vectors @ rng.normal(0, 0.2, (16, LLMS))))
    score = (rng.random((prompts, LLMS)) < chance).astype(float)
    tokens = np.exp(rng.normal(4.5, 0.5, (prompts, LLMS))).round().clip(1)
    score[rng.random((prompts, LLMS)) < 0.01] = np.nan
    score[np.ix_(category == 3, [4])] = np.nan
    score[rng.random(prompts) < 0.95, 11] = np.nan
    tokens[np.isnan(score)] = np.nan
    names = [f"{('acme', 'Zeta', 'oly')[k % 3]}/m{k}-{b:g}B" for k, b in enumerate(size)]
    number = pd.DataFrame({"item": rng.permutation(10**6)[:prompts]})
    head = number.assign(category=np.array(CATEGORIES)[category], src="invented")
    head["prompt_tokens"] = rng.integers(20, 900, prompts)
    head.to_parquet(folder / "prompts.parquet")
    marks = pd.concat([pd.DataFrame(score, columns=names).astype("Int8"), number], axis=1)
    marks.sample(frac=1, random_state=seed).to_parquet(folder / "correct.parquet")
    lengths = pd.concat([number, pd.DataFrame(tokens, columns=names).astype("float32")], axis=1)
    lengths.to_parquet(folder / "output_tokens.parquet")
    sheet = pd.DataFrame({"model": names, "params_total_b": size, "params_active_b": size})
    sheet.loc[::9, "params_active_b"] /= 4
    sheet.loc[LLMS - 3 :, ["params_total_b", "params_active_b"]] = np.nan
    sheet["open_weights"] = sheet["params_total_b"].notna().astype(int)
    sheet["coverage"] = (~np.isnan(score)).mean(axis=0)
    sheet.to_csv(folder / "models.csv", index=False)
    np.savez(
        folder / "embeddings_theirs_pca16.npz",
        emb=vectors.astype(np.float16),
        mean=np.zeros(32, np.float32),
        components=np.zeros((16, 32), np.float32),
    )
    return names


def moe2opt(*words: object) -> Result:
    """Run the command line; it must succeed."""
    ran = CliRunner().invoke(app, [str(word) for word in words])
    assert ran.exit_code == 0, (words, ran.stderr)
    return ran


@pytest.mark.slow
def test_yaml_alone_goes_all_the_way(tmp_path: Path) -> None:
    """Check, gate, solve, verify, evaluate and export need nothing but the folder and the file."""
    pytest.importorskip("pyarrow")
    names = write_theirs(tmp_path / "theirs")
    config, out = tmp_path / "theirs.yaml", tmp_path / "out"
    config.write_text(CONFIG, encoding="utf-8")
    assert "theirs.yaml: ok" in moe2opt("check", config).stdout
    trained = json.loads(moe2opt("gate", "train", config, "--json", "--quiet").stdout)
    assert trained["llms"] == names
    solved = json.loads(moe2opt("solve", config, "--out", out, "--json", "--quiet").stdout)
    assert (solved["status"], solved["certificate"]["checked"]) == ("OPTIMAL", True)
    deployed = {expert["llm"] for expert in solved["plan"]["experts"]}
    assert deployed <= {n for n in names[: LLMS - 3] if float(n.rpartition("-")[2][:-1]) <= 14}
    moe2opt("verify", out / "result.json", config)
    words = ("--out", out, "--json", "--quiet", "--bootstrap", 50)
    done = json.loads(moe2opt("evaluate", config, *words).stdout)
    accuracy = {row["policy"]: row["accuracy"]["mean"] for row in done["rows"]}
    assert accuracy["moe2"] > accuracy["best single LLM"] + 0.02
    assert accuracy["moe2"] > accuracy["random feasible set"]
    served = ("--to", "litellm", "--config", config, "--out", out / "serve", "--quiet")
    moe2opt("export", out / "result.json", *served)
    assert len(list((out / "serve").glob("serve-*.sh"))) == len(
        {expert["server"] for expert in solved["plan"]["experts"]}
    )
