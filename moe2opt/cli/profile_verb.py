"""Arguments of the verb ``profile``; what it does is in `moe2opt.cli.verbs.profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.exits import guarded


@guarded
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
    quick: Annotated[bool, typer.Option("--quick", help="About 10 s instead of 45.")] = False,
    quant: Annotated[
        str | None, typer.Option(help="Weight format of imported runs, such as Q4_K_M.")
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
    context: Annotated[int, typer.Option(min=1, help="Tokens of a sequence for --routing.")] = 256,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write or extend the profile here.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no hints.")] = False,
) -> None:
    """Measure this machine, or import measurements of llama.cpp, as a profile.

    Measures memory and disk by block size, matrix products and expert layers, and, where they are
    there, a CUDA device and power meters. Needs no root and less than two minutes.
    """
    from moe2opt.cli.verbs.profile import Request, run_profile

    if from_run:
        from moe2opt.cli.verbs.execute import run_calibration

        raise typer.Exit(run_calibration(from_run, out, device, as_json=as_json, quiet=quiet))
    if routing is not None:
        from moe2opt.cli.verbs.profile_routing import Request as RoutingRequest
        from moe2opt.cli.verbs.profile_routing import run_routing

        asked = RoutingRequest(routing, text or [], out, context, as_json, quiet)
        raise typer.Exit(run_routing(asked))
    if text:
        raise typer.BadParameter("texts go with --routing MODEL", param_hint="--text")
    if more and not files:
        raise typer.BadParameter("files are imported with --import FILE...")
    told = (quant, active_params, source, bandwidth, memory, power)
    request = Request(
        [*(files or []), *(more or [])], out, device, disk, quick, *told, as_json, quiet
    )
    raise typer.Exit(run_profile(request))
