"""What the console blocks show is what the program prints."""

from __future__ import annotations

import doctest
import io
import re
import runpy
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pages.reading import CHECKOUT, PAGES, commands, name_of


@dataclass
class Screen:
    """What a command prints: stdout alone, and both streams in the order of printing."""

    stdout: list[str] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)

    def streams(self) -> tuple[io.TextIOBase, io.TextIOBase]:
        """Return the streams that stand in for stdout and stderr."""
        return _Stream(self.stdout, self.merged), _Stream(self.merged)


class _Stream(io.StringIO):
    def __init__(self, *targets: list[str]) -> None:
        super().__init__()
        self.targets = targets

    def write(self, text: str) -> int:
        for target in self.targets:
            target.append(text)
        return len(text)


def comparable(text: str) -> str:
    """Drop what may differ between machines: the progress table, durations, sizes of trees."""
    lines = [line.rstrip() for line in text.splitlines() if " | " not in line]
    lines = [re.sub(r"\b\d+\.\d s\b", "T s", line) for line in lines]
    lines = [re.sub(r"\b\d+ (leaf|leaves|nodes)\b", r"N \1", line) for line in lines]
    return "\n".join(line for line in lines if line)


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Run a command of a console block inside this process."""
    from moe2opt.cli import main

    program, *arguments = shlex.split(command)
    screen = Screen()
    stdout, stderr = screen.streams()
    if program == "python" and arguments[0].startswith("docs/studies/"):
        monkeypatch.setattr(sys, "argv", arguments)
        with redirect_stdout(stdout):
            runpy.run_path(str(CHECKOUT / arguments[0]), run_name="__main__")
        return screen
    assert program == "moe2opt", f"only moe2opt and studies are run here: {command}"
    monkeypatch.setattr(sys, "argv", ["moe2opt", *arguments])
    with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit):
        main()
    return screen


#: Pages whose commands take more than some seconds.
SLOW = ("docs/guides/own-tables.md",)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (name_of(page) in SLOW), id=name_of(page))
        for page in PAGES
        if any(commands(page))
    ],
)
def test_commands_print_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command of a page prints what is shown below it, dots standing for what was cut."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    rules = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for command, expected in commands(page):
        screen = run(command, monkeypatch)
        seen = ["".join(screen.stdout), "".join(screen.merged)]
        wanted = comparable(expected) + "\n"
        fits = [
            doctest.OutputChecker().check_output(wanted, comparable(s) + "\n", rules) for s in seen
        ]
        assert any(fits), f"$ {command}\n{seen[1]}"
