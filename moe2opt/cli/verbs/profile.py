"""The verb ``profile``: what a machine and a model can do, measured or imported, as a profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.flags import Json, Quiet, at_least
from moe2opt.cli.output import bar, print_table, put, put_json
from moe2opt.errors import InputError

if TYPE_CHECKING:
    from moe2opt.profiles.measure import Measurement


def profile(
    more: Annotated[
        list[Path] | None,
        typer.Argument(help="Further files after --import.", show_default=False),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--import",
            metavar="FILE",
            help="Import this output of llama-bench (JSON, JSONL, CSV, SQL, Markdown).",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Name of the device.")] = None,
    disk: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder on the disk to measure; default .")
    ] = None,
    devices: Annotated[
        bool, typer.Option("--devices", help="List the devices of the built-in tables.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="About 10 s instead of 45.")] = False,
    quant: Annotated[
        str | None,
        typer.Option(
            metavar="[MODEL=]FORMAT",
            help="Weight format of imported runs whose own is unknown or wrong, such as Q4_K_M.",
        ),
    ] = None,
    active_params: Annotated[
        float | None, typer.Option(help="Parameters used per token of imported runs, in 1e9.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Where imported runs come from, if not from you.")
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(help="Memory bandwidth of an unknown device in GB/s.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="Memory of an unknown device in GiB.")
    ] = None,
    power: Annotated[
        float | None, typer.Option(help="Power under load in W, where no meter answers.")
    ] = None,
    from_run: Annotated[
        list[Path] | None,
        typer.Option(
            "--from-run",
            metavar="RUN.json",
            help="Take measured seconds of experts from `execute --out`; may be repeated.",
        ),
    ] = None,
    routing: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Record which experts this model (Hugging Face folder) chooses for --text.",
        ),
    ] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Text for --routing, a domain; may be repeated."),
    ] = None,
    context: Annotated[
        int, typer.Option(help="Tokens of a sequence for --routing.", callback=at_least(1))
    ] = 256,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write or extend the profile here.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Measure this machine, or import measurements of llama.cpp, as a profile.

    Measures memory and disk by block size, matrix products and expert layers, and, where they are
    there, a CUDA device and power meters. Needs no root and less than two minutes.
    """
    if devices:
        return _listed(as_json)
    if from_run:
        return _calibrated(from_run, out, device, as_json, quiet)
    if routing is not None:
        return _routed(routing, text or [], out, context, as_json, quiet)
    if text:
        raise typer.BadParameter("texts go with --routing MODEL", param_hint="--text")
    if more and not files:
        raise typer.BadParameter("files are imported with --import FILE...")
    only_import = {
        "--quant": quant,
        "--active-params": active_params,
        "--source": source,
        "--bandwidth": bandwidth,
        "--memory": memory,
    }
    for flag, value in (
        {"--disk": disk, "--quick": quick or None} if files else only_import
    ).items():
        if value is not None:
            raise InputError(f"{flag} goes {'without' if files else 'with'} --import")
    numbers = (("--active-params", active_params), ("--bandwidth", bandwidth),
               ("--memory", memory), ("--power", power))  # fmt: skip
    for flag, number in numbers:
        if number is not None and not 0 < number < float("inf"):
            raise InputError(f"{flag}: {number:g} is not a positive number")
    if not files:
        return _measured(out, device, disk, quick, power, as_json, quiet)
    told, stated = (device, quant, active_params, source), (bandwidth, memory, power)
    return _imported([*files, *(more or [])], out, told, stated, as_json, quiet)


def _listed(as_json: bool) -> Exit:
    """List the devices of the built-in tables: name, memory, bandwidth."""
    from moe2opt.profiles.predicting.predict import tables_of

    keys = ("device", "memory_gib", "memory_bandwidth_gb_per_s")
    rows = [{key: row[key] for key in keys} for row in tables_of(None).devices]
    if as_json:
        put_json({"devices": rows})
        return Exit.OK
    for row in rows:
        name, gib, rate = row.values()
        put(f"{name:<28}{gib:>8g} GiB{rate:>8g} GB/s")
    return Exit.OK


def _measured(
    out: Path | None,
    device: str | None,
    disk: Path | None,
    quick: bool,
    power_w: float | None,
    as_json: bool,
    quiet: bool,
) -> Exit:
    """Measure this machine."""
    from moe2opt.profiles import read_profiles
    from moe2opt.profiles.measure import FULL, QUICK, Options, measure_machine, write_measurement
    from moe2opt.profiles.measure.writing import check_tables, check_writable

    if out is not None:
        check_writable(out)
        check_tables(out)
    with bar("Measuring", quiet=quiet) as move:
        measurement = measure_machine(
            Options(QUICK if quick else FULL, device, disk),
            lambda title, share: None if move is None else move(share, 1.0, title),
        )
    written = list[Path]()
    if out is not None:
        written = write_measurement(measurement, out, power_w)
        read_profiles(out)  # what is written is known to be accepted
    if as_json:
        put_json(measurement.to_dict())
    else:
        show_measurement(measurement, quiet=quiet)
    metered = any(figure.quantity == "power_idle" for figure in measurement.figures)
    if not metered and power_w is None and not quiet:
        say("no power meter answers: --power states the watts under load, else joules are unknown")
    if not (quiet or as_json):
        _next_step(out, measurement.devices[-1].name, written)
    return Exit.OK


