"""What has been proven so far, and what it says about the next problem.

A problem with smaller budgets restricts one with larger budgets. The bound of the larger one then
holds for the smaller one, and a plan of the larger one that still fits, and is still worth that
bound, is optimal there: nothing has to be solved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from moe2opt.canonical import Instance, Problem
from moe2opt.certify import certify
from moe2opt.interrupts import handling_interrupts
from moe2opt.pareto.family import Family, Posed
from moe2opt.pareto.restriction import is_restriction
from moe2opt.result import NUMERICAL_GAP, IntArray, Limit, Result, Status, closing_gap, relative_gap
from moe2opt.solve import run
from moe2opt.source import source_of

#: Known solutions that are tried as a start, best first.
_MOST_STARTS = 8


@dataclass(frozen=True, slots=True)
class Proof:
    """A problem that was solved.

    Attributes
    ----------
    budgets
        Its budgets on the axes.
    problem
        The canonical problem.
    result
        What the solver returned.
    certified
        The checker accepted the result with a certificate.
    """

    budgets: tuple[float, ...]
    problem: Any
    result: Result
    certified: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about one problem: status, solution, bound, and what proves it."""

    status: Status
    limit: str | None
    x: IntArray | None
    objective: float
    bound: float
    certified: bool
    proof: int
    nodes: int = 0


