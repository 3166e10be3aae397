"""How runs end: verb by way to end, each with its exit code, one line, and what is kept."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli.support import TESTS, save_tiny_problem

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, pipes and mounts are POSIX")

#: Read by every Python process at its start: solving takes a while, and says when it begins.
SLOWLY = """
import os, sys, time
sys.path.insert(0, {tests!r})

def slowly(function):
    def wrapper(*arguments, **settings):
        os.write(2, b"SOLVING\\n")
        time.sleep(0.3)
        return function(*arguments, **settings)
    return wrapper

from cli.support import EXTRA
from moe2opt.solvers import SOLVERS
SOLVERS.update(EXTRA)
if sys.argv[1:2] != ["solve"] and sys.argv[1:]:
    from importlib import import_module
    ledger = import_module("moe2opt.pareto.ledger")
    priced = import_module("moe2opt.fleet.priced")
    backends = import_module("moe2opt.sweep.backends")
    solving = import_module("moe2opt.solve")
    ledger.run = slowly(ledger.run)
    solving.run = slowly(solving.run)
    priced.SiteState.ask = slowly(priced.SiteState.ask)
    backends.WORKERS_S = 2.0
"""

FLEET = """\
fleet: 1
name: demo
row: energy_j_per_prompt
limit: 1500
seed: 1
sites:
  - {name: varied, config: tiny, count: 12, vary: {use: 0.1, quality: 0.02}}
"""

slow = pytest.mark.slow

#: What each verb is asked to do.
COMMANDS: dict[str, tuple[str, ...]] = {
    "solve": ("solve", "problem.json", "--solver", "slow", "--out", "out"),
    "pareto": ("pareto", "tiny", "--x", "energy_j_per_prompt", "--points", "9", "--out", "out"),
    "grid": (
        *("pareto", "tiny", "--x", "energy_j_per_prompt", "--x-budgets", "60,90,130,160"),
        *("--y", "delay.limit_s.code", "--y-budgets", "1,2,3,4", "--out", "out"),
    ),
    "sweep": ("sweep", "tiny", "--over", "max_experts=1,2,3,4,5,6,7,8,9", "--out", "out"),
    "fleet": ("fleet", "fleet.yaml", "--out", "out"),
    "bench": ("bench", "tiny", "--peers", "greedy,slow", "--time-limit", "60", "--out", "out"),
    "evaluate": ("evaluate", "tiny_gate", "--out", "out"),
    "evaluate grid": (
        *("evaluate", "tiny_gate", "--grid", "energy_j_per_prompt=60,130", "--out", "out"),
        *("--grid", "memory_gib[slow]=20,40"),
    ),
    "report": (
        *("report", "solved", "--grid", "--points", "5", "--axis", "energy_j_per_prompt=60:200"),
        *("--axis", "delay.limit_s.code=1:4"),
    ),
    "replay": ("replay", "mobile_edge", "synthetic_walk", "--out", "out"),
    "check": ("check", "tiny"),
    "verify": ("verify", "solved/result.json", "tiny"),
    "certificate": ("certificate", "solved/result.json", "tiny"),
    "export": ("export", "placed/result.json", "--to", "json"),
    "problems": ("problems",),
    "init": ("init", "tiny", "own"),
    "schema": ("schema",),
    "versions": ("versions",),
    "list": ("bench", "--list"),
    "profile": ("profile", "--quick"),
    "gate train": ("gate", "train", "tiny_gate", "--out", "out"),
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``moe2opt`` in a process whose solvers take their time."""
    (tmp_path / "sitecustomize.py").write_text(SLOWLY.format(tests=str(TESTS)), encoding="utf-8")
    save_tiny_problem(tmp_path / "problem.json")
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(TESTS.parent)])

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        code = "from moe2opt.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": paths},
            cwd=tmp_path,
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
        started.append(process)
        return process

    started: list[subprocess.Popen[str]] = []
    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def prepared(start: Callable[..., subprocess.Popen[str]], arguments: tuple[str, ...]) -> None:
    """Make the results that a command reads."""
    for folder, flags in (
        ("solved", ("tiny",)),
        ("placed", ("mixtral_8x7b_4090", "--solver", "greedy")),
    ):
        if any(text.startswith(folder) for text in arguments):
            process = start("solve", *flags, "--out", folder)
            process.communicate(timeout=120)
            assert process.returncode == 0


