"""Exports of the tiny gated instance, made by the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import moe2opt as mo
from moe2opt.cli.app import app

#: Deadlines and a budget of routing: the slow server is late for code, joules have a price.
STRICT = ("delay.limit_s={code: 1.5}", "routing.energy_j_per_prompt=68")


def export(*words: object) -> Result:
    """Run ``moe2opt export``."""
    return CliRunner().invoke(app, ["export", *map(str, words)])


@dataclass(frozen=True)
class Served:
    """An exported plan.

    Attributes
    ----------
    folder
        What was exported.
    instance
        Its instance.
    result
        Its result.
    """

    folder: Path
    instance: Any
    result: Any


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Served]:
    """Return a function that solves and exports the tiny gated instance."""
    made: dict[tuple[str, ...], Served] = {}

    def run(*overrides: str, config: str = "tiny_gate") -> Served:
        if (config, *overrides) not in made:
            folder = tmp_path_factory.mktemp("served")
            loaded = mo.load(config, overrides=list(overrides))
            result = mo.solve(loaded)
            result.save(folder / "result.json")
            words = ("--to", "litellm", "--config", config, "--out", folder / "out")
            ran = export(folder / "result.json", *words, "--quiet")
            assert ran.exit_code == 0, ran.stderr
            made[(config, *overrides)] = Served(folder / "out", loaded, result)
        return made[(config, *overrides)]

    return run
