"""The verbs, in the order in which help lists them. Heavy imports wait until one runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.exits import Exit, delivered, guarded, stopped
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario
from moe2opt.cli.output import put, settle, take
from moe2opt.cli.verbs.bench import bench
from moe2opt.cli.verbs.certificate import certificate
from moe2opt.cli.verbs.check import check
from moe2opt.cli.verbs.execute import execute
from moe2opt.cli.verbs.fleet import fleet
from moe2opt.cli.verbs.pareto import pareto
from moe2opt.cli.verbs.problems import problems
from moe2opt.cli.verbs.profile import profile
from moe2opt.cli.verbs.replay import replay
from moe2opt.cli.verbs.report import report
from moe2opt.cli.verbs.schema import schema
from moe2opt.cli.verbs.solve import solve
from moe2opt.cli.verbs.sweep import sweep
from moe2opt.cli.verbs.verify import verify
from moe2opt.cli.verbs.versions import versions


def export(
    result: Annotated[Path, typer.Argument(help="A result.json.", show_default=False)],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="llama.cpp, ktransformers, sglang, vllm, accelerate, adapmoe or json; litellm for "
            "selections.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write here (litellm: a folder); default stdout."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="Configuration of the result: judge the export by its own data."),
    ] = None,
    overrides: Overrides = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a plan for a runtime, and say on stderr what it loses there.

    A placement is rounded to what the runtime can express; memory is checked again after that. A
    selection becomes a LiteLLM proxy, launch scripts and a router.
    """
    from moe2opt.cli.verbs.export import Request, run_export

    settings = tuple(overrides or ())
    request = Request(result, to, out, config, allow_outside, as_json, quiet, settings)
    raise typer.Exit(run_export(request))


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
    from moe2opt.cli.verbs.evaluate import Request, run_train

    request = Request(config, scenario, overrides or [], allow_outside, out, as_json, quiet)
    raise typer.Exit(run_train(request))


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
) -> None:
    """Report realised accuracy, energy and delay on the test part, beside every baseline.

    Needs `experts.outcomes`. The test part is used for nothing else. With `--grid`, plan and
    baselines are compared at every combination of budgets.
    """
    from moe2opt.cli.verbs.evaluate import Request, run_evaluate

    request = Request(config, scenario, overrides or [], allow_outside, out, as_json, quiet)
    raise typer.Exit(run_evaluate(request, replicates, seed, grid or (), retrain=retrain))


VERBS: tuple[Callable[..., Exit | None], ...] = (
    solve, check, verify, certificate, export, problems, bench, profile, replay, execute, pareto,
    sweep, fleet, report, evaluate, schema, versions,
)  # fmt: skip

app = typer.Typer(
    name="moe2opt",
    help="Certified optimal deployment of LLM experts on small machines.",
    epilog="First command to try: moe2opt solve mmlu_pro_edge",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
gate = typer.Typer(
    name="gate",
    help="The gate that routes single prompts.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(gate)


@app.callback(invoke_without_command=True)
@guarded
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Certified optimal deployment of LLM experts on small machines."""
    if version:
        from importlib.metadata import version as version_of

        put(f"moe2opt {version_of('moe2opt')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        put(context.get_help())
        raise typer.Exit


for _verb in VERBS:
    app.command()(guarded(_verb))
gate.command()(guarded(train))


def main() -> None:
    """Run the command line."""
    take()
    try:
        app(prog_name="moe2opt")
    except SystemExit as end:
        sys.exit(delivered(end.code) if isinstance(end.code, int) else end.code)
    except KeyboardInterrupt:  # before or after the verb
        sys.exit(stopped())
    finally:
        settle()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[func-returns-value]
