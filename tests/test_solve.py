"""The orchestrator: settings, limits, Ctrl-C, decoding, provenance."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.support import EXTRA, info

import moe2opt as mo
from moe2opt import interrupts, progress
from moe2opt.config import SolverSection
from moe2opt.result import Limit, ProgressEvent, Result, Status
from moe2opt.solve import SolverMismatchError, interruptible
from moe2opt.solvers import SOLVERS, Outcome, Search
from moe2opt.source import Source

PROBLEM = mo.FacilityProblem(values=[[3, 0, 2], [0, 4, 3]], costs=[[1, 1, 1]], budgets=[1])


@pytest.fixture(autouse=True)
def extra_solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the solvers of `cli.support`."""
    for name, entry in EXTRA.items():
        monkeypatch.setitem(SOLVERS, name, entry)


@dataclass
class Toy:
    """An instance around a problem; `worth` and `faults` let it contradict itself."""

    worth: float | None = None
    faults: tuple[str, ...] = ()
    name: str = "toy"

    def problem(self) -> Any:
        """Return the problem of this module."""
        return PROBLEM

    def decode(self, x: Any) -> Any:
        """Return the chosen experts."""
        return np.flatnonzero(x).tolist()

    def evaluate(self, plan: Any) -> float:
        """Return the value that the plan is said to have."""
        x = np.isin(np.arange(3), plan).astype(int)
        return PROBLEM.evaluate(x) if self.worth is None else self.worth

    def check(self, plan: Any) -> list[str]:
        """Return the faults that the plan is said to have."""
        return list(self.faults)

    def row_names(self) -> list[str]:
        """Return the only budget."""
        return ["experts"]

    def cover_names(self) -> list[str]:
        """Return nothing."""
        return []

    def describe(self) -> str:
        """Return one line."""
        return "three experts"


def loaded(**settings: Any) -> Toy:
    """Return a toy instance that came from a file with these solver settings."""
    toy: Any = Toy()
    toy.source = Source("toy", "toy", SolverSection(**settings), Path("toy.yaml"), None, (), {})
    return toy


def test_optimum_of_a_problem() -> None:
    """A canonical problem is solved, and there is no plan because nothing was decoded."""
    result = mo.solve(PROBLEM, "exhaustive")
    assert (result.status, result.objective, result.bound, result.plan) == ("OPTIMAL", 5, 5, None)


def test_optimum_of_an_instance_is_decoded() -> None:
    """An instance gets its plan back in its own terms."""
    result = mo.solve(Toy(), "exhaustive")
    assert result.plan == [2]
    assert result.provenance["instance"] == "toy"


@pytest.mark.parametrize(
    "limit", [{"time_limit_s": 0}, {"node_limit": 0}, {"memory_limit_bytes": 0}]
)
def test_a_limit_of_zero_is_a_limit(limit: dict[str, Any]) -> None:
    """A limit of zero ends without a plan and without an exception."""
    result = mo.solve(PROBLEM, "exhaustive", **limit)
    assert result.status == "NO_SOLUTION"
    assert result.limit == Limit[next(iter(limit)).split("_")[0].upper().replace("NODE", "NODES")]
    assert (result.x, result.plan, result.bound) == (None, None, math.inf)


def test_limit_with_a_plan_is_feasible() -> None:
    """A plan found before the limit comes back."""
    result = mo.solve(PROBLEM, "slow", time_limit_s=0.01)
    assert (result.status, result.limit, result.objective) == ("FEASIBLE", "TIME", 0)


def test_out_of_memory_is_a_limit() -> None:
    """MemoryError inside a solver keeps the incumbent and the bound."""
    result = mo.solve(PROBLEM, "hungry")
    assert (result.status, result.limit, result.bound) == ("FEASIBLE", "MEMORY", 7.0)


def test_warm_start_is_the_first_incumbent() -> None:
    """A warm start survives a run that finds nothing."""
    result = mo.solve(PROBLEM, "blind", time_limit_s=0, warm_start=[1, 0, 0])
    assert (result.objective, result.log[0].source) == (3, "U")


def test_infeasible_warm_start_is_ignored() -> None:
    """A warm start over budget does not become a plan."""
    assert mo.solve(PROBLEM, "blind", time_limit_s=0, warm_start=[1, 1, 0]).x is None


def test_infeasible_problem_does_not_raise() -> None:
    """Infeasibility is a status."""
    result = mo.solve(PROBLEM.with_budgets([-1]), "exhaustive")
    assert (result.status, result.bound) == ("INFEASIBLE", -math.inf)


