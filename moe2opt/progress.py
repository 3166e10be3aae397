"""Progress of a run: a fixed-width table for people, JSON lines for programs.

The table goes through the logger ``moe2opt``, so that notebooks, tests and applications can take
it wherever they like.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from moe2opt import heartbeat
from moe2opt.present import PLAIN, Measure, number
from moe2opt.result import (
    EXACT_GAP,
    NUMERICAL_GAP,
    ProgressEvent,
    Result,
    Status,
    encode_float,
    relative_gap,
)
from moe2opt.writing import write_text

logger = logging.getLogger("moe2opt")

LEGEND = (
    "Src: H heuristic  B branching  R reduction  L relaxation  M milp  P polyblock"
    "  E enumeration  U user"
)
HEADER = " Src |    Nodes     Open |    BestBound      BestSol      Gap |    Time"

#: The header comes again after this many lines.
HEADER_EVERY = 20

#: Clock ticks are at least this many seconds, and this share of the elapsed time, apart.
TICK_S = 0.9
TICK_SHARE = 0.05

#: Relative gaps below this would round to nothing with two digits of a percent.
_SMALLEST_SHOWN = 5e-5


@dataclass(slots=True)
class Table:
    """Progress callback that logs one line per incumbent, per clock tick, and at the end."""

    measure: Measure = PLAIN
    lines: int = 0
    last_s: float = -math.inf
    held_back: ProgressEvent | None = None

    def __call__(self, event: ProgressEvent) -> None:
        """Log `event`, unless it is a clock tick too soon after the last line."""
        if event.source == " " and event.time_s - self.last_s < self._pause_s(event.time_s):
            self.held_back = event
            return
        self._show(event)

    def close(self) -> None:
        """Log the last event if it was held back."""
        if self.held_back is not None:
            self._show(self.held_back)

    def _show(self, event: ProgressEvent) -> None:
        self.held_back = None
        if self.lines % HEADER_EVERY == 0:
            logger.info(HEADER)
        logger.info(row(event, self.measure))
        self.lines, self.last_s = self.lines + 1, event.time_s

    def _pause_s(self, time_s: float) -> float:
        return max(TICK_S, TICK_SHARE * time_s)


def row(event: ProgressEvent, measure: Measure = PLAIN) -> str:
    """Return the table line of an event, its values in the question's own sense."""
    bound, best = (number(measure.shown(value)) for value in (event.bound, event.objective))
    return (
        f"  {event.source:1}  | {count(event.nodes):>8} {count(event.open_nodes):>8} |"
        f" {bound:>12} {best:>12} {percent(event, measure):>8} |"
        f" {event.time_s:>6.{1 if event.time_s < 1000 else 0}f}s"
    )


def count(value: int) -> str:
    """Return ``812``, ``41.2k`` or ``3.5M``."""
    for least, unit, letter in ((10**9, 10**9, "G"), (10**6, 10**6, "M"), (10**5, 10**3, "k")):
        if value >= least:
            return f"{value / unit:.1f}{letter}"
    return str(value)


class _Searching(Protocol):
    """A search that is under way."""

    nodes: int
    objective: float
    bound: float


def so_far(solver: str, search: _Searching) -> str:
    """Return how far a search is, for whoever waits for it."""
    gap = relative_gap(search.objective, search.bound)
    words = f", gap {100 * gap:.2g}%" if gap < 1 else ""
    return f"solving, {solver}, node {search.nodes}{words}"


def percent(holder: ProgressEvent | Result, measure: Measure = PLAIN) -> str:
    """Return the relative gap in percent, ``-`` when there is none."""
    gap = relative_gap(holder.objective, measure.own(measure.shown(holder.bound)))
    if not math.isfinite(gap):
        return "-"
    if EXACT_GAP < gap < _SMALLEST_SHOWN:
        return f"{100 * gap:.0e}%"
    return f"{100 * gap:.2f}%" if gap < 100 else "large"


@contextmanager
def json_lines(path: Path, measure: Measure = PLAIN) -> Iterator[Callable[[ProgressEvent], None]]:
    """Yield a progress callback whose events are in `path` after the block, one object a line."""
    events: list[ProgressEvent] = []
    yield events.append
    write_text(path, log_text(events, measure))


