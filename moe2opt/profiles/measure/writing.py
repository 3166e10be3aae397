"""Write a measurement as a profile folder: tables that a plan reads, and ``machine.json``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from moe2opt.profiles.columns import CONSTANT_COLUMNS, DEVICE_COLUMNS
from moe2opt.profiles.measure.figures import Device, Figure, Measurement
from moe2opt.result import InputError
from moe2opt.schema.csv import Column, Row, read_table, write_table
from moe2opt.writing import check_ours, write_text

_GIB = 2**30

#: Digits of a measured figure; its spread is wider than the next one.
_DIGITS = 5


def check_writable(folder: Path) -> None:
    """Create `folder` and raise `InputError` when no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--out {folder}: cannot write: {error.strerror}") from error


def check_tables(folder: Path) -> None:
    """Raise `InputError` when `folder` holds tables that cannot be extended."""
    for name, columns in (("devices.csv", DEVICE_COLUMNS), ("constants.csv", CONSTANT_COLUMNS)):
        if (folder / name).is_file():
            read_table(folder / name, columns)


def write_measurement(
    measurement: Measurement, folder: str | Path, power_w: float | None = None
) -> list[Path]:
    """Write ``devices.csv``, ``constants.csv`` and ``machine.json`` into `folder`.

    Rows of other devices that the folder already holds are kept, and so are its other files;
    earlier measurements of the same devices are replaced.

    Parameters
    ----------
    measurement
        What was measured.
    folder
        Created where it is missing.
    power_w
        Watts under load that the user states, for the last device, where no meter answers.

    Raises
    ------
    InputError
        When the folder cannot be written, or its tables are not profile tables.
    """
    folder = Path(folder)
    check_writable(folder)
    own = {device.name for device in measurement.devices}
    devices = [_device_row(device, measurement) for device in measurement.devices]
    if power_w is not None and devices[-1]["power_limit_w"] is None:
        devices[-1] |= {"power_limit_w": power_w, "power_limit_scope": "stated by the user"}
    check_ours(folder, ["machine.json"])
    written = [
        merge_table(folder / "devices.csv", DEVICE_COLUMNS, devices, lambda r: r["device"] in own),
        merge_table(
            folder / "constants.csv",
            CONSTANT_COLUMNS,
            _constant_rows(measurement),
            lambda row: row["device"] in own and row["kind"] == "measured",
        ),
        folder / "machine.json",
    ]
    write_text(written[-1], json.dumps(measurement.to_dict(), indent=1) + "\n")
    return written


def merge_table(
    path: Path,
    columns: Mapping[str, Column],
    rows: Sequence[Row],
    replaced: Callable[[Row], bool],
) -> Path:
    """Write the rows of a table that are not replaced, then `rows`, at once or not at all."""
    kept = [
        row for row in (read_table(path, columns) if path.is_file() else []) if not replaced(row)
    ]
    cells = [[_cell(row.get(name)) for name in columns] for row in (*kept, *rows)]
    write_table(path, list(columns), cells)
    return path


def _cell(value: object) -> object:
    """Write 16.0 as 16, so that reading and writing a table again changes nothing."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _device_row(device: Device, measurement: Measurement) -> Row:
    bandwidth_name = "dram_read" if device.kind == "host" else "vram_read"
    bandwidth = measurement.find(bandwidth_name, device.name)
    if bandwidth is None:
        why = next((s.why for s in measurement.skipped if s.what in _steps_of(device)), "")
        raise InputError(f"{device.name}: its memory bandwidth was not measured; {why}")
    products = [
        f
        for f in measurement.figures
        if f.device == device.name and f.quantity.startswith("matmul_")
    ]
    best = max(products, key=lambda f: f.median, default=None)
    idle, load = measurement.find("power_idle", device.name), _loaded(device, measurement)
    notes = ["bandwidth: median of reading blocks of the largest size"]
    if best is not None:
        notes.append(f"fp16_tflops: fastest measured product, {best.quantity.split('_')[1]}")
    if load is not None:
        notes.append(f"power_limit_w: {load.quantity}, the most that was measured, not a limit")
    return {
        "device": device.name,
        "memory_bandwidth_gb_per_s": _short(bandwidth.median),
        "bandwidth_basis": "measured",
        "memory_gib": _short(device.memory_bytes / _GIB),
        "fp16_tflops": None if best is None else _short(best.median),
        "idle_power_w": None if idle is None or idle.median <= 0 else _short(idle.median),
        "power_limit_w": None if load is None else _short(load.median),
        "power_limit_scope": None if load is None else _scope(load.method),
        **_origin(measurement),
        "note": "; ".join(notes),
    }


def _loaded(device: Device, measurement: Measurement) -> Figure | None:
    """Return the highest power under a load, which stands in for that of inference."""
    powers = [
        f
        for f in measurement.figures
        if f.device == device.name and f.quantity.startswith("power_") and f.median > 0
    ]
    return max(powers, key=lambda f: f.median, default=None)


def _steps_of(device: Device) -> tuple[str, ...]:
    return ("memory",) if device.kind == "host" else (f"accelerator {device.name}",)


def _constant_rows(measurement: Measurement) -> list[Row]:
    return [
        {
            "device": figure.device,
            "quantity": figure.quantity,
            "value": _short(figure.median),
            "unit": figure.unit,
            "kind": "measured",
            **_origin(measurement),
            "note": f"quartiles {_short(figure.low)} and {_short(figure.high)} of "
            f"{figure.repeats}; {figure.method}",
        }
        for figure in measurement.figures
    ]


def _origin(measurement: Measurement) -> dict[str, Any]:
    version = measurement.versions.get("moe2opt", "unknown")
    return {
        "grade": "A",
        "source": "measured",
        "commit": f"moe2opt {version}",
        "locator": f"machine.json, {measurement.started}",
    }


def _scope(method: str) -> str:
    """Return the scope of a power figure, which its method names."""
    return method.partition("scope: ")[2].partition(", windows")[0] or "not stated"


def _short(value: float) -> str:
    return f"{value:.{_DIGITS}g}"