def test_mismatch_of_values_is_an_error() -> None:
    """An instance that disagrees with its canonical problem by more than 1e-6 is caught."""
    with pytest.raises(SolverMismatchError, match=r"toy: the plan is worth 5\.1, .* says 5\.0"):
        mo.solve(Toy(worth=5.1), "exhaustive")
    assert mo.solve(Toy(worth=5.000001), "exhaustive").objective == 5.0


def test_invalid_plan_is_an_error() -> None:
    """A plan that the instance rejects is never delivered."""
    with pytest.raises(SolverMismatchError, match="toy: the plan is invalid: too late"):
        mo.solve(Toy(faults=("too late",)), "exhaustive")


def test_certificate_of_an_uncertified_solver_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only solvers registered as certified hand on certificates."""
    certificate = mo.Certificate(kind="facility", claim=9.0, tree=(("corner", 0, 0),))

    def boasting(problem: Any, search: Search) -> Outcome:
        search.offer([0, 0, 0], "H")
        return Outcome(9.0, certificate=certificate)

    monkeypatch.setattr("cli.support.broken", boasting)
    assert mo.solve(PROBLEM, "broken").certificate is None


def test_faults_of_a_solver_are_not_hidden() -> None:
    """An exception of a solver is no limit and no status."""
    with pytest.raises(RuntimeError, match="the solver fell over"):
        mo.solve(PROBLEM, "broken")


def test_missing_package_of_a_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver whose package is not installed says which one."""
    monkeypatch.setitem(SOLVERS, "broken", info(EXTRA["broken"].load()))
    monkeypatch.setitem(sys.modules, "cli.support", None)
    with pytest.raises(
        mo.InputError, match=r"solver 'broken' needs cli\.support, which is missing"
    ):
        mo.solve(PROBLEM, "broken")


def test_file_settings_are_defaults() -> None:
    """Values of the file's solver section hold where the call leaves them open."""
    target = loaded(name="exhaustive", node_limit=0, rel_gap=0.5, seed=7, memory_limit_gib=64)
    result = mo.solve(target)
    assert (result.solver, result.limit, result.rel_gap) == ("exhaustive", "NODES", 0.5)
    assert result.provenance["options"]["seed"] == 7
    assert result.provenance["options"]["memory_limit_bytes"] == 64 * 2**30


def test_arguments_beat_the_file() -> None:
    """Arguments of the call overrule the file."""
    target = loaded(name="blind", time_limit_s=0, rel_gap=0.5)
    result = mo.solve(target, "exhaustive", time_limit_s=math.inf, rel_gap=0.0)
    assert (result.status, result.rel_gap) == ("OPTIMAL", 0.0)
    assert result.provenance["options"]["time_limit_s"] == "inf"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "brp"}, "unknown solver 'brp'; choose from auto, brb"),
        ({"time_limit_s": "soon"}, "time_limit_s = 'soon' is not understood; it must be a number"),
        ({"time_limit_s": math.nan}, "time_limit_s = nan is not understood; it must be at least 0"),
        ({"time_limit_s": -1}, "time_limit_s = -1 is not understood; it must be at least 0"),
        ({"node_limit": 1.5}, "node_limit = 1.5 is not understood; it must be an integer"),
        ({"memory_limit_bytes": -1}, "memory_limit_bytes = -1 is not understood"),
        ({"rel_gap": -0.1}, "rel_gap = -0.1 is not understood; it must be at least 0"),
        ({"rel_gap": math.inf}, "rel_gap = inf is not understood; it must be at least 0"),
        ({"seed": -1}, "seed = -1 is not understood; it must be at least 0"),
        ({"seed": True}, "seed = True is not understood; it must be an integer"),
        ({"threads": 0}, "threads = 0 is not understood; it must be at least 1"),
        ({"bound": 3}, "bound = 3 is not understood; it must be text"),
        ({"warm_start": [0, 1]}, "warm_start: x: shape (2,) does not match (N,) = (3,)"),
        ({"warm_start": [0, 1, 2]}, "warm_start: x[2] is 2; every entry must be 0 or 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    """Wrong arguments raise InputError and say which one."""
    with pytest.raises(mo.InputError) as caught:
        mo.solve(PROBLEM, **({"solver": "exhaustive"} | arguments))
    assert str(caught.value).startswith(message)


def test_wrong_target() -> None:
    """A file name is not an instance, and the message says what reads files."""
    with pytest.raises(mo.InputError, match=r"got str; moe2opt\.load reads files"):
        mo.solve("problem.yaml")  # type: ignore[arg-type]


def test_provenance_is_json_and_complete(tmp_path: Path) -> None:
    """The result can be written, and says with what it was made."""
    result = mo.solve(loaded(name="exhaustive"))
    result.save(tmp_path / "result.json")
    stored = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["provenance"]
    assert stored["problem"]["sha256"] == PROBLEM.fingerprint
    assert stored["file"] == "toy.yaml"
    assert {"moe2opt", "numpy", "python"} <= set(stored["versions"])
    assert set(stored) >= {"solver", "options", "platform", "cpu_count", "utc", "scenario"}


def test_same_seed_same_result() -> None:
    """Two runs with one seed agree in everything but times."""
    first, second = (mo.solve(PROBLEM, "exhaustive", seed=3).to_dict() for _ in range(2))
    for content in (first, second):
        del content["stats"], content["provenance"]["utc"]
    assert first == second


def test_every_listener_hears_every_event() -> None:
    """`on_progress` gets the whole log."""
    heard: list[ProgressEvent] = []
    result = mo.solve(PROBLEM, "exhaustive", on_progress=heard.append)
    assert tuple(heard) == result.log


def test_ctrl_c_returns_the_incumbent() -> None:
    """The first Ctrl-C is a limit: the plan comes back and the old handler is restored."""
    before = signal.getsignal(signal.SIGINT)
    pressed: list[int] = []

    def press_once(event: ProgressEvent) -> None:
        if not pressed:
            pressed.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    result = mo.solve(PROBLEM, "slow", on_progress=press_once)
    assert (result.status, result.limit) == ("FEASIBLE", "INTERRUPTED")
    assert signal.getsignal(signal.SIGINT) is before


def test_second_ctrl_c_raises() -> None:
    """The second Ctrl-C raises KeyboardInterrupt, and the old handler is restored."""
    before = signal.getsignal(signal.SIGINT)

    def twice() -> None:
        with interruptible() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt.raised
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_in_a_destructor_is_heard_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupt that Python has to drop leaves no traceback, and the verb knows of it."""

    class Late:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    before = sys.unraisablehook
    with interrupts.hearing_all():
        Late()
        assert interrupts.heard()
    assert sys.unraisablehook is before
    assert capsys.readouterr().err == ""


def test_handler_stays_away_from_other_threads() -> None:
    """In a worker thread, signal handlers are left alone and solving works."""
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(mo.solve(PROBLEM, "exhaustive")))
    thread.start()
    thread.join()
    assert results[0].status is Status.OPTIMAL


