"""The tiny instance with a measured table."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import moe2opt as mo

#: Writes a table and loads an instance with it: text of the table, overrides, instance.
Table = Callable[..., Any]


@pytest.fixture
def table(tmp_path: Path, checkout: Path) -> Table:
    """Return a function that loads a shipped tiny instance with a measured table."""
    problems = checkout / "problems" / "selection"

    def load(text: str, overrides: dict[str, Any] | None = None, name: str = "tiny") -> Any:
        for part in ("tiny_tables", "tiny_outcomes", "tiny_profiles", f"{name}.yaml"):
            if (problems / part).is_dir():
                shutil.copytree(problems / part, tmp_path / part, dirs_exist_ok=True)
            else:
                shutil.copy(problems / part, tmp_path / part)
        (tmp_path / "lab.csv").write_text(text)
        return mo.load(
            tmp_path / f"{name}.yaml", overrides={"measured": "lab.csv"} | (overrides or {})
        )

    return load
