"""Rounds written to files: hand-made ones and drawn ones."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

import moe2opt as mo

Rows = list[dict[str, Any]]

MACRO = [
    {"name": "one", "gflop_per_s": 300, "distance_km": 0.1},
    {"name": "two", "gflop_per_s": 600, "distance_km": 0.2},
    {"name": "three", "gflop_per_s": 1000, "distance_km": 0.3},
    {"name": "four", "gflop_per_s": 1500, "distance_km": 0.4},
]
BLOCKS = [
    {"block": str(k + 1), "gflop": flop, "upload_mbit": 113.4, "memory_mb": 0}
    for k, flop in enumerate((900, 600, 300))
]


def written(folder: Path, devices: Rows, blocks: Rows | None = None, **sections: Any) -> Path:
    """Write a configuration with its tables and return its path."""
    _table(folder / "devices.csv", devices)
    if blocks is not None:
        _table(folder / "blocks.csv", blocks)
    content = {"schema_version": 1, "problem": "rounds", "name": "round", "devices": "devices.csv"}
    with (folder / "round.yaml").open("w") as file:
        YAML(typ="safe").dump(content | sections, file)
    return folder / "round.yaml"


def _table(path: Path, rows: Rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def three_blocks(folder: Path, **sections: Any) -> Path:
    """Write the round of three blocks on four devices whose answer is known."""
    own = {
        "objective": {"time": 1},
        "radio": {"bandwidth_hz": 1.8e6, "grants": list(range(1, 9))},
        "work": {"kind": "assign_blocks", "table": "blocks.csv"},
    }
    return written(folder, MACRO, BLOCKS, **(own | sections))


def four_layers(folder: Path, **sections: Any) -> Path:
    """Write the pipeline of four layers on three devices whose answer is known."""
    devices = [
        {"name": f"d{k}", "gflop_per_s": speed, "distance_km": km, "memory_mb": layers}
        for k, (speed, km, layers) in enumerate([(400, 0.04, 2), (800, 0.06, 3), (1200, 0.08, 3)])
    ]
    own = {
        "objective": {"time": 1},
        "radio": {"bandwidth_hz": 1.08e6, "path_loss": "device"},
        "work": {
            "kind": "pipeline",
            "layers": 4,
            "layer_gflop": 1.865 * 32 * 3,
            "boundary_mbit": 2 * 32 * 128 * 768 * 16 / 1e6,
            "layer_mb": 1,
            "overhead_s": 0.03,
            "micro_batches": [1, 2, 4],
        },
    }
    return written(folder, devices, **(own | sections))


def three_senders(folder: Path, **sections: Any) -> Path:
    """Write the round of three devices that send in two to six bits, shares 0.6, 0.3 and 0.1."""
    devices = [
        {"name": n, "gflop_per_s": s, "distance_km": km, "share": share, "pj_per_flop": 20}
        for n, s, km, share in [
            ("a", 300, 0.1, 0.6),
            ("b", 600, 0.2, 0.3),
            ("c", 1000, 0.3, 0.1),
        ]
    ]
    own = {
        "objective": {"time": 1, "energy": 2},
        "radio": {
            "bandwidth_hz": 1.44e6,
            "power_w": [0.05, 0.2],
            "grants": [1, 2, 3, 4, 5, 6],
        },
        "work": {
            "kind": "quantised_upload",
            "gflop": 100,
            "values": 4.915e6,
            "bits": [2, 3, 4, 6],
        },
        "limits": {"quantisation_error": 15.0**-2},
    }
    return written(folder, devices, **(own | sections))


def drawn(folder: Path, kind: str, seed: int, **sections: Any) -> Any:
    """Return a drawn instance small enough to enumerate."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 5))
    devices = [
        {
            "name": f"d{k}",
            "gflop_per_s": float(rng.integers(200, 1600)),
            "distance_km": round(float(rng.uniform(0.05, 0.5)), 3),
            "memory_mb": 4.0 if k == 0 else float(rng.integers(2, 5)),
            "pj_per_flop": round(float(rng.uniform(2, 50)), 2),
            "energy_queue": round(float(rng.uniform(0, 2)), 2),
            "share": round(float(rng.uniform(0.1, 1)), 2),
        }
        for k in range(count)
    ]
    radio = {"bandwidth_hz": 180e3 * int(rng.integers(count, 2 * count + 3)), "power_w": [0.2]}
    works: dict[str, dict[str, Any]] = {
        "assign_blocks": {"kind": kind, "table": "blocks.csv"},
        "pipeline": {
            "kind": kind,
            "layers": int(rng.integers(2, 5)),
            "layer_gflop": float(rng.integers(50, 300)),
            "boundary_mbit": float(rng.integers(10, 100)),
            "layer_mb": 1.0,
            "overhead_s": 0.05,
            "micro_batches": [1, 2, 4],
        },
        "quantised_upload": {
            "kind": kind,
            "gflop": float(rng.integers(50, 300)),
            "values": 2e6,
            "bits": [2, 4],
        },
    }
    blocks = [
        {
            "block": str(k),
            "gflop": float(rng.integers(100, 900)),
            "upload_mbit": float(rng.integers(20, 120)),
            "memory_mb": float(rng.integers(1, 4)),
        }
        for k in range(int(rng.integers(1, count + 1)))
    ]
    own = {"objective": {"time": 1}, "radio": radio, "work": works[kind]}
    return mo.load(written(folder, devices, blocks, **(own | sections)))
