"""Check a front or a grid again, without any solver."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from moe2opt.canonical import Instance, Problem
from moe2opt.certify import certify
from moe2opt.pareto.family import Family, Posed
from moe2opt.pareto.model import Front, Grid
from moe2opt.pareto.points import Cell
from moe2opt.pareto.restriction import is_restriction
from moe2opt.result import NUMERICAL_GAP, InputError, Result, relative_gap

_Found = TypeVar("_Found", Front, Grid)


def save_results(found: Front | Grid, folder: str | Path) -> None:
    """Write the results of all solved problems, certificates included, as ``0000.json``, ..."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, result in enumerate(found.results):
        result.save(folder / f"{number:04d}.json")


def with_results(found: _Found, folder: str | Path) -> _Found:
    """Return a front or grid with the results that `save_results` wrote."""
    count = len(found.provenance.get("proofs", ()))
    results = tuple(Result.load(Path(folder) / f"{k:04d}.json") for k in range(count))
    return replace(found, results=results)


def verify(found: Front | Grid, target: Instance | Problem) -> list[str]:
    """Return everything that is wrong with a front or grid, in words; empty when it holds.

    Every certificate is replayed. Every point is evaluated again, and the problem that its bound
    comes from is compared with its own.

    Parameters
    ----------
    found
        A front or grid with its results (`with_results` for one that was loaded).
    target
        The instance or problem that it is about.

    Raises
    ------
    InputError
        When the results are missing.
    """
    proofs = found.provenance.get("proofs", ())
    if len(found.results) != len(proofs):
        raise InputError(f"{len(proofs)} results are needed, {len(found.results)} are there")
    axes = (found.x,) if isinstance(found, Front) else found.axes
    family = Family(target, tuple(axis.name for axis in axes))
    posed = [family.posed([float(b) for b in proof["budgets"]]) for proof in proofs]
    failures = []
    for number, (at, result) in enumerate(zip(posed, found.results, strict=True)):
        verdict = certify(at.problem, result)
        if not (verdict.ok and verdict.kind == "checked"):
            words = "; ".join(verdict.failures) or "it has no certificate"
            failures.append(f"proof {number}: {words}")
    cells: tuple[Cell, ...] = found.points if isinstance(found, Front) else found.cells
    for cell in cells:
        if not 0 <= cell.proof < len(posed):
            failures.append(f"point {cell.budgets}: proof {cell.proof} does not exist")
            continue
        own, relaxed = family.posed(cell.budgets), posed[cell.proof]
        bound = found.results[cell.proof].bound
        failures += [f"point {cell.budgets}: {w}" for w in _faults(cell, own, relaxed, bound)]
    return failures


def _faults(cell: Cell, own: Posed, relaxed: Posed, bound: float) -> Iterator[str]:
    if not is_restriction(own.problem, relaxed.problem):
        yield f"its problem is not a restriction of that of proof {cell.proof}"
    if cell.bound < bound and cell.bound != cell.objective:
        yield f"the bound is {cell.bound!r}, proof {cell.proof} shows {bound!r}"
    if cell.x is None:
        if cell.objective != -math.inf or (cell.status == "INFEASIBLE") != (bound == -math.inf):
            yield f"status {cell.status} without a plan does not fit the bound {bound!r}"
        return
    x = np.array(cell.x, dtype=np.int64)
    if not own.problem.is_feasible(x):
        yield "the plan breaks a budget or a set"
    if (value := own.problem.evaluate(x)) != cell.objective:
        yield f"the plan is worth {value!r}, not {cell.objective!r}"
    if value > bound + NUMERICAL_GAP * abs(bound):
        yield f"the plan is worth {value!r}, more than the bound {bound!r}"
    if cell.status == "OPTIMAL" and not math.isfinite(relative_gap(cell.objective, cell.bound)):
        yield "OPTIMAL without a bound"
