"""Damaged files of every kind that people hand us: each is read, or refused in one line."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from campaign.checking import Tally
from hostile.seeds import READERS, plant
from hostile.test_damage import read_all

ROOT = Path(__file__).parents[2]


@functools.cache
def _planted() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """Return a folder of sound files that this process has for itself."""
    folder = tempfile.TemporaryDirectory()
    plant(Path(folder.name), ROOT / "problems", ROOT / "tests/profiles/llamabench/fixtures")
    return folder, Path(folder.name)


def damages(place: int, number: int) -> Tally:
    """Read so many damages of one kind of file."""
    tally = Tally()
    file, read = READERS[place]
    try:
        fine, refused = read_all(_planted()[1], file, read, number)
    except AssertionError as error:
        tally.fault(place, f"damaged {file}", str(error))
    else:
        tally.counts["damaged files"] += number
        tally.counts["damaged files that are read"] += fine
        tally.counts["damaged files that are refused"] += refused
    return tally
