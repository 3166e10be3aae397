"""A registered toy question and a way to load its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moe2opt import config
from moe2opt.config import LoadedInstance


@pytest.fixture(autouse=True)
def toy_question(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the toy question by the one line that a new question needs."""
    monkeypatch.setitem(config.QUESTIONS, "toy", "config.toy:QUESTION")
    yield
    config._model.cache_clear()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoadedInstance]:
    """Write a toy file (its first lines are given) and load it."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *arguments: Any, **options: Any) -> LoadedInstance:
        head = "schema_version: 1\nproblem: toy\n"
        Path("toy.yaml").write_text(head + text, encoding="utf-8")
        loaded = config.load("toy.yaml", *arguments, **options)
        assert isinstance(loaded, LoadedInstance)
        return loaded

    return load
