"""Fixtures of the command-line tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli.support import EXTRA, save_tiny_problem
from typer.testing import CliRunner, Result

from moe2opt.cli import app
from moe2opt.solvers import SOLVERS

Run = Callable[..., Result]


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """Path of a canonical problem with two experts, of which one fits."""
    return save_tiny_problem(tmp_path / "problem.json")


@pytest.fixture
def moe2opt(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process, with the solvers of `cli.support` registered."""
    for name, entry in EXTRA.items():
        monkeypatch.setitem(SOLVERS, name, entry)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def solved(moe2opt: Run, tmp_path: Path) -> Path:
    """Path of a certified result of the built-in tiny problem, scenario rich."""
    flags = ("--solver", "polyblock", "--scenario", "rich", "--out", tmp_path, "--quiet")
    assert moe2opt("solve", "tiny", *flags).exit_code == 0
    return tmp_path / "result.json"
