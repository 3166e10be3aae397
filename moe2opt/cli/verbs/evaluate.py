"""The verbs ``gate train`` and ``evaluate``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt import progress
from moe2opt.cli.exits import Exit
from moe2opt.cli.folders import create, writing
from moe2opt.cli.output import print_table, put
from moe2opt.config import SolverSection, load
from moe2opt.result import InputError
from moe2opt.writing import write_frame, write_text

if TYPE_CHECKING:
    from moe2opt.selection.gate import Gate

_FILES = ("evaluation.json", "evaluation.csv")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``gate train`` or ``evaluate``.

    Attributes
    ----------
    config, scenario, overrides, allow_outside
        What to load.
    out
        Folder for the files; None for none (``gate train``: the folder that the file names).
    as_json, quiet
        Flags.
    """

    config: str
    scenario: str | None
    overrides: list[str]
    allow_outside: bool
    out: Path | None
    as_json: bool
    quiet: bool


def run_train(request: Request) -> Exit:
    """Train a gate, save it and print how good it is."""
    _, instance = _loaded(request, "gate train")
    folder = request.out or instance.gate_folder
    create(folder)
    start = time.perf_counter()
    with _bar(request.quiet, "Training") as step:
        gate = instance.train(on_step=step)
    seconds = time.perf_counter() - start
    with writing(folder):
        gate.save(folder)
    if request.as_json:
        content = {"folder": str(folder), "seconds": seconds, "llms": list(gate.llms)}
        put(json.dumps({**content, **gate.record}, indent=1, allow_nan=False))
    elif not request.quiet:
        _show_gate(request, gate, folder, seconds)
    return Exit.OK


def run_evaluate(
    request: Request, replicates: int, seed: int, grid: Sequence[str] = (), *, retrain: bool = False
) -> Exit:
    """Compare the plan with the baselines on the test part, print and write the table."""
    if grid:
        return _run_grid(request, seed, grid, retrain)
    if retrain:
        raise InputError("--retrain: goes with --grid; without it a gate is always trained anew")
    from moe2opt.selection.evaluation.realised import evaluate_on_test
    from moe2opt.solve import run

    if request.out is not None:
        create(request.out, *_FILES)
    with nullcontext() if request.quiet else progress.on_stderr(always=True):
        solver, instance = _loaded(request, "evaluate")
        settings = _settings(solver)
        done = evaluate_on_test(
            instance,
            lambda target: run(target, **settings),
            replicates=replicates,
            seed=seed,
            on_step=lambda name: progress.logger.info(f"  {name}"),
        )
    try:
        if request.out is not None:
            _write(request.out, done)
    finally:
        if request.as_json:
            put(json.dumps(done.to_dict(), indent=1, allow_nan=False))
        else:
            put(done.summary())
    if request.out is not None and not (request.quiet or request.as_json):
        put("\nWritten to {}: {}, {}".format(request.out, *_FILES))
    return Exit.OK


def _run_grid(request: Request, seed: int, grid: Sequence[str], retrain: bool) -> Exit:
    from moe2opt.cli.verbs.evaluate_grid import axes_of, check_axes, run_grid

    axes = axes_of(grid)
    with nullcontext() if request.quiet else progress.on_stderr(always=True):
        solver, target = _loaded(request, "evaluate")
        check_axes(target.source.effective, tuple(axes))
        settings = {"time_limit_s": solver.time_limit_s, "rel_gap": solver.rel_gap}
        judging: dict[str, Any] = {"retrain": retrain, "seed": seed}
        flags = {"as_json": request.as_json, "quiet": request.quiet}
        return run_grid(target, axes, request.out, settings, **judging, **flags)


def _loaded(request: Request, verb: str) -> tuple[SolverSection, Any]:
    """Return the solver section and the instance of the file."""
    from moe2opt.selection.question import GatedInstance

    target: Any = load(
        request.config, request.scenario, request.overrides, allow_outside=request.allow_outside
    )
    if not isinstance(target, GatedInstance):
        raise InputError(
            f"{request.config}: `{verb}` needs single outcomes: a selection file with "
            "`experts: {outcomes: FOLDER}` (docs/reference/outcome-format.md)"
        )
    assert target.source is not None
    return target.source.solver, target


def _settings(section: SolverSection) -> dict[str, Any]:
    """Return the settings of the solver section, for problems derived from the instance too."""
    kept = {"time_limit_s": section.time_limit_s, "seed": section.seed, "threads": section.threads}
    name = {} if section.name == "auto" else {"solver": section.name}
    return {**name, **kept, "rel_gap": section.rel_gap, "node_limit": section.node_limit}


def _write(folder: Path, done: Any) -> None:
    with writing(folder, *_FILES):
        text = json.dumps(done.to_dict(), indent=1, allow_nan=False)
        write_frame(folder / "evaluation.csv", done.to_frame())
        write_text(folder / "evaluation.json", text + "\n")


@contextmanager
def _bar(quiet: bool, title: str) -> Iterator[Callable[[int, int, str], None] | None]:
    """Yield a listener that moves a progress bar on stderr; None when nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn(title),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")

        def step(done: int, total: int, line: str) -> None:
            bar.update(task, completed=done, total=total, description=line)

        yield step


def _show_gate(request: Request, gate: Gate, folder: Path, seconds: float) -> None:
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
    put(
        "routed: the LLM with the highest score, of all LLMs; best LLM: the best single one in "
        "hindsight"
    )
    if not request.quiet:
        put(f"Written to {folder}. Next: moe2opt solve {request.config}")


_LOSSES = ("log_loss", "brier", "calibration_error")
_SHARES = ("routed_accuracy", "best_single_accuracy")


def _digits(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
