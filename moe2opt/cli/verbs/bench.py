"""The verb ``bench``: run suites with peers, print tables, write the report."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.folders import create, writing
from moe2opt.cli.output import print_table, put

if TYPE_CHECKING:
    from moe2opt.bench.job import Row
    from moe2opt.bench.run import Plan, Report
    from moe2opt.bench.tally import Summary

#: What is run when nothing is named.
DEFAULT_SUITES = ("selection-structured",)

_FILES = ("bench.json", "profile.svg", "gap.svg", "growth.svg")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``bench``.

    Attributes
    ----------
    suites, peers
        Names; peers separated by commas.
    settings
        Further arguments of `moe2opt.bench.Plan`.
    data
        Folder of third-party data; the one beside the checkout when None.
    out
        Folder for the report, None for none.
    as_json, quiet
        Flags.
    """

    suites: Sequence[str]
    peers: str
    settings: dict[str, Any]
    data: Path | None
    out: Path | None
    as_json: bool
    quiet: bool


def run_bench_verb(request: Request) -> Exit:
    """Run what was asked; return 6 when a claim was found to be wrong."""
    from moe2opt.bench import run_bench

    plan = _plan(request)
    if request.out is not None:
        create(request.out, *_FILES)

    def tell(number: int, total: int, row: Row) -> None:
        if not request.quiet:
            say(f"{number:4}/{total} {_line(row)}")

    report = run_bench(plan, tell)
    written: list[Path] = []
    try:
        if request.out is not None:
            with writing(request.out, *_FILES):
                written = report.write(request.out)
    finally:
        if request.as_json:
            put(json.dumps(report.to_dict(), indent=1))
        else:
            show_report(report)
    if written and not request.quiet:
        say(f"Written: {', '.join(str(path) for path in written)}")
    return Exit.REJECTED if any(row.wrong for row in report.rows) else Exit.OK


def list_bench(*, as_json: bool, data: Path | None) -> None:
    """Print the suites and the peers, and which of them are here."""
    from moe2opt.bench.cases import default_data
    from moe2opt.bench.peers import PEERS
    from moe2opt.bench.suites import SUITES

    suites = [(s.name, len(list(s.cases(1))), s.about) for s in SUITES.values()]
    peers = [
        (p.name, _versions(p.versions()) if not p.missing() else "not installed", p.about)
        for p in PEERS.values()
    ]
    if as_json:
        content = {
            "suites": [{"name": n, "cases": c, "about": a} for n, c, a in suites],
            "peers": [{"name": n, "versions": v, "about": a} for n, v, a in peers],
        }
        put(json.dumps(content, indent=1))
        return
    print_table(("suite", "cases", "about"), [(n, str(c), a) for n, c, a in suites])
    print_table(("peer", "versions", "about"), peers)
    put(f"Third-party data: {data or default_data() or 'none; --data DIR names their folder'}")


def show_report(report: Report) -> None:
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


def _plan(request: Request) -> Plan:
    from moe2opt.bench import Plan
    from moe2opt.bench.cases import default_data
    from moe2opt.result import InputError

    data = request.data or default_data()
    if request.data is not None and not request.data.is_dir():
        raise InputError(f"data: {request.data} is not a folder")
    peers = tuple(name for name in (p.strip() for p in request.peers.split(",")) if name)
    if not peers:
        raise InputError("peers: no peer is named")
    suites = tuple(request.suites) or DEFAULT_SUITES
    return Plan(suites, peers, data=data, **request.settings)


def _line(row: Row) -> str:
    cells = _cells(row)
    return f"{cells[0]:34} {cells[1]:12} {cells[2]:11} {cells[3]:12} {cells[4]:>10} {cells[5]:>9} s"


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


def _versions(found: dict[str, str]) -> str:
    return " ".join(f"{name} {version}" for name, version in found.items())
