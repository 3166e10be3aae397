"""Published layouts become an outcome folder, a measured table and a file that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli.app import app
from moe2opt.selection.evaluation.policies import TestPart
from moe2opt.selection.evaluation.realised import facts_of
from moe2opt.selection.evaluation.sets import baseline_sets
from moe2opt.selection.outcomes.layouts import read_published

LLMS = ("gpt-large", "org/open-7b")
PROMPTS = 40


def drawn(soft: bool = True, seed: int = 3) -> dict[str, np.ndarray]:
    """Return invented scores, prices, seconds and tokens of two LLMs on 40 prompts."""
    rng = np.random.default_rng(seed)
    score = rng.random((PROMPTS, 2)).round(2) if soft else rng.integers(0, 2, (PROMPTS, 2))
    return {
        "score": score.astype(float),
        "usd": rng.random((PROMPTS, 2)).round(4) / 100,
        "seconds": rng.random((PROMPTS, 2)).round(3) * 5,
        "tokens": rng.integers(5, 90, (PROMPTS, 2)).astype(float),
    }


def about() -> pd.DataFrame:
    """Return name, text and data set of each prompt."""
    return pd.DataFrame({
        "prompt": [f"What is {k}?" for k in range(PROMPTS)],
        "sample_id": [f"q.{k}" for k in range(PROMPTS)],
        "eval_name": ["maths", "law"] * (PROMPTS // 2),
    })  # fmt: skip


def router_bench(folder: Path, data: dict[str, np.ndarray]) -> Path:
    """Write RouterBench's wide table, with seconds and tokens as well."""
    frame = about().assign(oracle_model_to_route_to="no_model_correct")
    for m, llm in enumerate(LLMS):
        frame[llm] = data["score"][:, m]
        frame[f"{llm}|model_response"] = 'a long, "quoted" text\nof two lines'
        frame[f"{llm}|total_cost"] = data["usd"][:, m]
        frame[f"{llm}|latency_ms"] = data["seconds"][:, m] * 1000
        frame[f"{llm}|output_tokens"] = data["tokens"][:, m]
    path = folder / "routerbench.csv"
    frame.to_csv(path, index=False)
    return path


def long_table(folder: Path, data: dict[str, np.ndarray]) -> Path:
    """Write a table with a row for each prompt and LLM, in no order."""
    parts = [
        about().assign(model=llm, score=data["score"][:, m], cost=data["usd"][:, m],
                       latency_s=data["seconds"][:, m], output_tokens=data["tokens"][:, m])
        for m, llm in enumerate(LLMS)
    ]  # fmt: skip
    path = folder / "long.csv"
    both = pd.concat(parts)
    pd.concat([both[:1], both[1:].sample(frac=1, random_state=0)]).to_csv(path, index=False)
    return path


def sprout(folder: Path, data: dict[str, np.ndarray]) -> Path:
    """Write SPROUT's table: a record in each cell, as text in a CSV file."""
    frame = about().rename(columns={"sample_id": "key", "eval_name": "dataset"})
    frame["golden_answer"] = "42"
    for m, llm in enumerate(LLMS):
        cells = zip(data["score"][:, m], data["tokens"][:, m], strict=True)
        frame[llm] = [
            json.dumps({"response": "x", "score": s, "num_input_tokens": 9, "num_output_tokens": t})
            for s, t in cells
        ]
    path = folder / "sprout.csv"
    frame.to_csv(path, index=False)
    return path


def llm_router_bench(folder: Path, data: dict[str, np.ndarray]) -> Path:
    """Write LLMRouterBench's folder: data set, split, LLM, a file with records."""
    top = folder / "bench"
    for m, llm in enumerate(("gpt-large", "open-7b")):
        for part, name in enumerate(("maths", "law")):
            records = [
                {"index": k, "origin_query": f"What is {k}?", "score": data["score"][k, m],
                 "prompt_tokens": 9, "completion_tokens": data["tokens"][k, m],
                 "cost": data["usd"][k, m], "raw_output": "x"}
                for k in range(part, PROMPTS, 2)
            ]  # fmt: skip
            place = top / name / "test" / llm
            place.mkdir(parents=True)
            (place / "20260101.json").write_text(json.dumps({"records": records, "counts": 20}))
    return top


def router_eval(folder: Path, data: dict[str, np.ndarray]) -> Path:
    """Write RouterEval's dictionary as JSON."""
    score, texts = data["score"], [f"What is {k}?" for k in range(PROMPTS)]
    path = folder / "eval.json"
    content = {
        "model": list(LLMS),
        "data": {"train_score": score[:30].tolist(), "test_score": score[30:].tolist()},
        "prompt": {"train_prompt": texts[:30], "test_prompt": texts[30:]},
    }
    path.write_text(json.dumps(content))
    return path


