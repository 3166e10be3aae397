"""Ctrl-C stops a sweep at once, keeps what is finished, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import moe2opt as mo
from moe2opt.result import InputError
from moe2opt.schema import ConfigError
from moe2opt.sweep.interrupts import end_pool, pool_of
from moe2opt.sweep.store import Store

COUNT = 400


def cells(out: Path) -> set[str]:
    """Return the addresses of finished cells."""
    folder = out / "cells"
    return {p.name for p in folder.iterdir() if len(p.name) == 64} if folder.is_dir() else set()


@pytest.mark.skipif(os.name != "posix", reason="process groups and their signals are POSIX")
@pytest.mark.parametrize("backend", ["process", "serial"])
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, backend: str) -> None:
    """SIGINT to the whole group ends with code 130, one line, and every finished cell kept."""
    values = ",".join(str(45 + k / 10) for k in range(COUNT))
    command = [
        sys.executable,
        "-c",
        "from moe2opt.cli import app; app()",
        "sweep",
        "tiny",
        "--out",
        str(tmp_path),
    ]
    command += ["--backend", backend, "--workers", "2", "--quiet", "--json"]
    command += ["--over", f"energy.limit_j_per_prompt={values}"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while process.poll() is None and len(cells(tmp_path)) < 3:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[1]
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 130, stderr
    there = json.loads(stdout)
    assert 3 <= there["cells"] == len(cells(tmp_path)) < COUNT
    assert there["missing"] == COUNT - there["cells"]
    assert all(row["limit"] != "INTERRUPTED" for row in there["rows"])
    line = f"interrupted: {there['cells']} of {COUNT} cells done; run again to resume"
    assert line in stderr
    assert "Traceback" not in stderr


def test_interrupted_cells_are_solved_again(tmp_path: Path) -> None:
    """A stored cell that Ctrl-C had cut short does not count as there."""
    over = {"energy.limit_j_per_prompt": [50]}
    first = mo.sweep("tiny", over, out=tmp_path)
    row = {**first.rows[0], "limit": "INTERRUPTED"}
    Store(tmp_path / "cells").put(first.addresses[0], {"row.json": json.dumps(row).encode()})
    again = mo.sweep("tiny", over, out=tmp_path)
    assert again.reused == 0
    assert again.rows[0]["limit"] == first.rows[0]["limit"]


def test_misspelt_keys_are_told_at_once(tmp_path: Path) -> None:
    """A key that no cell's configuration has, or a key without values, is an error of the call."""
    with pytest.raises(ConfigError, match="unknown key"):
        mo.sweep("tiny", {"energy.limitt": [1, 2]}, out=tmp_path)
    with pytest.raises(InputError, match="no value"):
        mo.sweep("tiny", ["energy.limit_j_per_prompt="], out=tmp_path)


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_row_without_its_result_is_solved_again(tmp_path: Path, damage: str) -> None:
    """A cell counts as there only with its result, whole and the one that the row tells of."""
    over = {"energy.limit_j_per_prompt": [50, 100]}
    first = mo.sweep("tiny", over, out=tmp_path)
    one, other = (tmp_path / "cells" / a / "result.json" for a in first.addresses)
    text = one.read_text(encoding="utf-8")
    if damage == "gone":
        one.unlink()
    else:
        one.write_text(text[:-9] if damage == "cut" else other.read_text(encoding="utf-8"))
    again = mo.sweep("tiny", over, out=tmp_path)
    assert again.reused == 1
    assert mo.Result.load(one).objective == first.rows[0]["objective"]


@pytest.mark.parametrize("now", [False, True])
def test_a_pool_that_ended_has_no_thread_left(now: bool) -> None:
    """After `end_pool` nothing of the pool runs on, so a process that ends then prints nothing."""
    before = set(threading.enumerate())
    pool = pool_of(1)
    answer = pool.submit(time.sleep, 60 if now else 0)
    if not now:
        answer.result()
    end_pool(pool, now=now)
    assert set(threading.enumerate()) <= before
