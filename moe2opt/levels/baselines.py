"""Rules in use on the same table: one option for all, the marginal greedy rule, named plans."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from moe2opt.beside import Rival, beside, nothing
from moe2opt.errors import InputError
from moe2opt.levels.case import Case, Level
from moe2opt.levels.compile import compile_case
from moe2opt.levels.judge import Chosen, faults, gained, levels_of, standard_error, total
from moe2opt.result import IntArray


def rivals(case: Case, plan: Chosen) -> Iterator[Rival]:
    """Yield each baseline that the case asks for, beside a plan."""
    for name, known in case.rivals.items():
        rule = uniform if name == "uniform" else greedy
        chosen = rule(case) if known is None else levels_of(case, known)
        if chosen is None:
            yield nothing(name)
            continue
        choices = {group: level.option for group, level in chosen.items()}
        yield beside(
            f"uniform ({next(iter(choices.values()))})" if name == "uniform" else name,
            choices,
            (total(case, plan), total(case, chosen)),
            gained(case, plan, chosen),
            standard_error(case, plan, chosen),
            faults(case, chosen),
        )


def uniform(case: Case) -> dict[str, Level] | None:
    """Return the best plan within the budgets that gives every group the same option."""
    best = None
    for option in [level.option for level in next(iter(case.menus.values()))]:
        try:
            chosen = levels_of(case, dict.fromkeys(case.menus, option))
        except InputError:  # not every group has this option
            continue
        better = best is None or gained(case, chosen, best) > 0
        if better and not faults(case, chosen):
            best = chosen
    return best


def greedy(case: Case) -> dict[str, Level] | None:
    """Return the better of two marginal rules, None where both end outside the budgets.

    One starts with the smallest option of every group, the other with the best one and first gives
    back, for the least loss, what is used too much. Both then take the change of one group with the
    largest gain per further share of the budgets, as long as one fits.
    """
    rule = _Marginal(case)
    ends = [rule.up(rule.smallest), rule.up(rule.down(rule.best))]
    found = [end for end in ends if end is not None]
    if not found:
        return None
    x = max(found, key=lambda x: float(rule.values[x].sum()))
    flat = [(group, level) for group, menu in case.menus.items() for level in menu]
    return dict(flat[i] for i in x)


class _Marginal:
    """Flat arrays of all options; a choice is the ``(G,)`` vector of their positions."""

    def __init__(self, case: Case) -> None:
        problem = compile_case(case)
        self.values = problem.flat_values
        self.costs, self.limits = problem.costs.T, problem.limits
        scale = np.where(problem.budgets > 0, problem.budgets, 1.0)
        self.shares = (self.costs / scale).sum(axis=1)
        self.scale = scale
        starts = problem.offsets
        self.group_of = np.repeat(np.arange(problem.size), np.diff(starts))
        parts = [np.arange(a, b) for a, b in itertools.pairwise(starts)]
        self.smallest = np.array(
            [p[np.lexsort((-self.values[p], self.shares[p]))[0]] for p in parts]
        )
        self.best = np.array([p[np.lexsort((self.shares[p], -self.values[p]))[0]] for p in parts])

    def _used(self, x: IntArray) -> np.ndarray:
        """Return the ``(M, K)`` use after each change of one group."""
        used: np.ndarray = self.costs[x].sum(axis=0) + self.costs - self.costs[x][self.group_of]
        return used

    def up(self, x: IntArray) -> IntArray | None:
        """Take gains while they fit."""
        x = x.copy()
        if not (self.costs[x].sum(axis=0) <= self.limits).all():
            return None
        while True:
            now = x[self.group_of]
            gain = self.values - self.values[now]
            fits = (self._used(x) <= self.limits).all(axis=1) & (gain > 0)
            if not fits.any():
                return x
            more = np.maximum(self.shares - self.shares[now], 1e-300)
            i = int(np.argmax(np.where(fits, np.minimum(gain / more, 1e300), -1.0)))
            x[self.group_of[i]] = i

    def down(self, x: IntArray) -> IntArray:
        """Give back what is used too much, the least loss per share first."""
        x = x.copy()
        while True:
            over = (np.maximum(self.costs[x].sum(axis=0) - self.limits, 0) / self.scale).sum()
            left = (np.maximum(self._used(x) - self.limits, 0) / self.scale).sum(axis=1)
            helps = left < over * (1 - 1e-12)  # more than rounding
            if not helps.any():
                return x
            loss = self.values[x[self.group_of]] - self.values
            freed = np.where(helps, over - left, 1.0)
            i = int(np.argmin(np.where(helps, loss / freed, np.inf)))
            x[self.group_of[i]] = i
