"""Why a problem is infeasible: the budgets that clash, and the least change that would help."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from moe2opt.canonical import (
    RELAXATION_TOLERANCE,
    FacilityProblem,
    MonotoneProblem,
    MultipleChoiceProblem,
    Problem,
    is_integral,
    just_below,
    relaxed,
    row_count,
    row_limit,
    row_usage,
    without_rows,
)
from moe2opt.result import Certificate, Conflict, IntArray, Relaxation
from moe2opt.solvers.base import Outcome, Search
from moe2opt.solvers.brb import choose_relaxation, explore

#: Halvings of the interval that holds the least limit.
_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class _Clash:
    """Rows that cannot hold together, with the proof."""

    rows: tuple[int, ...]
    proof: Certificate
    smallest: bool


def explained(outcome: Outcome, search: Search) -> Outcome:
    """Return a solver's outcome, with the certified conflict of a problem proven infeasible.

    The smallest set of clashing budget rows is found by trying subsets (by dropping rows one at a
    time when there are many) and proven on its own; then each of its rows is relaxed as little as
    needed while all other rows hold. When a limit cuts this short, the solver's own proof stands
    and the conflict is left out.
    """
    if outcome.bound > -math.inf or outcome.certificate is None:
        return outcome
    problem = search.problem
    clash = _clash(problem, search)
    if clash is None:
        return outcome
    own = [row for row in clash.rows if row not in search.options.fixed_rows]
    relaxations = [_least_relaxation(problem, row, search, clash.proof.kind) for row in own]
    conflict = Conflict(
        rows=clash.rows,
        covers=_covers_used(problem, clash.proof),
        smallest=clash.smallest,
        relaxations=tuple(r for r in relaxations if r is not None),
    )
    certificate = replace(clash.proof, problem_hash=problem.fingerprint, conflict=conflict).sealed()
    named = {"leaves": certificate.leaves, "conflict_rows": list(clash.rows)}
    return replace(outcome, certificate=certificate, stats=outcome.stats | named)


def _clash(problem: Problem, search: Search) -> _Clash | None:
    fixed = search.options.fixed_rows
    rows = [row for row in range(row_count(problem)) if row not in fixed]
    if len(rows) > search.options.tuning.tree.all_subsets:
        return _by_deletion(problem, search)
    for size in range(len(rows) + 1):
        for subset in itertools.combinations(rows, size):
            kept = tuple(sorted((*fixed, *subset)))
            answer = _decide(without_rows(problem, kept), search)
            if answer is None:
                return None
            if isinstance(answer, Certificate):
                return _Clash(kept, answer, smallest=True)
    return None


def _by_deletion(problem: Problem, search: Search) -> _Clash | None:
    """Drop rows one at a time as long as the rest stays infeasible."""
    kept = list(range(row_count(problem)))
    proof = _decide(problem, search)
    for row in [row for row in kept if row not in search.options.fixed_rows]:
        rest = [k for k in kept if k != row]
        answer = _decide(without_rows(problem, rest), search)
        if answer is None:
            return None
        if isinstance(answer, Certificate):
            kept, proof = rest, answer
    return _Clash(tuple(kept), proof, smallest=False) if isinstance(proof, Certificate) else None


def _least_relaxation(problem: Problem, row: int, search: Search, kind: str) -> Relaxation | None:
    """Return the least limit of `row` that restores feasibility.

    None if no limit does, none was found soon, or its proof is of another kind than the conflict's.
    """
    nodes = search.options.tuning.tree.relaxation_nodes
    others = [k for k in range(row_count(problem)) if k != row]
    rest = without_rows(problem, others)
    halved = not isinstance(rest, MultipleChoiceProblem)
    if isinstance(rest, MultipleChoiceProblem):
        # One search for the least use of the row finds what halving its limit takes dozens for.
        rest = rest.priced(-rest.costs[row])
    witness = _decide(rest, search, nodes, first=halved)
    if not isinstance(witness, np.ndarray):
        return None
    low, high = row_limit(problem, row), row_usage(problem, row, witness)
    # Between whole numbers a limit would have a slack, in which what it should exclude may lie.
    whole = not isinstance(problem, MonotoneProblem) and is_integral(problem.costs[row])
    for _ in range(_HALVINGS):
        below = just_below(problem, row, high)
        middle = 0.5 * (low + high)
        middle = math.floor(middle) if whole else middle
        trial = middle if halved and low < middle < below else below
        answer = _decide(relaxed(problem, row, trial), search, nodes)
        if answer is None:
            return None
        if isinstance(answer, np.ndarray):
            witness, high = answer, row_usage(problem, row, answer)
        elif trial == below and answer.kind != kind:
            return None
        elif trial == below:
            return Relaxation(row, high, witness, answer.tree, answer.multipliers)
        else:
            low = trial
    return None


def _decide(
    problem: Problem, search: Search, nodes: int | None = None, *, first: bool = True
) -> Certificate | IntArray | None:
    """Return a proof of infeasibility, a feasible solution, or None when a limit was hit.

    The solution is the `first` one found, or else a best one.
    """
    if search.pressed():  # preparing a large problem takes longer than noticing that
        return None
    bare = _without_objective(problem) if first else problem
    gap = 0.0 if first else RELAXATION_TOLERANCE / 4
    trial = search.child(bare, rel_gap=gap, nodes=nodes)
    trial.first_feasible = first
    relaxation = choose_relaxation(bare, trial)
    explored = explore(relaxation, trial)
    search.nodes = trial.nodes
    if trial.x is not None:
        return trial.x
    return relaxation.certificate(-math.inf) if explored.limit is None else None


def _without_objective(problem: Problem) -> Problem:
    """Return the feasibility problem: same box and rows, objective zero."""
    if isinstance(problem, FacilityProblem):
        nothing = np.zeros((1, problem.size))
        return FacilityProblem(
            nothing, problem.costs, problem.budgets, groups=problem.groups, covers=problem.covers
        )
    if isinstance(problem, MultipleChoiceProblem):
        return problem.priced(np.zeros(len(problem.flat_values)))
    if (made := problem.structure) is not None:
        made, alike = made.without_objective(), problem.interchangeable
        return MonotoneProblem.of_structure(problem.lower, problem.upper, made, alike)
    return MonotoneProblem(
        problem.lower,
        problem.upper,
        objective=lambda points: np.zeros(points.shape[:-1]),
        constraints=problem.constraints,
        reverse_constraints=problem.reverse_constraints,
        batched=problem.batched,
        interchangeable=problem.interchangeable,
    )


def _covers_used(problem: Problem, proof: Certificate) -> tuple[int, ...]:
    if isinstance(problem, MonotoneProblem) and proof.kind != problem.kind:
        return tuple(range(len(problem.reverse_constraints)))  # rows of its choice view
    named = {index for kind, index, _ in proof.tree if kind == "cover"}
    named |= {index for kind, _, index in proof.tree if kind.endswith(":cover")}
    priced = {int(h) for m in proof.multipliers for h in np.flatnonzero(m.cover)}
    return tuple(sorted(named | priced))
