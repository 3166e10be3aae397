r"""From a case to the canonical problem: group by group, row by row.

.. math:: \max \sum_g \pm w_g v_{g,o(g)} \quad \text{s.t.} \quad \sum_g u_{g,o(g),k} \le b_k

with a minus where the value is to be small.

Where up to :math:`\Gamma` weights deviate within intervals, an option loses :math:`h_{go}` when the
weight of its group does, and a plan is worth its sum less the :math:`\Gamma` largest losses
(Bertsimas and Sim, *The price of robustness*, Operations Research 52, 2004). That is exactly one
problem of the same kind: each option is there *exposed*, worth :math:`h_{go}` less, and
*sheltered*, and a first group holds the *threshold*, one of the losses. With the losses in order,
an option of rank :math:`r` may be sheltered under a threshold of rank :math:`k \ge r` and exposed
under one of :math:`k \le r`, and at most :math:`G - \Gamma` options are sheltered. So those
that are exposed lose no less than others, and the best choice exposes the :math:`\Gamma` worst.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.levels.case import Case, Level
from moe2opt.levels.judge import deviating
from moe2opt.result import IntArray


def compile_case(case: Case) -> MultipleChoiceProblem:
    """Return the problem in the order of ``case.menus``, where no weight deviates or all do."""
    worst = case.deviating == len(case.menus)
    return MultipleChoiceProblem(
        values=[
            [_worth(case, group, level, worst) for level in menu]
            for group, menu in case.menus.items()
        ],
        usage=[[level.uses for level in menu] for menu in case.menus.values()],
        budgets=list(case.limits.values()),
    )


@dataclass(frozen=True, eq=False, slots=True)
class Robust:
    """The problem of the worst case, and what its groups and rows stand for.

    Attributes
    ----------
    problem
        The canonical problem; its first group is the threshold.
    thresholds
        Losses, rising.
    ways
        Options of each further group: a level, and whether it is exposed.
    rows
        Name of each row; those after the budgets are no limits of the user's.
    """

    problem: MultipleChoiceProblem
    thresholds: tuple[float, ...]
    ways: dict[str, tuple[tuple[Level, bool], ...]]
    rows: tuple[str, ...]

    def levels(self, x: IntArray) -> dict[str, Level]:
        """Return the levels that a solution stands for."""
        pairs = zip(self.ways.items(), x[1:], strict=True)
        return {group: ways[int(o)][0] for (group, ways), o in pairs}

    def vector(self, case: Case, chosen: Mapping[str, Level]) -> IntArray:
        """Return the solution of most value with these levels."""
        exposed = deviating(case, chosen)
        threshold = min(case.harm(group, chosen[group]) for group in exposed)
        options = [
            ways.index((chosen[group], group in exposed)) for group, ways in self.ways.items()
        ]
        return np.array([self.thresholds.index(threshold), *options], dtype=np.int64)


def compile_robust(case: Case) -> Robust:
    """Return the problem of a case some, but not all, of whose weights deviate."""
    harms = {
        group: [case.harm(group, level) for level in menu] for group, menu in case.menus.items()
    }
    count, spare = len(harms), len(case.limits)
    # The threshold is the least of those that deviate: between these whatever is chosen.
    low, high = (
        sorted(map(end, harms.values()), reverse=True)[case.deviating - 1] for end in (min, max)
    )
    losses = sorted({harm for own in harms.values() for harm in own if low <= harm <= high})
    last, rows = len(losses) - 1, spare + 2 * count + 1
    ranks = np.arange(len(losses), dtype=np.float64)
    clock = np.zeros((len(losses), rows))
    clock[:, spare : spare + count] = last - ranks[:, None]
    clock[:, spare + count : -1] = ranks[:, None]
    values, usage = [np.zeros(len(losses))], [clock]
    ways: dict[str, tuple[tuple[Level, bool], ...]] = {}
    for g, (group, menu) in enumerate(case.menus.items()):
        pairs = [*zip(menu, harms[group], strict=True)]
        sheltered = [(level, harm, False) for level, harm in pairs if harm <= high]
        exposed = [(level, harm, True) for level, harm in pairs if harm >= low]
        own = np.zeros((len(sheltered) + len(exposed), rows))
        for use, (level, harm, lost) in zip(own, [*sheltered, *exposed], strict=True):
            use[:spare] = level.uses
            use[-1] = not lost
            if lost:
                use[spare + count + g] = last - (bisect.bisect_right(losses, harm) - 1)
            else:
                use[spare + g] = bisect.bisect_left(losses, harm)
        ways[group] = tuple((level, lost) for level, _, lost in [*sheltered, *exposed])
        usage.append(own)
        values.append(np.array([_worth(case, group, *way) for way in ways[group]]))
    limits = [*case.limits.values(), *[float(last)] * (2 * count), float(count - case.deviating)]
    names = (
        *case.limits,
        *(f"{group} is sheltered" for group in harms),
        *(f"{group} is exposed" for group in harms),
        "weights that deviate",
    )
    return Robust(MultipleChoiceProblem(values, usage, limits), tuple(losses), ways, names)


def _worth(case: Case, group: str, level: Level, exposed: bool) -> float:
    weight = case.worst_weight(group, level) if exposed else case.weights[group]
    return case.measure.own(weight * level.value)
