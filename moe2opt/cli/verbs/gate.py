"""The verb ``gate train``: fit the gate on recorded outcomes, keep it, and say how good it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario
from moe2opt.cli.folders import create, writing
from moe2opt.cli.output import bar, print_table, put, put_json
from moe2opt.cli.target import gated
from moe2opt.errors import InputError

if TYPE_CHECKING:
    from moe2opt.selection.gate import Gate


def train(
    config: Config,
    scenario: Scenario = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the gate here; default gate.folder.")
    ] = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the gate of a configuration with `experts.outcomes`, and print how good it is."""
    instance = gated("gate train", config, scenario, overrides, allow_outside)
    if instance.vote is not None:
        raise InputError(f"{config}: objective: a vote has no gate: nothing is routed")
    folder = out or instance.gate_folder
    create(folder)
    start = time.perf_counter()
    with bar("Training", quiet=quiet) as step:
        gate = instance.train(on_step=step)
    seconds = time.perf_counter() - start
    with writing(folder):
        gate.save(folder)
    if as_json:
        content = {"folder": str(folder), "seconds": seconds, "llms": list(gate.llms)}
        put_json({**content, **gate.record})
    elif not quiet:
        _show(gate, folder, seconds, config, quiet)


def _show(gate: Gate, folder: Path, seconds: float, config: str, quiet: bool) -> None:
    settings = gate.record["settings"]
    put(
        f"{settings['head']} gate for {len(gate.llms)} LLMs, trained with {settings['backend']} in "
        f"{seconds:.1f} s, {settings['calibration']} calibration"
    )
    header = ("part", "prompts", "log-loss", "Brier", "calibration error", "routed %", "best LLM %")
    rows = [
        (part, f"{m['prompts']:.0f}", *(_digits(m[k], 4) for k in _LOSSES),
         *(_digits(None if m[k] is None else 100 * m[k], 2) for k in _SHARES))
        for part, m in gate.record["measures"].items()
    ]  # fmt: skip
    print_table(header, rows)
    if advice := gate.record["training"].get("advice"):
        put(f"Chosen: {gate.record['training']['chosen']}. In short: {advice}")
    put(
        "routed: the LLM with the highest score, of all LLMs; best LLM: the best single one in "
        "hindsight"
    )
    if not quiet:
        put(f"Written to {folder}. Next: moe2opt solve {config}")


_LOSSES = ("log_loss", "brier", "calibration_error")
_SHARES = ("routed_accuracy", "best_single_accuracy")


def _digits(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
