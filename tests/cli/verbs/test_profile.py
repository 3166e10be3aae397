"""The verb ``profile``: measuring, importing, writing, refusing, being interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.support import cli_process
from typer.testing import Result as Ran

from moe2opt.profiles import read_profiles
from moe2opt.profiles.measure import Effort, arithmetic, session

Run = Callable[..., Ran]

FIXTURES = Path(__file__).resolve().parents[2] / "profiles" / "llamabench" / "fixtures"

#: A selection instance on the tables of the built-in one, served by a machine called `box`.
SELECTION = """\
schema_version: 1
problem: selection
name: own
tables: tiny_tables
profiles: own
precisions:
  - name: q8
servers:
  - {name: here, device: box, uplink_mbps: 1000, downlink_mbps: 1000}
context_gib: 0
"""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make a quick session as short as can be, in an empty folder that is the current one."""
    tiny = Effort("quick", 0.0, 3, 3, 64 * 2**20, 32 * 2**20, 60.0)
    found = session.Hardware(arithmetic.Numpy())
    monkeypatch.setattr("moe2opt.profiles.measure.QUICK", tiny)
    monkeypatch.setattr(session, "find_hardware", lambda: found)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_measuring_prints_figures_with_units(moe2opt: Run, short: Path) -> None:
    """Without `--out` the figures are printed with unit and spread, and nothing is left behind."""
    ran = moe2opt("profile", "--quick")
    assert ran.exit_code == 0, ran.output
    assert "dram_read@4096" in ran.stdout
    assert "disk_latency@1048576" in ran.stdout
    assert "TFLOP/s" in ran.stdout
    assert "spread: interquartile range of the repeats" in ran.stdout
    assert "no power meter answers: --power states the watts" in ran.stderr
    assert list(short.iterdir()) == []


def test_measuring_as_json(moe2opt: Run, short: Path) -> None:
    """`--json` prints one object with the figures; `--quiet` keeps stderr empty."""
    ran = moe2opt("profile", "--quick", "--json", "--quiet")
    told = json.loads(ran.stdout)
    assert told["format"] == "moe2opt machine profile"
    assert {figure["unit"] for figure in told["figures"]} == {"GB/s", "us", "TFLOP/s"}
    assert ran.stderr == ""


def test_a_measured_profile_solves(moe2opt: Run, short: Path, checkout: Path) -> None:
    """A selection problem on the measured machine is solved to a certified plan."""
    ran = moe2opt("profile", "--quick", "--out", "own", "--device", "box", "--power", 40)
    assert ran.exit_code == 0, ran.output
    assert "Written: devices.csv, constants.csv, machine.json in own" in ran.stdout
    shutil.copytree(checkout / "problems/selection/tiny_tables", short / "tiny_tables")
    (short / "s.yaml").write_text(SELECTION, encoding="utf-8")
    solved = moe2opt("solve", "s.yaml", "--json", "--quiet", "--require", "certified")
    assert solved.exit_code == 0, solved.output
    result = json.loads(solved.stdout)
    assert (result["status"], result["certificate"]["checked"]) == ("OPTIMAL", True)
    (device,) = read_profiles(short / "own").devices
    assert (device["device"], device["power_limit_w"]) == ("box", 40)


