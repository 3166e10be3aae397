"""Standard output is ours alone: whatever solvers and libraries print goes to standard error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.support import TESTS

#: Read by every Python process at its start: each verb, and the solver `noisy`, print on their own.
NOISE = """
import ctypes, os, sys, threading
sys.path.insert(0, {tests!r})

def noise():
    os.write(1, b"FOREIGN descriptor\\n")
    print("FOREIGN print", flush=True)
    print("FOREIGN held back", end="")
    thread = threading.Thread(target=lambda: print("FOREIGN thread", flush=True))
    thread.start()
    thread.join()
    ctypes.CDLL(None).printf(b"FOREIGN native\\n")

def noisy(problem, search):
    from cli.support import exhaustive
    noise()
    return exhaustive(problem, search)

from contextlib import contextmanager
from moe2opt.cli import output
owned = output.owned
@contextmanager
def loud():
    with owned():
        noise()
        yield
output.owned = loud

from dataclasses import replace
from cli.support import EXTRA
from moe2opt.solvers import SOLVERS
home = {{"name": "noisy", "module": "sitecustomize", "function": "noisy"}}
SOLVERS["noisy"] = replace(EXTRA["exhaustive"], **home)
"""

FLEET = """\
fleet: 1
name: demo
row: energy_j_per_prompt
limit: 300
sites: [{name: same, config: tiny, count: 3}]
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run ``moe2opt`` in a process where every verb and the solver `noisy` print."""
    (tmp_path / "sitecustomize.py").write_text(NOISE.format(tests=str(TESTS)), encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(TESTS.parent)])

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        code = "from moe2opt.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": paths},
            cwd=tmp_path,
            text=True,
            check=False,
            **{"capture_output": True, **options},  # type: ignore[call-overload]
        )

    return run


SWEEP = ("sweep", "tiny", "--over", "max_experts=1,2", "--solver", "noisy", "--out", "out")


@pytest.mark.parametrize(
    "arguments",
    [
        ("solve", "tiny", "--solver", "noisy"),
        ("problems",),
        ("schema",),
        pytest.param(("versions",), marks=pytest.mark.slow),
        pytest.param(("check", "tiny"), marks=pytest.mark.slow),
        pytest.param(("bench", "--list"), marks=pytest.mark.slow),
        pytest.param(
            ("bench", "tiny", "--peers", "noisy,greedy", "--time-limit", "5"),
            marks=pytest.mark.slow,
        ),
        pytest.param(("profile", "--quick"), marks=pytest.mark.slow),
        pytest.param(
            ("replay", "mobile_edge", "synthetic_walk", "--duration", "20"), marks=pytest.mark.slow
        ),
        pytest.param(
            (
                "pareto",
                "tiny",
                "--x",
                "energy_j_per_prompt",
                "--points",
                "3",
                "--set",
                "solver.name=noisy",
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(SWEEP, marks=pytest.mark.slow),
        pytest.param((*SWEEP, "--backend", "process"), marks=pytest.mark.slow),
        pytest.param((*SWEEP, "--backend", "dask"), marks=pytest.mark.slow),
        pytest.param(("fleet", "fleet.yaml", "--gap", "0.05"), marks=pytest.mark.slow),
        pytest.param(
            ("fleet", "fleet.yaml", "--gap", "0.05", "--backend", "process"), marks=pytest.mark.slow
        ),
        pytest.param(("gate", "train", "tiny_gate", "--out", "gate"), marks=pytest.mark.slow),
        pytest.param(("evaluate", "tiny_gate", "--bootstrap", "20"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_json_is_all_there_is(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """With `--json`, stdout holds one JSON object and stderr what foreign code printed."""
    if "dask" in arguments:
        pytest.importorskip("distributed", reason="dask.distributed is not installed")
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    done = run(*arguments, "--json")
    # The solver of the test proves nothing that a front could be certified by.
    assert done.returncode == (6 if arguments[0] == "pareto" else 0), done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    for origin in ("descriptor", "print", "held back", "thread", "native"):
        assert f"FOREIGN {origin}" in done.stderr


def test_what_a_result_becomes_is_all_there_is(run: Run, tmp_path: Path) -> None:
    """Tables, verdicts, proofs and exports reach stdout alone, too."""
    flags = ("--solver", "greedy", "--out", "out")
    done = run("solve", "tiny", *flags)
    assert done.stdout.startswith("Feasible")
    assert "FOREIGN" not in done.stdout
    done = run("verify", "out/result.json", "tiny", "--json")
    assert json.loads(done.stdout)["ok"] is True
    done = run("report", "out", "--json")
    assert json.loads(done.stdout)["report"].endswith("report.html")


@pytest.mark.slow
def test_proofs_and_exports_are_all_there_is(run: Run) -> None:
    """A proof or an export that goes to stdout is complete and alone."""
    assert run("solve", "tiny", "--out", "out").returncode == 0
    done = run("certificate", "out/result.json", "tiny")
    assert "\nVER 1." in done.stdout
    assert "FOREIGN" not in done.stdout
    assert run("solve", "mixtral_8x7b_4090", "--solver", "greedy", "--out", "p").returncode == 0
    done = run("export", "p/result.json", "--to", "json")
    assert isinstance(json.loads(done.stdout), dict)


def test_closed_streams(run: Run, tmp_path: Path) -> None:
    """With stdin, stdout and stderr closed, a run ends as usual and its files hold no output."""

    def close() -> None:
        for descriptor in (0, 1, 2):
            os.close(descriptor)

    done = run("solve", "tiny", "--solver", "noisy", "--out", "out", "--json", preexec_fn=close)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))["status"] == "OPTIMAL"


@pytest.mark.parametrize("arguments", [("schema",), ("--help",)])
def test_a_reader_that_leaves(run: Run, arguments: tuple[str, ...]) -> None:
    """A closed pipe ends a verb quietly with 141, as programs do that the signal ends."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"capture_output": False, "stdout": writer, "stderr": subprocess.PIPE}
    try:
        done = run(*arguments, **streams)
    finally:
        os.close(writer)
    assert done.returncode == 141
    assert "Error" not in done.stderr
    assert "error" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_has_no_room(run: Run, tmp_path: Path) -> None:
    """A full device as stdout is one line and exit code 2; files are written all the same."""
    with Path("/dev/full").open("w") as full:
        streams = {"capture_output": False, "stdout": full, "stderr": subprocess.PIPE}
        done = run("solve", "tiny", "--quiet", "--out", "out", **streams)
    assert done.returncode == 2
    assert "error: standard output: No space left on device\n" in done.stderr
    assert (tmp_path / "out" / "result.json").is_file()


def test_help_still_reaches_stdout(run: Run) -> None:
    """Help and version are on stdout."""
    assert "solve" in run("--help").stdout
    assert run("solve", "--help").stdout.startswith("Usage")
    assert run("--version").stdout.startswith("moe2opt ")


def test_an_encoding_without_lines_and_umlauts_loses_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the C locale, the code of a character that is missing is printed; nothing fails."""
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    for name, value in (("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0")):
        monkeypatch.setenv(name, value)
    done = run("problems")
    assert done.returncode == 0, done.stderr
    assert "\\u2500" in done.stdout and "tiny_gate" in done.stdout
