"""What a cell cannot say on its own: rules that join columns, rows and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from moe2opt.profiles.columns import ALONE, FITS, NEEDS, STATED
from moe2opt.profiles.formats import find_format
from moe2opt.result import InputError
from moe2opt.schema.csv import Row, raise_all

Tables = Mapping[str, Sequence[Row]]

#: One fault: index of the row, column, message.
Fault = tuple[int, str, str]


def check_tables(folder: Path, tables: Tables) -> None:
    """Check the tables of a folder.

    Raises
    ------
    InputError
        With one line ``file:row: column: message`` for each fault of any file.
    """
    rules: dict[str, Sequence[Callable[[Tables], Iterator[Fault]]]] = {
        "devices": (_aliases, _stated),
        "runs": (_devices, _usable, _scopes),
        "constants": (_units,),
    }
    names = {"devices": "devices.csv", "runs": "runs.csv", "constants": "constants.csv"}
    faults = [
        (table, index, f"{folder / names[table]}:{index + 2}: {column}: {message}")
        for table, checks in rules.items()
        if table in tables
        for check in checks
        for index, column, message in check(tables)
    ]
    order = list(rules)
    faults.sort(key=lambda fault: (order.index(fault[0]), fault[1]))
    raise_all([message for _, _, message in faults])


def _aliases(tables: Tables) -> Iterator[Fault]:
    taken = {row["device"]: row["device"] for row in tables["devices"]}
    for index, row in enumerate(tables["devices"]):
        for alias in filter(None, (row["aliases"] or "").split(";")):
            owner = taken.setdefault(alias, row["device"])
            if owner != row["device"]:
                yield index, "aliases", f"'{alias}' is already a name of '{owner}'"


def _stated(tables: Tables) -> Iterator[Fault]:
    measured = {run["device"] for run in tables.get("runs", ()) if run["fits"]}
    for index, row in enumerate(tables["devices"]):
        given = [name for name in STATED if row[name] is not None]
        if given and len(given) < len(STATED):
            missing = next(name for name in STATED if row[name] is None)
            yield index, missing, f"empty, but {given[0]} is stated: state all rates or none"
        if given and row["device"] in measured:
            yield index, given[0], "stated, but runs.csv holds runs that calibrate the device"


def _devices(tables: Tables) -> Iterator[Fault]:
    known = [row["device"] for row in tables["devices"]]
    for index, row in enumerate(tables["runs"]):
        if row["device"] not in known:
            near = get_close_matches(row["device"], known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            yield index, "device", f"'{row['device']}' is not in devices.csv{hint}"


def _usable(tables: Tables) -> Iterator[Fault]:
    for index, row in enumerate(tables["runs"]):
        yield from ((index, column, message) for column, message in _run_faults(row, tables))


def _run_faults(row: Row, tables: Tables) -> Iterator[tuple[str, str]]:
    used = (row["fits"] or "").split()
    for name in used:
        if name == ALONE:
            continue
        if name not in FITS:
            yield "fits", f"'{name}' is not one of {', '.join(FITS)}"
        elif all(row[column] is None for column in NEEDS[name]):
            yield NEEDS[name][0], f"empty, but the run calibrates {name}"
    if used and row["grade"] == "C":
        yield "grade", "a grade C run may not calibrate anything"
    if used and row["spec_decode"] == "yes":
        yield "spec_decode", "a run with speculative decoding may not calibrate anything"
    if used and (row["batch"] or 1) > 1:
        yield "batch", "only runs of one request at a time may calibrate anything"
    if row["power_w"] is not None and row["power_scope"] is None:
        yield "power_scope", "empty, but power_w is given: watts of an unknown meter"
    if any(name.endswith("energy") for name in used):
        yield from _energy_faults(row, used)
    if row["active_params_b"] is not None and row["active_params_b"] > row["params_b"]:
        yield "active_params_b", f"{row['active_params_b']:g} exceeds params_b"
    yield from _format_faults(row, tables)


def _energy_faults(row: Row, used: Sequence[str]) -> Iterator[tuple[str, str]]:
    if row["power_scope"] is None and row["power_w"] is None:
        yield "power_scope", "empty, but the run calibrates an energy"
    for phase in ("decode", "prefill"):
        rate = f"{phase}_tokens_per_s"
        if f"{phase}_energy" in used and row[rate] is None:
            yield rate, f"empty, but the run calibrates {phase}_energy"


def _format_faults(row: Row, tables: Tables) -> Iterator[tuple[str, str]]:
    if not row["fits"] or row["bits_per_weight"] is not None or "formats" not in tables:
        return
    try:
        find_format(row["quant"], tables["formats"])
    except InputError as error:
        yield "quant", str(error).removeprefix("precision: ")


def _scopes(tables: Tables) -> Iterator[Fault]:
    """Yield energy runs whose power scope is not that of the device's other ones."""
    first: dict[str, tuple[int, str]] = {}
    for index, row in enumerate(tables["runs"]):
        energy = any(name.endswith("energy") for name in (row["fits"] or "").split())
        scope = row["power_scope"]
        if not energy or scope is None:
            continue
        line, known = first.setdefault(row["device"], (index + 2, scope))
        if scope != known:
            message = (
                f"'{scope}' may not be pooled with '{known}' (row {line}): the energy runs of "
                f"'{row['device']}' need one power scope"
            )
            yield index, "power_scope", message


def _units(tables: Tables) -> Iterator[Fault]:
    for index, row in enumerate(tables["constants"]):
        if row["unit"] is None and _is_number(row["value"]):
            yield index, "unit", f"empty, but the value {row['value']} is a number"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
