"""The command line in a process of its own: start-up, signals, streams."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.support import cli_process, save_tiny_problem

HEAVY = ("scipy", "numba", "pyomo", "pandas", "matplotlib", "highspy", "numpy", "rich")


def imported(code: str) -> set[str]:
    """Return the packages that a piece of code has imported."""
    probe = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", ["['--help']", "[]", "['solve', '--help']", "['--version']"])
def test_help_is_light(arguments: str) -> None:
    """Help and version import nothing heavy, which keeps them fast."""
    code = f"from moe2opt.cli import app\ntry: app({arguments})\nexcept SystemExit: pass"
    assert not imported(code) & set(HEAVY)


def test_package_is_light() -> None:
    """Importing moe2opt imports nothing heavy."""
    assert not imported("import moe2opt") & set(HEAVY)


def test_verify_imports_no_solver(tmp_path: Path) -> None:
    """`verify` runs without any solver and without the libraries they need."""
    problem = save_tiny_problem(tmp_path / "problem.json")
    flags = ("--solver", "polyblock", "--out", str(tmp_path), "--json")
    assert ended("solve", str(problem), *flags)[0] == 0
    arguments = ["verify", str(tmp_path / "result.json"), str(problem)]
    code = (
        f"import sys\nfrom moe2opt.cli import app\ntry: app({arguments})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not [m for m in sys.modules if m.startswith('moe2opt.solve')]"
    )
    assert not imported(code) & {"scipy", "numba", "pyomo", "highspy"}


def ended(*arguments: str) -> tuple[int, str, str]:
    """Run ``moe2opt`` to its end and return exit code, stdout and stderr."""
    process = cli_process(*arguments)
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def wait_for_row(process: subprocess.Popen[str]) -> str:
    """Read stderr up to the first row of the table."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if line.rstrip().endswith("s") and "|" in line:
            return seen
    raise AssertionError(f"the process ended without a row: {seen}")


def test_ctrl_c_delivers_the_plan(tmp_path: Path) -> None:
    """Ctrl-C ends a run with 0, the plan on stdout and in the files."""
    problem = save_tiny_problem(tmp_path / "problem.json")
    process = cli_process(
        "solve", str(problem), "--solver", "slow", "--json", "--out", str(tmp_path)
    )
    wait_for_row(process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    content = json.loads(stdout)
    assert (content["status"], content["limit"]) == ("FEASIBLE", "INTERRUPTED")
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["x"] == [0, 0]
    assert "Traceback" not in stderr


def test_ctrl_c_without_a_plan(tmp_path: Path) -> None:
    """Ctrl-C before the first plan ends with 130, and says that nothing is known."""
    problem = save_tiny_problem(tmp_path / "problem.json")
    process = cli_process("solve", str(problem), "--solver", "blind")
    wait_for_row(process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "No plan found (interrupted)." in stdout
    assert "Traceback" not in stderr


def test_second_ctrl_c_aborts(tmp_path: Path) -> None:
    """A solver that does not listen is stopped by the second Ctrl-C, without a traceback."""
    problem = save_tiny_problem(tmp_path / "problem.json")
    process = cli_process("solve", str(problem), "--solver", "deaf")
    wait_for_row(process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "Interrupted" in process.stderr.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--solver", "polyblock"), 0),
        (("--solver", "unknown"), 2),
        (("--scenario", "infeasible", "--solver", "exhaustive"), 3),
        (("--solver", "exhaustive", "--node-limit", "0"), 4),
        (("--solver", "slow", "--time-limit", "0", "--require", "optimal"), 5),
        (("--solver", "broken"), 70),
    ],
)
def test_exit_codes_of_processes(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    """The exit code reaches the shell, stdout holds JSON or nothing, and no traceback appears."""
    config = "tiny" if "slow" not in arguments else save_tiny_problem(tmp_path / "problem.json")
    ended_with, stdout, stderr = ended("solve", str(config), "--json", *arguments)
    assert ended_with == code
    assert "Traceback" not in stderr
    assert stdout == "" if code in (2, 70) else json.loads(stdout)["sense"] == "maximize"


def test_exit_code_of_a_rejected_result(tmp_path: Path) -> None:
    """A tampered result ends with 6."""
    problem = save_tiny_problem(tmp_path / "problem.json")
    flags = ("--solver", "polyblock", "--out", str(tmp_path), "--json")
    assert ended("solve", str(problem), *flags)[0] == 0
    path = tmp_path / "result.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["bound"] = content["objective"] = 5.0
    path.write_text(json.dumps(content), encoding="utf-8")
    code, stdout, stderr = ended("verify", str(path), str(problem))
    assert (code, stdout) == (6, "")
    assert f"{path}: rejected: objective: stored 5.0, rebuilt 3.0" in stderr
    content["canonical"] = {"bound": 5.0, "objective": 5.0}
    path.write_text(json.dumps(content), encoding="utf-8")
    code, stdout, stderr = ended("verify", str(path), str(problem))
    assert (code, stdout) == (6, "")
    assert f"{path}: rejected: objective is 3.0, the result says 5.0" in stderr


def test_first_line_comes_at_once(tmp_path: Path) -> None:
    """The first line on stderr is written before anything is read or solved."""
    _, _, stderr = ended("solve", str(tmp_path / "missing.yaml"))
    assert stderr.splitlines()[0] == f"Reading {tmp_path / 'missing.yaml'}"


def test_closed_pipe_is_no_crash() -> None:
    """A reader that goes away (`moe2opt schema | head -1`) causes no traceback."""
    with cli_process("schema") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
