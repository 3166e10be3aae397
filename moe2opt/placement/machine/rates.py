"""Measured seconds of experts on a machine, in place of typed bandwidths.

A folder written by ``moe2opt profile --from-run`` holds `TABLE`: what copying and computing one
expert took, by memory and format, and what the rest of a token took. A folder that only
``moe2opt profile`` has written says how fast the disk reads blocks and how fast weights are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.placement.model.precisions import Precision
from moe2opt.placement.model.shape import ModelShape
from moe2opt.profiles.columns import CONSTANT_COLUMNS
from moe2opt.result import FloatArray, InputError
from moe2opt.schema.csv import COUNT, NAME, NOTE, POSITIVE, TEXT, Column, Row, read_table

TABLE = "execution.csv"

QUANTITIES = ("move", "compute", "dense", "working")

#: One measured figure: microseconds of copying or computing one expert, or of all that is not
#: experts per token. `memory` is where the expert lies, `place` where it is computed. ``working``
#: has bytes only: the buffers that copies pass through and formats are unpacked in.
COLUMNS: dict[str, Column] = {
    "device": NAME,
    "quantity": Column(choices=QUANTITIES),
    "memory": Column(choices=("cuda", "dram", "disk", "mmap"), blank=True),
    "place": Column(choices=("cuda", "dram")),
    "precision": NOTE,
    "bytes": Column("number", least=0),
    "hidden": COUNT,
    "weights": POSITIVE,
    "us": Column("number", least=0),
    "low_us": Column("number", least=0),
    "high_us": Column("number", least=0),
    "count": COUNT,
    "source": TEXT,
    "note": NOTE,
}

UNIQUE = ("device", "quantity", "memory", "place", "precision", "hidden", "weights", "bytes")

#: Real memory of a kind of tier.
MEMORY = {"gpu": "cuda", "cpu": "dram", "disk": "disk"}

#: Tier, place, and bytes of the expert to seconds of copying and computing.
Cells = Mapping[tuple[str, str, int], tuple[float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """What a profile says about the tiers of an instance.

    Attributes
    ----------
    cells
        Seconds to copy and to compute an expert, by names of tier and place and by its bytes.
    compute_bytes_per_s
        By name of the tier; what `cells` do not say follows from it.
    links
        Bytes per second and latency in seconds by pair of tiers.
    dense_s
        Seconds per token of everything but experts, None when not measured.
    working_bytes
        Memory that running takes besides the model, on the home tier.
    note
        Origin, in words.
    """

    cells: Cells = field(default_factory=dict)
    compute_bytes_per_s: Mapping[str, float] = field(default_factory=dict)
    links: Mapping[frozenset[str], tuple[float, float]] = field(default_factory=dict)
    dense_s: float | None = None
    working_bytes: float = 0.0
    note: str = ""


def read_rates(
    folder: Path,
    tiers: Sequence[Any],
    memories: Mapping[str, str],
    shape: ModelShape,
    precisions: Sequence[Precision],
) -> Rates:
    """Return what the profile in `folder` says about tiers.

    Parameters
    ----------
    folder
        Profile folder.
    tiers
        YAML sections of the tiers.
    memories
        Real memory by name of the tier, where its kind does not decide.
    shape, precisions
        The model and its formats.

    Raises
    ------
    InputError
        When the folder is no profile, or measured neither this shape of experts nor a disk.
    """
    if not folder.is_dir():
        raise InputError(f"rates: no folder '{folder.name}'")
    held = {tier.name: memories.get(tier.name, MEMORY.get(tier.kind, "")) for tier in tiers}
    if (folder / TABLE).is_file():
        rows = read_table(folder / TABLE, COLUMNS, unique=UNIQUE)
        mine = _of_devices(rows, tiers, f"{folder.name}/{TABLE}")
        signature = shape.hidden, float(shape.params_per_expert)
        same = [r for r in mine if (r["hidden"], r["weights"]) == signature]
        if any(row["quantity"] == "compute" for row in same):
            return _from_execution(folder.name, same, held, shape, precisions)
    if (folder / "constants.csv").is_file():
        rows = read_table(folder / "constants.csv", CONSTANT_COLUMNS)
        return _from_constants(folder.name, _of_devices(rows, tiers, folder.name), held)
    raise InputError(
        f"rates: '{folder.name}' has no experts of {shape.params_per_expert:.0f} weights; measure "
        f"them: moe2opt execute, then moe2opt profile --from-run"
    )


def _of_devices(rows: Sequence[Row], tiers: Sequence[Any], where: str) -> list[Row]:
    """Return the rows of the machine that the tiers are part of; a single one needs no name."""
    names = sorted({row["device"] for row in rows})
    wanted = sorted({tier.device for tier in tiers})
    if len(names) == 1 and len(wanted) == 1:
        return list(rows)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(
            f"rates: {where} has no device '{missing[0]}' (devices: {', '.join(names)})"
        )
    return [row for row in rows if row["device"] in wanted]


def _from_execution(
    name: str,
    rows: Sequence[Row],
    held: Mapping[str, str],
    shape: ModelShape,
    precisions: Sequence[Precision],
) -> Rates:
    seconds = {
        (r["quantity"], r["memory"], r["place"], r["precision"]): 1e-6 * r["us"] for r in rows
    }
    cells: dict[tuple[str, str, int], tuple[float, float]] = {}
    for tier, memory in held.items():
        for place, at in held.items():
            for precision in precisions:
                compute = seconds.get(("compute", memory, at, precision.name))
                if compute is None or at not in ("cuda", "dram"):
                    continue
                move = seconds.get(("move", memory, at, precision.name), 0.0)
                size = round(shape.expert_bytes(precision.bits_per_weight))
                own = tier == place
                cells.setdefault((tier, place, size), (0.0 if own else move, compute))
    computing = {
        tier: float(np.median([size / c[1] for (t, p, size), c in cells.items() if t == p == tier]))
        for tier in held
        if any(t == p == tier for t, p, _ in cells)
    }
    # A dense part of another size was not measured with this model.
    dense = [
        r
        for r in rows
        if r["quantity"] == "dense" and abs(r["bytes"] / shape.dense_bytes - 1) < 0.01
    ]
    first = rows[0]["source"]
    words = "" if dense else "; the dense part was not measured with this model"
    return Rates(
        cells=cells,
        compute_bytes_per_s=computing,
        links=_links(cells),
        dense_s=1e-6 * dense[0]["us"] if dense else None,
        working_bytes=max((r["bytes"] for r in rows if r["quantity"] == "working"), default=0.0),
        note=f"rates: seconds of experts measured on this machine ({name}: {first}){words}",
    )


def _links(cells: Cells) -> dict[frozenset[str], tuple[float, float]]:
    """Return bandwidth and latency that fit the measured copies between two tiers."""
    found = {}
    for pair in {frozenset((t, p)) for t, p, _ in cells if t != p}:
        points = [
            (size, move) for (t, p, size), (move, _) in cells.items() if {t, p} == pair and move > 0
        ]
        if points:
            size, move = (np.array(v, dtype=np.float64) for v in zip(*points, strict=True))
            found[pair] = _line(size, move)
    return found


def _line(size: FloatArray, seconds: FloatArray) -> tuple[float, float]:
    """Return bytes per second and latency of the least relative squares; neither is negative."""
    if len(set(size.tolist())) > 1:
        weight = 1 / seconds
        slope, start = np.polyfit(size, seconds, 1, w=weight)
        if slope > 0 and start >= 0:
            return float(1 / slope), float(start)
    return float(np.median(size / seconds)), 0.0


def _from_constants(name: str, rows: Sequence[Row], held: Mapping[str, str]) -> Rates:
    """Return what measuring a machine alone tells: blocks of its disk, weights per second."""
    figures = {row["quantity"]: row["value"] for row in rows if row["kind"] == "measured"}
    blocks = {
        int(quantity.partition("@")[2]): 1e-6 * float(value)
        for quantity, value in figures.items()
        if quantity.startswith("disk_latency@")
    }
    weights = [
        1e9 * float(value)
        for quantity, value in figures.items()
        if quantity.startswith("expert_ffn_") and quantity.endswith("_1_token")
    ]
    if not blocks or not weights:
        raise InputError(f"rates: '{name}' has neither executed experts nor disk and arithmetic")
    bandwidth = _line(np.array(list(blocks), dtype=np.float64), np.array(list(blocks.values())))
    disks = [t for t, memory in held.items() if memory in ("disk", "mmap")]
    hosts = [t for t, memory in held.items() if memory == "dram"]
    return Rates(
        compute_bytes_per_s=dict.fromkeys(hosts, float(np.median(weights))),
        links={frozenset((d, h)): bandwidth for d in disks for h in hosts},
        note=f"rates: disk and arithmetic measured on this machine ({name}), not with this model",
    )
