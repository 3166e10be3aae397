"""Names of devices: aliases, spelling, and what was meant by an unknown one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from moe2opt.result import InputError
from moe2opt.schema.csv import Row

#: Devices up to which a message names them all.
_FEW = 8

#: Words that do not tell devices apart.
_NOISE = re.compile(
    r"\b(nvidia|geforce|apple|amd|developer|kit|devkit|dev|module|gpu|graphics|card)\b"
)


def find_device(name: str, devices: Sequence[Row]) -> Row:
    """Return the row of a device by its name or an alias; case and the vendor do not matter.

    Raises
    ------
    InputError
        For an unknown device, with the nearest known name.
    """
    exact = next((row for row in devices if row["device"] == name), None)
    if exact is not None:
        return exact
    wanted = _key(name)
    for row in devices:
        if wanted in map(_key, _names(row)):
            return row
    known = [row["device"] for row in devices]
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    others = f" (also near: {', '.join(near[1:])})" if near[1:] else ""
    hint = f"; did you mean '{near[0]}'?{others}" if near else ""
    told = ", ".join(known)
    if len(known) > _FEW:
        told = f"`moe2opt profile --devices` lists all {len(known)}"
    raise InputError(f"device: '{name}' is not in devices.csv ({told}){hint}")


def taken_for(name: str, devices: Sequence[Row]) -> str | None:
    """Return in words which device a name that fits several was taken for; None where it is clear.

    ``Orin Nano`` fits two boards, one of them half as fast as the other.
    """
    row, wanted = find_device(name, devices), _key(name)
    others = [other for other in devices if other is not row and wanted in _key(other["device"])]
    if wanted == _key(row["device"]) or not others:
        return None
    told = ", ".join(
        f"{other['device']} ({other['memory_bandwidth_gb_per_s']:g} GB/s)" for other in others
    )
    return (
        f"'{name}' is taken for {row['device']} ({row['memory_bandwidth_gb_per_s']:g} GB/s), "
        f"not for {told}"
    )


def _names(row: Row) -> Iterator[str]:
    yield row["device"]
    yield from (row["aliases"] or "").split(";")


def _key(name: str) -> str:
    plain = _NOISE.sub(" ", name.lower().replace("(r)", " ").replace("(tm)", " "))
    return re.sub(r"[^a-z0-9]", "", plain)
