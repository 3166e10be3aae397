r"""The linear formulation of a multiple-choice problem.

Maximise :math:`\sum_{g,o} v_{go} x_{go}` with :math:`\sum_o x_{go} = 1` and the budget rows; all
variables are zero or one. A leaf takes row prices :math:`\mu` and of every group's equation the
largest profit :math:`v_{go} - \mu u_{go}` that its box allows; what is left on the options is not
positive, except on excluded ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.certify.exact import Dyadic, Recent, Rows
from moe2opt.result import Certificate, FloatArray, IntArray
from moe2opt.vipr.derive import Box, settle
from moe2opt.vipr.exact import as_fractions, exact_limits, shortened, unit
from moe2opt.vipr.writing import Combination, Derivations, Row


class ChoiceFormulation:
    """Variables, rows and leaf combinations; one variable per option, group after group."""

    def __init__(self, problem: MultipleChoiceProblem, certificate: Certificate) -> None:
        self.problem, self.certificate = problem, certificate
        self.options = len(problem.flat_values)
        self.bound_count = 2 * self.options
        self.first_budget = self.bound_count
        self.first_group = self.first_budget + len(problem.limits)
        self.row_count = self.first_group + problem.size
        self.limits = exact_limits(problem.costs, problem.limits)
        self.values = Dyadic.of(problem.flat_values)
        self.rows_exact = Rows(problem.costs, np.zeros(len(problem.limits)))
        self._known = Recent()

    # ------------------------------------------------------------------ the programme

    @property
    def variables(self) -> list[str]:
        """Names of the variables."""
        sizes = np.diff(self.problem.offsets).tolist()
        return [f"x{g}_{o}" for g, size in enumerate(sizes) for o in range(size)]

    @property
    def objective(self) -> list[tuple[int, Fraction]]:
        """Objective coefficients."""
        values = enumerate(as_fractions(self.problem.flat_values))
        return [(m, value) for m, value in values if value]

    def rows(self) -> Iterator[Row]:
        """Yield all constraints, bounds first."""
        yield from (Row("G", 0, ((m, 1),)) for m in range(self.options))
        yield from (Row("L", 1, ((m, 1),)) for m in range(self.options))
        for costs, limit in zip(self.problem.costs, self.limits, strict=True):
            used = np.flatnonzero(costs)
            yield Row("L", limit, tuple((int(m), Fraction(float(costs[m]))) for m in used))
        for g in range(self.problem.size):
            yield Row("E", 1, tuple((m, 1) for m in self._members(g)))

    def solution(self, x: IntArray) -> list[tuple[int, int]]:
        """Return the non-zero variables for the option indices `x`."""
        return [(int(m), 1) for m in self.problem.offsets[:-1] + x]

    def objective_of(self, x: IntArray) -> Fraction:
        """Return the exact objective of the option indices `x`."""
        picked = self.problem.flat_values[self.problem.offsets[:-1] + x]
        return sum(as_fractions(picked), Fraction(0))

    def _members(self, g: int) -> range:
        return range(int(self.problem.offsets[g]), int(self.problem.offsets[g + 1]))

    # ------------------------------------------------------------------ leaves

    def leaf(
        self, reason: str, index: int, box: Box, bits: int | None, lines: Derivations
    ) -> Combination:
        """Return the combination for a leaf, its multipliers rounded to `bits` digits."""
        found = Combination(Fraction(0), reason not in ("dual", "corner"))
        prices = shortened(self._prices(reason, index), bits)
        for r in map(int, np.flatnonzero(prices)):
            found.add(self.first_budget + r, Fraction(float(prices[r])), self.limits[r])
        profit, scale = self._profits(reason, index, bits)
        rest = profit.copy()
        for g in range(self.problem.size):
            members = self._members(g)
            allowed = [profit[m] for m in members if m not in box.excluded]
            # A group without options contradicts its own equation.
            best = max(allowed) if allowed else min(profit[m] for m in members) - scale
            if best:
                found.add(self.first_group + g, Fraction(best, scale), 1)
                rest[members.start : members.stop] -= best
        return settle(found, rest, scale, box, 0, self.options)

    def _prices(self, reason: str, index: int) -> FloatArray:
        rows = len(self.problem.limits)
        if reason in ("dual", "farkas"):
            return self.certificate.multipliers[index].row
        return unit(rows, index) if reason == "budget" else np.zeros(rows)

    def _profits(self, reason: str, index: int, bits: int | None) -> tuple[Any, int]:
        """Return the exact profits: numerators and their common scale."""
        key = f"{reason} {bits}"
        known: tuple[Any, int] | None = self._known.get(index, key)
        if known is None:
            cost, _ = self.rows_exact.priced(-shortened(self._prices(reason, index), bits))
            profit = cost.plus(self.values) if reason in ("dual", "corner") else cost
            known = profit.numerators, 2**profit.shift
            self._known.put(index, key, known)
        return known
