"""The other verbs: check, verify, problems, schema, versions, and no verb at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result as Ran

import moe2opt as mo
from moe2opt.canonical import CounterExample
from moe2opt.canonical.selftest import LARGEST_SELF_TEST, size_words, work_per_point

Run = Callable[..., Ran]


@pytest.fixture
def solved(moe2opt: Run, tmp_path: Path) -> Path:
    """Path of a certified result of the built-in tiny problem, scenario rich."""
    flags = ("--solver", "polyblock", "--scenario", "rich", "--out", tmp_path, "--quiet")
    assert moe2opt("solve", "tiny", *flags).exit_code == 0
    return tmp_path / "result.json"


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Apply a change to a stored result."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("verb", ["export", "certificate", "report"])
def test_what_is_read_is_not_replaced(moe2opt: Run, solved: Path, verb: str) -> None:
    """A verb whose --out names a file that it reads ends in one line and leaves the file."""
    before = solved.read_bytes()
    words = {
        "export": ("export", solved, "--to", "litellm", "--out", solved),
        "certificate": ("certificate", solved, "tiny", "--out", solved),
        "report": ("report", solved.parent, "--out", solved),
    }[verb]
    ran = moe2opt(*words)
    assert ran.exit_code == 2
    assert "this file is read; name another one" in ran.stderr
    assert solved.read_bytes() == before


def test_no_verb_shows_help(moe2opt: Run) -> None:
    """Without arguments, help appears together with the first command to try."""
    ran = moe2opt()
    assert ran.exit_code == 0
    assert "First command to try: moe2opt solve mmlu_pro_edge" in ran.stdout


def test_version(moe2opt: Run) -> None:
    """`--version` prints name and version."""
    assert moe2opt("--version").stdout == f"moe2opt {mo.__version__}\n"


def test_check_every_scenario(moe2opt: Run) -> None:
    """`check` builds the file and each of its scenarios, and self-tests them."""
    ran = moe2opt("check", "tiny")
    assert ran.exit_code == 0
    heads = [line for line in ran.stdout.splitlines() if line.endswith(": ok")]
    assert heads == ["tiny: ok", "tiny [rich]: ok", "tiny [shared]: ok", "tiny [infeasible]: ok"]
    assert ran.stdout.count("no counterexample in 200 random pairs") == 4


def test_check_one_scenario(moe2opt: Run) -> None:
    """With `--scenario`, only that one is checked."""
    ran = moe2opt("check", "tiny", "--scenario", "rich", "--json")
    found = json.loads(ran.stdout)
    assert found["ok"] is True
    assert [entry["scenario"] for entry in found["checked"]] == ["rich"]


def test_check_goes_on_after_an_error(moe2opt: Run, tiny_file: Path, tmp_path: Path) -> None:
    """One bad file does not hide the others; the exit code is that of the bad one."""
    ran = moe2opt("check", tmp_path / "missing.yaml", tiny_file)
    assert ran.exit_code == 2
    assert ran.stderr == f"error: {tmp_path / 'missing.yaml'}: no such file\n"
    assert ran.stdout.startswith(f"{tiny_file}: ok\n")


def test_quiet_check(moe2opt: Run, tiny_file: Path) -> None:
    """A quiet check of a good file says nothing."""
    assert moe2opt("check", tiny_file, "--quiet").output == ""


def test_check_reports_a_counterexample(
    moe2opt: Run, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An oracle that is not monotone is bad input."""
    example = CounterExample("objective", np.array([0, 1]), 0, 2.0, 1.0)
    monkeypatch.setattr("moe2opt.canonical.selftest.find_counterexample", lambda *_, **__: example)
    ran = moe2opt("check", tiny_file)
    assert ran.exit_code == 2
    assert "objective is not monotone: raising coordinate 0 of x = [0, 1]" in ran.stderr


