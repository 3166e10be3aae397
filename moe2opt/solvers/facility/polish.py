"""Incumbents of facility problems: exchanges until none improves, and kicks out of local optima."""

from __future__ import annotations

import numpy as np

from moe2opt.canonical import FacilityProblem, indicators
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.base import Search, Stop
from moe2opt.solvers.facility.kernels import add_what_fits, exchange
from moe2opt.solvers.facility.model import FacilityModel, Subset

#: Moves between two looks at the limits.
_AT_ONCE = 8


class Polisher:
    """Local search over exchanges, additions and removals of one, in the problem as given."""

    def __init__(self, model: FacilityModel, original: FacilityProblem) -> None:
        self.model = model
        self.rows = np.vstack([original.costs, indicators(original.groups, original.size)])
        self.limits = np.concatenate([original.limits, np.ones(len(original.groups))])
        # A copy, since kernels are compiled for arrays that can be written.
        self.opening = np.array(original.fixed)
        self.members = indicators(original.covers, original.size) > 0
        # Below this a gain may be rounding noise, and exchanges could go round in circles.
        self.smallest_gain = 1e-12 * float(model.best_values.sum())

    def start(self, chosen: BoolArray, search: Search) -> None:
        """Offer a first choice and what exchanges make of it."""
        search.offer(chosen, "H")
        search.offer(self.improve(chosen, search.pressed), "H")

    def round(
        self, box: Subset, wanted: FloatArray, source: str, search: Search, *, thorough: bool
    ) -> bool:
        """Offer the forced experts filled up with the most wanted ones of a box that fit.

        What exchanges make of the choice is offered where it is a new incumbent, or if `thorough`.
        """
        chosen = box.forced.copy()
        left = self.model.limits - self.model.rows[:, chosen].sum(axis=1)
        order = np.argsort(-np.where(box.allowed, wanted, -np.inf), kind="stable")
        if self.opening.any():
            self._add_what_pays(order[wanted[order] > 0.0], left, chosen)
        else:
            add_what_fits(order, self.model.rows, left, chosen)
        x = self.unmerged(chosen & box.allowed)
        if x is None:
            return False
        better = search.offer(x, source)
        if better or thorough:
            better = search.offer(self.improve(x, search.pressed), source) or better
        return better

    def _add_what_pays(self, order: IntArray, left: FloatArray, chosen: BoolArray) -> None:
        """Add experts in order that fit and gain more than they cost, or are needed by a cover."""
        model, fixed = self.model, self.model.problem.fixed
        best = model.columns[chosen].max(axis=0, initial=0.0)
        unmet = (model.covers @ chosen) == 0
        for i in order[~chosen[order]]:
            gain = float(np.maximum(model.columns[i] - best, 0.0).sum())
            needed = (model.covers[unmet, i] > 0).any()
            if (gain > fixed[i] or needed) and (model.rows[:, i] <= left).all():
                chosen[i] = True
                left -= model.rows[:, i]
                best = np.maximum(best, model.columns[i])
                unmet &= model.covers[:, i] == 0

    def unmerged(self, chosen: BoolArray) -> BoolArray | None:
        """Return a choice of the bounding model in the original's variables, trimmed if need be."""
        try:
            x = self.model.expanded(chosen)
            if x is None:
                x = self.model.expanded(self._packable(chosen))
        except OverflowError:
            return None
        return None if x is None else x > 0

    def improve(self, chosen: BoolArray, stop: Stop) -> BoolArray:
        """Return a choice that no addition, exchange or removal of one improves, or the last."""
        chosen = chosen.copy()
        left = self._left(chosen)
        # Which experts a cover needs may change with every move.
        most = 1 if len(self.members) else _AT_ONCE
        while True:
            moves = exchange(
                self.model.ranked,
                self.model.experts,
                self.model.merged_index,
                chosen,
                self._needed(chosen),
                self.opening,
                self.rows,
                left,
                self.smallest_gain,
                most,
            )
            if moves < most or stop():
                return chosen

    def kick(self, chosen: BoolArray, search: Search) -> None:
        """Offer what local search finds around `chosen` after dropping one to three experts."""
        best, failures = chosen, 0
        value = self._value(best)
        while failures < self.model.tuning.kicks and self._has_time(search):
            trial = self.improve(self._shaken(best, search.rng), search.pressed)
            gained = self._value(trial)
            failures = 0 if gained > value else failures + 1
            if gained >= value:
                best, value = trial, gained
            if gained > search.objective:
                search.offer(trial, "H")

    def _packable(self, chosen: BoolArray) -> BoolArray:
        """Return the experts that matter and pack, those whose loss would hurt most first."""
        experts = np.flatnonzero(chosen)
        served = self.model.columns[experts].T
        leader = served.argmax(axis=1)
        ranked = np.sort(served, axis=1)
        margin = ranked[:, -1] - (ranked[:, -2] if len(experts) > 1 else 0.0)
        loss = np.bincount(leader, weights=margin, minlength=len(experts))
        kept = np.zeros_like(chosen)
        for i in experts[np.argsort(-loss, kind="stable")]:
            kept[i] = True
            kept[i] = self.model.overfull_type(kept) is None
        return kept

    def _shaken(self, chosen: BoolArray, rng: np.random.Generator) -> BoolArray:
        """Return the choice without one to three experts, and with another one if it fits."""
        shaken, draws = chosen.copy(), rng.random(5)
        movable, others = (chosen & ~self._needed(chosen)).nonzero()[0], (~chosen).nonzero()[0]
        if len(movable):
            dropped = min(len(movable), 1 + int(3 * draws[0]))
            shaken[movable[(len(movable) * draws[1 : 1 + dropped]).astype(np.int64)]] = False
        if len(others):
            newcomer = others[int(len(others) * draws[4]) :][:1]
            add_what_fits(newcomer, self.rows, self._left(shaken), shaken)
        return shaken

    def _left(self, chosen: BoolArray) -> FloatArray:
        return np.asarray(self.limits - self.rows @ chosen)

    def _needed(self, chosen: BoolArray) -> BoolArray:
        """Return the experts that alone meet some cover."""
        if not len(self.members):
            return np.zeros(len(chosen), dtype=bool)
        alone = (self.members & chosen).sum(axis=1) == 1
        return np.asarray((self.members[alone] & chosen).any(axis=0))

    def _value(self, chosen: BoolArray) -> float:
        experts = self.model.merged_index[chosen]
        value = float(self.model.columns[experts].max(axis=0, initial=0.0).sum())
        return value - float(self.opening[chosen].sum())

    def _has_time(self, search: Search) -> bool:
        limit = search.options.time_limit_s
        spent = limit is not None and search.time_s > self.model.tuning.kick_time_share * limit
        return not spent and search.limit_reached() is None
