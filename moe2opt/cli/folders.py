"""Folders of results: ``--out DIR``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moe2opt.config import LoadedInstance
from moe2opt.result import InputError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Create the folder for a block that writes into it.

    Raises
    ------
    InputError
        When it cannot be created, or the block cannot write.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"--out {folder}: {error.strerror}") from error


def create(folder: Path) -> None:
    """Create the folder before the work; raise `InputError` when that is not possible."""
    with writing(folder):
        pass


def write_config(folder: Path, target: object) -> None:
    """Write the effective configuration of what was loaded; a bare problem has none."""
    if isinstance(target, LoadedInstance):
        (folder / "config.yaml").write_text(target.effective_yaml(), encoding="utf-8")
