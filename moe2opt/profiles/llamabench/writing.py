"""Add imported runs to a profile folder, with the raw files and the rows of their devices."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from moe2opt.files import read_bytes
from moe2opt.profiles.columns import DEVICE_COLUMNS, RUN_COLUMNS
from moe2opt.profiles.llamabench.reading import Imported
from moe2opt.profiles.measure.writing import check_writable, merge_table
from moe2opt.profiles.tables.tables import builtin_profiles
from moe2opt.result import InputError
from moe2opt.schema.csv import Row, read_table
from moe2opt.writing import write_bytes

#: Where the files that were imported are kept.
RAW = "raw"


@dataclass(frozen=True, slots=True)
class Stated:
    """Data of a device in the words of the user.

    Attributes
    ----------
    bandwidth_gb_per_s, memory_gib, power_w
        From its data sheet; None when not stated.
    """

    bandwidth_gb_per_s: float | None = None
    memory_gib: float | None = None
    power_w: float | None = None


def write_imported(
    imported: Imported, folder: str | Path, stated: Stated | None = None
) -> tuple[list[Path], list[str]]:
    """Add runs to ``runs.csv`` and missing devices to ``devices.csv``; keep the raw files.

    Runs imported from the same file before are replaced.

    Returns
    -------
    tuple
        Files written, and notices.

    Raises
    ------
    InputError
        When the folder cannot be written, or nothing tells bandwidth and memory of a device.
    """
    folder = Path(folder)
    known = _devices(folder / "devices.csv")
    builtin = _devices(builtin_profiles() / "devices.csv")
    rows, notices = [], list[str]()
    for name in imported.devices:
        if name not in known:
            row = _device_row(name, builtin, stated or Stated())
            rows.append(row)
            if row["source"] != "stated on the command line":
                notices.append(
                    f"{name}: its row is that of the built-in tables; where this folder comes "
                    "first, its runs alone describe the device"
                )
    check_writable(folder)
    raw = _keep(imported.files, folder / RAW)
    own = {run["run_id"] for run in imported.runs}
    devices = merge_table(folder / "devices.csv", DEVICE_COLUMNS, rows, lambda _: False)
    runs = merge_table(
        folder / "runs.csv", RUN_COLUMNS, imported.runs, lambda row: row["run_id"] in own
    )
    return [devices, runs, *raw], notices


def _devices(path: Path) -> dict[str, Row]:
    """Return the rows of a device table by name and by alias."""
    rows = read_table(path, DEVICE_COLUMNS, unique=["device"]) if path.is_file() else []
    aliases = {
        alias.strip(): row
        for row in rows
        for alias in (row["aliases"] or "").split(";")
        if alias.strip()
    }
    return {**aliases, **{row["device"]: row for row in rows}}


def _device_row(name: str, builtin: dict[str, Row], stated: Stated) -> Row:
    bare = name.removeprefix("NVIDIA ").removeprefix("GeForce ")
    found = builtin.get(name) or builtin.get(bare)
    if stated.bandwidth_gb_per_s is not None and stated.memory_gib is not None:
        return {
            "device": name,
            "memory_bandwidth_gb_per_s": stated.bandwidth_gb_per_s,
            "bandwidth_basis": "spec",
            "memory_gib": stated.memory_gib,
            "power_limit_w": stated.power_w,
            "power_limit_scope": None if stated.power_w is None else "stated by the user",
            "grade": "B",
            "source": "stated on the command line",
            "commit": "not recorded",
            "locator": "--bandwidth and --memory",
        }
    if found is not None:
        return {**found, "device": name}
    raise InputError(
        f"device '{name}' is in no table: measure it with `moe2opt profile --out DIR --device "
        "NAME` on that machine, or state --bandwidth (GB/s) and --memory (GiB) from its data sheet"
    )


def _keep(files: tuple[Path, ...], folder: Path) -> list[Path]:
    """Copy the files, named by their content, so that figures can be traced back to them."""
    try:
        folder.mkdir(exist_ok=True)
        kept = []
        for path in files:
            content = read_bytes(path)
            digest = hashlib.sha256(content).hexdigest()[:8]
            target = folder / f"llama-bench-{digest}{path.suffix}"
            write_bytes(target, content)
            kept.append(target)
        return kept
    except OSError as error:
        raise InputError(f"--out {folder}: cannot write: {error.strerror}") from error
