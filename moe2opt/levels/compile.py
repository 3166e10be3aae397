r"""From a case to the canonical problem: group by group, row by row.

.. math:: \max \sum_g \pm w_g v_{g,o(g)} \quad \text{s.t.} \quad \sum_g u_{g,o(g),k} \le b_k

with a minus where the value is to be small.
"""

from __future__ import annotations

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.levels.case import Case


def compile_case(case: Case) -> MultipleChoiceProblem:
    """Return the problem; group g and option o are those of ``case.menus``, in order."""
    own = case.measure.own
    return MultipleChoiceProblem(
        values=[
            [own(case.weights[group] * level.value) for level in menu]
            for group, menu in case.menus.items()
        ],
        usage=[[level.uses for level in menu] for menu in case.menus.values()],
        budgets=list(case.limits.values()),
    )
