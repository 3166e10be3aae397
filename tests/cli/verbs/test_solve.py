"""``moe2opt solve``: exit codes, JSON, files, texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result as Ran

import moe2opt as mo
from moe2opt.certify import Verdict
from moe2opt.cli.exits import Exit, Require, exit_of
from moe2opt.cli.show import Names, as_json, show_conflict
from moe2opt.config import load
from moe2opt.errors import InputError
from moe2opt.result import Conflict, Limit, Relaxation, Result, Status

Run = Callable[..., Ran]

#: The package; as an attribute of moe2opt its name is the function.
CERTIFY = import_module("moe2opt.certify")

KEYS = {"status", "limit", "sense", "objective", "bound", "gap", "plan", "certificate", "stats"}


def payload(ran: Ran) -> dict[str, Any]:
    """Return the JSON object on stdout, which must hold nothing else."""
    content = json.loads(ran.stdout)
    assert isinstance(content, dict)
    return content


def test_certified_plan(moe2opt: Run) -> None:
    """A built-in problem is solved by name, certified, and ends with 0."""
    ran = moe2opt("solve", "tiny", "--solver", "polyblock", "--require", "certified")
    assert ran.exit_code == 0
    assert "Optimal. Objective 0.7, bound 0.7, gap 0.00%." in ran.stdout
    assert "checked (proves 0.7)" in ran.stdout
    assert "Solving report" in ran.stderr


def test_full_name_and_path_mean_the_same(moe2opt: Run, checkout: Path) -> None:
    """`selection/tiny` and the path of its file lead to the same problem."""
    names = ("selection/tiny", checkout / "problems/selection/tiny.yaml")
    found = [payload(moe2opt("solve", n, "--solver", "exhaustive", "--json")) for n in names]
    assert found[0]["provenance"]["problem"] == found[1]["provenance"]["problem"]


def test_json_is_one_object(moe2opt: Run) -> None:
    """`--json` prints one object with the promised keys, and the log stays on stderr."""
    ran = moe2opt("solve", "tiny", "--solver", "polyblock", "--json")
    content = payload(ran)
    assert set(content) > KEYS
    assert content["certificate"]["kind"] == "checked"
    assert content["certificate"]["checked"] is True
    assert content["sense"] == "maximize"
    assert "BestBound" in ran.stderr


def test_quiet_is_silent_on_stderr(moe2opt: Run) -> None:
    """`--quiet` leaves stderr empty and drops the hints."""
    ran = moe2opt("solve", "tiny", "--solver", "polyblock", "--quiet")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert "Next:" not in ran.stdout


def test_without_checking_the_certificate_is_checkable(moe2opt: Run) -> None:
    """`--no-certify` says so instead of claiming a check."""
    ran = moe2opt("solve", "tiny", "--solver", "polyblock", "--no-certify", "--json")
    certificate = payload(ran)["certificate"]
    assert (certificate["kind"], certificate["checked"]) == ("checkable", False)


def test_uncertified_solver_only_claims(moe2opt: Run, tiny_file: Path) -> None:
    """The bound of a solver without certificates is called a claim."""
    ran = moe2opt("solve", tiny_file, "--solver", "exhaustive", "--json")
    assert payload(ran)["certificate"]["kind"] == "claimed"
    assert payload(ran)["plan"] == {"x": [0, 1]}


def test_bare_problem_in_words(moe2opt: Run, tiny_file: Path) -> None:
    """A canonical problem shows the chosen experts and the use of each budget."""
    ran = moe2opt("solve", tiny_file, "--solver", "exhaustive")
    assert "Chosen experts: 1\n" in ran.stdout
    assert "budgets[0]" in ran.stdout
    assert "100.0 %" in ran.stdout


def test_multiple_choice_in_words(moe2opt: Run, tmp_path: Path) -> None:
    """A multiple-choice problem shows the option of each group."""
    problem = mo.MultipleChoiceProblem(
        values=[[0, 5], [0, 4]], usage=[[[0], [3]], [[0], [2]]], budgets=[4]
    )
    mo.save_problem(problem, tmp_path / "choice.npz")
    ran = moe2opt("solve", tmp_path / "choice.npz", "--solver", "exhaustive")
    assert "Option of each group: 1 0\n" in ran.stdout


def test_settings_reach_the_solver(moe2opt: Run, tiny_file: Path) -> None:
    """Every flag of the command line arrives in the options of the run."""
    flags = {
        "--time-limit": "9", "--gap": "0.25", "--seed": "5", "--threads": "2",
        "--node-limit": "1000", "--memory-limit": "64", "--bound": "corner",
        "--proof": "linear",
    }  # fmt: skip
    pairs = [text for pair in flags.items() for text in pair]
    ran = moe2opt("solve", tiny_file, "--solver", "exhaustive", "--json", *pairs)
    assert payload(ran)["provenance"]["options"] == {
        "time_limit_s": 9.0, "rel_gap": 0.25, "seed": 5, "threads": 2, "node_limit": 1000,
        "memory_limit_bytes": 64 * 2**30, "bound": "corner", "proof": "linear",
        "warm_start": False,
    }  # fmt: skip


def test_scenario_and_set(moe2opt: Run) -> None:
    """`--scenario` and `--set` change the problem and are recorded."""
    ran = moe2opt(
        "solve", "tiny", "--solver", "exhaustive", "--json", "--scenario", "rich",
        "--set", "max_experts=1", "--set", "solver.seed=4",
    )  # fmt: skip
    content = payload(ran)
    assert len(content["plan"]["experts"]) == 1
    assert content["name"] == "tiny-rich"
    assert content["provenance"]["overrides"] == ["max_experts=1", "solver.seed=4"]
    assert content["provenance"]["options"]["seed"] == 4


def test_files_of_out(moe2opt: Run, tmp_path: Path) -> None:
    """`--out` writes result, log and a configuration that solves to the same."""
    out = tmp_path / "deep" / "out"
    ran = moe2opt("solve", "tiny", "--solver", "polyblock", "--scenario", "shared", "--out", out)
    assert ran.exit_code == 0
    assert f"moe2opt verify {out / 'result.json'} tiny" in ran.stdout
    result = Result.load(out / "result.json")
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["objective"] == result.objective
    from moe2opt.schema import read_file

    effective = read_file(out / "config.yaml").data
    loaded = load("tiny", "shared")
    assert isinstance(loaded, mo.LoadedInstance)
    assert effective == loaded.source.effective


def test_nothing_is_written_without_out(
    moe2opt: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `--out`, the working directory stays as it was."""
    monkeypatch.chdir(tmp_path)
    assert moe2opt("solve", "tiny", "--solver", "exhaustive").exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_limit_without_a_plan(moe2opt: Run, tiny_file: Path) -> None:
    """A limit of zero without a plan ends with 4 and does not say infeasible."""
    ran = moe2opt("solve", tiny_file, "--solver", "exhaustive", "--time-limit", 0)
    assert ran.exit_code == 4
    assert "No plan found (time limit)." in ran.stdout
    assert "does not mean that no plan exists" in ran.stdout
    assert "nfeasible" not in ran.stdout


