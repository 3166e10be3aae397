"""Small placement instances for the tests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe2opt import config
from moe2opt.placement import PlacementConfig, PlacementInstance
from moe2opt.placement import build as build_instance
from moe2opt.schema.csv import write_table

Build = Callable[..., PlacementInstance]

MODEL = ["toy", 4, 1, 1, 6, 2, 64, 32, 1.0, 0.002, 16, "drawn", None]

BASE: dict[str, Any] = {
    "problem": "placement",
    "name": "toy",
    "model": {"table": "toy", "models": "models.csv", "dense_bits": 16},
    "precisions": [
        {"name": "wide", "bits_per_weight": 8, "loss_nats": 0.0},
        {"name": "narrow", "bits_per_weight": 5, "loss_nats": 0.2},
    ],
    "tiers": [
        {"name": "fast", "kind": "gpu", "capacity_gib": 0.009, "compute_gb_per_s": 100,
         "overhead_us": 1, "power_w": 50},
        {"name": "slow", "kind": "cpu", "capacity_gib": 0.03, "compute_gb_per_s": 10,
         "overhead_us": 2, "power_w": 20},
        {"name": "disk", "kind": "disk"},
    ],
    "links": [
        {"between": ["fast", "slow"], "gb_per_s": 8, "latency_us": 3, "joules_per_gb": 1},
        {"between": ["slow", "disk"], "gb_per_s": 2, "latency_us": 10, "joules_per_gb": 2},
    ],
    "activation": {"zipf": 1.0, "seed": 3},
    "budgets": {"loss_nats": 0.1},
}  # fmt: skip


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a function that builds the toy instance with other layers, experts or sections."""
    from moe2opt.placement.model.shape import COLUMNS

    def made(layers: int = 3, experts: int = 6, top_k: int = 2, **changes: Any) -> Any:
        row = list(MODEL)
        row[1], row[4], row[5] = layers + 1, experts, top_k
        write_table(tmp_path / "models.csv", list(COLUMNS), [row])
        data = copy.deepcopy(BASE)
        for key, value in changes.items():
            if value is None:
                data.pop(key, None)
            else:
                data[key] = value
        return build_instance(PlacementConfig.model_validate(data), tmp_path)

    return made


@pytest.fixture
def trace(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a random trace and returns its name."""

    def written(layers: int, experts: int, top_k: int, tokens: int = 40, seed: int = 0) -> str:
        rng = np.random.default_rng(seed)
        weights = 1.0 / np.arange(1, experts + 1)
        drawn = np.array(
            [
                [rng.choice(experts, top_k, replace=False, p=weights / weights.sum())
                 for _ in range(layers)]
                for _ in range(tokens)
            ]
        )  # fmt: skip
        np.savez(tmp_path / "trace.npz", experts=drawn.astype(np.uint8), starts=np.array([0, 20]))
        return "trace.npz"

    return written


@pytest.fixture(scope="session")
def load(checkout: Path) -> Callable[..., PlacementInstance]:
    """Return a function that loads a built-in problem: name, scenario, overrides."""

    def loaded(
        name: str, scenario: str | None = None, overrides: dict[str, Any] | None = None
    ) -> PlacementInstance:
        path = checkout / "problems" / "placement" / f"{name}.yaml"
        return config.load(path, scenario, overrides)

    return loaded
