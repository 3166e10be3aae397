"""Instances used by the tests of the selection package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moe2opt import config
from moe2opt.selection import SelectionInstance

Load = Callable[..., SelectionInstance]


@pytest.fixture(scope="session")
def load(checkout: Path) -> Load:
    """Return a function that loads a shipped instance: name, scenario, overrides."""

    def load_instance(
        name: str, scenario: str | None = None, overrides: dict[str, Any] | None = None
    ) -> SelectionInstance:
        path = checkout / "problems" / "selection" / f"{name}.yaml"
        return config.load(path, scenario, overrides).instance

    return load_instance


@pytest.fixture(scope="session")
def tiny(load: Load) -> SelectionInstance:
    """Return the synthetic instance that can be checked by hand."""
    return load("tiny")


@pytest.fixture(scope="session")
def edge(load: Load) -> SelectionInstance:
    """Return the built-in main job."""
    return load("mmlu_pro_edge")
