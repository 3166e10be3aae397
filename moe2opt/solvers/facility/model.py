r"""Facility problems prepared for bounding: boxes, Lagrangian values and the simple bounds.

For thresholds :math:`\lambda`, row prices :math:`\mu` and cover prices :math:`\nu` the bound is
the inequality in `moe2opt.certify.facility`, maximised over a box of forced and allowed experts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from moe2opt.canonical import (
    FacilityProblem,
    at_most_one_sets,
    indicators,
    interchangeable_rows,
    merge,
    pack,
    partition,
    rounded_row,
    violated_rows,
)
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.facility.descent import column_excess
from moe2opt.solvers.facility.kernels import best_of_parts, excess_above
from moe2opt.solvers.facility.presolve import ClusterKinds, dominance_chains
from moe2opt.solvers.tuning import DEFAULT, FacilityTuning

#: Budgets count as exceeded in floating point only beyond this relative margin; what lies within
#: is settled exactly at the last point.
MARGIN = 1e-11


@dataclass(frozen=True, slots=True)
class Subset:
    """All choices between a set of forced experts and a set of allowed ones.

    Attributes
    ----------
    forced, allowed
        ``(N,)`` flags.
    parent
        Bound of the box it was cut from, to start from; None at the root.
    branch, length
        Expert whose exclusion or choice made this box, -1 without one; first length of a descent.
    """

    forced: BoolArray
    allowed: BoolArray
    parent: Bounded | None = None
    branch: int = -1
    length: float = math.inf

    @property
    def free(self) -> BoolArray:
        """Experts that are allowed but not forced."""
        return self.allowed & ~self.forced

    def without(self, axis: int) -> Subset:
        """Return the part of the box in which expert `axis` is excluded."""
        allowed = self.allowed.copy()
        allowed[axis] = False
        return replace(self, allowed=allowed)

    def with_forced(self, axis: int) -> Subset:
        """Return the part of the box in which expert `axis` is chosen."""
        forced = self.forced.copy()
        forced[axis] = True
        return replace(self, forced=forced)


@dataclass(frozen=True, slots=True)
class Price:
    """Multipliers and the Lagrangian value that they give over a box.

    Attributes
    ----------
    cluster, row, cover
        Multipliers, see `moe2opt.result.Multipliers`; one for the clusters of each kind.
    value
        Upper bound, rounding errors included.
    profit
        ``(N,)`` contribution of each expert when chosen.
    infeasible
        The rows alone, so priced, exclude every choice in the box.
    error
        The part of the value that covers rounding errors.
    """

    cluster: FloatArray
    row: FloatArray
    cover: FloatArray
    value: float
    profit: FloatArray
    infeasible: bool = False
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class Bounded:
    """A bound, the fractional choice it came from (None without one), and whether it was cheap."""

    price: Price
    fractional: FloatArray | None = None
    cheap: bool = False


class Bounder(Protocol):
    """Source of multipliers for a box."""

    def bound(self, box: Subset, search: Search) -> Bounded:
        """Return the best multipliers found for `box`."""


class FacilityModel:
    """A facility problem prepared for bounding.

    Attributes
    ----------
    tuning
        The engine's tuned numbers.
    problem, merged
        The problem in which interchangeable rows are merged, and how it came about.
    kinds
        Clusters with equal values, which count as one: a kind.
    columns, values
        Weighted values, rounded up to multiples of ``2**-bits`` and summed over each kind:
        ``(N, K)``, and the same array seen as ``(K, N)``.
    best_values
        ``(K,)`` value of each kind's best expert.
    ranked, experts
        ``(K, M)`` the same in falling order per kind, and whose they are. They hold all experts
        until `focus` leaves out those that no box will allow again.
    near, nearest, last
        The first columns of `ranked` and `experts`, close together in memory, and per kind a
        value that every expert beyond them is at most.
    chains, cliques, parts
        Dominance chains, all cliques (sets of which at most one expert is chosen), and a disjoint
        partition made of them.
    rows, limits
        Budget rows followed by one row per clique and one per entry of `rounded`.
    rounded
        Budget rows and numbers of parts of the rounded rows that `tighten` added.
    covers
        ``(H, N)`` indicator rows.
    """

    def __init__(
        self,
        problem: FacilityProblem,
        *,
        simplify: bool = True,
        tuning: FacilityTuning = DEFAULT.facility,
    ) -> None:
        self.tuning = tuning
        # Without an objective every expert dominates every other, which says nothing about rows.
        self.simplify = simplify = simplify and bool(problem.weighted.any())
        self.merged = merge(problem, interchangeable_rows(problem) if simplify else ())
        self.chains = dominance_chains(self.merged.problem) if simplify else []
        self._packings: list[dict[bytes, bool]] = [{} for _ in self.merged.types]
        self._largest: list[dict[bytes, float]] = [{} for _ in self.merged.types]
        self.merged_index = np.empty(problem.size, dtype=np.int64)
        for merged, copies in enumerate(self.merged.copies):
            self.merged_index[list(copies)] = merged
        problem = self.merged.problem
        self.problem = problem
        self.bits = grid_bits(problem.weighted)
        values = np.ldexp(np.ceil(np.ldexp(problem.weighted, self.bits)), -self.bits)
        self.kinds = ClusterKinds.among(values)
        values = self.kinds.together(values)
        self.experts, self.ranked = ranked_by_value(values)
        self.columns = np.ascontiguousarray(values.T)
        self.values = self.columns.T
        self.best_values = self.columns.max(axis=0, initial=0.0)
        self.focused = problem.size
        self._look_near()
        self.cliques = at_most_one_sets(problem.groups, self.chains)
        self.parts = partition(self.cliques, problem.size)
        self.part_of = np.empty(problem.size, dtype=np.int64)
        for number, members in enumerate(self.parts):
            self.part_of[members] = number
        self.rows = np.vstack([problem.costs, indicators(self.cliques, problem.size)])
        self.limits = np.concatenate([problem.limits, np.ones(len(self.cliques))])
        self.rounded: list[tuple[int, int]] = []
        self.covers = indicators(problem.covers, problem.size)

    def tighten(self, choice: FloatArray) -> bool:
        """Add the rounded rows that a fractional choice violates most; return whether any.

        Only before the tree grows: all its multipliers price the same rows.
        """
        if not self.simplify:
            return False
        new = [pair for pair in violated_rows(self.merged, choice) if pair not in self.rounded]
        new = new[: self.tuning.rounded_rows - len(self.rounded)]
        for row, parts in new:
            coefficients, limit = rounded_row(self.merged, row, parts)
            self.rows = np.vstack([self.rows, coefficients])
            self.limits = np.append(self.limits, limit)
            self.rounded.append((row, parts))
        return bool(new)

    def focus(self, allowed: BoolArray) -> None:
        """Leave out of `ranked` the experts that are excluded for good, once they are many."""
        alive = int(np.count_nonzero(allowed))
        if alive > self.tuning.focus * self.focused:
            return
        kept = allowed[self.experts]
        self.ranked = self.ranked[kept].reshape(-1, alive)
        self.experts = self.experts[kept].reshape(-1, alive)
        self.focused = alive
        self._look_near()

    def _look_near(self) -> None:
        depth, near = self.ranked.shape[1], self.tuning.near
        self.near = np.ascontiguousarray(self.ranked[:, :near])
        self.nearest = np.ascontiguousarray(self.experts[:, :near])
        beyond = self.ranked[:, near] if depth > near else np.zeros(len(self.ranked))
        self.last = np.maximum(beyond, 0.0)

    def price(self, box: Subset, kind: FloatArray, row: FloatArray, cover: FloatArray) -> Price:
        """Return the Lagrangian value of multipliers over a box, those of kinds summed."""
        scaled = np.ldexp(np.maximum(kind, 0.0) / self.kinds.count, self.bits)
        cluster = np.ldexp(np.round(scaled), -self.bits)
        grid = cluster * self.kinds.count
        excess = self._excess_of(box, grid)
        paid, earned = row @ self.rows + self.problem.fixed, cover @ self.covers
        constant = [float(grid.sum()), float(row @ self.limits), -float(cover.sum())]
        profit = excess - paid + earned
        size = float((excess + paid + earned)[box.allowed].sum()) + sum(map(abs, constant))
        error = self._rounding_error(size)
        value = sum(constant) + self.best(box, profit) + error
        return Price(cluster, row, cover, value, profit, error=error)

    def expanded(self, chosen: BoolArray) -> IntArray | None:
        """Return the choice in the variables of the original problem, None if it does not pack.

        Raises
        ------
        OverflowError
            When the search for a packing gives up undecided.
        """
        merged = self.merged
        row: dict[int, int] = {}
        for t in range(len(merged.types)):
            packing = merged.packing(chosen, t)
            if packing is None:
                return None
            row |= packing
        x = np.zeros(sum(map(len, merged.copies)), dtype=np.int64)
        for i in map(int, np.flatnonzero(chosen)):
            x[merged.copies[i][row.get(i, 0)]] = 1
        return x

    def overfull_type(self, chosen: BoolArray) -> int | None:
        """Return a type whose chosen experts do not pack into its single rows, None if all do."""
        return next((t for t in range(len(self.merged.types)) if not self._packs(chosen, t)), None)

    def unpackable(self, box: Subset, t: int) -> IntArray:
        """Return free experts of type `t` whose size does not pack beside the forced ones."""
        of_type = self.merged.type_of == t
        forced = np.sort(self.merged.sizes[box.forced & of_type])[::-1]
        key = forced.tobytes()
        if key not in self._largest[t]:
            self._largest[t][key] = self._largest_beside(forced, t)
        return np.flatnonzero(box.free & of_type & (self.merged.sizes > self._largest[t][key]))

    def _largest_beside(self, forced: FloatArray, t: int) -> float:
        """Return the largest size that packs beside sizes in falling order (bisection)."""
        merged = self.merged
        sizes = np.unique(merged.sizes[merged.type_of == t])
        low, high = 0, len(sizes)  # of the sizes in order, all before `low` pack
        while low < high:
            middle = (low + high) // 2
            together = np.sort(np.append(forced, sizes[middle]))[::-1].tolist()
            try:
                fits = pack(together, len(merged.types[t]), float(merged.limits[t])) is not None
            except OverflowError:
                fits = True
            low, high = (middle + 1, high) if fits else (low, middle)
        return float(sizes[low - 1]) if low else -math.inf

    def _packs(self, chosen: BoolArray, t: int) -> bool:
        """Tell whether the chosen experts of a type pack; an undecided search counts as yes."""
        items = np.flatnonzero(chosen & (self.merged.type_of == t))
        alone = not self.merged.met(items)
        key = np.sort(self.merged.sizes[items]).tobytes() if alone else items.tobytes() + b"r"
        if key not in self._packings[t]:
            try:
                self._packings[t][key] = self.merged.packing(chosen, t) is not None
            except OverflowError:
                self._packings[t][key] = True
        return self._packings[t][key]

    def _excess_of(self, box: Subset, thresholds: FloatArray) -> FloatArray:
        wanted = np.flatnonzero(box.allowed)
        if len(wanted) <= self.tuning.few:
            return column_excess(self.columns, wanted, thresholds, self.problem.size)
        return excess_above(self.ranked, self.experts, thresholds, self.problem.size)

    def contradiction(self, box: Subset, row: FloatArray, cover: FloatArray) -> Price | None:
        """Return prices under which the rows alone exclude the box, or None if they do not."""
        paid, earned = row @ self.rows, cover @ self.covers
        constant = [float(row @ self.limits), -float(cover.sum())]
        size = float((paid + earned)[box.allowed].sum()) + sum(map(abs, constant))
        profit = earned - paid
        value = sum(constant) + self.best(box, profit) + 10 * self._rounding_error(size)
        nothing = np.zeros(0)
        return Price(nothing, row, cover, -math.inf, profit, True) if value < 0 else None

    def best(self, box: Subset, profit: FloatArray) -> float:
        """Return the largest total profit in the box, at most one expert from each part."""
        free, forced = self.part_profits(box, profit)
        return float(np.where(np.isnan(forced), np.maximum(free, 0.0), forced).sum())

    def part_profits(self, box: Subset, profit: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return per part the best free profit (-inf if none) and the forced one (NaN if none)."""
        free = np.full(len(self.parts), -np.inf)
        forced = np.full(len(self.parts), np.nan)
        best_of_parts(profit, box.forced, box.allowed, self.part_of, free, forced)
        return free, forced

    @property
    def relative_error(self) -> float:
        """Rounding error of a Lagrangian value at most, as a share of the sum of its terms."""
        return 2.3e-16 * (self.problem.clusters + self.problem.size + len(self.limits) + 16)

    def _rounding_error(self, size: float) -> float:
        return self.relative_error * size


