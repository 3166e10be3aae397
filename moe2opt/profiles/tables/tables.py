"""The tables of a profile folder: read, checked row by row, joined, and fitted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from moe2opt.errors import DAMAGE
from moe2opt.files import read_json
from moe2opt.profiles import columns
from moe2opt.profiles.fitting.calibrate import Hardware
from moe2opt.profiles.fitting.fit import Fit, fit_tables, read_fit
from moe2opt.profiles.tables.checks import check_tables
from moe2opt.profiles.tables.names import find_device, taken_for
from moe2opt.result import InputError
from moe2opt.schema.csv import Column, Row, raise_all, read_table

#: Name that stands for the tables of the package where folders are listed.
BUILTIN = "builtin"

#: File of each table, its columns, and what identifies a row.
FILES: dict[str, tuple[str, Mapping[str, Column], tuple[str, ...]]] = {
    "devices": ("devices.csv", columns.DEVICE_COLUMNS, ("device",)),
    "runs": ("runs.csv", columns.RUN_COLUMNS, ("run_id",)),
    "formats": ("formats.csv", columns.FORMAT_COLUMNS, ("quant",)),
    "precisions": ("precisions.csv", columns.PRECISION_COLUMNS, ("precision",)),
    "constants": (
        "constants.csv",
        columns.CONSTANT_COLUMNS,
        ("device", "quantity", "source", "locator"),
    ),
    "offload_runs": ("offload_runs.csv", columns.OFFLOAD_COLUMNS, ("run_id",)),
    "power_caps": (
        "power_caps.csv",
        columns.CAP_COLUMNS,
        ("device", "model", "workload", "power_cap_w"),
    ),
    "moe_models": ("moe_models.csv", columns.MODEL_COLUMNS, ("model",)),
}


@dataclass(frozen=True, eq=False)
class Profiles:
    """The tables of one or several profile folders, checked.

    Attributes
    ----------
    folder
        The first folder.
    devices, runs, formats, precisions, constants, offload_runs, power_caps, moe_models
        Rows of the tables; empty for a file that is absent.
    """

    folder: Path
    devices: tuple[Row, ...]
    runs: tuple[Row, ...] = ()
    formats: tuple[Row, ...] = ()
    precisions: tuple[Row, ...] = ()
    constants: tuple[Row, ...] = ()
    offload_runs: tuple[Row, ...] = ()
    power_caps: tuple[Row, ...] = ()
    moe_models: tuple[Row, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of every figure that enters the fit."""
        tables = (self.devices, self.runs, self.formats, self.offload_runs, self.power_caps)
        text = json.dumps([list(map(_stated, rows)) for rows in tables], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def hardware(self) -> dict[str, Hardware]:
        """What is known of each device besides its runs."""
        return {
            row["device"]: Hardware(
                row["memory_bandwidth_gb_per_s"],
                row["fp16_tflops"],
                _stated_rates(row),
                row["power_limit_scope"],
                row["power_limit_w"],
            )
            for row in self.devices
        }

    @cached_property
    def fit(self) -> Fit:
        """The fit: the stored one where the tables have not changed since, else a new one.

        A new one takes the common coefficients of all devices from the built-in tables.
        """
        stored = read_fit(self.folder / "fit.json", self.digest, self.hardware)
        if stored is not None:
            return stored
        return self.fit_again(_builtin_fit())

    def fit_again(self, base: Fit | None = None) -> Fit:
        """Return a new fit; without `base`, the common coefficients are fitted as well."""
        return fit_tables(
            self.runs,
            self.hardware,
            self.formats,
            self.power_caps,
            self.offload_runs,
            base,
        )

    def device(self, name: str) -> Row:
        """Return the row of a device by its name or an alias.

        Raises
        ------
        InputError
            For an unknown device, with the nearest known name.
        """
        return find_device(name, self.devices)

    def taken_for(self, name: str) -> str | None:
        """Return in words which device a name of several was taken for, None where it is clear."""
        return taken_for(name, self.devices)

    def precision(self, name: str) -> Row | None:
        """Return the row of a precision, None when the folder does not know it."""
        return next((row for row in self.precisions if row["precision"] == name), None)


def read_profiles(folder: str | Path, *others: str | Path) -> Profiles:
    """Read and check the profile tables of one or several folders.

    Parameters
    ----------
    folder
        A folder with at least ``devices.csv``.
    others
        Further folders; `BUILTIN` stands for the tables of the package. The first folder that
        knows a device gives all of its rows.

    Raises
    ------
    InputError
        With one line ``file:row: column: message`` for each fault.
    """
    read = [_read_one(_place(name)) for name in (folder, *others)]
    return read[0] if len(read) == 1 else _joined(read)


def builtin_profiles() -> Path:
    """Return the folder of the profile tables that travel with the package."""
    package = Path(__file__).resolve().parents[2]
    for root in (package / "problems", package.parent / "problems"):
        if (root / "profiles" / "runs.csv").is_file():
            return root / "profiles"
    raise InputError("the built-in profile tables are missing from this installation")


def _place(name: str | Path) -> Path:
    return builtin_profiles() if str(name) == BUILTIN else Path(name)


def _read_one(folder: Path) -> Profiles:
    tables: dict[str, tuple[Row, ...]] = {}
    faults = []
    for table, (file, known, unique) in FILES.items():
        path = folder / file
        if table == "devices" or path.is_file():
            try:
                tables[table] = tuple(read_table(path, known, unique=unique))
            except InputError as error:
                faults += str(error).splitlines()
    raise_all(faults)
    check_tables(folder, tables)
    for table in ("formats", "precisions"):
        if table not in tables:
            file, known, unique = FILES[table]
            tables[table] = tuple(read_table(builtin_profiles() / file, known, unique=unique))
    return Profiles(folder, **tables)


def _joined(parts: Sequence[Profiles]) -> Profiles:
    """Return the rows of all folders, those of a device from the first that knows it."""
    owner: dict[str, int] = {}
    for k, part in enumerate(parts):
        for row in part.devices:
            owner.setdefault(row["device"], k)
    tables: dict[str, tuple[Row, ...]] = {}
    for field in fields(Profiles):
        if field.name != "folder":
            key = FILES[field.name][2]
            tables[field.name] = tuple(_pick(parts, field.name, key, owner))
    return Profiles(parts[0].folder, **tables)


def _pick(
    parts: Sequence[Profiles], table: str, key: Sequence[str], owner: Mapping[str, int]
) -> list[Row]:
    seen: set[tuple[object, ...]] = set()
    rows: list[Row] = []
    for k, part in enumerate(parts):
        for row in getattr(part, table):
            label = tuple(row[name] for name in key)
            device = row.get("device")
            foreign = device is not None and owner.get(device, k) != k
            if not foreign and label not in seen:
                seen.add(label)
                rows.append(row)
    return rows


def _stated(row: Row) -> Row:
    """Return the cells of a row that hold something: an absent column changes nothing."""
    return {name: value for name, value in row.items() if value is not None}


def _stated_rates(row: Row) -> tuple[float, float, float] | None:
    decode, prefill, power = (row[name] for name in columns.STATED)
    return None if decode is None else (decode, prefill, power)


def _builtin_fit() -> Fit | None:
    """Return the stored fit of the package's tables, None where it does not exist yet."""
    own = _read_one(builtin_profiles())
    path = own.folder / "fit.json"
    stored = read_fit(path, own.digest, own.hardware)
    return stored or read_fit(path, _recorded(path), own.hardware)


def _recorded(path: Path) -> str:
    """Return the digest in a stored fit: an old one still serves as a base."""
    try:
        return str(read_json(path)["tables_sha256"])
    except DAMAGE:
        return ""
