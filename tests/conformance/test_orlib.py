"""Conformance: every solver on every third-party instance, against the published values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solving import run

from moe2opt.bench.orlib import (
    assignments,
    build_orlib,
    knapsacks,
    multiple_choice,
    p_median,
    read_values,
    warehouses,
)
from moe2opt.canonical import MonotoneProblem, MultipleChoiceProblem
from moe2opt.certify import certify
from moe2opt.result import InputError, Status
from moe2opt.solvers import SOLVERS
from moe2opt.solvers.enumeration import point_count

#: Seconds for a solver that is not expected to finish; what it then says must still be true.
BRIEFLY_S = 1.0

#: A case ready to solve: the problem, and how its objective reads in the published units.
Loaded = tuple[Any, Callable[[float], float]]


@dataclass(frozen=True, slots=True)
class Case:
    """One instance in one formulation.

    Attributes
    ----------
    name
        Unique name of the test case.
    known
        Folder and name of the published value.
    load
        Folder of instances to problem and objective in published units.
    proven_by
        Exact solvers that must prove the optimum, with any effort; the others run briefly.
    """

    name: str
    known: tuple[str, str]
    load: Callable[[Path], Loaded]
    proven_by: tuple[str, ...]


def as_is(objective: float) -> float:
    """Return the objective: the instance is maximised as published."""
    return objective


def on_unit_box(problem: MultipleChoiceProblem) -> MonotoneProblem:
    """Return groups {skip, take} as a linear objective and linear constraints on the unit box."""
    values = np.array([options[1] for options in problem.values])
    weights = np.stack([usage[1] for usage in problem.usage], axis=1)
    return MonotoneProblem(
        lower=np.zeros(len(values), dtype=int),
        upper=np.ones(len(values), dtype=int),
        objective=lambda points: points @ values,
        constraints=[
            lambda points, row=row, limit=limit: points @ row - limit
            for row, limit in zip(weights, problem.budgets, strict=True)
        ],
        submodular=True,
        integral=bool(np.all(values == np.floor(values))),
    )


def knapsack_choice(k: int) -> Callable[[Path], Loaded]:
    """Return the loader of the k-th multi-constraint knapsack as multiple choice."""
    return lambda folder: (list(knapsacks(folder / "mknap/mknap1.txt"))[k], as_is)


def knapsack_monotone(k: int) -> Callable[[Path], Loaded]:
    """Return the loader of the k-th multi-constraint knapsack as a monotone problem."""
    return lambda folder: (on_unit_box(list(knapsacks(folder / "mknap/mknap1.txt"))[k]), as_is)


def assignment(name: str, k: int) -> Callable[[Path], Loaded]:
    """Return the loader of the k-th generalised assignment problem of a file."""
    return lambda folder: (list(assignments(folder / f"gap/{name}.txt"))[k], as_is)


def one_of_each(name: str) -> Callable[[Path], Loaded]:
    """Return the loader of a multiple-choice multi-dimensional knapsack."""
    return lambda folder: (multiple_choice(folder / f"mmkp/{name}.txt"), as_is)


def minimised(read: Callable[[Path], tuple[Any, float]], file: str) -> Callable[[Path], Loaded]:
    """Return the loader of a problem whose cost is a constant minus the objective."""

    def load(folder: Path) -> Loaded:
        problem, constant = read(folder / file)
        return problem, lambda objective: constant - objective

    return load


CASES = [
    *(
        Case(f"mknap1-{k + 1}", ("mknap", f"mknap1-{k + 1}"), knapsack_choice(k), ("brb", "milp"))
        for k in range(7)
    ),
    *(
        Case(
            f"mknap1-{k + 1}-monotone",
            ("mknap", f"mknap1-{k + 1}"),
            knapsack_monotone(k),
            ("brb", "polyblock", "enumerate") if k < 2 else ("brb",) if k < 4 else (),
        )
        for k in range(7)
    ),
    *(
        Case(f"{name}-{k + 1}", ("gap", f"{name}-{k + 1}"), assignment(name, k), ("brb", "milp"))
        for name in ("gap1", "gap2")
        for k in range(5)
    ),
    *(
        Case(name, ("mmkp", name), one_of_each(name), ("brb", "milp"))
        for name in ("I01", "I02", "I03")
    ),
    *(
        Case(
            name,
            ("cap", f"{name}-uncap"),
            minimised(warehouses, f"cap/{name}.txt"),
            ("brb", "milp") if name == "cap73" else ("brb",),
        )
        for name in ("cap71", "cap73", "cap101", "cap103", "cap131", "cap133", "capa", "capc")
    ),
    *(
        Case(name, ("pmed", name), minimised(p_median, f"pmed/{name}.txt"), ("brb", "milp"))
        for name in ("pmed1", "pmed2", "pmed6", "pmed11")
    ),
]

QUICK = {"mknap1-1", "mknap1-1-monotone", "gap1-1", "I01", "cap71", "cap133", "capc"}


def table() -> list[Any]:
    """Return every case with every solver; all but a few are slow."""
    return [
        pytest.param(
            case,
            solver,
            id=f"{case.name}-{solver}",
            marks=[] if case.name in QUICK and solver in case.proven_by else [pytest.mark.slow],
        )
        for case in CASES
        for solver in SOLVERS
    ]


@pytest.mark.parametrize(("case", "solver"), table())
def test_published_value(case: Case, solver: str, shared_data: Path) -> None:
    """A solver reproduces the published optimum, or at least contradicts it nowhere."""
    known = read_values(shared_data / "instances" / case.known[0])[case.known[1]]
    assert known.is_optimum
    problem, published = case.load(shared_data / "instances")
    if not isinstance(problem, SOLVERS[solver].families):
        pytest.skip(f"{solver} does not handle {type(problem).__name__}")
    if solver == "enumerate" and point_count(problem) > 2**22:
        pytest.skip(f"{point_count(problem):.3g} points are too many to enumerate")
    limit = None if solver in case.proven_by or not SOLVERS[solver].exact else BRIEFLY_S
    result = run(problem, solver, time_limit_s=limit)
    assert certify(problem, result).ok
    if solver in case.proven_by:
        assert result.status is Status.OPTIMAL
        assert published(result.objective) == pytest.approx(known.best_known, rel=1e-8)
    optimum = objective_of(known.best_known, published)
    margin = 1e-8 * max(abs(optimum), abs(known.best_known))
    assert result.objective <= optimum + margin
    assert result.bound >= optimum - margin


@pytest.mark.parametrize("instance", ["cap61", "cap63", "cap91", "capa-8000", "capc-7250"])
def test_binding_capacities_are_refused(instance: str, shared_data: Path) -> None:
    """Capacities that divide customers among warehouses are refused by name, in one sentence."""
    with pytest.raises(
        InputError, match=r"cap.*: capacities can bind .* no canonical problem does"
    ):
        build_orlib({"family": "cap", "instance": instance}, shared_data)


def test_capacities_that_never_bind_are_ignored(shared_data: Path) -> None:
    """Where each warehouse could serve everybody, the problem is the one without capacities."""
    built, plain = (
        build_orlib({"family": "cap", "instance": name}, shared_data)
        for name in ("cap71", "cap71-uncap")
    )
    assert built.problem == plain.problem


def objective_of(value: float, published: Callable[[float], float]) -> float:
    """Return the objective that reads as `value`: `published` has slope one, up or down."""
    slope = published(1.0) - published(0.0)
    return math.copysign(1.0, slope) * (value - published(0.0))