def ranked_by_value(values: FloatArray) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """Return the experts of each cluster in falling order of value, and those values.

    Experts of equal value stand in any order: a stable sort takes five times as long.
    """
    experts = np.argsort(-values, axis=1)
    return experts.astype(np.int32), np.take_along_axis(values, experts, axis=1)


def grid_bits(weighted: FloatArray) -> int:
    """Return how finely values and thresholds may be cut so that all sums stay exact in int64."""
    largest = float(weighted.max(initial=0.0))
    total = max(float(weighted.max(axis=1, initial=0.0).sum()), float(weighted.sum(axis=0).max()))
    exact_entry = 52 - math.ceil(math.log2(largest + 1e-300)) if largest > 0 else 52
    exact_sum = 60 - math.ceil(math.log2(total + 1.0))
    return max(0, min(50, exact_entry, exact_sum))


class CornerBound:
    """The value of everything that is allowed."""

    def __init__(self, model: FacilityModel) -> None:
        self.model = model

    def bound(self, box: Subset, search: Search) -> Bounded:
        best = self.model.columns[box.allowed].max(axis=0, initial=0.0)
        model = self.model
        return Bounded(
            model.price(box, best, np.zeros(len(model.limits)), np.zeros(len(model.covers)))
        )


class SubmodularBound:
    """Marginal gains over the forced experts, packed fractionally into the best single budget."""

    def __init__(self, model: FacilityModel) -> None:
        self.model = model

    def bound(self, box: Subset, search: Search) -> Bounded:
        model = self.model
        base = model.columns[box.forced].max(axis=0, initial=0.0)
        zero = np.zeros(len(model.limits))
        cover = np.zeros(len(model.covers))
        plain = model.price(box, base, zero, cover)
        best = plain
        for k in range(len(model.problem.limits)):
            row = zero.copy()
            row[k] = self._critical_ratio(box, plain.profit, k)
            price = model.price(box, base, row, cover)
            best = price if price.value < best.value else best
        return Bounded(best)

    def _critical_ratio(self, box: Subset, gain: FloatArray, k: int) -> float:
        """Return gain per cost of the expert at which budget `k` runs out, 0 if it does not."""
        cost = self.model.problem.costs[k]
        left = self.model.limits[k] - cost[box.forced].sum()
        items = np.flatnonzero(box.free & (cost > 0))
        ratio = gain[items] / cost[items]
        ranked = np.argsort(-ratio, kind="stable")
        used = np.cumsum(cost[items][ranked])
        over = np.flatnonzero(used > left)
        # Opening may cost more than it gains: what is left of a budget is then worth nothing.
        return max(0.0, float(ratio[ranked[over[0]]])) if len(over) else 0.0