def test_import_makes_a_profile_that_solves(
    moe2opt: Run, short: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imported runs of llama.cpp alone are enough to plan for their machine."""
    monkeypatch.setenv("COLUMNS", "160")  # names are cut on narrow terminals
    data = ("--bandwidth", 716.8, "--memory", 16, "--power", 320)
    ran = moe2opt("profile", "--import", FIXTURES / "rtx4080.json", "--device", "box", *data,
                  "--out", "own")  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert "Qwen2.5-7B-Instruct-Q4_K_M" in ran.stdout
    profiles = read_profiles(short / "own")
    assert [run["fits"] for run in profiles.runs] == ["prefill", "decode"]
    (raw,) = (short / "own" / "raw").iterdir()
    assert raw.read_bytes() == (FIXTURES / "rtx4080.json").read_bytes()
    shutil.copytree(checkout / "problems/selection/tiny_tables", short / "tiny_tables")
    (short / "s.yaml").write_text(SELECTION, encoding="utf-8")
    assert moe2opt("solve", "s.yaml", "--quiet").exit_code == 0


def test_import_of_several_files_as_json(moe2opt: Run, short: Path) -> None:
    """Files may follow one `--import`; runs and notices come as one object."""
    files = (FIXTURES / "rtx4080.csv", FIXTURES / "rtx4080.json")
    ran = moe2opt("profile", "--import", *files, "--json", "--quiet")
    told = json.loads(ran.stdout)
    assert len(told["runs"]) == 4
    assert told["written"] == []
    assert ran.stderr == ""


def test_measuring_then_importing(moe2opt: Run, short: Path) -> None:
    """Runs join the measured device of the folder, and measuring again keeps them."""
    for _ in range(2):
        first = moe2opt("profile", "--quick", "--out", "own", "--device", "box", "--quiet")
        assert first.exit_code == 0, first.output
        second = moe2opt("profile", "--import", FIXTURES / "tiny_random_moe.json", "--device",
                         "box", "--out", "own", "--quiet")  # fmt: skip
        assert second.exit_code == 0, second.output
    profiles = read_profiles(short / "own")
    assert len(profiles.devices) == 1
    assert len(profiles.runs) == 2


#: (arguments, message)
BAD: list[tuple[tuple[Any, ...], str]] = [
    (("--quick", "--disk", "none"), "error: --disk none: not a folder"),
    (("--quick", "--disk", "/proc"), "error: --disk /proc: cannot create a file"),
    (("--quick", "--out", "file"), "error: --out file: cannot write: File exists"),
    (("--quick", "--out", "file/below"), "error: --out file/below: cannot write: Not a directory"),
    (("--quick", "--out", "/proc/own"), "error: --out /proc/own: cannot write: "),
    (("--quick", "--out", "foreign"), "foreign/devices.csv:1: unknown column 'colour'"),
    (("--quick", "--device", " "), "error: --device: the name is empty"),
    (("--power", 0), "error: --power: 0 is not a positive number"),
    (("--power", "nan"), "error: --power: nan is not a positive number"),
    (("--quant", "Q4_0"), "error: --quant goes with --import"),
    (("--bandwidth", 100), "error: --bandwidth goes with --import"),
    (("a.json",), "files are imported with --import FILE..."),
    (("--import", "none.json"), "error: none.json: No such file or directory"),
    (("--import", "file", "--quick"), "error: --quick goes without --import"),
    (("--import", "file", "--disk", "."), "error: --disk goes without --import"),
    (("--import", "file"), "error: file:1: not output of llama-bench"),
    (("--import", FIXTURES / "depth.md"), "depth.md:3: nothing says which device this is"),
    (("--import", FIXTURES / "ascend.json", "--out", "new"), "'Ascend910B3' is in no table"),
    (("--import", FIXTURES / "depth.md", "--device", "X", "--quant", "Q9"), "--quant Q9: not a"),
    (("--import", FIXTURES / "depth.md", "--device", "X", "--active-params", -1), "-1 is not"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments(moe2opt: Run, short: Path, arguments: tuple[Any, ...], message: str) -> None:
    """Each bad argument has one clear message and exit code 2, before anything is measured."""
    (short / "file").write_text("x")
    (short / "foreign").mkdir()
    (short / "foreign" / "devices.csv").write_text("device,colour\nx,red\n")
    ran = moe2opt("profile", *arguments)
    assert ran.exit_code == 2, ran.output
    assert message in ran.stderr
    assert ran.stdout == ""
    assert not (short / "new").exists()


# ---------------------------------------------------------------------- interruption


def open_files(process: int) -> Iterator[str]:
    """Yield the targets of the open files of a process."""
    for link in Path(f"/proc/{process}/fd").glob("*"):
        try:
            yield os.readlink(link)  # noqa: PTH115
        except OSError:
            continue


@pytest.mark.skipif(sys.platform != "linux", reason="open files are listed in /proc")
def test_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C while the disk is measured ends with 130 and leaves neither file nor profile."""
    process = cli_process(
        "profile", "--quick", "--quiet", "--disk", ".", "--out", "own", cwd=tmp_path
    )
    wanted = f"{tmp_path}/.moe2opt-"
    give_up = time.monotonic() + 120
    while not any(name.startswith(wanted) for name in open_files(process.pid)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert (stdout, stderr) == ("", "interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
    assert list((tmp_path / "own").iterdir()) == []
