"""``moe2opt check``: files, scenarios, and the self-test of problems."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result as Ran

import moe2opt as mo
from moe2opt.canonical import CounterExample
from moe2opt.canonical.selftest import LARGEST_SELF_TEST, size_words, work_per_point

Run = Callable[..., Ran]


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
