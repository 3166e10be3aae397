"""Prices of single rows, and steps of the parameters of terms towards smaller bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical.terms import LAST_TOUCHING, Around, Coupled, Plane, Rising, Term, divided
from moe2opt.canonical.wrapped import (
    BASES,
    Curved,
    Mean,
    Quotient,
    Submodular,
    Supermodular,
    Together,
)
from moe2opt.result import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What the relaxation takes: shares of the levels, and the mean level of each variable."""

    shares: FloatArray
    means: FloatArray


class Line:
    """The best price of one row, found on the piecewise linear bound as a function of it."""

    def __init__(self, starts: IntArray, owners: IntArray) -> None:
        self.starts, self.owners = starts, owners

    def takes(self, table: FloatArray) -> FloatArray:
        """Return a one for the best level of each variable (the first among equals)."""
        best = np.maximum.reduceat(table, self.starts)
        places = np.flatnonzero(table >= best[self.owners])[::-1]
        first = np.empty(len(self.starts), dtype=np.int64)
        first[self.owners[places]] = places  # the last one written is the first of each variable
        taken = np.zeros(len(table))
        taken[first] = 1.0
        return taken

    def price(self, table: FloatArray, use: FloatArray, limit: float) -> tuple[float, FloatArray]:
        """Return the price, and a mean of what is taken on both sides of it that uses the limit."""
        low, high = 0.0, math.inf
        taken = self.takes(table)
        over = float(use @ taken) - limit
        if over <= 0:
            return 0.0, taken
        finite = np.where(np.isfinite(table), table, 0.0)
        low_line = (float(finite @ taken), over)
        scale = max(1e-12, float(np.ptp(finite)) / max(1e-12, float(np.ptp(use))))
        price = scale
        high_taken = taken
        for _ in range(60):
            now = self.takes(table - price * use)
            over_now = float(use @ now) - limit
            line = (float(finite @ now), over_now)
            if over_now > 0:
                low, low_line, taken = price, line, now
                if math.isinf(high):
                    if price > 1e12 * scale:
                        return price, now
                    price *= 4.0
                    continue
            else:
                high, high_line, high_taken = price, line, now
            # Where the two lines meet, the bound is least or the function has another piece.
            gap = low_line[1] - high_line[1]
            meet = (low_line[0] - high_line[0]) / gap if gap > 0 else low
            if not low + 1e-12 * scale < meet < high - 1e-12 * scale:
                break
            price = meet
        share = low_line[1] / (low_line[1] - high_line[1]) if low_line[1] > high_line[1] else 1.0
        return high, (1.0 - share) * taken + share * high_taken


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What a step of the parameters of a term needs to know.

    Attributes
    ----------
    chosen
        What the relaxation takes.
    around
        The box.
    row
        Prices of the rows from above.
    above
        How far the bound is to go down, for a term of weight 1.
    value
        The bound of the innermost part.
    index
        Number of steps before.
    """

    chosen: Chosen
    around: Around
    row: FloatArray
    above: float
    value: float
    index: int

    @property
    def pace(self) -> float:
        """Share of the way towards what is best for this choice alone."""
        return max(0.05, 1.0 / (1.0 + self.index))

    def worth(self, plane: Plane) -> float:
        """Return what a plane says of the choice."""
        return plane.constant + float(plane.table @ self.chosen.shares)


def first_parameters(term: Term, around: Around) -> FloatArray:
    """Return parameters to begin with."""
    if isinstance(term, Coupled):
        start = np.zeros(term.parameters)
        pairs = term.part.pairs[term.first, term.second]
        start[: len(pairs)] = pairs / 2
        return start
    if isinstance(term, Curved):
        middle = term.part.inner(np.stack([around.lower, around.upper])).mean()
        return np.append(middle, first_parameters(term.inner, around))
    if isinstance(term, Mean | Together):
        below = [first_parameters(inner, around) for inner in term.inner]
        weights = np.full(len(below) - 1 if isinstance(term, Mean) else 0, 1.0 / len(below))
        return np.concatenate([weights, *below])
    if isinstance(term, Quotient):
        parts = (term.top, term.under)
        return np.concatenate([[0.0], *(first_parameters(part, around) for part in parts)])
    return np.zeros(term.parameters)


def advance(own: FloatArray, term: Term, step: Step) -> None:
    """Change the parameters of a term, in place, towards a smaller bound."""
    if isinstance(term, Coupled):
        share_pairs(own, term, step.row, step.chosen, step.around, step.above)
    elif isinstance(term, Rising):
        touch(own, term, step.chosen, step.around, step.pace)
    elif isinstance(term, Curved):
        advance(own[1:], term.inner, step)
        own[0] += step.pace * (step.worth(term.inner.plane(own[1:], step.around)) - own[0])
    elif isinstance(term, Mean):
        _weigh(own, term, step)
    elif isinstance(term, Together):
        _advance_all(own, term.inner, step)
    elif isinstance(term, Quotient):
        _advance_all(own[1:], (term.top, term.under), step)
        point = np.rint(step.chosen.means).astype(np.int64)
        by = float(term.part.below(point[None, :])[0])
        own[0] = max(0.0, own[0] + term.side * step.value / by)
    elif isinstance(term, Submodular):
        _rebase(own, term, step)
    elif isinstance(term, Supermodular) and len(own):
        low, room = step.around.lower, np.maximum(1, step.around.upper - step.around.lower)
        own += step.pace * ((step.chosen.means - low) / room - own)


def _advance_all(own: FloatArray, terms: Sequence[Term], step: Step) -> None:
    for term, parameters in divided(terms, own):
        advance(parameters, term, step)


def _weigh(own: FloatArray, term: Mean, step: Step) -> None:
    """Give weight to the part that says most of the choice."""
    count = len(term.inner) - 1
    _advance_all(own[count:], term.inner, step)
    inner = divided(term.inner, own[count:])
    worths = [step.worth(part.plane(parameters, step.around)) for part, parameters in inner]
    best = int(np.argmin(worths) if term.part.is_least else np.argmax(worths))
    own[:count] *= 1.0 - step.pace
    if best < count:
        own[best] += step.pace
    own[:count] /= max(1.0, float(own[:count].sum()) * (1.0 + 2.0**-50))


def _rebase(own: FloatArray, term: Submodular, step: Step) -> None:
    """Give weight to the base point whose plane says most, one near the choice among them."""
    rows = own.reshape(BASES, -1)
    low, high = step.around.lower, step.around.upper
    point = np.clip(np.rint(step.chosen.means), low, high).astype(np.int64)
    bases = [base for _, _, base in term.bases(own, step.around)]
    if not any(np.array_equal(point, base) for base in bases):
        k = int(np.argmin(rows[:, :2].sum(axis=1)))
        rows[k, :2], rows[k, 2:] = 0.0, point
        bases[k] = point
    planes = [plane for base in bases for plane in term.planes_at(base, step.around)]
    planes.append(term.planes_at(low, step.around)[0])
    best = int(np.argmin([step.worth(plane) for plane in planes]))
    pace = 2.0 / (3.0 + step.index)
    rows[:, :2] *= 1.0 - pace
    if best < 2 * BASES:
        rows[best // 2, best % 2] += pace


def touch(own: FloatArray, term: Rising, chosen: Chosen, around: Around, pace: float) -> None:
    """Let tangents touch where the relaxation is; prefer the plane that says less there."""
    touching, share = np.split(own, 2)
    open_, base, rise = term.rises(term.grid.at(around.lower))
    reach = np.maximum(0.0, 1.0 + touching - base)
    taken = np.minimum(rise, reach[:, None]) @ chosen.shares
    missed = np.where(open_, np.exp(-base), 0.0)
    with np.errstate(invalid="ignore"):
        ratio = np.where(open_[:, None], np.exp(-np.where(np.isfinite(rise), rise, np.inf)), 1.0)
    gains = 1.0 - missed + missed * ((1.0 - ratio) @ chosen.shares)
    tangent = 1.0 - np.exp(-touching) * (1.0 + touching - base - taken)
    touching += pace * (np.minimum(base + taken, LAST_TOUCHING) - touching)
    share += pace * ((gains < tangent) - share)


def share_pairs(
    own: FloatArray,
    term: Coupled,
    row: FloatArray,
    chosen: Chosen,
    around: Around,
    above: float,
) -> None:
    """Give less of a pair to the variable that takes more of the other, and price the rows anew."""
    count, n = len(term.first), len(term.grid.starts)
    taken = _inner_prices(own, term, row, around)[1]
    both = chosen.means[:, None] * taken
    way = (both - both.T)[term.first, term.second]
    size = float(way @ way)
    if size > 1e-12:
        own[:count] -= above / size * way
    own[count:] = _inner_prices(own, term, row, around)[0].reshape(n * term.rows)


def _inner_prices(
    own: FloatArray, term: Coupled, row: FloatArray, around: Around
) -> tuple[FloatArray, FloatArray]:
    """Return ``(n, K)`` prices of a knapsack beside each variable, and its ``(n, n)`` mean levels.

    The rows are added up with their own prices; each knapsack is filled in the order of worth per
    use. Prices are exact for linear rows, and allowed for any.
    """
    n, grid = len(term.grid.starts), term.grid
    shares = term.shares(own)
    low, allowed = around.lower.astype(np.float64), term.allowed(around)
    top = grid.best(np.where(allowed, grid.levels, -np.inf))
    room = np.maximum(0.0, top - low)
    np.fill_diagonal(room, 0.0)
    wide = np.where(np.isfinite(around.limits) & around.uses.any(axis=1), row, 0.0)
    if not wide.any():
        wide = around.uses.any(axis=1) / np.maximum(1e-12, np.abs(around.limits))
    use = wide @ around.uses if term.rows else np.zeros(len(grid.levels))
    ends = use[grid.at(around.upper)] - use[grid.at(around.lower)]
    cost = ends / np.maximum(1, around.upper - around.lower)
    one = use[grid.at(np.minimum(np.maximum(around.lower, 1), grid.box.upper))]
    left = float(wide @ around.limits) - use[grid.at(around.lower)].sum()
    left = left - (one - use[grid.at(around.lower)])
    gain = np.where((shares > 0) & (room > 0), shares, 0.0)
    ratio = np.where(cost > 0, gain / np.maximum(cost, 1e-300), np.where(gain > 0, np.inf, 0.0))
    order = np.argsort(-ratio, axis=1, kind="stable")
    rank = np.arange(n)[:, None], order
    weights = np.where(gain > 0, room * cost, 0.0)[rank]
    used = np.cumsum(weights, axis=1)
    fits = used <= left[:, None]
    filled = np.where(
        fits,
        1.0,
        np.clip((left[:, None] - used + weights) / np.maximum(weights, 1e-300), 0.0, 1.0),
    )
    taken = np.zeros((n, n))
    taken[rank] = filled
    critical = np.where(fits.all(axis=1), 0, np.argmin(fits, axis=1))
    price = np.where(fits.all(axis=1), 0.0, ratio[np.arange(n), order[np.arange(n), critical]])
    price = np.where(np.isfinite(price), price, 0.0)
    means = low + np.where(gain > 0, room, 0.0) * taken
    return price[:, None] * wide, means