def test_limit_with_a_plan(moe2opt: Run, tiny_file: Path) -> None:
    """A plan found before the limit ends with 0, because nothing more was asked."""
    ran = moe2opt("solve", tiny_file, "--solver", "slow", "--time-limit", 0.01)
    assert ran.exit_code == 0
    assert "with a larger --time-limit" in ran.stdout


@pytest.mark.parametrize(
    "flags", [("--require", "optimal"), ("--require", "certified"), ("--gap", "0.01")]
)
def test_weaker_than_asked(moe2opt: Run, tiny_file: Path, flags: tuple[str, str]) -> None:
    """A plan that misses what was asked ends with 5, and is still printed."""
    ran = moe2opt("solve", tiny_file, "--solver", "slow", "--time-limit", 0.01, *flags)
    assert ran.exit_code == 5
    assert "Chosen experts" in ran.stdout


def test_claimed_optimum_is_not_certified(moe2opt: Run, tiny_file: Path) -> None:
    """`--require certified` is not met by a claim, `--require optimal` is."""
    arguments = ("solve", tiny_file, "--solver", "exhaustive", "--require")
    assert moe2opt(*arguments, "certified").exit_code == 5
    assert moe2opt(*arguments, "optimal").exit_code == 0


def test_infeasible_without_a_reason(moe2opt: Run, tiny_file: Path) -> None:
    """A claim of infeasibility ends with 3 and points to a solver that proves it."""
    ran = moe2opt("solve", "tiny", "--scenario", "infeasible", "--solver", "exhaustive")
    assert ran.exit_code == 3
    assert "exhaustive gives no reason; --solver brb proves one." in ran.stdout


