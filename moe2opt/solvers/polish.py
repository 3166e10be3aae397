"""Incumbents of facility problems: exchanges until none improves, and kicks out of local optima."""

from __future__ import annotations

import numpy as np

from moe2opt.result import BoolArray, FloatArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.facility_model import FacilityModel
from moe2opt.solvers.kernels import add_what_fits, best_swap

#: Kicks in a row without an improvement before the search for incumbents ends.
_PATIENCE = 60

#: Share of the time limit that kicks may use.
_TIME_SHARE = 0.1


class Polisher:
    """Local search over additions and one-for-one exchanges, within budgets, groups and covers."""

    def __init__(self, model: FacilityModel) -> None:
        self.model = model
        self.members = model.covers > 0
        # Below this a gain may be rounding noise, and exchanges could go round in circles.
        self.smallest_gain = 1e-12 * float(model.values.max(axis=1, initial=0.0).sum())

    def improve(self, chosen: BoolArray) -> BoolArray:
        """Return a choice that no single addition or exchange improves."""
        chosen = chosen.copy()
        left = self._left(chosen)
        while True:
            gain, come, go = best_swap(
                self.model.ranked,
                self.model.experts,
                chosen,
                self._needed(chosen),
                self.model.rows,
                left,
            )
            if gain <= self.smallest_gain:
                return chosen
            chosen[come] = True
            left -= self.model.rows[:, come]
            if go >= 0:
                chosen[go] = False
                left += self.model.rows[:, go]

    def kick(self, chosen: BoolArray, search: Search) -> None:
        """Offer what local search finds around `chosen` after dropping one to three experts."""
        best, failures = chosen, 0
        value = self._value(best)
        while failures < _PATIENCE and self._has_time(search):
            trial = self.improve(self._shaken(best, search.rng))
            gained = self._value(trial)
            failures = 0 if gained > value else failures + 1
            if gained >= value:
                best, value = trial, gained
            if gained > search.objective:
                search.offer(trial, "H")

    def complete(self, chosen: BoolArray, wanted: FloatArray) -> BoolArray:
        """Return `chosen` filled up with the most wanted experts that fit."""
        chosen = chosen.copy()
        order = np.argsort(-wanted, kind="stable")
        add_what_fits(order, self.model.rows, self._left(chosen), chosen)
        return chosen

    def _shaken(self, chosen: BoolArray, rng: np.random.Generator) -> BoolArray:
        shaken = chosen.copy()
        movable = np.flatnonzero(chosen & ~self._needed(chosen))
        if len(movable):
            shaken[rng.choice(movable, size=min(len(movable), int(rng.integers(1, 4))))] = False
        newcomers = rng.permutation(np.flatnonzero(~chosen))[:1]
        add_what_fits(newcomers, self.model.rows, self._left(shaken), shaken)
        return shaken

    def _left(self, chosen: BoolArray) -> FloatArray:
        return np.asarray(self.model.limits - self.model.rows[:, chosen].sum(axis=1))

    def _needed(self, chosen: BoolArray) -> BoolArray:
        """Return the experts that alone meet some cover."""
        alone = (self.members & chosen).sum(axis=1) == 1
        return np.asarray((self.members[alone] & chosen).any(axis=0))

    def _value(self, chosen: BoolArray) -> float:
        return float(self.model.values[:, chosen].max(axis=1, initial=0.0).sum())

    def _has_time(self, search: Search) -> bool:
        limit = search.options.time_limit_s
        spent = limit is not None and search.time_s > _TIME_SHARE * limit
        return not spent and search.limit_reached() is None