def test_large_problems_are_not_self_tested(
    moe2opt: Run, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a size the self-test is left out, and that is said."""
    monkeypatch.setattr("moe2opt.canonical.selftest.LARGEST_SELF_TEST", 1)
    assert "monotone: not tested (large)" in moe2opt("check", tiny_file).stdout


def test_many_groups_are_a_large_problem() -> None:
    """Every group is two oracles over all options: thousands of groups are not tested that way."""

    def work(groups: int) -> int:
        option = np.zeros(10)
        return work_per_point(
            mo.MultipleChoiceProblem([option] * groups, [option[:, None]] * groups, [1])
        )

    assert work(75) < LARGEST_SELF_TEST < work(5000)
    few = mo.FacilityProblem(np.ones((1000, 100)), np.ones((1, 100)), [3])
    assert work_per_point(few) == 100_000


def test_size_in_words() -> None:
    """Each family has its own words for size."""
    box = mo.MonotoneProblem(lower=[0], upper=[3], objective=lambda x: x.sum(axis=1))
    choice = mo.MultipleChoiceProblem(values=[[0, 1]], usage=[[[0], [1]]], budgets=[1])
    assert size_words(box) == "monotone problem, 1 variables, 0 constraints"
    assert size_words(choice) == "multiple-choice problem, 1 groups, 2 options, 1 budgets"


def test_verify_accepts(moe2opt: Run, solved: Path) -> None:
    """A stored result is accepted; its scenario is taken from the result."""
    ran = moe2opt("verify", solved, "tiny")
    assert ran.exit_code == 0
    assert ran.stdout.startswith(f"{solved}: accepted, OPTIMAL\n")
    assert "the certificate proves that no plan is worth more than" in ran.stdout


def test_verify_json(moe2opt: Run, solved: Path) -> None:
    """`verify --json` prints the verdict."""
    verdict = json.loads(moe2opt("verify", solved, "tiny", "--json").stdout)
    assert (verdict["ok"], verdict["kind"], verdict["failures"]) == (True, "checked", [])


def test_verify_against_other_data(moe2opt: Run, solved: Path) -> None:
    """A result of one scenario is rejected against another."""
    ran = moe2opt("verify", solved, "tiny", "--scenario", "infeasible")
    assert ran.exit_code == 6
    assert "rejected: it was made for other data" in ran.stderr


def test_verify_against_another_problem(moe2opt: Run, solved: Path) -> None:
    """A result of another problem is rejected by name, whatever its length."""
    ran = moe2opt("verify", solved, "tiny_gate")
    assert ran.exit_code == 6
    assert "for the problem 'tiny-rich', not for 'tiny_gate-rich'" in ran.stderr
    assert "shape" not in ran.stderr


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(bound=0.1),
        lambda r: r.update(objective=0.99, bound=0.99),
        lambda r: r.update(x=[0] * len(r["x"])),
        lambda r: r["certificate"].update(claim=0.1),
        lambda r: r["certificate"]["tree"].pop(),
        lambda r: r["provenance"]["problem"].update(sha256="0"),
    ],
    ids=["bound", "objective", "solution", "claim", "tree", "hash"],
)
def test_verify_rejects_changes(
    moe2opt: Run, solved: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    """A stored result that was changed in one place is rejected with 6."""
    ran = moe2opt("verify", edited(solved, change), "tiny")
    assert ran.exit_code == 6
    assert "rejected" in ran.stderr


def test_verify_a_claim(moe2opt: Run, tiny_file: Path, tmp_path: Path) -> None:
    """A result without certificate is never accepted as optimal: it is a claim, and ends with 5."""
    moe2opt("solve", tiny_file, "--solver", "exhaustive", "--out", tmp_path)
    ran = moe2opt("verify", tmp_path / "result.json", tiny_file)
    assert ran.exit_code == 5
    assert "accepted" not in ran.stdout
    assert "not contradicted, but OPTIMAL is only claimed" in ran.stdout
    assert "the bound 3 is only a claim of exhaustive" in ran.stdout


def test_verify_a_claim_that_no_plan_exists(moe2opt: Run, solved: Path) -> None:
    """A forged result that says INFEASIBLE without a proof is a claim, and ends with 5."""

    def forge(stored: dict[str, Any]) -> None:
        stored.update(status="INFEASIBLE", x=None, plan=None, certificate=None, gap="inf")
        stored.update(objective="-inf", bound="-inf", limit=None)
        stored["canonical"] = {"objective": "-inf", "bound": "-inf"}

    path = edited(solved, forge)
    ran = moe2opt("verify", path, "tiny")
    assert ran.exit_code == 5, ran.stderr
    assert "not contradicted, but INFEASIBLE is only claimed" in ran.stdout
    assert "that no plan exists is only a claim of polyblock" in ran.stdout
    told = json.loads(moe2opt("verify", path, "tiny", "--json").stdout)
    assert (told["kind"], told["status"]) == ("claimed", "INFEASIBLE")


def test_verify_a_plan_without_a_bound(moe2opt: Run, tmp_path: Path) -> None:
    """A heuristic claims no bound, and `verify` does not say that it does."""
    moe2opt("solve", "tiny", "--solver", "greedy", "--out", tmp_path)
    ran = moe2opt("verify", tmp_path / "result.json", "tiny")
    assert ran.exit_code == 0
    assert "no bound is claimed: greedy proves nothing about other plans" in ran.stdout
    assert "only a claim" not in ran.stdout


@pytest.mark.parametrize(
    "provenance", [{"overrides": "abc"}, {"overrides": [3]}, {"scenario": 3}], ids=str
)
def test_verify_distrusts_provenance(
    moe2opt: Run, solved: Path, provenance: dict[str, Any]
) -> None:
    """A result whose recorded settings have the wrong type is rejected."""
    path = edited(solved, lambda result: result["provenance"].update(provenance))
    ran = moe2opt("verify", path, "tiny")
    assert ran.exit_code == 6
    assert "provenance: scenario and overrides must be text" in ran.stderr


def test_problems_are_listed(moe2opt: Run) -> None:
    """Every built-in problem is listed with its scenarios."""
    text = moe2opt("problems").stdout
    assert "selection/mmlu_pro_edge" in text
    assert "Solve one: moe2opt solve" in text
    found = json.loads(moe2opt("problems", "--json").stdout)["problems"]
    tiny = next(entry for entry in found if entry["name"] == "selection/tiny")
    assert tiny["scenarios"] == ["rich", "shared", "infeasible"]
    assert tiny["description"].startswith("Synthetic:")


def test_schema_is_json(moe2opt: Run) -> None:
    """`schema` prints the JSON Schema of the whole file, one alternative per question."""
    schema = json.loads(moe2opt("schema").stdout)
    files = schema["$defs"]
    for file, own in (("SelectionFile", "servers"), ("PlacementFile", "tiers")):
        assert {"schema_version", "problem", "solver", "scenarios", own} <= set(
            files[file]["properties"]
        )


def test_versions(moe2opt: Run) -> None:
    """`versions` names moe2opt, Python and the platform, as text and as JSON."""
    text = moe2opt("versions").stdout
    found = json.loads(moe2opt("versions", "--json").stdout)
    assert all(f"{name:10} {version}" in text for name, version in found.items())
    assert {"moe2opt", "python", "numpy", "platform"} <= set(found)
