"""Compiling the kernels of the facility engine before the clock runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.solvers.base import Search
from moe2opt.solvers.facility import cut_pool, descent, flat, kernels, presolve
from moe2opt.solvers.facility.cut_pool import CutPool
from moe2opt.solvers.facility.descent import Pace, column_excess, descend
from moe2opt.solvers.facility.growth import Growth, Part
from moe2opt.solvers.facility.heuristics import greedy_facility
from moe2opt.solvers.facility.kernels import (
    add_what_fits,
    best_of_parts,
    excess_above,
    exchange,
    fill_to_one,
    find_excluded,
)
from moe2opt.solvers.facility.lagrangian import LagrangianBound
from moe2opt.solvers.facility.loop import grow
from moe2opt.solvers.facility.model import FacilityModel
from moe2opt.solvers.facility.polish import Polisher
from moe2opt.solvers.facility.presolve import assign_chains
from moe2opt.solvers.jit import compiling


def warm_up(search: Search) -> None:
    """Load or compile the kernels, once per process, while the clock stands."""
    _warm_up(search, _kernels(), compile_kernels)


def warm_up_trees(search: Search) -> None:
    """Do so with the node loop, when a tree is about to use it."""
    _warm_up(search, (grow, flat.in_preorder), compile_trees)


def _warm_up(search: Search, kernels: tuple[Any, ...], run: Callable[[], None]) -> None:
    if not all(kernel.overloads for kernel in kernels):
        with search.paused(), compiling(*kernels):
            run()


def _kernels() -> tuple[Any, ...]:
    return (
        presolve.assign_chains,
        descent.descend,
        descent.column_excess,
        kernels.exchange,
        kernels.excess_above,
        kernels.fill_to_one,
        kernels.add_what_fits,
        kernels.add_by_gain,
        kernels.find_excluded,
        kernels.best_of_parts,
        cut_pool.cut_rows,
        cut_pool.worth_at,
        cut_pool.average,
    )


def compile_kernels() -> None:
    """Run every kernel but the node loop once."""
    _compile_for_boxes(_tiny())
    _compile_for_choices(_tiny())


def compile_trees() -> None:
    """Run the node loop once."""
    model = _tiny()
    growth = Growth(model, LagrangianBound(model), Polisher(model, model.problem))
    part = Part(growth.flat(), model)
    grow(part.flat, growth.rules(True), Pace.of(model.tuning), 1, 1)
    part.flat.records[0] = -1
    part.preorder(0)


def _tiny() -> FacilityModel:
    """Return a problem with two experts and one cluster."""
    problem = FacilityProblem(np.array([[3.0, 2.0]]), np.ones((1, 2)), np.ones(1))
    return FacilityModel(problem, simplify=False)


def _compile_for_boxes(model: FacilityModel) -> None:
    problem = model.problem
    one, two, none, both = np.ones(1), np.zeros(2), np.zeros(2, dtype=bool), np.arange(2)
    excess_above(model.ranked, model.experts, one, 2)
    column_excess(model.columns, both, one, 2)
    fill_to_one(model.ranked, model.experts, two)
    costs, limits = np.array(problem.costs), np.array(problem.limits)
    find_excluded(costs, limits, 0.0, none, ~none, both)
    best_of_parts(two, none, ~none, model.part_of, two.copy(), two.copy())
    pool = CutPool([np.arange(1)])
    pool.add(one, one > 0)
    pool.rows(model, 0)
    pool.worth(model, one, two)
    pool.averaged(one, one)
    descend(
        model.columns,
        model.near,
        model.nearest,
        model.last,
        ~none,
        none,
        model.part_of,
        len(model.parts),
        costs,
        limits,
        two,
        one,
        one,
        one,
        one,
        0.0,
        2,
        1.0,
        Pace.of(model.tuning),
    )


def _compile_for_choices(model: FacilityModel) -> None:
    one, none, both = np.ones(1), np.zeros(2, dtype=bool), np.arange(2)
    assign_chains(model.columns, np.zeros((2, 0), dtype=bool), both)
    swapped, left = none.copy(), one.copy()
    ones, zeros = np.ones((1, 2)), np.zeros(2)
    exchange(model.ranked, model.experts, both, swapped, none, zeros, ones, left, 0.0, 1)
    add_what_fits(both, np.ones((1, 2)), one.copy(), none.copy())
    greedy_facility(model.problem)
