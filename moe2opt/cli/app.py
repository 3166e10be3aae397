"""The verbs, in the order in which help lists them. Heavy imports wait until one runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from moe2opt.cli.exits import Exit, delivered, guarded, stopped
from moe2opt.cli.output import put, settle, take
from moe2opt.cli.verbs.bench import bench
from moe2opt.cli.verbs.certificate import certificate
from moe2opt.cli.verbs.check import check
from moe2opt.cli.verbs.evaluate import evaluate
from moe2opt.cli.verbs.execute import execute
from moe2opt.cli.verbs.export import export
from moe2opt.cli.verbs.fleet import fleet
from moe2opt.cli.verbs.gate import train
from moe2opt.cli.verbs.init import init
from moe2opt.cli.verbs.outcomes import outcomes
from moe2opt.cli.verbs.pareto import pareto
from moe2opt.cli.verbs.place import place
from moe2opt.cli.verbs.problems import problems
from moe2opt.cli.verbs.profile import profile
from moe2opt.cli.verbs.replay import replay
from moe2opt.cli.verbs.report import report
from moe2opt.cli.verbs.schema import schema
from moe2opt.cli.verbs.solve import solve
from moe2opt.cli.verbs.sweep import sweep
from moe2opt.cli.verbs.verify import verify
from moe2opt.cli.verbs.versions import versions

VERBS: tuple[Callable[..., Exit | None], ...] = (
    solve, place, check, verify, certificate, export, problems, init, bench, profile, outcomes,
    replay, execute, pareto, sweep, fleet, report, evaluate, schema, versions,
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
