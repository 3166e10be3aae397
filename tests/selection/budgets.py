"""Small instances over the tiny tables, and what enumeration says about them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import moe2opt as mo
from moe2opt.profiles import Profiles, read_profiles
from moe2opt.selection import ClusterTables, SelectionConfig, SelectionInstance, read_tables
from moe2opt.selection.question import assemble

FOLDER = Path(__file__).resolve().parents[2] / "problems" / "selection"

SERVERS = [
    {"name": "slow", "device": "slow-box", "uplink_mbps": 1000, "downlink_mbps": 1000},
    {"name": "fast", "device": "fast-box", "uplink_mbps": 1000, "downlink_mbps": 1000},
]
INT8 = {"name": "int8"}
INT4 = {"name": "int4", "bits_per_weight": 4.0, "quality_factor": 0.9}
LOGNORMAL = {"distribution": "lognormal", "cv": 0.8, "points": 20}


@cache
def data() -> tuple[ClusterTables, Profiles]:
    """Read the tiny tables once."""
    return read_tables(FOLDER / "tiny_tables"), read_profiles(FOLDER / "tiny_profiles")


def settings(**keys: Any) -> dict[str, Any]:
    """Return a configuration over the tiny tables."""
    base = {
        "problem": "selection",
        "name": "drawn",
        "tables": "-",
        "context_gib": 0.0,
        "precisions": [INT8],
        "servers": SERVERS,
    }
    return {**base, **keys}


def instance_of(**keys: Any) -> SelectionInstance:
    """Build an instance over the tiny tables."""
    return assemble(SelectionConfig.model_validate(settings(**keys)), *data())


def sets_of(instance: SelectionInstance) -> Iterator[np.ndarray]:
    """Yield every set of experts as a 0/1 vector."""
    for bits in product((0, 1), repeat=len(instance.experts)):
        yield np.array(bits)


def fitting(instance: SelectionInstance, x: np.ndarray) -> bool:
    """Tell whether a set keeps memory, groups, and has somebody in time in every category."""
    for host in instance.hosts:
        own = [e.memory_gib for e, k in zip(instance.experts, x, strict=True)
               if k and e.server == host.name]  # fmt: skip
        if sum(own) > host.capacity_gib * (1 + 1e-9):
            return False
    chosen = [(e.llm, e.server) for e, k in zip(instance.experts, x, strict=True) if k]
    served = (~instance.late[:, x > 0]).any(axis=1)
    return len(set(chosen)) == len(chosen) and bool(served.all())


def certified(instance: SelectionInstance) -> mo.Result:
    """Solve exactly, and let the checker confirm optimality or infeasibility."""
    result = mo.solve(instance, solver="brb")
    verdict = mo.certify(instance, result)
    assert verdict.ok, verdict.failures
    assert verdict.kind == "checked"
    assert result.status in ("OPTIMAL", "INFEASIBLE")
    return result
