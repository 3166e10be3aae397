"""Check a front or a grid again, without any solver."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from moe2opt.canonical import Instance, Problem, just_below
from moe2opt.certify import certify
from moe2opt.differences import differences
from moe2opt.errors import DAMAGE
from moe2opt.pareto.cells import grid_of
from moe2opt.pareto.family import Family, Posed, row_names
from moe2opt.pareto.ledger import Known, Ledger, Proof
from moe2opt.pareto.model import Front, Grid
from moe2opt.pareto.points import Cell
from moe2opt.pareto.restriction import is_restriction
from moe2opt.pareto.sampling import Step, front_of
from moe2opt.result import (
    NUMERICAL_GAP,
    InputError,
    Result,
    Status,
    optimal_within,
    relative_gap,
)

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


def verify(
    found: Front | Grid, target: Instance[Any] | Problem, stored: dict[str, Any] | None = None
) -> list[str]:
    """Return everything that is wrong with a front or grid, in words; empty when it holds.

    Every certificate is replayed. Every point is evaluated again, and the problem that its bound
    comes from is compared with its own. Everything else (plans, use of budgets, status, knee) is
    rebuilt and compared. A plan that was found may not be missing, and a front that calls itself
    complete must be.

    Parameters
    ----------
    found
        A front or grid with its results (`with_results` for one that was loaded).
    target
        The instance or problem that it is about.
    stored
        Content of its file, to be compared to the letter; by default what `found` would write.

    Raises
    ------
    InputError
        When the results are missing.
    """
    proofs = found.provenance.get("proofs", ())
    if len(found.results) != len(proofs):
        raise InputError(f"{len(proofs)} results are needed, {len(found.results)} are there")
    try:
        return _failures(found, target, stored)
    except DAMAGE as error:
        return [f"it makes no sense: {error}"]


def _failures(
    found: Front | Grid, target: Instance[Any] | Problem, stored: dict[str, Any] | None
) -> list[str]:
    axes = (found.x,) if isinstance(found, Front) else found.axes
    family = Family(target, tuple(axis.name for axis in axes))
    rebuilt = _Rebuilt(found, family)
    failures = [*rebuilt.proof_faults]
    cells: tuple[Cell, ...] = found.points if isinstance(found, Front) else found.cells
    for cell in cells:
        if not -1 <= cell.proof < len(rebuilt.posed):
            failures.append(f"point {cell.budgets}: proof {cell.proof} does not exist")
            continue
        own = family.posed(cell.budgets)
        failures += [f"point {cell.budgets}: {w}" for w in _faults(cell, own, *rebuilt.of(cell))]
    if failures:
        return failures
    content = json.loads(json.dumps(found.to_dict())) if stored is None else stored
    failures += differences(content, json.loads(json.dumps(rebuilt.content())), free=_free(cells))
    failures += _missing(cells, rebuilt)
    if isinstance(found, Front) and found.complete:
        failures += _incomplete(found, family, rebuilt)
    return failures


def _free(cells: Sequence[Cell]) -> set[str]:
    """Return what only the run knew: settings, counters, and the limit that left a point open."""
    free = {"provenance.settings", "provenance.versions", "provenance.interrupted"}
    for name in ("points", "cells"):
        free |= {f"{name}[{k}].nodes" for k in range(len(cells))}
        free |= {f"{name}[{k}].limit" for k, c in enumerate(cells) if c.status in _OPEN}
    return free


_OPEN = ("FEASIBLE", "NO_SOLUTION")


class _Rebuilt:
    """A front or grid made again from its proofs and the solutions of its points."""

    def __init__(self, found: Front | Grid, family: Family) -> None:
        self.found, self.family = found, family
        self.settings = dict(found.provenance.get("settings", {}))
        self.ledger = Ledger(family, self.settings)
        self.proof_faults: list[str] = []
        for number, (told, result) in enumerate(
            zip(found.provenance.get("proofs", ()), found.results, strict=True)
        ):
            budgets = tuple(float(b) for b in told["budgets"])
            problem = family.posed(budgets).problem
            verdict = certify(problem, result)
            checked = verdict.ok and verdict.kind == "checked"
            if not checked:
                words = "; ".join(verdict.failures) or "it has no certificate"
                self.proof_faults.append(f"proof {number}: {words}")
            facts = {"kind": problem.kind, "size": problem.size, "sha256": problem.fingerprint}
            origin = {"versions": {}, **result.provenance, "problem": facts}
            made = replace(result, provenance=origin)
            self.ledger.proofs.append(Proof(budgets, problem, made, checked))

    @property
    def posed(self) -> list[Proof]:
        """The problems that were solved."""
        return self.ledger.proofs

    @property
    def tolerance(self) -> float:
        """Relative gap up to which a point is optimal."""
        asked = self.settings.get("rel_gap", NUMERICAL_GAP)
        known = isinstance(asked, int | float) and not isinstance(asked, bool)
        return max(optimal_within(float(asked)) if known else 0.0, NUMERICAL_GAP)

    def of(self, cell: Cell) -> tuple[Proof | None, float]:
        """Return the proof of a point and what it shows."""
        if cell.proof < 0:
            return None, math.inf
        proof = self.ledger.proofs[cell.proof]
        return proof, proof.result.bound

    def known(self, cell: Cell) -> tuple[Posed, Known]:
        """Return what is true of a point: all but its budgets, solution and proof follow."""
        posed, (proof, shown) = self.family.posed(cell.budgets), self.of(cell)
        x = None if cell.x is None else np.array(cell.x, dtype=np.int64)
        value = -math.inf if x is None else posed.problem.evaluate(x)
        bound = max(shown, value)
        closed = x is not None and relative_gap(value, bound) <= self.tolerance
        if x is None:
            status = Status.INFEASIBLE if bound == -math.inf else Status.NO_SOLUTION
        else:
            status = Status.OPTIMAL if closed else Status.FEASIBLE
        # Between no gap at all and rounding, whole-numbered values may have been left open.
        if x is not None and cell.status == "FEASIBLE" and relative_gap(value, bound) > 0:
            status = status if relative_gap(value, bound) > NUMERICAL_GAP else Status.FEASIBLE
        limit = cell.limit if status in _OPEN else None
        sure = proof is not None and proof.certified
        return posed, Known(status, limit, x, value, bound, sure, cell.proof, cell.nodes)

    def content(self) -> dict[str, Any]:
        """Return what the file must hold."""
        found = self.found
        if isinstance(found, Front):
            steps = [Step(cell.budget, cell.budget, *self.known(cell)) for cell in found.points]
            return front_of(self.ledger, steps, complete=found.complete).to_dict()
        axes = tuple(self.family.axis(axis.name, axis.values) for axis in found.axes)
        indices = list(itertools.product(*(range(len(axis.values)) for axis in axes)))
        by_index = dict(zip(indices, found.cells, strict=False))
        return grid_of(self.ledger, axes, {k: self.known(c) for k, c in by_index.items()}).to_dict()


def _missing(cells: Sequence[Cell], rebuilt: _Rebuilt) -> Iterator[str]:
    """Yield the plans that were found and that no point is as good as."""
    for number, proof in enumerate(rebuilt.posed):
        result = proof.result
        least = result.objective - NUMERICAL_GAP * abs(result.objective)
        if result.x is not None and not any(
            cell.objective >= least
            and all(a <= b for a, b in zip(cell.budgets, proof.budgets, strict=True))
            for cell in cells
        ):
            yield f"points: the plan of proof {number} (budgets {proof.budgets}) is missing"


def _incomplete(front: Front, family: Family, rebuilt: _Rebuilt) -> Iterator[str]:
    """Yield where a front that calls itself complete leaves room for another point."""
    if family.kind(front.x.name) != "row":
        yield "complete: only the front over a budget row can be"
        return
    row = row_names(family.target).index(front.x.name)
    for left, right in itertools.pairwise(front.points):
        if not left.budget < right.budget:
            yield f"points: the budgets {left.budget!r} and {right.budget!r} are not ascending"
            continue
        below = just_below(family.posed(right.budgets).problem, row, right.budget)
        between = family.posed((max(below, left.budget),))
        bounds = [
            proof.result.bound
            for proof in rebuilt.posed
            if is_restriction(between.problem, proof.problem)
        ]
        best = min(bounds, default=math.inf)
        if best > left.objective and relative_gap(left.objective, best) > rebuilt.tolerance:
            yield (
                f"complete: between the budgets {left.budget!r} and {right.budget!r} another plan "
                "is not excluded"
            )


def _faults(cell: Cell, own: Posed, relaxed: Proof | None, bound: float) -> Iterator[str]:
    if relaxed is not None and not is_restriction(own.problem, relaxed.problem):
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