def test_ignored_ctrl_c_stays_ignored() -> None:
    """Under `nohup` and the like, Ctrl-C is not taken back."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_display_goes_through_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    """The table and the closing report are log records of the package."""
    with caplog.at_level(logging.INFO, logger="moe2opt"):
        mo.solve(Toy(), "exhaustive", display=True)
    lines = caplog.text.splitlines()
    assert lines[0].endswith("exhaustive  toy  three experts")
    assert sum(progress.HEADER in line for line in lines) == 1
    assert any("Solving report" in line for line in lines)


def test_display_reaches_stderr_only(tmp_path: Path) -> None:
    """Without logging configured, progress is on stderr and stdout stays clean."""
    code = (
        "import moe2opt as mo; mo.solve(mo.FacilityProblem(values=[[1]], costs=[[1]], budgets=[1]),"
        " 'polyblock', display=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr.startswith("moe2opt 0.")
    assert "Solving report" in done.stderr


def test_functions_win_over_modules_of_the_same_name() -> None:
    """`moe2opt.solve` and `moe2opt.certify` are functions, whatever was imported before."""
    for name in ("solve", "certify"):
        module = import_module(f"moe2opt.{name}")
        assert getattr(mo, name) is getattr(module, name)


@pytest.mark.parametrize("name", mo.__all__)
def test_public_names_exist(name: str) -> None:
    """Every public name can be imported."""
    assert getattr(mo, name) is not None


def test_unknown_public_name() -> None:
    """A name that does not exist is an AttributeError, as for any module."""
    with pytest.raises(AttributeError, match="module 'moe2opt' has no attribute 'sovle'"):
        mo.sovle  # noqa: B018
    assert dir(mo) == mo.__all__


@pytest.mark.parametrize("solver", ["brb", "polyblock", "milp", "enumerate", "greedy"])
@pytest.mark.parametrize(
    "problem",
    [
        mo.MultipleChoiceProblem([[1e279, 1.0], [1e279, 1.0]], [[[], []], [[], []]], []),
        mo.FacilityProblem([[0.0, 1e12]], [[1e-300, 5e-324]], [0.0], covers=[[0, 1]]),
        mo.FacilityProblem([[1e279, 1.0]], [[0.8, 1.1]], [-0.0], covers=[[0]]),
    ],
)
def test_scores_may_overflow(solver: str, problem: Any) -> None:
    """Values per cost beyond the largest float neither warn nor spoil what is proven."""
    result = mo.solve(problem, solver)
    assert mo.certify(problem, result).ok
