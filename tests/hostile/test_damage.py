"""Damaged files: every one ends in a result or in one line, none in a traceback or a hang."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from draws import share_of
from hostile.mutating import DAMAGE
from hostile.seeds import READERS, SEEDS, Seed, plant
from typer.testing import CliRunner

from moe2opt.cli import app
from moe2opt.cli.exits import Exit
from moe2opt.errors import InputError
from moe2opt.text import shown

#: Damages of each kind of file: read in this process, and through the command line.
MOST_READ, MOST_RUN = 700, 60
READ, RUN = share_of(MOST_READ), share_of(MOST_RUN)

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


#: Reads damaged Parquet files, each in a process of its own, which ends as processes do.
READS_AND_ENDS = """
import os, random, sys
from pathlib import Path
import pyarrow.parquet as parquet, pandas
from moe2opt.errors import InputError
from moe2opt.schema.frames import read_frame

good = Path(sys.argv[1]).read_bytes()
meta = parquet.ParquetFile(sys.argv[1]).metadata
for seed in range(60):
    rng, content = random.Random(seed), bytearray(good)
    for _ in range(rng.choice((1, 3, 10, 40))):
        group = meta.row_group(rng.randrange(meta.num_row_groups))
        column = group.column(rng.randrange(meta.num_columns))
        content[column.dictionary_page_offset + rng.randrange(24)] = rng.randrange(256)
    path = Path(sys.argv[1]).with_name("damaged.parquet")
    path.write_bytes(content)
    child = os.fork()
    if not child:
        try:
            read_frame(path)
        except InputError:
            sys.exit(2)
        sys.exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 2), f"seed {seed} ends with {code}"
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_read_damaged_parquet_end(tmp_path: Path) -> None:
    """A process that has refused a damaged table ends; no thread of Arrow aborts it."""
    columns = {f"c{k}": np.arange(4000.0) % (50 + k) for k in range(10)}
    path = tmp_path / "sound.parquet"
    pd.DataFrame(columns).to_parquet(path, row_group_size=500)
    words = [sys.executable, "-c", READS_AND_ENDS, str(path)]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_enough_damage() -> None:
    """All draws together damage more than 20,000 files."""
    assert len(READERS) * MOST_READ + len(SEEDS) * MOST_RUN >= 20_000
