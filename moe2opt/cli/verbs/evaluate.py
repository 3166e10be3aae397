"""The verb ``evaluate``: plan and baselines on prompts that nothing was tuned on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario
from moe2opt.cli.folders import create, writing
from moe2opt.cli.output import put, put_json
from moe2opt.cli.target import gated, told
from moe2opt.errors import InputError
from moe2opt.writing import write_frame, write_text

if TYPE_CHECKING:
    from moe2opt.pareto import Grid

_FILES = ("evaluation.json", "evaluation.csv")
_SPLIT_FILES = ("evaluation_splits.csv",)

_GRID_FILES = (
    "grid.json",
    "grid_evaluation.json",
    "grid_evaluation.csv",
    "grid_sets.csv",
    *(f"grid_{name}.png" for name in ("map", "curves", "curves_reverse")),
)


def evaluate(
    config: Config,
    replicates: Annotated[
        int, typer.Option("--bootstrap", min=1, help="Resamples of the prompts.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of resamples and random sets.")] = 0,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW:HIGH:COUNT",
            help="A budget row or key that varies (also NAME=A,B,C); give it twice for a map.",
        ),
    ] = None,
    splits: Annotated[
        int,
        typer.Option(
            min=1, max=100, help="Splits of the prompts that are pooled, by ever new seeds."
        ),
    ] = 1,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Grid: train a gate for each deployed set, too.")
    ] = False,
    scenario: Scenario = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write evaluation.json and .csv (grid: grid*) here."),
    ] = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Report realised accuracy, energy and delay on the test part, beside every baseline.

    Needs `experts.outcomes`. The test part is used for nothing else. With `--grid`, plan and
    baselines are compared at every combination of budgets; with `--splits`, over several random
    splits, each with its own gate and plans.
    """
    from moe2opt.pareto.axes import axes_of, check_axes
    from moe2opt.pareto.judging import judged_over_splits, split_anew
    from moe2opt.selection.evaluation.realised import evaluate_on_test
    from moe2opt.solve import run

    if retrain and not grid:
        raise InputError("--retrain: goes with --grid; without it a gate is always trained anew")
    axes = axes_of(grid or ())
    if out is not None and not grid:
        create(out, *_FILES, *_SPLIT_FILES)
    solved: list[Grid] = []
    done: Any
    with told(quiet) as tell:
        instance = gated("evaluate", config, scenario, overrides, allow_outside)
        solver = instance.source.solver
        settings = {"time_limit_s": solver.time_limit_s, "rel_gap": solver.rel_gap}
        if grid:
            check_axes(instance.source.effective, tuple(axes))
            if out is not None:
                create(out, *_GRID_FILES)
            targets = split_anew(instance, splits)
            solved, done = judged_over_splits(targets, axes, retrain=retrain, seed=seed, **settings)
        else:
            settings |= {"seed": solver.seed, "threads": solver.threads,
                         "node_limit": solver.node_limit}  # fmt: skip
            named = {} if solver.name == "auto" else {"solver": solver.name}
            done = evaluate_on_test(
                split_anew(instance, splits),
                lambda target: run(target, **named, **settings),
                replicates=replicates,
                seed=seed,
                on_step=lambda name: tell(f"  {name}"),
            )
    try:
        if out is not None:
            _write(out, done, solved)
    finally:
        if as_json:
            put_json(done.to_dict())
        else:
            put(done.summary())
    if out is not None and not (quiet or as_json):
        files = _FILES + _SPLIT_FILES * (splits > 1)
        names = sorted(path.name for path in out.glob("grid*")) if grid else files
        put(f"\nWritten to {out}: {', '.join(names)}")
    if any(own.provenance.get("interrupted") for own in solved):
        say("interrupted: cells that were not reached have the plan and the bound known so far")
        return Exit.INTERRUPTED
    return Exit.OK


def _write(out: Path, done: Any, solved: list[Grid]) -> None:
    """Write the table and, of a grid, what was solved, the deployed sets and the pictures."""
    text = json.dumps(done.to_dict(), indent=1, allow_nan=False) + "\n"
    if not solved:
        with writing(out, *_FILES, *_SPLIT_FILES):
            write_frame(out / "evaluation.csv", done.to_frame())
            write_text(out / "evaluation.json", text)
            if done.by_split:
                write_frame(out / _SPLIT_FILES[0], done.splits_frame())
        return
    from moe2opt.plotting import save
    from moe2opt.plotting.evaluated import chosen_sets, pictures

    seeds = [split["seed"] for split in done.provenance.get("splits", ())]
    others = [f"grid_split_{seed}.json" for seed in seeds[1:]]
    with writing(out, *_GRID_FILES, *others):
        for name, grid in zip(("grid.json", *others), solved, strict=True):
            grid.save(out / name)
        write_frame(out / "grid_evaluation.csv", done.to_frame())
        write_frame(out / "grid_sets.csv", chosen_sets(done))
        write_text(out / "grid_evaluation.json", text)
    if len(done.axes) == 2:
        for name, figure in pictures(done):
            save(figure, out / f"grid_{name}.png")
