"""``moe2opt verify``: what is accepted, what is rejected, what is only claimed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result as Ran

Run = Callable[..., Ran]


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Apply a change to a stored result."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


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
        lambda r: r["plan"]["experts"][0].update(llm="EVIL-70B"),
        lambda r: r["plan"].update(predicted_accuracy=0.999),
        lambda r: r.update(rel_gap=1e9),
    ],
    ids=["bound", "objective", "solution", "claim", "tree", "hash", "LLM", "accuracy", "gap"],
)
def test_verify_rejects_changes(
    moe2opt: Run, solved: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    """A stored result that was changed in one place is rejected with 6."""
    ran = moe2opt("verify", edited(solved, change), "tiny")
    assert ran.exit_code == 6
    assert "rejected" in ran.stderr


def test_verify_says_what_was_loosened(moe2opt: Run, tmp_path: Path) -> None:
    """A result of a budget that was set by hand is accepted for that budget, and says so."""
    loose = "energy.limit_j_per_prompt=1e9"
    moe2opt("solve", "tiny", "--set", loose, "--out", tmp_path)
    told = moe2opt("verify", tmp_path / "result.json", "tiny").stdout
    assert f"with --set {loose} recorded in the result" in told


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
