"""The verb ``bench``: run suites with peers, print tables, write the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.flags import (
    Json,
    NoCertify,
    Quiet,
    at_least,
    gib_in_bytes,
    in_gib,
    one_of,
    positive,
)
from moe2opt.cli.folders import create, writing
from moe2opt.cli.output import print_table, put, put_json
from moe2opt.errors import InputError

if TYPE_CHECKING:
    from moe2opt.bench.job import Row
    from moe2opt.bench.run import Report
    from moe2opt.bench.tally import Summary

#: What is run when nothing is named.
DEFAULT_SUITES = ("selection-structured",)

_FILES = ("bench.json", "profile.svg", "gap.svg", "growth.svg")


def bench(
    suites: Annotated[
        list[str] | None,
        typer.Argument(help="Suites, problem files or built-in problems.", show_default=False),
    ] = None,
    peers: Annotated[
        str, typer.Option(metavar="A,B", help="Solvers and peers.")
    ] = "brb,highs-milp,highs-cuts",
    time_limit: Annotated[
        float, typer.Option(help="Seconds of each run.", callback=positive)
    ] = 60.0,
    seeds: Annotated[int, typer.Option(help="Number of seeds.", callback=at_least(1))] = 1,
    gap: Annotated[
        float, typer.Option(help="Relative gap that counts as closed.", callback=at_least(0))
    ] = 1e-6,
    memory_limit: Annotated[
        float | None, typer.Option(help="Memory of each run in GiB.", callback=in_gib)
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Instances by name; may be repeated."),
    ] = None,
    most_cells: Annotated[
        int | None, typer.Option(help="Leave out instances with more experts x clusters.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Third-party data; default shared/data by the checkout."),
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="Interpreter that has the peers.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report and plots here.")
    ] = None,
    clock: Annotated[
        str,
        typer.Option(
            help="Seconds that count: wall, or processor on a busy machine.",
            callback=one_of("wall", "processor"),
        ),
    ] = "wall",
    list_only: Annotated[bool, typer.Option("--list", help="List suites and peers.")] = False,
    no_certify: NoCertify = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Compare solvers and peers on suites of instances, every run in its own process.

    Exit code 6 when a claim turned out to be wrong or a certificate was rejected.
    """
    from moe2opt.bench import Plan, run_bench
    from moe2opt.bench.cases import default_data

    if list_only:
        _list(data, as_json)
        return Exit.OK
    if data is not None and not data.is_dir():
        raise InputError(f"data: {data} is not a folder")
    names = tuple(name for name in (p.strip() for p in peers.split(",")) if name)
    if not names:
        raise InputError("peers: no peer is named")
    plan = Plan(
        tuple(suites or DEFAULT_SUITES),
        names,
        data=data or default_data(),
        time_limit_s=time_limit,
        memory_limit_bytes=gib_in_bytes(memory_limit),
        rel_gap=gap,
        seeds=seeds,
        only=tuple(only or ("*",)),
        most_cells=most_cells,
        python=python,
        certify=not no_certify,
        clock=clock,
    )
    if out is not None:
        create(out, *_FILES)

    def tell(number: int, total: int, row: Row) -> None:
        case, peer, end, status, gap, seconds, *_ = _cells(row)
        if not quiet:
            words = f"{case:34} {peer:12} {end:11} {status:12} {gap:>10} {seconds:>9} s"
            say(f"{number:4}/{total} {words}")

    report = run_bench(plan, tell)
    written: list[Path] = []
    try:
        if out is not None:
            with writing(out, *_FILES):
                written = report.write(out)
    finally:
        if as_json:
            put_json(report.to_dict(), allow_nan=True)
        else:
            _show(report)
    if written and not quiet:
        say(f"Written: {', '.join(str(path) for path in written)}")
    return Exit.REJECTED if any(row.wrong for row in report.rows) else Exit.OK


def _list(data: Path | None, as_json: bool) -> None:
    """Print the suites and the peers, and which of them are here."""
    from moe2opt.bench.cases import default_data
    from moe2opt.bench.peers import PEERS
    from moe2opt.bench.suites import SUITES

    def words(found: dict[str, str]) -> str:
        return " ".join(f"{name} {version}" for name, version in found.items())

    suites = [(s.name, len(list(s.cases(1))), s.about) for s in SUITES.values()]
    peers = [
        (p.name, "not installed" if p.missing() else words(p.versions()), p.about)
        for p in PEERS.values()
    ]
    if as_json:
        content = {
            "suites": [{"name": n, "cases": c, "about": a} for n, c, a in suites],
            "peers": [{"name": n, "versions": v, "about": a} for n, v, a in peers],
        }
        put_json(content)
        return
    print_table(("suite", "cases", "about"), [(n, str(c), a) for n, c, a in suites])
    print_table(("peer", "versions", "about"), peers)
    put(f"Third-party data: {data or default_data() or 'none; --data DIR names their folder'}")


def _show(report: Report) -> None:
    """Print one line per run, then the means."""
    print_table(
        ("instance", "peer", "end", "status", "gap", "seconds", "MB", "remark"),
        [_cells(row) for row in report.timed],
    )
    limit = report.plan.time_limit_s
    put(f"Means over the runs that count; an unsolved run counts {limit:g} s.")
    print_table(
        ("suite", "peer", "solved", "mean s", "best other / own", "least", "peak MB"),
        [_means(summary) for summary in report.summaries],
    )
    for fit in report.to_dict()["growth"]:
        put(f"{fit['peer']}: {fit['measure']} grows as {fit['axis']}^{fit['exponent']:.2f}")


def _cells(row: Row) -> tuple[str, ...]:
    proven = " checked" if row.certificate == "checked" else ""
    return (
        row.case,
        row.peer,
        row.end,
        f"{row.status}{proven}",
        f"{100 * row.gap:.4f} %" if math.isfinite(row.gap) else "-",
        f"{row.solve_s:.3f}",
        f"{row.peak_bytes / 1e6:.0f}",
        f"WRONG: {row.wrong}" if row.wrong else row.note,
    )


def _means(summary: Summary) -> tuple[str, ...]:
    wrong = f", {summary.wrong} WRONG" if summary.wrong else ""
    return (
        summary.suite,
        summary.peer,
        f"{summary.solved}/{summary.counted}{wrong}",
        _number(summary.mean_s),
        _number(summary.speedup),
        _number(summary.least),
        f"{summary.peak_bytes / 1e6:.0f}",
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"