LAYOUTS = {
    "RouterBench": (router_bench, {"score", "usd", "seconds", "output_tokens"}),
    "one row for each prompt and LLM": (long_table, {"score", "usd", "seconds", "output_tokens"}),
    "SPROUT": (sprout, {"score", "prompt_tokens", "output_tokens"}),
    "LLMRouterBench": (llm_router_bench, {"score", "usd", "prompt_tokens", "output_tokens"}),
    "RouterEval": (router_eval, {"score"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_read(layout: str, tmp_path: Path) -> None:
    """Every layout gives the numbers that were written into it, soft scores included."""
    write, known = LAYOUTS[layout]
    data = drawn()
    found = read_published(write(tmp_path, data))
    assert found.layout == layout
    assert set(found.tables) == known
    assert (len(found.prompts), len(found.llms)) == (PROMPTS, 2)
    numbers = [int(text.split()[-1][:-1]) for text in found.questions or ()]
    names = {"score": "score", "usd": "usd", "seconds": "seconds", "output_tokens": "tokens"}
    for kind in known - {"prompt_tokens"}:
        assert found.tables[kind] == pytest.approx(data[names[kind]][numbers])


def run(*words: object, code: int = 0) -> Any:
    """Run the command line."""
    ran = CliRunner().invoke(app, [str(word) for word in words])
    assert ran.exit_code == code, (words, ran.output)
    return ran


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_command_makes_a_problem_that_runs(layout: str, tmp_path: Path) -> None:
    """What the command writes is checked, and solved with proof, as it stands."""
    source = LAYOUTS[layout][0](tmp_path, drawn())
    told = json.loads(run("outcomes", source, "--out", tmp_path / "made", "--json").stdout)
    assert (told["layout"], told["prompts"]) == (layout, PROMPTS)
    instance = mo.load(told["files"][0])
    result = mo.solve(instance)
    assert result.status == "OPTIMAL" and mo.certify(instance, result).ok
    assert {expert.precision for expert in result.plan.experts} == {"api"}


def test_prices_and_seconds_are_those_of_each_prompt(tmp_path: Path) -> None:
    """Reports on test prompts use the price and the seconds that were published for them."""
    data = drawn()
    run("outcomes", router_bench(tmp_path, data), "--out", tmp_path / "made", "--name", "mine")
    mine = mo.load(tmp_path / "made" / "mine.yaml")
    test = mine.split.members("test")
    numbers = [int(name.split(".")[1]) for name in np.array(mine.outcomes.prompts)[test]]
    seconds, _, money = mine.realised(test, np.arange(len(mine.experts)))
    for k, m in enumerate(mine.model_of):
        assert seconds[:, k] == pytest.approx(data["seconds"][numbers, m])
        assert money[:, k] == pytest.approx(data["usd"][numbers, m])


def test_rules_of_thumb_go_by_price_where_no_joules_are_known(tmp_path: Path) -> None:
    """Behind APIs the cheapest LLM is that of the lowest price, in sets and in routing."""
    data = drawn()
    data["usd"][:, 0] += 1.0  # the first one is by far the dearest
    run("outcomes", router_bench(tmp_path, data), "--out", tmp_path / "made", "--name", "mine")
    mine = mo.load(tmp_path / "made" / "mine.yaml", overrides={"max_experts": 1})
    found = baseline_sets(mine.compiled, facts_of(mine))
    cheap = [i for i, expert in enumerate(mine.experts) if expert.llm == LLMS[1]]
    assert found["all experts that fit"].tolist() == cheap
    assert found["greedy by accuracy per price"].tolist() == cheap
    part = TestPart(mine, mine.split.members("test"))
    assert (part.cost.argmin(axis=1) == cheap[0]).all()


def test_plain_tables_beside_each_other(tmp_path: Path) -> None:
    """Scores, prices, seconds and tokens may be tables of prompts x LLMs, scores on any scale."""
    data, ids = drawn(), pd.DataFrame({"prompt_id": range(PROMPTS), "category": "all"})
    paths = {}
    for kind, values in data.items():
        table = pd.concat([ids, pd.DataFrame(values, columns=list(LLMS))], axis=1)
        if kind == "score":
            table[list(LLMS)] *= 10
        paths[kind] = tmp_path / f"{kind}.csv"
        table.sample(frac=1, random_state=1).to_csv(paths[kind], index=False)
    sizes = tmp_path / "models.csv"
    sizes.write_text("model,params_total_b\norg/open-7b,7.2\n")
    run("outcomes", paths["score"], "--cost", paths["usd"], "--latency", paths["seconds"],
        "--tokens", paths["tokens"], "--score-max", 10, "--models", sizes,
        "--out", tmp_path / "made")  # fmt: skip
    mine = mo.load(tmp_path / "made" / "score.yaml")
    order = [int(name) for name in mine.outcomes.prompts]
    assert mine.outcomes.score == pytest.approx(data["score"][order])
    assert mine.outcomes.output_tokens == pytest.approx(data["tokens"][order])
    assert [llm.open_weights for llm in mine.outcomes.llms] == [False, True]


#: (content of scores.csv, further words, message)
FAULTS = [
    ("prompt_id,question\na,x\n", (), "no scores found: expected a column for each LLM"),
    ("prompt_id,m\na,0.5\nb,7\n", (), "1 scores are outside 0..1 (m on 'b': 7); give the largest"),
    ("prompt_id,m\na,1\na,0\n", (), "prompt 'a' appears twice"),
    ("prompt_id,model,score\na,m,1\na,m,0\n", (),
     "row 2: this prompt and LLM have a row already"),
    ("model,score\nm,1\n", (), "no column names the prompts, such as prompt_id or prompt"),
    ("prompt_id,model,score\na,m,good\n", (), "row 1, column 'score': 'good' is no number"),
    ("prompt_id,m\na,1\n", ("--score-max", "0"), "--score-max: 0 is not a positive number"),
    ("prompt_id,m,n,m|total_cost,o|total_cost\na,1,1,0,0\n", (),
     "column 'o|total_cost': there is no column 'o'"),
    ("prompt_id,m,m|total_cost\na,1,-0.5\n", (), "usd: -0.5 (m on 'a') is outside 0..inf"),
    ("prompt_id,m\na,1\n", ("--cost", "other.csv"), "other.csv: no column for LLM 'm'"),
    ("prompt_id,m\nz,1\n", ("--cost", "prices.csv"), "prices.csv: no row for prompt 'z'"),
    (" \n", (), "error: scores.csv: the file is empty"),
    ("prompt_id,m\na,1\n", ("--cost", "./scores.csv"),
     "--cost scores.csv: is the file of the scores"),
    ("prompt_id,m\na,1\n", ("--cost", "prices.csv", "--tokens", "prices.csv"),
     "--tokens prices.csv: is the file of --cost"),
    ("prompt_id,m\na,1\n", ("--cost", "wide.csv"),
     "wide.csv: holds scores: 'm|total_cost' is beside them"),
    ("prompt_id,m\na,1\n", ("--models", "sizes.csv"),
     "sizes.csv: the outcomes have no LLM 'unknown'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words", "message"), FAULTS)
def test_faults_are_told(
    text: str, words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """What cannot be imported is refused with file, row and column, and exit code 2."""
    monkeypatch.chdir(tmp_path)
    Path("scores.csv").write_text(text)
    Path("other.csv").write_text("prompt_id,n\na,1\n")
    Path("wide.csv").write_text("prompt_id,m,m|total_cost\na,1,0.5\n")
    Path("prices.csv").write_text("prompt_id,m\na,1\n")
    Path("sizes.csv").write_text("model,params_total_b\nunknown,7\n")
    ran = run("outcomes", "scores.csv", "--out", "made", *words, code=2)
    assert message in " ".join(ran.output.split())


def test_a_file_that_was_edited_stays(tmp_path: Path) -> None:
    """A second import into the folder is refused, and changes nothing there."""
    source, made = router_bench(tmp_path, drawn()), tmp_path / "made"
    run("outcomes", source, "--out", made, "--name", "mine")
    (made / "mine.yaml").write_text("# budgets of mine\n")
    ran = run("outcomes", source, "--out", made, "--name", "mine", code=2)
    assert "mine.yaml is there already; choose another folder" in " ".join(ran.output.split())
    assert (made / "mine.yaml").read_text() == "# budgets of mine\n"


def test_pickles_are_refused(tmp_path: Path) -> None:
    """A pickle is never opened; the message says what to write instead."""
    path = tmp_path / "routerbench_0shot.pkl"
    path.write_bytes(b"")
    with pytest.raises(mo.InputError, match="pickles are not read; write the same table as CSV"):
        read_published(path)
