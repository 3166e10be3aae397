r"""From a case to the canonical problem.

.. math::

    \max_S \sum_c w_c \max_{i \in S} v_{ci} \quad \text{s.t.} \quad \sum_{i \in S} a_{ki} \le b_k

over the pairs that keep the limits of their class, others being worth 0. That every class is
served, and that a base candidate is there, are covers.
"""

from __future__ import annotations

from moe2opt.canonical import FacilityProblem
from moe2opt.portfolio.case import Case


def compile_case(case: Case) -> FacilityProblem:
    """Return the problem; class c and candidate i are those of the case, in order."""
    number = {name: i for i, name in enumerate(case.candidates)}
    values = [
        [row[name].value if name in row else 0.0 for name in case.candidates]
        for row in case.cells.values()
    ]
    covers = [[number[name] for name in row] for row in case.cells.values()] if case.every else []
    return FacilityProblem(
        values=values,
        costs=[[cost[name] for name in case.candidates] for cost in case.costs.values()],
        budgets=list(case.limits.values()),
        weights=list(case.weights.values()),
        covers=[*covers, *([number[name]] for name in case.base)],
    )


def cover_names(case: Case) -> list[str]:
    """Return the name of each cover."""
    classes = [f"{name} is served" for name in case.cells] if case.every else []
    return [*classes, *(f"{name} is there" for name in case.base)]
