"""Profile tables for the tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from moe2opt.profiles import Profiles, builtin_profiles, read_profiles

#: Edits one file of a copy of the built-in folder and returns the folder.
Edit = Callable[[str, str, str], Path]


@pytest.fixture(scope="session")
def profiles() -> Profiles:
    """Return the built-in tables."""
    return read_profiles(builtin_profiles())


@pytest.fixture
def edit(tmp_path: Path) -> Edit:
    """Return a function that replaces a text once in a file of a copy of the built-in folder."""
    folder = tmp_path / "profiles"
    shutil.copytree(builtin_profiles(), folder)

    def change(file: str, old: str, new: str) -> Path:
        path = folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return folder

    return change