def first_line(process: subprocess.Popen[str], pattern: str) -> str:
    """Read stderr up to a line; the test fails when it ends before."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if re.search(pattern, line):
            return seen
    raise AssertionError(f"the process ended without {pattern!r}: {seen}")


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        pytest.param(verb, code, marks=() if verb in ("solve", "grid", "fleet") else slow)
        for verb, code in {
            "solve": 0,
            "pareto": 5,
            "grid": 5,
            "sweep": 130,
            "fleet": 130,
            "bench": 130,
            "evaluate": 130,
            "evaluate grid": 130,
            "report": 130,
            "replay": 130,
            "profile": 130,
        }.items()
    ],
)
@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
def test_signals(
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    verb: str,
    code: int,
    number: signal.Signals,
) -> None:
    """Ctrl-C, SIGTERM and SIGHUP: the documented code, JSON or nothing, and what was finished."""
    if number is not signal.SIGTERM and verb not in ("solve", "grid", "sweep", "bench"):
        pytest.skip("the three signals share one handler")
    arguments = COMMANDS[verb]
    prepared(start, arguments)
    process = start(*arguments, "--json")
    begun = {"solve": r"\|.*s$", "bench": "1/2", "profile": "still profile", "replay": "steps"}
    if verb == "sweep":
        while not list((tmp_path / "out").glob("cells/*/row.json")) and process.poll() is None:
            time.sleep(0.05)
    else:
        first_line(process, begun.get(verb, "SOLVING"))
    for _ in range(2 if verb in ("pareto", "grid") else 0):  # the first problem says it twice
        first_line(process, "SOLVING")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert "internal" not in stderr
    assert "nterrupted" in stderr
    if stdout:
        json.loads(stdout)
    kept = {
        "solve": "out/result.json",
        "pareto": "out/front.json",
        "grid": "out/grid.json",
        "sweep": "out/sweep.csv",
        "bench": "out/bench.json",
        "report": "solved/grid.json",
    }
    if verb in kept:
        assert (tmp_path / kept[verb]).is_file()
    assert not list(tmp_path.rglob(".moe2opt-*"))


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(verb, marks=() if verb in ("problems", "check") else slow)
        for verb in COMMANDS
        if verb not in ("replay", "profile", "bench", "solve")
    ],
)
def test_closed_pipes(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, verb: str
) -> None:
    """A reader that leaves (`| head -1`) ends a verb with 141, quietly, and its files are there."""
    arguments = COMMANDS[verb]
    prepared(start, arguments)
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*arguments, stdout=writer)
    os.close(writer)
    _, stderr = process.communicate(timeout=240)
    # A code that says more than 0 is kept: the gap of a fleet is wider than asked.
    assert process.returncode in ((141, 5) if verb == "fleet" else (141,)), stderr
    assert "rror" not in stderr.replace("calibration error", "")
    if "--out" in arguments:
        assert list((tmp_path / "out").iterdir())


FOLDERS = ("solve", "pareto", "grid", "sweep", "fleet", "bench", "evaluate", "replay", "gate train")


@pytest.mark.parametrize(
    "verb", [pytest.param(v, marks=() if v in ("pareto", "fleet") else slow) for v in FOLDERS]
)
def test_folders_that_cannot_be_made(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, verb: str
) -> None:
    """An output folder that is a file, or lies below one: one line, code 2, before any work."""
    (tmp_path / "out").write_text("mine")
    for out in ("out", "out/below"):
        arguments = [out if text == "out" else text for text in COMMANDS[verb]]
        process = start(*arguments, "--quiet")
        stdout, stderr = process.communicate(timeout=120)
        assert (process.returncode, stdout) == (2, ""), stderr
        assert re.fullmatch(r"error: (--out )?out\S*: (File exists|Not a directory)\n", stderr)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["certificate", "export"])
def test_files_that_are_folders(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, verb: str
) -> None:
    """An output file that is a folder: one line and code 2."""
    prepared(start, COMMANDS[verb])
    (tmp_path / "taken").mkdir()
    process = start(*COMMANDS[verb], "--out", "taken", "--quiet")
    stdout, stderr = process.communicate(timeout=120)
    told = stderr.removeprefix("SOLVING\n")  # a proof that is found again
    assert (process.returncode, stdout, told) == (2, "", "error: --out taken: Is a directory\n")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a small file system in memory for a block; skip where that needs more rights."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(verb, marks=() if verb == "solve" else slow)
        for verb in ("solve", "pareto", "grid", "fleet", "bench", "evaluate", "gate train", "sweep")
    ],
)
def test_full_disks(start: Callable[..., subprocess.Popen[str]], tmp_path: Path, verb: str) -> None:
    """Without room, what was found is printed, older files stay, and 2 comes with one line."""
    arguments = list(COMMANDS[verb])
    if verb == "solve":
        arguments[arguments.index("slow")] = "greedy"
    if verb == "bench":
        arguments[arguments.index("greedy,slow")] = "greedy"
    if verb == "sweep":
        arguments[arguments.index("--over") + 1] = "max_experts=1,2"
    with mounted(tmp_path / "out", "size=64k"):
        older = tmp_path / "out" / "result.json"
        older.write_text('{"format": "moe2opt", "older": 1}')
        with (tmp_path / "out" / "fill").open("wb", buffering=0) as fill:
            try:
                while True:
                    fill.write(bytes(4096))
            except OSError:
                pass
        process = start(*arguments, "--quiet", "--json")
        stdout, stderr = process.communicate(timeout=240)
        assert process.returncode == 2, stderr
        assert "No space left on device" in stderr.splitlines()[-1]
        assert "Traceback" not in stderr
        if verb not in ("sweep", "gate train"):
            assert isinstance(json.loads(stdout), dict)
        assert older.read_text() == '{"format": "moe2opt", "older": 1}'
        assert {p.name for p in (tmp_path / "out").iterdir()} <= {"fill", "result.json", "cells"}


@pytest.mark.parametrize(
    "verb", [pytest.param(v, marks=() if v == "grid" else slow) for v in FOLDERS]
)
def test_read_only_folders(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, verb: str
) -> None:
    """A read-only folder: one line and code 2."""
    with mounted(tmp_path / "out", "ro"):
        process = start(*COMMANDS[verb], "--quiet", "--json")
        _, stderr = process.communicate(timeout=240)
        assert process.returncode == 2, stderr
        assert "Read-only file system" in stderr.splitlines()[-1]
        assert "Traceback" not in stderr


@contextmanager
def scheduler() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a Dask scheduler for a block."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], **quiet)
    try:
        yield f"tcp://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


@slow
@pytest.mark.parametrize("verb", ["sweep", "fleet"])
def test_dask_without_workers(start: Callable[..., subprocess.Popen[str]], verb: str) -> None:
    """A scheduler without workers is waited for with a line, then given up with code 2."""
    with scheduler() as (address, _):
        process = start(*COMMANDS[verb], "--scheduler", address, "--quiet", "--json")
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2, stderr
    assert f"Dask scheduler {address} has no workers; waiting 2 s for one\n" in stderr
    assert stderr.splitlines()[-1] == f"error: Dask scheduler {address}: no workers for 2 s"
    assert "Traceback" not in stderr


@slow
@pytest.mark.parametrize("verb", ["sweep", "fleet"])
def test_dask_lost(start: Callable[..., subprocess.Popen[str]], tmp_path: Path, verb: str) -> None:
    """A scheduler that dies is one line and code 2; finished cells are kept."""
    with scheduler() as (address, process):
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(TESTS.parent)])}
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        worker = subprocess.Popen(
            [*command, "--no-nanny", "--no-dashboard"], cwd=tmp_path, env=env, **quiet
        )
        try:
            quietly = ("--quiet",) if verb == "sweep" else ()
            many = FLEET.replace("count: 12", "count: 80")
            (tmp_path / "fleet.yaml").write_text(many, encoding="utf-8")
            run = start(*COMMANDS[verb], "--scheduler", address, "--json", *quietly)
            if verb == "sweep":
                while len(list((tmp_path / "out").glob("cells/*/row.json"))) < 2:
                    assert run.poll() is None
                    time.sleep(0.05)
            else:
                assert run.stderr is not None
                while not (line := run.stderr.readline()).startswith("price "):
                    assert line, "the fleet ended before its first price"
            process.kill()
            _, stderr = run.communicate(timeout=120)
        finally:
            worker.kill()
            worker.wait()
    assert run.returncode == 2, stderr
    assert "Traceback" not in stderr
    assert re.fullmatch(rf"error: Dask scheduler {address}: .*", stderr.splitlines()[-1])
    if verb == "sweep":
        assert (tmp_path / "out" / "sweep.csv").is_file()
