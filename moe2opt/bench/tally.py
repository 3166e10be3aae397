"""Figures over many rows: shifted geometric means, ratios, performance profiles, contradictions."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.bench.job import Row
from moe2opt.result import FloatArray

#: Times below this count as this much: a clock does not tell them apart.
FLOOR_S = 1e-3

#: Shift of the geometric mean in seconds.
SHIFT_S = 1.0

#: A proof that comes later than this factor of the limit does not count.
LATE = 1.02

#: Relative difference between two values above which they contradict each other.
_CONFLICT = 2e-6


@dataclass(frozen=True, slots=True)
class Summary:
    """What the runs of a peer on a suite come to.

    Attributes
    ----------
    suite, peer
        Which runs.
    counted, solved, wrong
        Runs that count, solved ones, and ones with a false claim.
    mean_s
        Shifted geometric mean of the seconds, unsolved runs at the limit.
    speedup, least
        Geometric mean and minimum, over the cases, of the time of the best *other* peer divided by
        the time of this one; NaN without other peers. Times are medians over the solver's seeds.
    peak_bytes
        Largest peak memory.
    """

    suite: str
    peer: str
    counted: int
    solved: int
    wrong: int
    mean_s: float
    speedup: float
    least: float
    peak_bytes: int


def shifted_geometric_mean(times_s: Iterable[float], shift_s: float = SHIFT_S) -> float:
    """Return ``exp(mean(log(t + shift))) - shift``; NaN of nothing.

    Examples
    --------
    >>> shifted_geometric_mean([1.0, 7.0], shift_s=1.0)
    3.0
    """
    times = np.asarray(list(times_s), dtype=np.float64)
    if not len(times):
        return math.nan
    # Rounded to what the logarithm holds.
    return round(float(np.exp(np.log(times + shift_s).mean()) - shift_s), 12)


def in_time(row: Row, limit_s: float) -> bool:
    """Tell whether a run solved its instance within the limit, give or take 2 %."""
    return row.solved and row.solve_s <= LATE * limit_s


def counted_s(row: Row, limit_s: float) -> float:
    """Return the seconds that a run counts with: the limit unless it solved its instance."""
    return max(FLOOR_S, min(row.solve_s, limit_s)) if in_time(row, limit_s) else limit_s


def times_by_case(rows: Sequence[Row], limit_s: float) -> dict[str, dict[str, float]]:
    """Return peer -> case -> median seconds over the seeds, of the runs that count."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.counted:
            seconds[row.peer, f"{row.suite}/{row.case}"].append(counted_s(row, limit_s))
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for (peer, case), values in seconds.items():
        table[peer][case] = float(np.median(values))
    return dict(table)


def ratios(table: dict[str, dict[str, float]], peer: str) -> FloatArray:
    """Return, for each case with another peer, best other time divided by the time of `peer`."""
    found = []
    for case, own in table.get(peer, {}).items():
        others = [times[case] for name, times in table.items() if name != peer and case in times]
        if others:
            found.append(min(others) / own)
    return np.array(found)


def performance_profile(
    table: dict[str, dict[str, float]], limit_s: float
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return, for each peer, the factors and the share of cases solved within that factor.

    The factor is the time divided by the best time of any peer on the case (Dolan and Moré 2002).
    Cases that a peer did not solve have an infinite factor; cases that it cannot express count as
    unsolved.
    """
    cases = sorted({case for times in table.values() for case in times})
    solved = {
        peer: {case: t for case, t in times.items() if t < limit_s} for peer, times in table.items()
    }
    best = {
        case: min((t[case] for t in solved.values() if case in t), default=math.inf)
        for case in cases
    }
    curves = {}
    for peer, times in solved.items():
        factors = np.sort([times[case] / best[case] for case in times])
        share = np.arange(1, len(factors) + 1) / max(1, len(cases))
        curves[peer] = (factors, share)
    return curves


def summarise(rows: Sequence[Row], limit_s: float) -> list[Summary]:
    """Return one summary per suite and peer, in the order of the rows."""
    summaries = []
    for suite in dict.fromkeys(row.suite for row in rows):
        of_suite = [row for row in rows if row.suite == suite]
        table = times_by_case(of_suite, limit_s)
        for peer in dict.fromkeys(row.peer for row in of_suite):
            mine = [row for row in of_suite if row.peer == peer]
            counted = [row for row in mine if row.counted]
            factors = ratios(table, peer)
            summaries.append(
                Summary(
                    suite,
                    peer,
                    len(counted),
                    sum(in_time(row, limit_s) for row in counted),
                    sum(bool(row.wrong) for row in mine),
                    shifted_geometric_mean(counted_s(row, limit_s) for row in counted),
                    float(np.exp(np.log(factors).mean())) if len(factors) else math.nan,
                    float(factors.min()) if len(factors) else math.nan,
                    max((row.peak_bytes for row in mine), default=0),
                )
            )
    return summaries


def conflicts(rows: Sequence[Row]) -> dict[int, str]:
    """Return, by position, why a row's bound cannot be true given the solutions of the others."""
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for row in rows:
        case = (row.suite, row.case)
        if row.objective > best.get(case, (-math.inf, ""))[0]:
            best[case] = (row.objective, row.peer)
    found = {}
    for k, row in enumerate(rows):
        value, peer = best.get((row.suite, row.case), (-math.inf, ""))
        claim = row.status in ("OPTIMAL", "FEASIBLE", "INFEASIBLE")
        bound = -math.inf if row.status == "INFEASIBLE" else row.bound
        if claim and value - _CONFLICT * max(1.0, abs(value)) > bound:
            found[k] = f"{peer} has a solution of {value!r}, above the bound {bound!r}"
    return found
