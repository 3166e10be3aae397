"""Compiling the kernels of the facility engine before the clock runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.solvers.base import Search


def warm_up(search: Search) -> None:
    """Load or compile the kernels, once per process, while the clock stands."""
    from moe2opt.solvers.jit import announce, is_stored

    kernels = _kernels()
    if all(kernel.signatures for kernel in kernels):
        return
    if not all(map(is_stored, kernels)):
        announce()
    with search.paused():
        compile_kernels()


def _kernels() -> tuple[Any, ...]:
    from moe2opt.solvers.descent import column_excess, descend
    from moe2opt.solvers.dominance import assign_chains
    from moe2opt.solvers.kernels import add_what_fits, best_swap, excess_above, fill_to_one

    return (
        assign_chains,
        descend,
        column_excess,
        best_swap,
        excess_above,
        fill_to_one,
        add_what_fits,
    )


def compile_kernels() -> None:
    """Run every kernel once, on a problem with two experts and one cluster."""
    from moe2opt.solvers.facility_model import FacilityModel

    assign_chains, descend, column_excess, best_swap, excess_above, fill_to_one, add_what_fits = (
        _kernels()
    )
    problem = FacilityProblem(np.array([[3.0, 2.0]]), np.ones((1, 2)), np.ones(1))
    model = FacilityModel(problem, simplify=False)
    one, two, none = np.ones(1), np.zeros(2), np.zeros(2, dtype=bool)
    both = np.arange(2)
    assign_chains(model.columns, np.zeros((2, 0), dtype=bool), both)
    excess_above(model.ranked, model.experts, model.all_clusters, one, 2)
    column_excess(model.columns, both, one, 2)
    fill_to_one(model.ranked, model.experts, two)
    best_swap(model.ranked, model.experts, both, none, none, np.ones((1, 2)), one)
    add_what_fits(both, np.ones((1, 2)), one.copy(), none.copy())
    descend(
        model.columns,
        model.near,
        model.nearest,
        model.last,
        ~none,
        none,
        model.part_of,
        len(model.parts),
        problem.costs,
        problem.limits,
        two,
        one,
        one,
        one,
        one,
        0.0,
        2,
    )