def show_measurement(measurement: Measurement, *, quiet: bool = False) -> None:
    """Print every figure with its spread, and what could not be measured."""
    devices = len(measurement.devices) > 1
    header = (*(("device",) if devices else ()), "quantity", "median", "unit", "spread", "repeats")
    rows = []
    for f in measurement.figures:
        spread = f"{100 * f.spread:.0f} %" if f.repeats > 1 else "-"
        cells = (f.quantity, f"{f.median:.4g}", f.unit, spread, str(f.repeats))
        rows.append((f.device, *cells) if devices else cells)
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


def _imported(
    files: Sequence[Path],
    out: Path | None,
    told: tuple[str | None, str | None, float | None, str | None],
    stated: tuple[float | None, float | None, float | None],
    as_json: bool,
    quiet: bool,
) -> Exit:
    """Import runs of llama-bench: what they do not say is told, what no table knows is stated."""
    from moe2opt.profiles import read_profiles
    from moe2opt.profiles.llamabench.reading import Told, describe, import_llama_bench
    from moe2opt.profiles.llamabench.writing import Stated, write_imported

    imported = import_llama_bench(list(files), Told(*told))
    notices, written = list(imported.notices), list[Path]()
    if out is not None:
        written, more = write_imported(imported, out, Stated(*stated))
        notices += more
        read_profiles(out)  # what is written is known to be accepted
    if as_json:
        paths = [str(path) for path in written]
        put_json({"runs": list(imported.runs), "notices": notices, "written": paths})
    else:
        header = ("device", "model", "format", "test", "tokens/s", "calibrates")
        print_table(header, describe(imported.runs))
    if not quiet:
        for notice in notices:
            say(notice)
    if not (quiet or as_json):
        _next_step(out, imported.devices[-1], written)
    return Exit.OK


def _next_step(out: Path | None, device: str, written: Sequence[Path]) -> None:
    if out is None:
        put("\nNext: --out DIR writes this as a profile that `moe2opt solve` reads")
        return
    put(f"\nWritten: {', '.join(path.name for path in written)} in {out}")
    put(f"Next: in a selection file, `profiles: [{out}, builtin]`, and a server with")
    put(f"`device: {device}`")


def _calibrated(
    paths: Sequence[Path], out: Path | None, device: str | None, as_json: bool, quiet: bool
) -> Exit:
    """Write what runs measured as a profile (``--from-run``)."""
    from moe2opt.executor.calibrate import profile_from_runs

    if out is None:
        raise InputError("--from-run: --out DIR says where the profile goes")
    written, rows = profile_from_runs(paths, out, device)
    if as_json:
        put_json({"written": [str(path) for path in written], "rows": rows})
        return Exit.OK
    print_table(
        ("quantity", "memory", "computed in", "format", "us", "quartiles", "uses"),
        [
            (
                row["quantity"],
                row["memory"] or "-",
                row["place"],
                row["precision"] or "-",
                f"{row['us']:.4g}",
                f"{row['low_us']:.4g} - {row['high_us']:.4g}",
                str(row["count"]),
            )
            for row in rows
        ],
    )
    if not quiet:
        put(f"Written: {', '.join(path.name for path in written)} in {out}")
        put(f"Next: `rates: {out}` in a placement file, then moe2opt solve it again")
    return Exit.OK


def _routed(
    model: Path, texts: Sequence[Path], out: Path | None, context: int, as_json: bool, quiet: bool
) -> Exit:
    """Run the texts through the model, write counts and trace, and print how uneven use is."""
    if not texts:
        raise InputError("profile --routing: give a text with --text FILE")
    if out is None:
        raise InputError("profile --routing: give a folder for the counts with --out DIR")
    import numpy as np

    from moe2opt.executor import profile_routing

    routing = profile_routing(model, list(texts), out, context=context)
    rows = []
    for d, (name, shares) in enumerate(routing.by_domain().items()):
        ranked = np.sort(shares, axis=1)[:, ::-1]
        quarter = ranked[:, : -(-routing.number // 4)]
        busiest = float(ranked[:, 0].mean())
        covered = float((quarter.sum(axis=1) / ranked.sum(axis=1)).mean())
        rows.append((name, int((routing.domain == d).sum()), busiest, covered))
    if as_json:
        keys = ("text", "tokens", "busiest_expert_share", "share_of_busiest_quarter")
        found = [dict(zip(keys, row, strict=True)) for row in rows]
        put_json({"layers": len(routing.layers), "experts": routing.number, "texts": found}, None)
        return Exit.OK
    print_table(
        ("text", "tokens", "busiest expert", "uses of busiest quarter"),
        [(name, str(n), f"{100 * b:.1f} %", f"{100 * c:.1f} %") for name, n, b, c in rows],
    )
    if not quiet:
        say(
            f"wrote counts.csv and trace.npz to {out}: activation: {{counts: counts.csv}} "
            "in a placement configuration reads them"
        )
    return Exit.OK
