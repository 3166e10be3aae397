"""The verbs and their flags. Heavy imports wait until a verb runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.bench_verb import bench
from moe2opt.cli.execute_verb import execute
from moe2opt.cli.exits import Require, delivered, guarded, stopped
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario, Seed, gib_in_bytes
from moe2opt.cli.fleet_verb import fleet
from moe2opt.cli.output import put, settle, take
from moe2opt.cli.pareto_verb import pareto
from moe2opt.cli.profile_verb import profile
from moe2opt.cli.replay_verb import replay
from moe2opt.cli.report_verb import report
from moe2opt.cli.sweep_verb import sweep

_EPILOG = "First command to try: moe2opt solve mmlu_pro_edge"

app = typer.Typer(
    name="moe2opt",
    help="Certified optimal deployment of LLM experts on small machines.",
    epilog=_EPILOG,
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


@app.command()
@guarded
def solve(
    config: Config,
    solver: Annotated[str | None, typer.Option(help="Solver; default auto.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    gap: Annotated[
        float | None, typer.Option(help="Relative gap that is good enough, 0.01 for 1 %.")
    ] = None,
    seed: Seed = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the solver.")] = None,
    node_limit: Annotated[int | None, typer.Option(help="Nodes.")] = None,
    memory_limit: Annotated[float | None, typer.Option(help="Memory in GiB.")] = None,
    bound: Annotated[str | None, typer.Option(help="Bound of the solver brb.")] = None,
    proof: Annotated[
        str | None, typer.Option(help="any, or linear for one that `certificate` can export.")
    ] = None,
    scenario: Scenario = None,
    overrides: Overrides = None,
    require: Annotated[
        Require | None, typer.Option(help="Exit with 5 unless the plan is at least this.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write result, log and configuration here.")
    ] = None,
    no_certify: Annotated[bool, typer.Option("--no-certify", help="Skip the checker.")] = False,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the best plan, prove it, and print it.

    Exit codes: 0 plan delivered and certified; 2 bad command line or file; 3 proven infeasible;
    4 limit without a plan; 5 weaker than --require or --gap asked; 6 certification failed;
    70 internal error; 130 interrupted without a plan.
    """
    from moe2opt.cli.verbs.solve import Request, run_solve

    settings = {
        "solver": solver,
        "time_limit_s": time_limit,
        "rel_gap": gap,
        "seed": seed,
        "threads": threads,
        "node_limit": node_limit,
        "memory_limit_bytes": None if memory_limit is None else gib_in_bytes(memory_limit),
        "bound": bound,
        "proof": proof,
    }
    request = Request(
        config,
        scenario,
        overrides or [],
        allow_outside,
        settings,
        out,
        not no_certify,
        as_json,
        quiet,
    )
    raise typer.Exit(run_solve(request, gap, require))


@app.command()
@guarded
def check(
    configs: Annotated[list[str], typer.Argument(help="Configurations.", show_default=False)],
    scenario: Scenario = None,
    overrides: Overrides = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Validate configurations and self-test the problems they stand for.

    Without --scenario, every scenario of a file is built and tested too.
    """
    from moe2opt.cli.verbs.check import run_check

    options = (scenario, tuple(overrides or ()), allow_outside)
    raise typer.Exit(run_check(configs, *options, as_json=as_json, quiet=quiet))


@app.command()
@guarded
def verify(
    result: Annotated[Path, typer.Argument(help="A result.json.", show_default=False)],
    config: Config,
    scenario: Scenario = None,
    overrides: Overrides = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check a result and its certificate again, without any solver.

    Everything in the file that follows from the solution (plan, figures, gap, status) is rebuilt
    and compared. Counters, times, settings and versions of the run are not judged. Scenario and
    overrides are those recorded in the result unless given here. Exit code 0 when everything holds,
    6 when not.
    """
    from moe2opt.cli.verbs.check import run_verify

    options = (scenario, tuple(overrides or ()), allow_outside)
    raise typer.Exit(run_verify(result, config, *options, as_json=as_json, quiet=quiet))


@app.command()
@guarded
def certificate(
    result: Annotated[Path, typer.Argument(help="A result.json.", show_default=False)],
    config: Config,
    to: Annotated[str, typer.Option(help="Format: vipr (VIPR 1.1).")] = "vipr",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here; default stdout.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds for a new proof where one is needed.")
    ] = None,
    scenario: Scenario = None,
    overrides: Overrides = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a result's proof in an open format that checkers of other authors read.

    The result is checked first (exit code 6 when it is rejected). A proof that uses more than the
    linear formulation is replaced by a new one, found from the same solution.
    """
    from moe2opt.cli.verbs.certificate import run_certificate

    options = (scenario, tuple(overrides or ()), allow_outside)
    raise typer.Exit(
        run_certificate(
            result,
            config,
            to,
            *options,
            out=out,
            time_limit_s=time_limit,
            as_json=as_json,
            quiet=quiet,
        )
    )


@app.command()
@guarded
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


@app.command()
@guarded
def problems(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the built-in problems."""
    from moe2opt.cli.verbs.problems import list_problems

    list_problems(as_json=as_json, quiet=quiet)


app.command()(bench)
app.command()(profile)
app.command()(replay)
app.command()(execute)
app.command()(pareto)
app.command()(sweep)
app.command()(fleet)
app.command()(report)


@gate.command()
@guarded
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


@app.command()
@guarded
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


@app.command()
@guarded
def schema(as_json: Json = False, quiet: Quiet = False) -> None:
    """Print the JSON Schema of configuration files (always JSON)."""
    from moe2opt.cli.verbs.problems import print_schema

    print_schema()


@app.command()
@guarded
def versions(as_json: Json = False, quiet: Quiet = False) -> None:
    """Print versions and platform, for bug reports."""
    from moe2opt.cli.verbs.problems import print_versions

    print_versions(as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[func-returns-value]