@dataclass(slots=True)
class Ledger:
    """Proofs in the order they were found, and the settings to find more.

    Attributes
    ----------
    family
        Where problems come from.
    settings
        Arguments of `moe2opt.solve`.
    on_step
        Called after every problem with the number of problems known and solved.
    proofs
        What was solved.
    known
        Number of problems known.
    interrupted
        Set by Ctrl-C: nothing more is solved.
    """

    family: Family
    settings: dict[str, Any]
    on_step: Callable[[int, int], None] | None = None
    proofs: list[Proof] = field(default_factory=list)
    known: int = 0
    interrupted: bool = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let Ctrl-C end the search, not the process: what is known is kept; again to abort."""

        def stop(signum: int, frame: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        with handling_interrupts(stop):
            yield

    def know(self, budgets: tuple[float, ...]) -> tuple[Posed, Known]:
        """Return what is known at a point, solving it where earlier proofs do not settle it."""
        posed = self.family.posed(budgets)
        ceiling = self._ceiling(budgets, posed)
        start = self._start(
            posed, math.inf if ceiling is None else self.proofs[ceiling].result.bound
        )
        found = None if ceiling is None else self._settled(posed, ceiling, start)
        if found is None and self.interrupted:
            found = self._unsolved(posed, ceiling, start)
        elif found is None:
            found = self._solved(budgets, posed, ceiling, start)
        self.known += 1
        if self.on_step is not None:
            self.on_step(self.known, len(self.proofs))
        return posed, found

    def _ceiling(self, budgets: tuple[float, ...], posed: Posed) -> int | None:
        """Return the proof with the smallest bound among those that relax the problem."""
        larger = [
            k
            for k, proof in enumerate(self.proofs)
            if all(a >= b for a, b in zip(proof.budgets, budgets, strict=True))
        ]
        for k in sorted(larger, key=lambda k: (self.proofs[k].result.bound, k)):
            if is_restriction(posed.problem, self.proofs[k].problem):
                return k
        return None

    def _start(self, posed: Posed, enough: float) -> IntArray | None:
        """Return a known solution that is feasible here, the best of the most promising ones."""
        best, found = -math.inf, None
        solved = [p.result for p in self.proofs if p.result.x is not None]
        nearest = sorted(
            solved, key=lambda r: (abs(r.objective - min(enough, 1e300)), -r.objective)
        )
        for result in nearest[:_MOST_STARTS]:
            x = result.x
            assert x is not None
            if len(x) != posed.problem.size or not posed.problem.is_feasible(x):
                continue
            value = posed.problem.evaluate(x)
            if value > best:
                best, found = value, x
        return found

    def _settled(self, posed: Posed, ceiling: int, start: IntArray | None) -> Known | None:
        """Return what earlier proofs settle, None if a plan as good as the bound is missing."""
        proof = self.proofs[ceiling]
        bound = proof.result.bound
        if bound == -math.inf:
            status = Status.INFEASIBLE
            return Known(status, None, None, bound, bound, proof.certified, ceiling)
        value = -math.inf if start is None else posed.problem.evaluate(start)
        if relative_gap(value, bound) > self._tolerance(posed.problem):
            return None
        bound = max(bound, value)
        return Known(Status.OPTIMAL, None, start, value, bound, proof.certified, ceiling)

    def _tolerance(self, problem: Any) -> float:
        return closing_gap(float(self.settings["rel_gap"]), problem.is_integral)

    def _solved(
        self, budgets: tuple[float, ...], posed: Posed, ceiling: int | None, start: IntArray | None
    ) -> Known:
        """Solve, certify and file a problem."""
        result = run(posed.problem, warm_start=start, of=posed.instance, **self.settings)
        result = _plain(result, self._provenance(result, budgets))
        verdict = certify(posed.problem, result)
        self.interrupted = self.interrupted or result.limit is Limit.INTERRUPTED
        certified = verdict.ok and verdict.kind == "checked"
        number = len(self.proofs)
        self.proofs.append(Proof(budgets, posed.problem, result, certified))
        own = Known(
            result.status,
            None if result.limit is None else str(result.limit),
            result.x,
            result.objective,
            result.bound,
            certified,
            number,
            int(result.stats.get("nodes", 0)),
        )
        return own if ceiling is None else self._tightened(own, posed, ceiling)

    def _unsolved(self, posed: Posed, ceiling: int | None, start: IntArray | None) -> Known:
        """Return what is known after an interrupt, when nothing is solved any more."""
        bound = math.inf if ceiling is None else self.proofs[ceiling].result.bound
        certified = ceiling is not None and self.proofs[ceiling].certified
        value = -math.inf if start is None else posed.problem.evaluate(start)
        status = Status.NO_SOLUTION if start is None else Status.FEASIBLE
        number = -1 if ceiling is None else ceiling
        limit = str(Limit.INTERRUPTED)
        return Known(status, limit, start, value, max(bound, value), certified, number)

    def _tightened(self, own: Known, posed: Posed, ceiling: int) -> Known:
        """Return what is known with the bound of an earlier proof, where that is smaller."""
        other = self.proofs[ceiling]
        if other.result.bound >= own.bound or own.x is None:
            return own
        bound = max(other.result.bound, own.objective)
        closed = relative_gap(own.objective, bound) <= self._tolerance(posed.problem)
        status, limit = (Status.OPTIMAL, None) if closed else (own.status, own.limit)
        certified = other.certified and own.certified
        return replace(
            own, bound=bound, status=status, limit=limit, proof=ceiling, certified=certified
        )

    def _provenance(self, result: Result, budgets: tuple[float, ...]) -> dict[str, Any]:
        """Return where a result comes from: the same for equal runs."""
        source = source_of(self.family.target)
        origin: dict[str, Any] = {}
        if source is not None:
            origin = {
                "question": source.question,
                "file": source.path.name,
                "scenario": source.scenario,
                "overrides": [*source.overrides, *self.family.texts(budgets)],
            }
        return {
            **origin,
            "instance": self.family.name,
            "axes": dict(zip(self.family.names, budgets, strict=True)),
            "problem": result.provenance["problem"],
            "solver": result.provenance["solver"],
            "versions": result.provenance["versions"],
        }


def _plain(result: Result, provenance: dict[str, Any]) -> Result:
    """Return a result without log and times: the same for equal runs."""
    stats = {key: value for key, value in result.stats.items() if not key.endswith("_s")}
    return replace(result, log=(), stats=stats, provenance=provenance)


def settings_of(target: Instance | Problem, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `moe2opt.solve`: what was given beats the file's solver section."""
    chosen: dict[str, Any] = {"rel_gap": NUMERICAL_GAP, "seed": 0, "threads": 1}
    if (source := source_of(target)) is not None:
        own = source.solver.model_dump()
        gib = own.pop("memory_limit_gib")
        own["memory_limit_bytes"] = None if gib is None else int(gib * 2**30)
        chosen |= {"solver": own.pop("name"), **own}
    chosen |= {name: value for name, value in given.items() if value is not None}
    return {name: value for name, value in chosen.items() if value is not None}
