"""Instances used by the tests of the selection package."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moe2opt import config
from moe2opt.selection import SelectionInstance
from moe2opt.selection.gate import Gate, GateSettings, train_gate
from moe2opt.selection.outcomes.folder import read_outcome_folder
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.partition import Split, split_four

from .invented import CONFIG, write_folder

Load = Callable[..., SelectionInstance]


@pytest.fixture(scope="session")
def load(checkout: Path) -> Load:
    """Return a function that loads a shipped instance: name, scenario, overrides."""

    def load_instance(
        name: str, scenario: str | None = None, overrides: dict[str, Any] | None = None
    ) -> SelectionInstance:
        path = checkout / "problems" / "selection" / f"{name}.yaml"
        return config.load(path, scenario, overrides)

    return load_instance


@pytest.fixture(scope="session")
def tiny(load: Load) -> SelectionInstance:
    """Return the synthetic instance that can be checked by hand."""
    return load("tiny")


@pytest.fixture(scope="session")
def edge(load: Load) -> SelectionInstance:
    """Return the built-in main job."""
    return load("mmlu_pro_edge")


@pytest.fixture(scope="session")
def invented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a synthetic outcome folder of 60 LLMs; tests must not change it."""
    pytest.importorskip("pyarrow")
    return write_folder(tmp_path_factory.mktemp("outcomes") / "invented")


@pytest.fixture(scope="session")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> OutcomeMatrix:
    """Return synthetic outcomes of 16 LLMs in memory."""
    folder = tmp_path_factory.mktemp("outcomes") / "small"
    return read_outcome_folder(write_folder(folder, llms=16, suffix=".csv"))


@pytest.fixture(scope="session")
def split(matrix: OutcomeMatrix) -> Split:
    """Return the default split of the synthetic outcomes."""
    return split_four(matrix.category, (0.5, 0.1, 0.2, 0.2), 0)


@pytest.fixture(scope="session")
def gate(matrix: OutcomeMatrix, split: Split) -> Gate:
    """Return a gate trained on the synthetic outcomes without torch."""
    return train_gate(matrix, split, GateSettings(backend="sklearn"))


@pytest.fixture
def project(tmp_path: Path, invented: Path, checkout: Path) -> Callable[..., Path]:
    """Return a function that writes a configuration beside a copy of the synthetic folder."""

    def write(name: str = "invented", energy: float = 300, extra: str = "") -> Path:
        shutil.copytree(invented, tmp_path / "outcomes", dirs_exist_ok=True)
        profiles = checkout / "problems" / "selection" / "tiny_profiles"
        shutil.copytree(profiles, tmp_path / "profiles", dirs_exist_ok=True)
        path = tmp_path / f"{name}.yaml"
        path.write_text(CONFIG.format(name=name, folder="outcomes", energy=energy) + extra)
        return path

    return write
