"""The command line without a verb, and what holds for several verbs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result as Ran

import moe2opt as mo

Run = Callable[..., Ran]


def test_no_verb_shows_help(moe2opt: Run) -> None:
    """Without arguments, help appears together with the first command to try."""
    ran = moe2opt()
    assert ran.exit_code == 0
    assert "First command to try: moe2opt solve mmlu_pro_edge" in ran.stdout


def test_version(moe2opt: Run) -> None:
    """`--version` prints name and version."""
    assert moe2opt("--version").stdout == f"moe2opt {mo.__version__}\n"


@pytest.mark.parametrize("verb", ["export", "certificate", "report"])
def test_what_is_read_is_not_replaced(moe2opt: Run, solved: Path, verb: str) -> None:
    """A verb whose --out names a file that it reads ends in one line and leaves the file."""
    before = solved.read_bytes()
    words = {
        "export": ("export", solved, "--to", "litellm", "--out", solved),
        "certificate": ("certificate", solved, "tiny", "--out", solved),
        "report": ("report", solved.parent, "--out", solved),
    }[verb]
    ran = moe2opt(*words)
    assert ran.exit_code == 2
    assert "this file is read; name another one" in ran.stderr
    assert solved.read_bytes() == before
