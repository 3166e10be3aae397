"""Measured runs, device data and precisions: the three tables of a profile folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moe2opt.profiles.csvfile import NOTE, POSITIVE, TEXT, Column, Row, read_table
from moe2opt.profiles.roofline import Roofline, fit_roofline
from moe2opt.result import InputError

#: Quantities that a run may take part in fitting.
FITS = ("decode", "prefill", "decode_power", "prefill_power")

_MEASURED = Column("number", blank=True, least=1e-300)

_RUN_COLUMNS = {
    "run_id": TEXT,
    "device": TEXT,
    "model": TEXT,
    "params_b": POSITIVE,
    "quant": TEXT,
    "bits_per_weight": POSITIVE,
    "bits_basis": TEXT,
    "engine": TEXT,
    "batch": Column("integer", blank=True, least=1),
    "prompt_tokens": Column("integer", blank=True, least=1),
    "output_tokens": Column("integer", blank=True, least=1),
    "prefill_tokens_per_s": _MEASURED,
    "decode_tokens_per_s": _MEASURED,
    "time_to_first_token_ms": _MEASURED,
    "power_w": _MEASURED,
    "power_scope": NOTE,
    "power_reading": NOTE,
    "power_cap": NOTE,
    "fits": NOTE,
    "spec_decode": Column(choices=("yes", "no")),
    "grade": Column(choices=("A", "B", "C")),
    "source": TEXT,
    "commit": TEXT,
    "locator": TEXT,
    "note": NOTE,
}

_DEVICE_COLUMNS = {
    "device": TEXT,
    "memory_bandwidth_gb_per_s": POSITIVE,
    "memory_gib": POSITIVE,
    "power_limit_w": _MEASURED,
    "power_limit_scope": NOTE,
    "prefill_power_assumed_w": _MEASURED,
    "grade": Column(choices=("A", "B", "C")),
    "source": TEXT,
    "commit": TEXT,
    "locator": TEXT,
    "note": NOTE,
}

_PRECISION_COLUMNS = {
    "precision": TEXT,
    "quant": TEXT,
    "bits_per_weight": POSITIVE,
    "bits_source": TEXT,
    "perplexity_ratio_llama_2_7b": POSITIVE,
    "perplexity_ratio_llama_3_8b": POSITIVE,
    "ratio_source": TEXT,
    "quality_factor": Column("number", least=0, most=1),
    "quality_basis": TEXT,
}


@dataclass(frozen=True)
class Profiles:
    """The tables of a profile folder, validated.

    Attributes
    ----------
    folder
        Where they were read from.
    runs, devices, precisions
        Rows of ``runs.csv``, ``devices.csv`` and ``precisions.csv``.
    """

    folder: Path
    runs: tuple[Row, ...]
    devices: tuple[Row, ...]
    precisions: tuple[Row, ...]

    @cached_property
    def rooflines(self) -> dict[str, Roofline]:
        """Fitted model of each device, by its name."""
        return {row["device"]: fit_roofline(row, self.runs) for row in self.devices}

    def roofline(self, device: str) -> Roofline:
        """Return the model of a device; raise `InputError` when the folder does not know it."""
        if device not in self.rooflines:
            known = ", ".join(sorted(self.rooflines))
            raise InputError(
                f"device '{device}' is not in {self.folder.name}/devices.csv (known: {known})"
            )
        return self.rooflines[device]

    def precision(self, name: str) -> Row | None:
        """Return the row of a precision, None when the folder does not know it."""
        return next((row for row in self.precisions if row["precision"] == name), None)


def read_profiles(folder: str | Path) -> Profiles:
    """Read and validate the profile tables in `folder`.

    Raises
    ------
    InputError
        With one line ``file:line: column: problem`` for each fault.
    """
    folder = Path(folder)
    runs = read_table(folder / "runs.csv", _RUN_COLUMNS, unique=["run_id"])
    _check_runs(folder / "runs.csv", runs)
    devices = read_table(folder / "devices.csv", _DEVICE_COLUMNS, unique=["device"])
    precisions = read_table(folder / "precisions.csv", _PRECISION_COLUMNS, unique=["precision"])
    return Profiles(folder, tuple(runs), tuple(devices), tuple(precisions))


def builtin_profiles() -> Path:
    """Return the folder of the profile tables that travel with the package."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "problems", package.parent / "problems"):
        if (root / "profiles" / "runs.csv").is_file():
            return root / "profiles"
    raise InputError("the built-in profile tables are missing from this installation")


def _check_runs(path: Path, runs: list[Row]) -> None:
    errors = [f"{path}: run {row['run_id']}: {fault}" for row in runs for fault in _faults(row)]
    if errors:
        raise InputError("\n".join(errors))


def _faults(row: Row) -> list[str]:
    fits = (row["fits"] or "").split()
    faults = [
        f"fits: '{name}' is not one of {', '.join(FITS)}" for name in fits if name not in FITS
    ]
    if fits and row["grade"] == "C":
        faults.append("grade C runs may not enter a fit")
    if fits and row["spec_decode"] == "yes":
        faults.append("runs with speculative decoding may not enter a fit")
    needs = {
        "decode": "decode_tokens_per_s",
        "prefill": "prefill_tokens_per_s",
        "decode_power": "power_w",
        "prefill_power": "power_w",
    }
    faults += [
        f"{needs[f]}: empty, but the run is listed in fits"
        for f in fits
        if f in needs and row[needs[f]] is None
    ]
    if row["power_w"] is not None and row["power_scope"] is None:
        faults.append("power_scope: empty, but power_w is given")
    return faults
