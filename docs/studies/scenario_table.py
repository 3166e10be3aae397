"""Solve every scenario of every built-in problem with the default solver, and check the proofs.

    python docs/studies/scenario_table.py [--limit 10] [--markdown FILE] [PROBLEM[:SCENARIO] ...]

Seconds are processor seconds of one thread: of the search without compiling the problem, and of
checking the certificate beside them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import moe2opt as mo
from moe2opt.config import scenario_names
from moe2opt.result import Status

PROBLEMS = Path(__file__).resolve().parents[2] / "problems"


@dataclass(frozen=True)
class Row:
    """What became of one scenario."""

    problem: str
    scenario: str
    variables: int
    status: str
    gap: float
    nodes: int
    solve_s: float
    check_s: float
    verdict: str

    def cells(self) -> list[str]:
        """Return the texts of the row."""
        share = f"{self.check_s / max(self.solve_s, 1e-9):.0%}"
        seconds = [f"{self.solve_s:.2f}", f"{self.check_s:.2f}", share]
        name = f"{self.problem}" + (f":{self.scenario}" if self.scenario else "")
        gap = f"{self.gap:.1e}" if self.gap else "0"
        return [
            name,
            str(self.variables),
            self.status,
            gap,
            str(self.nodes),
            *seconds,
            self.verdict,
        ]


HEAD = ["scenario", "variables", "status", "gap", "nodes", "s", "check s", "share", "proof"]


def scenarios(wanted: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield files and scenarios, the empty name for the file as it stands."""
    for path in sorted(PROBLEMS.glob("*/*.yaml")):
        for scenario in ("", *scenario_names(path)):
            name = f"{path.parent.name}/{path.stem}"
            if not wanted or any(w in (name, f"{name}:{scenario}", path.stem) for w in wanted):
                yield path, scenario


def solved(path: Path, scenario: str, limit_s: float) -> Row:
    """Solve a scenario within a limit, and check what comes out."""
    instance = mo.load(path, scenario=scenario or None)
    problem = instance.problem()
    before = time.process_time()
    result = mo.solve(instance, time_limit_s=limit_s)
    middle = time.process_time()
    verdict = mo.certify(instance, result)
    after = time.process_time()
    return Row(
        f"{path.parent.name}/{path.stem}",
        scenario,
        problem.size,
        str(result.status) if result.limit is None else f"{result.status} ({result.limit.words})",
        result.gap if result.status in (Status.OPTIMAL, Status.FEASIBLE) else 0.0,
        int(result.stats["nodes"]),
        middle - before,
        after - middle,
        verdict.kind if verdict.ok else f"REJECTED {verdict.failures[0]}",
    )


def main() -> None:
    """Print the table, and write it as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=10.0)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("wanted", nargs="*")
    given = parser.parse_args()
    # The first solve of a process loads compiled kernels.
    mo.solve(mo.load("tiny"))
    rows = []
    for path, scenario in scenarios(given.wanted):
        rows.append(solved(path, scenario, given.limit))
        print("  ".join(rows[-1].cells()), flush=True)
    if given.markdown:
        lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
        lines += [f"| {' | '.join(row.cells())} |" for row in rows]
        given.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ended = sum(row.status in ("OPTIMAL", "INFEASIBLE") for row in rows)
    print(f"{ended} of {len(rows)} end", file=sys.stderr)


if __name__ == "__main__":
    main()
