"""Boxes and leaf reasons of monotone problems: oracles at corners, nothing else.

Nothing is added here, so nothing is rounded here. The oracles of a view of another problem are
exact in that sense, see `moe2opt.canonical.oracles`; those of a `MonotoneProblem` are taken as they
are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from moe2opt.canonical import MonotoneProblem
from moe2opt.canonical.planes import planes_of
from moe2opt.canonical.symmetry import are_alike, lowered_to_order, raised_to_order
from moe2opt.certify.exact import RejectedError, require_cover, require_row
from moe2opt.result import Certificate


class MonotoneProof:
    """Boxes are integer corners (lower, upper); oracles are called at corners only."""

    def __init__(self, problem: MonotoneProblem, certificate: Certificate) -> None:
        self.problem, self.certificate = problem, certificate
        self._orders = self._checked_orders()
        self._planes = planes_of(problem.structure, problem.lower, problem.upper)

    def _checked_orders(self) -> tuple[tuple[int, ...], ...]:
        """Return the sets of variables that the tree takes in order; raise unless they may be."""
        problem, types = self.problem, self.certificate.types
        declared = [set(members) for members in problem.interchangeable]
        named = [i for order in types for i in order]
        if len(set(named)) < len(named) or not all(0 <= i < problem.size for i in named):
            raise RejectedError("a variable is ordered twice, or does not exist")
        made, assumed = problem.structure, []
        for order in filter(None, types):
            if made is not None and are_alike(made, order, problem.lower, problem.upper):
                continue
            if not any(members.issuperset(order) for members in declared):
                raise RejectedError(f"nothing shows that variables {list(order)} may swap")
            assumed.append(f"variables {list(order)} are interchangeable, as was declared")
        self.assumptions = tuple(assumed)
        self._error = problem.swap_error if types else 0.0
        return types

    def root(self) -> tuple[Any, Any]:
        return self.problem.lower, self.problem.upper

    def split(self, box: tuple[Any, Any], axis: int, cut: int) -> tuple[Any, Any]:
        lower, upper = box
        if not 0 <= axis < len(lower) or not lower[axis] <= cut < upper[axis]:
            raise RejectedError(f"split of axis {axis} at {cut} is outside its box")
        below, above = upper.copy(), lower.copy()
        below[axis], above[axis] = cut, cut + 1
        lowered_to_order(below[None, :], self._orders)
        raised_to_order(above[None, :], self._orders)
        return (lower, below), (above, upper)

    def holds(self, reason: str, index: int, box: tuple[Any, Any]) -> bool:
        problem = self.problem
        lower, upper = box[0][None, :], box[1][None, :]
        if reason == "budget":
            require_row(index, len(problem.constraints))
            return bool(problem.constraint_value(index, lower)[0] > 0)
        if reason == "cover":
            require_cover(index, self.certificate, len(problem.reverse_constraints))
            return bool(problem.reverse_value(index, upper)[0] < 0)
        if reason == "corner":
            return self._closes(float(problem.upper_values(upper, lower)[0]))
        if reason == "marginal":
            return problem.submodular and self._closes(self._all_gains(box))
        if reason in ("dual", "farkas"):
            return self._is_priced_out(reason, index, box)
        return False

    def reduced(self, box: tuple[Any, Any], kind: str, axes: list[int], index: int) -> Any:
        raise RejectedError(f"reduction {kind!r} is not understood")

    def _all_gains(self, box: tuple[Any, Any]) -> float:
        lower, upper = box
        if (upper - lower > 1).any():
            raise ValueError("the marginal bound needs a unit box")
        return self.problem.marginal_bound(lower, upper)

    def _is_priced_out(self, reason: str, index: int, box: tuple[Any, Any]) -> bool:
        """Tell whether prices of the rows bound the objective, or show that they contradict."""
        if self._planes is None or not 0 <= index < len(self.certificate.multipliers):
            raise RejectedError(f"multipliers {index} do not exist, or no parts have planes")
        prices, around = self.certificate.multipliers[index], self._planes.around(*box)
        for h in np.flatnonzero(prices.cover).tolist():
            require_cover(h, self.certificate, len(self.problem.reverse_constraints))
        if reason == "farkas":
            return self._planes.value(prices, around, farkas=True) < 0
        claim = self.certificate.claim
        return claim > -math.inf and self._closes(self._planes.value(prices, around))

    def _closes(self, bound: float) -> bool:
        whole = self.problem.bounds_of(np.array([bound + self._error]))[0]
        return bool(whole <= self.certificate.claim)
