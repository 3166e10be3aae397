"""Damaged files: every one ends in a result or in one line, none in a traceback or a hang."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hostile.mutating import DAMAGE
from hostile.seeds import READERS, SEEDS, Seed, plant
from typer.testing import CliRunner

from moe2opt.cli import app
from moe2opt.cli.exits import Exit
from moe2opt.errors import InputError
from moe2opt.text import shown

#: Damages of each kind of file: read in this process, and through the command line.
READ, RUN = 700, 60

#: Seconds after which reading counts as hanging.
LONGEST_S = 30

#: What the command `moe2opt` runs.
MAIN = "from moe2opt.cli import main; main()"

#: Ways in which a command may end.
ENDS = {e for e in Exit if e not in (Exit.INTERNAL, Exit.INTERRUPTED)}


class Hanging(BaseException):
    """Reading took too long."""


@contextmanager
def watched() -> Iterator[None]:
    """Raise `Hanging` in a block that takes too long."""

    def stop(*_: Any) -> None:
        raise Hanging

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Path:
    """Return a folder with every seed."""
    folder = tmp_path_factory.mktemp("seeds")
    plant(folder, checkout / "problems", checkout / "tests/profiles/llamabench/fixtures")
    return folder


def damaged(path: Path, number: int) -> Iterator[tuple[random.Random, bytes]]:
    """Yield so many damaged contents of a file, and what they were drawn with."""
    good, damage = path.read_bytes(), DAMAGE[path.suffix]
    for k in range(number):
        rng = random.Random(f"{path.name} {k}")
        yield rng, damage(good, rng)


def read_all(folder: Path, file: str, read: Callable[[Path], Any], number: int) -> tuple[int, int]:
    """Read damaged versions of a file; return how many could be read, and how many were refused."""
    path, counts = folder / file, [0, 0]
    good = path.read_bytes()
    try:
        for _, content in damaged(path, number):
            path.write_bytes(content)
            try:
                with watched():
                    read(path)
                counts[0] += 1
            except InputError as error:
                counts[1] += 1
                assert shown(str(error), lines=True) == str(error)
            except (Exception, Hanging) as error:
                raise AssertionError(f"{type(error).__name__} of {content!r:.2000}") from error
    finally:
        path.write_bytes(good)
    return counts[0], counts[1]


@pytest.mark.parametrize(("file", "read"), READERS, ids=[file for file, _ in READERS])
def test_damaged_files(planted: Path, file: str, read: Callable[[Path], Any]) -> None:
    """A damaged file of any kind is read or refused in words that can be shown."""
    number = 5 if file.startswith("fleeted") else 25  # checking a fleet takes its time
    fine, refused = read_all(planted, file, read, number)
    assert refused > 0
    assert fine + refused == number


@pytest.mark.slow
@pytest.mark.parametrize(("file", "read"), READERS, ids=[file for file, _ in READERS])
def test_many_damaged_files(planted: Path, file: str, read: Callable[[Path], Any]) -> None:
    """The same for hundreds of damages of every kind of file."""
    fine, refused = read_all(planted, file, read, READ)
    print(f"{file}: {fine} read, {refused} refused")
    assert fine + refused == READ


def run_all(folder: Path, seed: Seed, number: int) -> None:
    """Run the commands that read a file on damaged versions of it."""
    path = folder / seed.file
    good = path.read_bytes()
    try:
        for rng, content in damaged(path, number):
            words = rng.choice(seed.words)
            path.write_bytes(content)
            with watched():
                ran = CliRunner().invoke(app, words.split())
            told = f"{words}: {ran.stderr[-500:]} of {content!r:.2000}"
            assert ran.exit_code in ENDS, told
            assert "Traceback" not in ran.stderr, told
            for text in (ran.stdout, ran.stderr):
                assert shown(text, lines=True) == text, told
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("seed", SEEDS, ids=[seed.file for seed in SEEDS])
def test_commands_read_sound_files(
    planted: Path, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of the list works on the sound file, so that a fault is the damage's."""
    monkeypatch.chdir(planted)
    for words in seed.words:
        ran = CliRunner().invoke(app, words.split())
        assert ran.exit_code in (Exit.OK, Exit.TOO_WEAK), f"{words}: {ran.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS, ids=[seed.file for seed in SEEDS])
def test_commands_on_damaged_files(
    planted: Path, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands on damaged files end with a documented code and words that can be shown."""
    monkeypatch.chdir(planted)
    run_all(planted, seed, RUN)


@pytest.mark.slow
def test_processes_on_damaged_files(planted: Path) -> None:
    """Real processes end the same way: a code of the list, no traceback, no control character."""
    for seed in SEEDS:
        path = planted / seed.file
        good = path.read_bytes()
        try:
            for rng, content in damaged(path, 3):
                path.write_bytes(content)
                words = [sys.executable, "-c", MAIN, *rng.choice(seed.words).split()]
                ran = subprocess.run(
                    words, cwd=planted, capture_output=True, check=False, timeout=60
                )
                assert ran.returncode in ENDS, ran.stderr
                text = (ran.stdout + ran.stderr).decode()
                assert "Traceback" not in text
                assert shown(text, lines=True) == text
        finally:
            path.write_bytes(good)


def test_enough_damage() -> None:
    """The slow suite damages more than 20,000 files."""
    assert len(READERS) * READ + len(SEEDS) * RUN >= 20_000