def test_rejected_certificate(
    moe2opt: Run, monkeypatch: pytest.MonkeyPatch, tiny_file: Path
) -> None:
    """When the checker rejects, the exit code is 6 and the failure is shown."""
    verdict = Verdict(False, "checked", 3.0, 3.0, ("leaf 2 proves nothing",))
    monkeypatch.setattr(CERTIFY, "certify", lambda target, result: verdict)
    ran = moe2opt("solve", tiny_file, "--solver", "exhaustive")
    assert ran.exit_code == 6
    assert "REJECTED: leaf 2 proves nothing" in ran.stdout


def test_internal_error(moe2opt: Run, tiny_file: Path) -> None:
    """A fault of a solver is one line with a hint, exit code 70 and no traceback."""
    ran = moe2opt("solve", tiny_file, "--solver", "broken", "--quiet")
    assert ran.exit_code == 70
    assert ran.stderr.splitlines() == [
        "internal error: RuntimeError: the solver fell over",
        "Please report it with the output of `moe2opt versions` (MOE2OPT_DEBUG=1 shows more).",
    ]


def test_traceback_on_request(
    moe2opt: Run, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MOE2OPT_DEBUG=1 adds the traceback."""
    monkeypatch.setenv("MOE2OPT_DEBUG", "1")
    ran = moe2opt("solve", tiny_file, "--solver", "broken", "--quiet")
    assert "Traceback (most recent call last)" in ran.stderr


PLAN = np.zeros(1, dtype=np.int64)
OK = Verdict(True, "checked", 1.0, 1.0)
BAD = Verdict(False, "checked", 1.0, 1.0, ("wrong",))
CLAIM = Verdict(True, "claimed", 1.0, 1.0)


def outcome(status: Status, limit: Limit | None = None, bound: float = 1.0) -> Result:
    """Return a result with this status."""
    has_plan = status in (Status.OPTIMAL, Status.FEASIBLE)
    return Result(status, limit, PLAN if has_plan else None, 1.0 if has_plan else -np.inf, bound)


@pytest.mark.parametrize(
    ("result", "verdict", "gap", "require", "code"),
    [
        (outcome(Status.OPTIMAL), OK, None, None, Exit.OK),
        (outcome(Status.OPTIMAL), None, None, Require.CERTIFIED, Exit.TOO_WEAK),
        (outcome(Status.OPTIMAL), CLAIM, 0.0, Require.OPTIMAL, Exit.OK),
        (outcome(Status.OPTIMAL), BAD, None, None, Exit.REJECTED),
        (outcome(Status.INFEASIBLE, bound=-np.inf), BAD, None, None, Exit.REJECTED),
        (outcome(Status.INFEASIBLE, bound=-np.inf), OK, None, Require.OPTIMAL, Exit.INFEASIBLE),
        (outcome(Status.FEASIBLE, Limit.TIME, 1.5), OK, None, None, Exit.OK),
        (outcome(Status.FEASIBLE, Limit.TIME, 1.5), OK, 0.6, None, Exit.OK),
        (outcome(Status.FEASIBLE, Limit.TIME, 1.5), OK, 0.4, None, Exit.TOO_WEAK),
        (outcome(Status.FEASIBLE, Limit.TIME, 1.5), OK, None, Require.FEASIBLE, Exit.OK),
        (outcome(Status.FEASIBLE, Limit.INTERRUPTED, 1.5), OK, None, None, Exit.OK),
        (outcome(Status.NO_SOLUTION, Limit.TIME), OK, None, None, Exit.NO_PLAN),
        (outcome(Status.NO_SOLUTION, Limit.INTERRUPTED), OK, None, None, Exit.INTERRUPTED),
    ],
)
def test_exit_codes(
    result: Result, verdict: Verdict | None, gap: float | None, require: Require | None, code: Exit
) -> None:
    """Each outcome has one exit code, rejection before everything else."""
    assert exit_of(result, verdict, gap, require) is code


def test_interrupted_check_still_delivers(
    moe2opt: Run, monkeypatch: pytest.MonkeyPatch, tiny_file: Path
) -> None:
    """Ctrl-C while the certificate is checked ends with 130, but the plan is printed."""

    def interrupted(target: object, result: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CERTIFY, "certify", interrupted)
    ran = moe2opt("solve", tiny_file, "--solver", "polyblock")
    assert ran.exit_code == 130
    assert "not checked yet" in ran.stdout
    assert "Chosen experts: 1" in ran.stdout


def test_conflict_in_json() -> None:
    """JSON names the clashing budgets and covers instead of numbering them."""
    problem = mo.FacilityProblem(values=[[1, 1]], costs=[[4, 4]], budgets=[3], covers=[[0]])
    conflict = Conflict((0,), (0,), True, (Relaxation(0, 4.0, PLAN, ()),))
    certificate = mo.Certificate("facility", -np.inf, (("budget", 0, 0),), conflict=conflict)
    result = Result(Status.INFEASIBLE, None, None, -np.inf, -np.inf, certificate)
    content = as_json(problem, result, None)
    assert content["plan"] is None
    assert content["bound"] == content["certificate"]["claim"] == "-inf"
    assert content["certificate"]["conflict"] == {
        "budgets": ["budgets[0]"],
        "covers": ["covers[0] (at least one of its experts)"],
        "smallest": True,
        "claimed": ["smallest"],
        "relaxations": {"budgets[0]": 4.0},
    }  # fmt: skip


def conflict_text(conflict: Conflict, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what is printed about a conflict of a problem with two budgets and a cover."""
    problem = mo.FacilityProblem(
        values=[[1, 1]], costs=[[4, 4], [1, 1]], budgets=[3, 0], covers=[[0, 1]]
    )
    certificate = mo.Certificate("facility", -np.inf, (("budget", 0, 0),), conflict=conflict)
    result = Result(Status.INFEASIBLE, None, None, -np.inf, -np.inf, certificate)
    show_conflict(Names(("energy_j", "memory_gib"), ("coverage[code]",)), problem, result)
    return capsys.readouterr().out


def test_conflict_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """The clash names budgets and covers, and the least relaxation of each budget."""
    relaxations = (Relaxation(0, 4.0, PLAN, ()), Relaxation(1, 1.0, PLAN, ()))
    text = conflict_text(Conflict((0, 1), (0,), True, relaxations), capsys)
    assert " found no smaller set of budgets that clashes):\n  energy_j at most 3\n" in text
    text = conflict_text(Conflict((0, 1), (0,), False, relaxations), capsys)
    assert " found none of them that can be dropped):\n  energy_j at most 3\n" in text
    assert "  coverage[code]\n" in text
    assert "energy_j             3             4   +33.3 %" in text
    assert "memory_gib           0             1         -" in text


def test_least_limits_are_rounded_up(capsys: pytest.CaptureFixture[str]) -> None:
    """A least limit that is copied from the screen is never too small."""
    text = conflict_text(Conflict((0,), (), True, (Relaxation(0, 164.7110001, PLAN, ()),)), capsys)
    assert "164.712" in text


def test_conflict_without_relaxation(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no single budget helps, that is said."""
    text = conflict_text(Conflict((0,), ()), capsys)
    assert " found none of them that can be dropped):" in text
    assert "No change of a single budget is known to be enough." in text


def test_conflict_of_groups(capsys: pytest.CaptureFixture[str]) -> None:
    """A clash without budgets and covers is one of the groups."""
    assert "the groups alone" in conflict_text(Conflict(()), capsys)


def test_use_beyond_a_limit_is_told(moe2opt: Run, tmp_path: Path) -> None:
    """A coefficient of 1e12 gives its row a slack of 1,000; a plan that needs it says so."""
    usage = [[[0.0], [100.4534]], [[0.0], [1e12]]]
    file, result = tmp_path / "huge.json", tmp_path / "out" / "result.json"
    mo.save_problem(mo.MultipleChoiceProblem([[0, 1], [0, 1]], usage, [1e12]), file)
    told = "budgets[0]: uses 1000000000100.4534, 100.453 more than 1000000000000.0, within"
    ran = moe2opt("solve", file, "--out", result.parent)
    assert f"note: {told}" in ran.stdout
    assert f"  {told}" in moe2opt("verify", result, file).stdout
    assert payload(moe2opt("solve", file, "--json"))["notes"][0].startswith(told)
    assert payload(moe2opt("solve", "tiny", "--json"))["notes"] == []


@pytest.mark.parametrize("values", [[1e308, 1e308], [2**62 + 1, 2**62 - 1]])
def test_numbers_that_cannot_be_added_are_named(values: list[float]) -> None:
    """Sums that overflow, and whole numbers that no float holds, are bad input by name."""
    with pytest.raises(InputError, match="values"):
        mo.solve(mo.MultipleChoiceProblem([[0, v] for v in values], [[[0], [1]]] * 2, [2]))