def log_text(events: Iterable[ProgressEvent], measure: Measure = PLAIN) -> str:
    """Return one JSON object per event and line; values are in the question's own sense."""
    return "".join(json.dumps(_content(event, measure)) + "\n" for event in events)


def _content(event: ProgressEvent, measure: Measure) -> dict[str, Any]:
    own = {"bound": measure.own(event.bound), "objective": measure.own(event.objective)}
    content = {**asdict(event), **own, "sense": measure.sense}
    return {k: encode_float(v) if isinstance(v, float) else v for k, v in content.items()}


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to a stream, past it where a signal came in the middle of another write to it."""

    def emit(self, record: logging.LogRecord) -> None:
        heartbeat.said()
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - named by logging
        if not isinstance(sys.exception(), RuntimeError):  # "reentrant call"
            super().handleError(record)
            return
        with suppress(OSError, ValueError):
            os.write(self.stream.fileno(), f"{self.format(record)}\n".encode())


@contextmanager
def on_stderr(*, always: bool = False) -> Iterator[None]:
    """Show what the package logs on stderr, unless (or `always`) the application handles it."""
    if logger.hasHandlers() and not always:
        yield
        return
    handler = _Handler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def report(
    result: Result[Any], *, checked: bool | None = None, failures: tuple[str, ...] = ()
) -> str:
    """Return the closing report of a run.

    Parameters
    ----------
    result
        What the run established.
    checked
        Whether the checker accepted; None when it has not run.
    failures
        What the checker found wrong.
    """
    stats = result.stats
    seconds = f"{stats.get('solve_s', 0.0):.1f} s"
    nodes = int(stats.get("nodes", 0))
    work = f"{count(nodes)} {'node' if nodes == 1 else 'nodes'}"
    lines = [
        "Solving report",
        f"  Status        {status_words(result)}",
        f"  Objective     {result.measure.text(result.objective)}"
        f"   Bound {result.measure.text(result.bound)}"
        f"   Gap {percent(result, result.measure)}",
        f"  Certificate   {proof_words(result, checked=checked, failures=failures)}",
        f"  Work          {result.solver}, {work}, {seconds}",
    ]
    return "\n".join(lines)


def status_words(result: Result) -> str:
    """Return the status in words, with the limit that stopped the run."""
    words = f"{STATUS_WORDS[result.status]}{within_words(result)}"
    return words if result.limit is None else f"{words} ({result.limit.words})"


def within_words(result: Result) -> str:
    """Return up to which gap an optimum is one, nothing where sums of fractions tell no more."""
    if result.status is not Status.OPTIMAL or result.gap <= EXACT_GAP:
        return ""
    return " within 1e-9" if result.gap <= NUMERICAL_GAP else " within the gap"


#: What a status is called in tables and sentences; files keep its code.
STATUS_WORDS = {
    Status.OPTIMAL: "optimal",
    Status.FEASIBLE: "feasible",
    Status.INFEASIBLE: "infeasible",
    Status.NO_SOLUTION: "no plan found",
    Status.ERROR: "error",
}


def proof_words(
    result: Result, *, checked: bool | None = None, failures: tuple[str, ...] = ()
) -> str:
    """Return what stands behind the bound."""
    if checked is False:
        return "REJECTED: " + "; ".join(failures)
    certificate = result.certificate
    if certificate is None:
        unproven = result.bound == math.inf
        return (
            "none, and no bound" if unproven else f"none, the bound is a claim of {result.solver}"
        )
    bound = result.measure.text(certificate.claim)
    proves = "infeasibility" if certificate.claim == -math.inf else bound
    leaves = f"split tree, {certificate.leaves} {'leaf' if certificate.leaves == 1 else 'leaves'}"
    claim = claim_words(result)
    if checked is None:
        return f"{leaves}, not checked yet (moe2opt.certify does){claim}"
    return f"{leaves}, checked (proves {proves}){claim}"


def claim_words(result: Result) -> str:
    """Return what somebody without a certificate says beyond what is proven, if anybody does."""
    claimed = result.stats.get("claimed")
    if not isinstance(claimed, dict):
        return ""
    bound = float(claimed["canonical_bound"])
    gap = relative_gap(result.objective, bound)
    return f"; {claimed['by']} claims {result.measure.text(bound)}, a gap of {gap:.2g}, not proven"
