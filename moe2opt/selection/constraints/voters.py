r"""Columns that say which LLMs of an ensemble take no part, and a bound that reads them.

What an ensemble is worth hardly depends on which copy of an LLM answers: not at all on its server,
and little on its precision. Deciding copy by copy, a search learns only with the last one that an
LLM is out. So every LLM with several copies gets a column :math:`n_m`, "no copy of m", and exactly
one of :math:`n_m` and its copies is chosen: a group and a cover. In a box with :math:`n_m = 0` m
takes part before it is known where; in one with :math:`n_m = 1` none of its copies does.

A box also knows that each LLM that takes part uses at least what its cheapest remaining copy does.
Where that exceeds a budget, no set is left; else the rest of the budgets says which LLMs may
follow, and how many of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.canonical.validate import BUDGET_TOLERANCE
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.constraints.ceiling import Ceiling
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.selection.constraints.ensemble import MOST_KNOWN, Ensemble
from moe2opt.selection.constraints.envelope import envelope
from moe2opt.selection.constraints.measures import Measure


def with_absences(base: FacilityProblem) -> FacilityProblem:
    """Return a facility problem with a column for the absence of each LLM with several copies."""
    extra = len(base.groups)
    own = [np.append(group, base.size + k) for k, group in enumerate(base.groups)]
    return FacilityProblem(
        values=np.pad(base.values, ((0, 0), (0, extra))),
        costs=np.pad(base.costs, ((0, 0), (0, extra))),
        budgets=base.budgets,
        weights=base.weights,
        groups=tuple(own),
        covers=(*base.covers, *own),
    )


def with_absent(compiled: Compiled, x: IntArray) -> IntArray:
    """Return the vector of the canonical problem that deploys the experts of ``(N,)`` `x`."""
    deployed = np.asarray(x, dtype=np.int64)
    absent = [int(not deployed[group].any()) for group in compiled.base.groups]
    return np.concatenate([deployed, np.array(absent, dtype=np.int64)])


def on_experts(measure: Measure, experts: int) -> Measure:
    """Return a budget of the first N columns as one of all columns."""
    return replace(measure, use=lambda chosen: measure.use(chosen[:experts]))


@dataclass(frozen=True, eq=False)
class Voters:
    """The bound of an ensemble over boxes of copies and absences.

    Attributes
    ----------
    ensemble
        What sets of experts get right together.
    ceiling
        A bound that knows the linear budgets.
    linear
        Facility problem of the experts; every plan keeps its budget rows.
    """

    ensemble: Ensemble
    ceiling: Ceiling
    linear: FacilityProblem

    def __call__(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return the bound over boxes between ``(B, N + groups)`` corners; at points, the value."""
        count = len(self.ensemble.model_of)
        if upper is lower:
            points = upper[:, :count]
            return self.ensemble(points, points)
        own = np.array([self._over(x > 0, y > 0) for x, y in zip(upper, lower, strict=True)])
        return np.asarray(np.minimum(own, self.ceiling(upper[:, :count], lower[:, :count])))

    def _over(self, upper: BoolArray, lower: BoolArray) -> float:
        """Return the bound over one box; 0 where it holds no set within the budgets."""
        count, model_of = len(self.ensemble.model_of), self.ensemble.model_of
        gone, sure = np.zeros((2, self.ensemble.llms), dtype=bool)
        gone[self._model_of_group[lower[count:]]] = True
        sure[self._model_of_group[~upper[count:]]] = True
        sure[model_of[lower[:count]]] = True
        offered = upper[:count] & ~gone[model_of]
        # Halves along the copies of an LLM have these in common: each of them says that it is in.
        return self._recalled(partial(self._of_copies, offered, sure), offered, sure)

    def _of_copies(self, offered: BoolArray, sure: BoolArray) -> float:
        """Return the bound over sets of some copies, given LLMs that surely take part."""
        keeps = self.ensemble.best_copies(np.flatnonzero(offered))
        if (keeps[sure] == 0).any():
            return 0.0
        more, fitting = self._room(offered, sure)
        if more < 0:
            return 0.0
        keeps[~fitting] = 0.0
        if more == 0 or not (keeps > 0)[~sure].any():
            return self.ensemble.bound(np.where(sure, keeps, 0.0), sure)
        able = keeps > 0
        return self._recalled(partial(self._of_llms, able, sure, more), able, sure, np.array(more))

    def _of_llms(self, offered: BoolArray, sure: BoolArray, more: int) -> float:
        """Return the bound over sets of LLMs, nothing being lost by precisions.

        What these lose is small beside what is open here, and dear to count.
        """
        own, free = self.ensemble, offered & ~sure
        best = own.chances(offered.astype(np.float64), sure)
        margin, pull = own.pulls(offered, sure)
        whole = math.fsum(best * own.weights)
        linear = envelope(best, margin, pull[free], min(more, int(free.sum())))
        # All prompts count alike.
        return own.raised(min(whole, linear / len(best)))

    def _recalled(self, bound: Callable[[], float], *of: BoolArray | IntArray) -> float:
        """Return a bound that was computed before, or compute it."""
        key = tuple(part.tobytes() for part in of)
        if key not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = bound()
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[bytes, ...], float]:
        """Bounds that were computed before."""
        return {}

    def _room(self, offered: BoolArray, sure: BoolArray) -> tuple[int, BoolArray]:
        """Return how many more LLMs the budgets let in, -1 for less than none, and which alone."""
        least = self._least(offered)
        # Other sums than those of the problem: what they may lose to rounding is let in.
        slack = BUDGET_TOLERANCE * np.abs(self.linear.limits)
        left = self.linear.limits + slack - least[:, sure].sum(axis=1)
        if (left < 0).any():
            return -1, sure
        fitting = (least <= left[:, None]).all(axis=0)
        free = fitting & ~sure
        used = np.cumsum(np.sort(least[:, free], axis=1), axis=1)
        return int((used <= left[:, None]).sum(axis=1).min(initial=free.sum())), sure | fitting

    def _least(self, offered: BoolArray) -> FloatArray:
        """Return ``(K, M)`` least use of each budget by an offered copy of an LLM, inf without."""
        least = np.full((self.ensemble.llms, len(self.linear.limits)), np.inf)
        experts = np.flatnonzero(offered)
        np.minimum.at(least, self.ensemble.model_of[experts], self.linear.costs[:, experts].T)
        return least.T

    @cached_property
    def _model_of_group(self) -> IntArray:
        """LLM of each column for an absence: of each LLM with several copies, as `Case.groups`."""
        first, counts = np.unique(self.ensemble.model_of, return_index=True, return_counts=True)[1:]
        return self.ensemble.model_of[np.sort(first[counts > 1])]
