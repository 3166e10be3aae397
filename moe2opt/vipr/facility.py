r"""The strong linear formulation of a facility problem.

Maximise :math:`\sum_{c,i} W_{ci} z_{ci} - \sum_i o_i y_i` with :math:`\sum_i z_{ci} \le 1`,
:math:`z_{ci} \le y_i`, the budget rows, at most one of each group and at least one of each cover;
all variables are zero or one, and those with :math:`W_{ci} = 0` are left out.

For a threshold :math:`b` the rows of cluster c give the cut

.. math:: \sum_i W_{ci} z_{ci} - \sum_i (W_{ci} - b)^+ y_i \le b.

Between two neighbouring values of the cluster its left side is linear in b, so the cuts at these
values serve every threshold: they are derived when first needed, and a leaf takes two of each
cluster with weights that add up to one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem, indicators, partition
from moe2opt.certify.exact import Dyadic, Recent, Rows
from moe2opt.result import Certificate, FloatArray, IntArray
from moe2opt.vipr.derive import Box, settle
from moe2opt.vipr.exact import exact_limits, shortened, unit
from moe2opt.vipr.writing import Combination, Derivations, Row


@dataclass(frozen=True, slots=True)
class _Priced:
    """Rows and cuts of one vector of multipliers, and what they leave on the experts.

    Attributes
    ----------
    terms
        Factors of constraints of the programme.
    cuts
        Factors of cuts ``(cluster, value)``.
    value
        Right side of their sum.
    profit, scale
        Exact coefficients of the experts on the right side, ``profit / scale``.
    """

    terms: dict[int, Fraction]
    cuts: dict[tuple[int, float], Fraction]
    value: Fraction
    profit: Any
    scale: int


class FacilityFormulation:
    """Variables, rows and leaf combinations; experts come first among the variables."""

    def __init__(self, problem: FacilityProblem, certificate: Certificate) -> None:
        self.problem, self.certificate = problem, certificate
        self.served = np.argwhere(problem.weighted > 0)
        n, served = problem.size, len(self.served)
        self.bound_count = 2 * n + served
        self.first_budget = self.bound_count
        self.first_group = self.first_budget + len(problem.limits)
        self.first_cover = self.first_group + len(problem.groups)
        self.first_cluster = self.first_cover + len(problem.covers)
        self.first_link = self.first_cluster + problem.clusters
        self.row_count = self.first_link + served
        self.starts = np.searchsorted(self.served[:, 0], np.arange(problem.clusters + 1))
        self.limits = exact_limits(problem.costs, problem.limits)
        self.groups = indicators(problem.groups, n)
        self.covers = indicators(problem.covers, n)
        matrix = np.vstack([problem.costs, self.groups, self.covers])
        self.rows_exact = Rows(matrix, np.zeros(len(matrix)))
        self.levels = [np.unique(np.append(row, 0.0)) for row in problem.weighted]
        self._known = Recent()
        self._cuts: dict[tuple[int, float], int] = {}

    # ------------------------------------------------------------------ the programme

    @property
    def variables(self) -> list[str]:
        """Names of the variables."""
        return [f"y{i}" for i in range(self.problem.size)] + [f"z{c}_{i}" for c, i in self.served]

    @property
    def objective(self) -> list[tuple[int, Fraction]]:
        """Objective coefficients."""
        opened = [(i, -Fraction(float(self.problem.fixed[i]))) for i in self._costly]
        return opened + [(self._z(k), self._worth(k)) for k in range(len(self.served))]

    def rows(self) -> Iterator[Row]:
        """Yield all constraints, bounds first."""
        problem, n, served = self.problem, self.problem.size, len(self.served)
        yield from (Row("G", 0, ((i, 1),)) for i in range(n))
        yield from (Row("L", 1, ((i, 1),)) for i in range(n))
        yield from (Row("G", 0, ((self._z(k), 1),)) for k in range(served))
        for costs, limit in zip(problem.costs, self.limits, strict=True):
            used = np.flatnonzero(costs)
            yield Row("L", limit, tuple((int(i), Fraction(float(costs[i]))) for i in used))
        yield from (Row("L", 1, tuple((int(i), 1) for i in group)) for group in problem.groups)
        yield from (Row("G", 1, tuple((int(i), 1) for i in cover)) for cover in problem.covers)
        for c in range(problem.clusters):
            yield Row("L", 1, tuple((self._z(k), 1) for k in self._members(c)))
        for k in range(served):
            yield Row("L", 0, ((self._z(k), 1), (int(self.served[k, 1]), -1)))

    def solution(self, x: IntArray) -> list[tuple[int, int]]:
        """Return the non-zero variables for the choice `x`: each cluster takes its best expert."""
        chosen = [(int(i), 1) for i in np.flatnonzero(x)]
        return chosen + [(self._z(k), 1) for k in self._best(x)]

    def objective_of(self, x: IntArray) -> Fraction:
        """Return the exact objective of the choice `x`."""
        paid = sum((Fraction(float(self.problem.fixed[i])) for i in np.flatnonzero(x)), Fraction(0))
        return sum((self._worth(k) for k in self._best(x)), -paid)

    @cached_property
    def _costly(self) -> list[int]:
        return [int(i) for i in np.flatnonzero(self.problem.fixed)]

    def _best(self, x: IntArray) -> list[int]:
        open_ = np.asarray(x) > 0
        best = []
        for c in range(self.problem.clusters):
            members = [k for k in self._members(c) if open_[self.served[k, 1]]]
            if members:
                best.append(max(members, key=self._worth))
        return best

    def _members(self, c: int) -> range:
        return range(int(self.starts[c]), int(self.starts[c + 1]))

    def _z(self, k: int) -> int:
        return self.problem.size + k

    def _worth(self, k: int) -> Fraction:
        return Fraction(float(self.problem.weighted[tuple(self.served[k])]))

    # ------------------------------------------------------------------ leaves

    def leaf(
        self, reason: str, index: int, box: Box, bits: int | None, lines: Derivations
    ) -> Combination:
        """Return the combination for a leaf, its multipliers rounded to `bits` digits."""
        priced = self._priced(reason, index, box, bits)
        found = Combination(priced.value, reason not in ("dual", "corner"), dict(priced.terms))
        for (c, value), factor in priced.cuts.items():
            found.add(self._cut(c, value, lines), factor)
        rest = priced.profit.copy()
        for number, part in self._parts:
            best = max([0, *(rest[i] for i in part if self._free(int(i), box))])
            if best:
                found.add(self.first_group + number, Fraction(best, priced.scale), 1)
                rest[part] -= best
        return settle(found, rest, priced.scale, box, 0, self.problem.size)

    @staticmethod
    def _free(i: int, box: Box) -> bool:
        return i not in box.excluded and i not in box.chosen

    @cached_property
    def _parts(self) -> list[tuple[int, IntArray]]:
        """Disjoint groups, each with its number, as the checker takes them."""
        numbers = {tuple(group): k for k, group in reversed(list(enumerate(self.problem.groups)))}
        parts = partition(list(self.problem.groups), self.problem.size)
        return [(numbers[tuple(p)], p) for p in parts if tuple(p) in numbers]

    def _priced(self, reason: str, index: int, box: Box, bits: int | None) -> _Priced:
        if reason == "corner":
            allowed = np.ones(self.problem.size, dtype=bool)
            allowed[list(box.excluded)] = False
            best = self.problem.weighted[:, allowed].max(axis=1, initial=0.0)
            return self._sum(best, np.zeros(len(self.rows_exact.matrix)), bits)
        key = f"{reason} {bits}"
        known: _Priced | None = self._known.get(index, key)
        if known is None:
            known = self._sum(*self._multipliers(reason, index), bits)
            self._known.put(index, key, known)
        return known

    def _multipliers(self, reason: str, index: int) -> tuple[FloatArray | None, FloatArray]:
        """Return thresholds (None without objective) and prices of budgets, groups and covers."""
        budgets, groups = len(self.problem.limits), len(self.groups)
        if reason in ("dual", "farkas"):
            found = self.certificate.multipliers[index]
            prices = np.concatenate([found.row, found.cover])
            return (found.cluster if reason == "dual" else None), prices
        first = {"budget": 0, "group": budgets, "cover": budgets + groups}[reason]
        return None, unit(len(self.rows_exact.matrix), first + index)

    def _sum(self, thresholds: FloatArray | None, prices: FloatArray, bits: int | None) -> _Priced:
        """Add priced rows and the cuts at the thresholds."""
        prices = shortened(prices, bits)
        signs = np.ones(len(prices))
        signs[len(prices) - len(self.covers) :] = -1.0
        rows, value = {}, Fraction(0)
        limits = [*self.limits, *[Fraction(1)] * (len(prices) - len(self.limits))]
        for r in map(int, np.flatnonzero(prices)):
            rows[self.first_budget + r] = Fraction(float(signs[r] * prices[r]))
            value += rows[self.first_budget + r] * limits[r]
        profit, _ = self.rows_exact.priced(-signs * prices)
        if thresholds is None:
            return _Priced(rows, {}, value, profit.numerators, 2**profit.shift)
        profit = profit.plus(Dyadic.of(self.problem.fixed), -1)
        cuts = self._cuts_at(thresholds, bits)
        excess = self._excess(cuts)
        value += sum(factor * Fraction(level) for (_, level), factor in cuts.items())
        scale = math.lcm(excess[1], 2**profit.shift)
        total = excess[0] * (scale // excess[1]) + profit.numerators * (scale // 2**profit.shift)
        return _Priced(rows, cuts, value, total, scale)

    def _cuts_at(
        self, thresholds: FloatArray, bits: int | None
    ) -> dict[tuple[int, float], Fraction]:
        """Return for each cluster the two neighbouring values and their weights."""
        cuts: dict[tuple[int, float], Fraction] = {}
        for c, (levels, threshold) in enumerate(zip(self.levels, thresholds, strict=True)):
            inside = min(max(float(threshold), 0.0), float(levels[-1]))
            k = int(np.searchsorted(levels, inside, side="right")) - 1
            low, high = float(levels[k]), float(levels[min(k + 1, len(levels) - 1)])
            share = Fraction(0)
            if inside > low:
                share = (
                    Fraction(inside - low) / Fraction(high - low)
                    if bits is None
                    else Fraction(round((inside - low) / (high - low) * 2**bits), 2**bits)
                )
            for level, weight in ((low, 1 - share), (high, share)):
                if weight and len(levels) > 1:
                    cuts[c, level] = weight
        return cuts

    def _excess(self, cuts: dict[tuple[int, float], Fraction]) -> tuple[Any, int]:
        """Return what the cuts leave on the experts: numerators and their common scale."""
        common = math.lcm(*(weight.denominator for weight in cuts.values()))
        shift = self._values.shift
        total = np.zeros(self.problem.size, dtype=object)
        for (c, level), weight in cuts.items():
            above = self._values.numerators[c] - int(Fraction(level) * 2**shift)
            times = weight.numerator * (common // weight.denominator)
            total = total + np.maximum(above, 0) * times
        return total, common * 2**shift

    @cached_property
    def _values(self) -> Dyadic:
        flat = Dyadic.of(self.problem.weighted.ravel())
        return Dyadic(flat.numerators.reshape(self.problem.weighted.shape), flat.shift)

    def _cut(self, c: int, level: float, lines: Derivations) -> int:
        """Return the number of a cut, derived when it is first needed."""
        if (c, level) not in self._cuts:
            self._cuts[c, level] = self._derived_cut(c, Fraction(level), lines)
        return self._cuts[c, level]

    def _derived_cut(self, c: int, level: Fraction, lines: Derivations) -> int:
        terms = {self.first_cluster + c: level}
        left: list[str] = []
        for k in self._members(c):
            worth = self._worth(k)
            left.append(f"{self._z(k)} {worth}")
            if worth > level:
                left.append(f"{int(self.served[k, 1])} {level - worth}")
                terms[self.first_link + k] = worth - level
            else:
                terms[2 * self.problem.size + k] = worth - level
        what = f"L {level} {len(left)} {' '.join(left)}"
        return lines.combination(what, terms, rounded=False)
