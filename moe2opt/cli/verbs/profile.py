"""The verb ``profile``: measure this machine, or import measurements of llama.cpp."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.output import print_table, put
from moe2opt.result import InputError

if TYPE_CHECKING:
    from moe2opt.profiles.llamabench import Imported
    from moe2opt.profiles.measure import Figure, Measurement


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``profile``.

    Attributes
    ----------
    files
        Output of llama-bench to import; this machine is measured when there is none.
    out
        Folder of the profile, None for none.
    device
        Name of the device, None for the one that is found.
    disk
        Folder on the disk to measure.
    quick
        A short measurement.
    quant, active_params_b, source
        What the imported files do not say.
    bandwidth_gb_per_s, memory_gib
        Data of a device that no table knows.
    power_w
        Watts under load, where no meter answers.
    as_json, quiet
        Flags.
    """

    files: Sequence[Path]
    out: Path | None
    device: str | None
    disk: Path | None
    quick: bool
    quant: str | None
    active_params_b: float | None
    source: str | None
    bandwidth_gb_per_s: float | None
    memory_gib: float | None
    power_w: float | None
    as_json: bool
    quiet: bool


def run_profile(request: Request) -> Exit:
    """Measure or import, write, and show."""
    _check(request)
    if request.files:
        return _import(request)
    return _measure(request)


def _check(request: Request) -> None:
    only_import = {
        "--quant": request.quant,
        "--active-params": request.active_params_b,
        "--source": request.source,
        "--bandwidth": request.bandwidth_gb_per_s,
        "--memory": request.memory_gib,
    }
    only_measure = {"--disk": request.disk, "--quick": request.quick or None}
    wrong = only_measure if request.files else only_import
    for flag, value in wrong.items():
        if value is not None:
            mode = "without" if request.files else "with"
            raise InputError(f"{flag} goes {mode} --import")
    numbers = {
        "--active-params": request.active_params_b,
        "--bandwidth": request.bandwidth_gb_per_s,
        "--memory": request.memory_gib,
        "--power": request.power_w,
    }
    for flag, number in numbers.items():
        if number is not None and not 0 < number < float("inf"):
            raise InputError(f"{flag}: {number:g} is not a positive number")


# ---------------------------------------------------------------------- measuring


def _measure(request: Request) -> Exit:
    from moe2opt.profiles.measure import FULL, QUICK, Options, measure_machine, write_measurement
    from moe2opt.profiles.measure.writing import check_tables, check_writable

    if request.out is not None:
        check_writable(request.out)
        check_tables(request.out)
    options = Options(QUICK if request.quick else FULL, request.device, request.disk)
    with _progress(shown=not request.quiet) as watch:
        measurement = measure_machine(options, watch)
    written = list[Path]()
    if request.out is not None:
        written = write_measurement(measurement, request.out, request.power_w)
        _read_back(request.out)
    if request.as_json:
        put(json.dumps(measurement.to_dict(), indent=1, allow_nan=False))
    else:
        show_measurement(measurement, quiet=request.quiet)
    metered = any(figure.quantity == "power_idle" for figure in measurement.figures)
    if not metered and request.power_w is None and not request.quiet:
        say("no power meter answers: --power states the watts under load, else joules are unknown")
    _next_step(request, [d.name for d in measurement.devices], written)
    return Exit.OK


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[str, float], None]]:
    """Give a callback that moves a bar on stderr."""
    if not shown:
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:12}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda title, share: bar.update(task, description=title, completed=share)


def show_measurement(measurement: Measurement, *, quiet: bool = False) -> None:
    """Print every figure with its spread, and what could not be measured."""
    devices = len(measurement.devices) > 1
    header = (*(("device",) if devices else ()), "quantity", "median", "unit", "spread", "repeats")
    rows = [(*((f.device,) if devices else ()), *_cells(f)) for f in measurement.figures]
    machine = measurement.machine
    put(
        f"{machine['processor']}, {machine['cores_used']} of {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.1f} GiB, {machine['system']}"
    )
    print_table(header, rows)
    if quiet:
        return
    put("spread: interquartile range of the repeats as a share of the median")
    for skipped in measurement.skipped:
        put(f"not measured: {skipped.what}: {skipped.why}")
    if machine["virtual_machine"]:
        put("this is a virtual machine: its neighbours and a cache below its disk may show")


def _cells(figure: Figure) -> tuple[str, ...]:
    spread = f"{100 * figure.spread:.0f} %" if figure.repeats > 1 else "-"
    return figure.quantity, f"{figure.median:.4g}", figure.unit, spread, str(figure.repeats)


# ---------------------------------------------------------------------- importing


def _import(request: Request) -> Exit:
    from moe2opt.profiles.llamabench import Told, import_llama_bench
    from moe2opt.profiles.llamabench_writing import Stated, write_imported

    told = Told(request.device, request.quant, request.active_params_b, request.source)
    imported = import_llama_bench(list(request.files), told)
    notices, written = list(imported.notices), list[Path]()
    if request.out is not None:
        stated = Stated(request.bandwidth_gb_per_s, request.memory_gib, request.power_w)
        written, more = write_imported(imported, request.out, stated)
        notices += more
        _read_back(request.out)
    if request.as_json:
        put(json.dumps(_import_json(imported, notices, written), indent=1, allow_nan=False))
    else:
        _show_import(imported)
    if not request.quiet:
        for notice in notices:
            say(notice)
    _next_step(request, imported.devices, written)
    return Exit.OK


def _show_import(imported: Imported) -> None:
    from moe2opt.profiles.llamabench import describe

    header = ("device", "model", "format", "test", "tokens/s", "calibrates")
    print_table(header, describe(imported.runs))


def _import_json(imported: Imported, notices: list[str], written: list[Path]) -> dict[str, Any]:
    return {
        "runs": list(imported.runs),
        "notices": notices,
        "written": [str(path) for path in written],
    }


def _read_back(folder: Path) -> None:
    """Read the folder as a plan would, so that what is written is known to be accepted."""
    from moe2opt.profiles import read_profiles

    read_profiles(folder)


def _next_step(request: Request, devices: Sequence[str], written: list[Path]) -> None:
    if request.quiet or request.as_json:
        return
    if request.out is None:
        put("\nNext: --out DIR writes this as a profile that `moe2opt solve` reads")
        return
    put(f"\nWritten: {', '.join(path.name for path in written)} in {request.out}")
    put(f"Next: in a selection file, `profiles: [{request.out}, builtin]`, and a server with")
    put(f"`device: {devices[-1]}`")
