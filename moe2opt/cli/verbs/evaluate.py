"""The verb ``evaluate``: plan and baselines on prompts that nothing was tuned on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario, at_least
from moe2opt.cli.folders import create, spare, writing
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
        int, typer.Option("--bootstrap", help="Resamples of the prompts.", callback=at_least(1))
    ] = 2000,
    seed: Annotated[
        int, typer.Option(help="Seed of resamples and random sets.", callback=at_least(0))
    ] = 0,
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
            help="Splits of the prompts that are pooled, by ever new seeds.",
            callback=at_least(1, most=100),
        ),
    ] = 1,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Grid: train a gate for each deployed set, too.")
    ] = False,
    figures: Annotated[
        list[Path] | None,
        typer.Option(
            "--figure",
            metavar="FILE",
            help="Draw plan and baselines with intervals (.pdf, .svg, .png); may be repeated.",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEASURE",
            help="Figure: budget, energy_j_per_prompt, delay_s, money_per_prompt; may be repeated.",
        ),
    ] = None,
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", metavar="NAME", help="Figure, table: only this baseline; may be repeated."
        ),
    ] = None,
    tables: Annotated[
        list[Path] | None,
        typer.Option(
            "--table",
            metavar="FILE",
            help="Write the comparison for a paper (.tex, .csv); may be repeated.",
        ),
    ] = None,
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
    splits, each with its own gate and plans. Exit codes: 0 done; 2 bad command line or file; 3
    proven infeasible; 4 no plan within the limits of the file.
    """
    from moe2opt.pareto.axes import axes_of, check_axes
    from moe2opt.pareto.judging import judged_over_splits, split_anew
    from moe2opt.selection.evaluation.realised import evaluate_on_test
    from moe2opt.solve import run

    if retrain and not grid:
        raise InputError("--retrain: goes with --grid; without it a gate is always trained anew")
    axes = axes_of(grid or ())
    paper = Paper(
        tuple(figures or ()), tuple(tables or ()), tuple(against or ()), tuple(policies or ())
    )
    paper.check(config, axes)
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
        paper.write(done)
    finally:
        if as_json:
            put_json(done.to_dict())
        else:
            put(done.summary())
    if not (quiet or as_json):
        for path in (*paper.figures, *paper.tables):
            put(f"Written: {path}")
    if out is not None and not (quiet or as_json):
        files = _FILES + _SPLIT_FILES * (splits > 1)
        names = sorted(path.name for path in out.glob("grid*")) if grid else files
        put(f"\nWritten to {out}: {', '.join(names)}")
    if any(own.provenance.get("interrupted") for own in solved):
        say("interrupted: cells that were not reached have the plan and the bound known so far")
        return Exit.INTERRUPTED
    return Exit.OK


@dataclass(frozen=True, slots=True)
class Paper:
    """Figures and tables that were asked for: files, measures, baselines."""

    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    against: tuple[str, ...]
    policies: tuple[str, ...]

    def check(self, config: str, axes: Mapping[str, Sequence[float]]) -> None:
        """Raise `InputError`, before the work, for what cannot be drawn or written."""
        from moe2opt.plotting.style import check_figure
        from moe2opt.schema.source import did_you_mean
        from moe2opt.selection.evaluation.tables import BUDGET, MEASURES, check_table

        if self.against and not self.figures:
            raise InputError("--against: goes with --figure")
        if self.policies and not (self.figures or self.tables):
            raise InputError("--policy: goes with --figure or --table")
        for name in self.against:
            if name not in (BUDGET, *MEASURES):
                known = ", ".join((BUDGET, *MEASURES))
                hint = did_you_mean(name, [BUDGET, *MEASURES])
                raise InputError(f"--against {name}: is not among {known}{hint}")
            if name == BUDGET and not axes:
                raise InputError("--against budget: goes with --grid, whose axis it is")
        if self.figures and len(axes) > 2:
            raise InputError(f"--figure: shows grids of one axis or two, not of {len(axes)}")
        for path in self.figures:
            check_figure(path)
        for path in self.tables:
            check_table(path)
        for flag, paths in (("--figure", self.figures), ("--table", self.tables)):
            for path in paths:
                spare(path, config, flag=flag)

    def write(self, done: Any) -> None:
        """Draw and write what was asked for."""
        if self.tables:
            from moe2opt.selection.evaluation.tables import paper_table, write_table

            table = paper_table(done, self.policies)
            for path in self.tables:
                write_table(path, table, done.summary().partition("\n")[0])
        if self.figures:
            from moe2opt.plotting import save
            from moe2opt.plotting.quality import quality_figure

            figure = quality_figure(done, against=self.against, policies=self.policies)
            for path in self.figures:
                save(figure, path)


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
