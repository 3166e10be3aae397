"""The verb export: files, report, one JSON object, and one message for every bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_plans import make_plan
from typer.testing import CliRunner
from typer.testing import Result as Ran

from moe2opt.cli.app import app
from moe2opt.placement import PlacementPlan
from moe2opt.result import Result, Status


def export(*words: object) -> Ran:
    """Run the verb."""
    return CliRunner().invoke(app, ["export", *map(str, words)])


def stored(folder: Path, plan: PlacementPlan | None, status: Status = Status.FEASIBLE) -> Path:
    """Write a result with a plan, or of a problem without one."""
    x = None if plan is None else np.zeros(3, dtype=np.int64)
    objective = float("-inf") if plan is None else -1.0
    bound = float("-inf") if plan is None else -0.5
    result = Result(
        status=status, limit=None, x=x, objective=objective, bound=bound, certificate=None,
        solver="drawn", rel_gap=0.0, stats={}, plan=plan,
    )  # fmt: skip
    result.save(folder / "result.json")
    return folder / "result.json"


@pytest.fixture
def result(tmp_path: Path, plan: PlacementPlan) -> Path:
    """Path of a stored result with the plan."""
    return stored(tmp_path, plan)


def test_stdout_is_the_file_and_stderr_the_report(result: Path) -> None:
    """Only the options go to stdout, so that they can be piped; the report goes to stderr."""
    ran = export(result, "--to", "llama.cpp")
    assert ran.exit_code == 0
    assert ran.stdout.startswith("-ngl 99 --fit off -ot ")
    assert "stdout" not in ran.stderr and not ran.stderr.startswith("\n")
    assert ran.stdout.count("\n") == 1
    assert "as exported (+" in ran.stderr
    assert "not proven optimal" in ran.stderr


def test_quiet_leaves_the_report_out(result: Path) -> None:
    """With --quiet nothing is on stderr."""
    assert export(result, "--to", "vllm", "--quiet").stderr == ""


def test_files_go_beside_the_first(result: Path, tmp_path: Path) -> None:
    """A format of several files writes them beside --out, and the launch text names them."""
    out = tmp_path / "rules.yaml"
    ran = export(result, "--to", "ktransformers", "--out", out)
    assert ran.exit_code == 0
    assert ran.stdout == ""
    names = {path.name for path in tmp_path.iterdir()} - {"result.json"}
    assert names == {"rules.yaml", "rules.kt-kernel.json", "rules.mask.json"}
    assert f"--init-expert-location {tmp_path / 'rules.kt-kernel.json'}" in ran.stderr


def test_json_is_one_object(result: Path) -> None:
    """With --json stdout is one object with texts and reports."""
    ran = export(result, "--to", "ktransformers", "--json")
    content = json.loads(ran.stdout)
    assert content["format"] == "ktransformers"
    assert [e["report"]["runtime"] for e in content["exports"]] == [
        "ktransformers", "kt-kernel", "kt-kernel",
    ]  # fmt: skip
    assert content["exports"][0]["report"]["gap"] > 0


def test_a_configuration_judges_by_its_own_data(tmp_path: Path) -> None:
    """With --config figures are recomputed; another configuration than the result's is refused."""
    import moe2opt as mo

    name = "mixtral_8x7b_4090"
    solved = mo.solve(mo.load(name, scenario="per_layer"), rel_gap=0.05, time_limit_s=20)
    solved.save(tmp_path / "result.json")
    known = export(tmp_path / "result.json", "--to", "llama.cpp", "--config", name, "--json")
    assert known.exit_code == 0, known.stderr
    (made,) = json.loads(known.stdout)["exports"]
    assert made["report"]["gap"] == 0.0
    assert not any("requirement" in note for note in made["report"]["notes"])
    other = export(tmp_path / "result.json", "--to", "json", "--config", "gpt_oss_20b_orin")
    assert (other.exit_code, other.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("to", ["accelerate", "vllm"])
def test_a_configuration_gives_better_formats(tmp_path: Path, to: str) -> None:
    """With --config fewer bits are tried within the loss budget: never worse than without."""
    import moe2opt as mo

    name = "mixtral_8x7b_4090"
    solved = mo.solve(mo.load(name), rel_gap=0.05, time_limit_s=20)
    solved.save(tmp_path / "result.json")
    values = []
    for more in ((), ("--config", name)):
        ran = export(tmp_path / "result.json", "--to", to, "--json", *more)
        (made,) = json.loads(ran.stdout)["exports"]
        assert not any("requirement" in note for note in made["report"]["notes"])
        values.append(made["report"]["projected_value"])
    assert values[1] < values[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--to", "llamacpp"),
            "exported to llamacpp, only to llama.cpp, ktransformers, sglang",
        ),
        (
            ("--to", "litellm"),
            "the plan answers 'placement'; it cannot be exported to litellm, only",
        ),
        (("--to", "sglang"), "do not fit"),
        (("--to", "json", "--out", "nowhere/at/all.json"), "--out nowhere/at/all.json: No such"),
    ],
)
def test_bad_requests(
    words: tuple[str, ...], told: str, tmp_path: Path, plan: PlacementPlan
) -> None:
    """Unknown formats, formats of the other question, no room, no folder: one line and code 2."""
    path = stored(tmp_path, make_plan(np.zeros((9, 8))) if "sglang" in words else plan)
    ran = export(path, *words)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert told in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_results_without_a_placement(tmp_path: Path) -> None:
    """An infeasible result, a selection and a file that is no result have one message each."""
    import moe2opt as mo

    none = export(stored(tmp_path, None, Status.NO_SOLUTION), "--to", "json")
    assert none.exit_code == 2
    assert "there is no plan to export, the status is NO_SOLUTION" in none.stderr
    mo.solve(mo.load("tiny")).save(tmp_path / "selection.json")
    other = export(tmp_path / "selection.json", "--to", "json")
    assert other.exit_code == 2
    assert "it cannot be exported to json, only to litellm" in other.stderr
    (tmp_path / "text.json").write_text("{}", encoding="utf-8")
    wrong = export(tmp_path / "text.json", "--to", "json")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)


def test_nothing_is_left_when_writing_fails(result: Path, tmp_path: Path) -> None:
    """A target that is a folder is refused and no half-written file stays behind."""
    (tmp_path / "taken").mkdir()
    ran = export(result, "--to", "json", "--out", tmp_path / "taken")
    assert ran.exit_code == 2
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "result.json"}
