"""Sweeps survive SIGKILL, and Dask clusters survive the loss of a worker."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import moe2opt as mo

OVER = {"energy.limit_j_per_prompt": list(range(45, 165, 10)), "delay.limit_s": [1, 2]}

SCRIPT = """
import sys, json
import moe2opt as mo
if __name__ == "__main__":
    mo.sweep("tiny", json.loads(sys.argv[1]), out=sys.argv[2], backend=sys.argv[3], workers=2)
"""


def untimed(rows: Any) -> list[dict[str, Any]]:
    """Return rows without their times."""
    return [{k: v for k, v in row.items() if not k.endswith("_s") or "." in k} for row in rows]


def finished(out: Path) -> set[str]:
    """Return the addresses of finished cells."""
    folder = out / "cells"
    return {p.name for p in folder.iterdir() if len(p.name) == 64} if folder.is_dir() else set()


def started(script: Path, out: Path, backend: str) -> subprocess.Popen[bytes]:
    """Start a sweep in a process group of its own."""
    import json

    arguments = [sys.executable, str(script), json.dumps(OVER), str(out), backend]
    return subprocess.Popen(arguments, start_new_session=True, cwd=script.parent)


@pytest.mark.slow
def test_killed_sweeps_lose_nothing(tmp_path: Path) -> None:
    """After 20 kills at random moments no finished cell is lost or doubled, results are equal."""
    script, out = tmp_path / "run.py", tmp_path / "killed"
    script.write_text(SCRIPT, encoding="utf-8")
    rng = random.Random(5)
    kills = 0
    before: set[str] = set()
    while kills < 20:
        process = started(script, out, "serial" if kills % 5 else "process")
        began = time.monotonic()
        # Kill soon after the next cell is finished, so that every run gets somewhere.
        while process.poll() is None and time.monotonic() - began < 60:
            if len(finished(out)) > len(before):
                break
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.05))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        after = finished(out)
        assert before <= after
        if len(after) == len(OVER["energy.limit_j_per_prompt"]) * len(OVER["delay.limit_s"]):
            # Everything is there already: take cells away, as if the disk were new.
            import shutil

            shutil.rmtree(out)
            after = set()
        before = after
    found = mo.sweep("tiny", OVER, out=out)
    whole = mo.sweep("tiny", OVER, out=tmp_path / "whole")
    assert found.reused == len(before)
    assert untimed(found.rows) == untimed(whole.rows)
    assert sorted(p.name for p in (out / "cells").iterdir()) == sorted(found.addresses)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_dask_on_this_machine(tmp_path: Path) -> None:
    """A local Dask cluster gives the rows that one process gives."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    over = {**OVER, "energy.limit_j_per_prompt": [50, 100]}
    found = mo.sweep("tiny", over, out=tmp_path / "dask", backend="dask", workers=2)
    serial = mo.sweep("tiny", over, out=tmp_path / "serial")
    assert untimed(found.rows) == untimed(serial.rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_dask_over_tcp_loses_a_worker(tmp_path: Path) -> None:
    """With a scheduler and two workers over TCP, one killed midway, every cell is there."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    plain = ["--no-dashboard", "--host", "127.0.0.1"]
    python = [sys.executable, "-m"]
    scheduler = [*python, "distributed.cli.dask_scheduler", "--port", str(port), *plain]
    worker = [*python, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
    folder = ["--local-directory", str(tmp_path / "dask"), "--no-dashboard"]
    processes = [subprocess.Popen(scheduler, start_new_session=True, **quiet)]
    try:
        for _ in range(2):
            processes.append(subprocess.Popen([*worker, *folder], start_new_session=True, **quiet))

        def kill_one(done: int, total: int) -> None:
            if done == 4:
                os.kill(processes[1].pid, signal.SIGKILL)

        found = mo.sweep(
            "tiny",
            OVER,
            out=tmp_path / "out",
            backend="dask",
            scheduler=address,
            on_step=kill_one,
        )
    finally:
        for process in processes:
            process.kill()
            process.wait()
    serial = mo.sweep("tiny", OVER, out=tmp_path / "serial")
    assert not found.failures
    assert untimed(found.rows) == untimed(serial.rows)
