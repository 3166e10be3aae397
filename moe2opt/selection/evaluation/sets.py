"""Sets of experts to compare with the selected one: greedy, random and single."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.constraints.compiled import Compiled

#: Name of random sets in tables, and how many are drawn.
RANDOM, RANDOM_SETS = "random feasible set", 20

#: Random orders tried for each random set before giving up.
_TRIES = 50


#: Budgets, groups and covers of a set of experts.
Deployable = FacilityProblem | Compiled


def grow(problem: Deployable, order: Iterable[int]) -> IntArray | None:
    """Take experts in order while they fit; None when the result misses a cover."""
    x = np.zeros(problem.size, dtype=np.int64)
    for i in order:
        if fits(problem, x, int(i)):
            x[i] = 1
    return np.flatnonzero(x) if problem.is_feasible(x) else None


def fits(problem: Deployable, x: IntArray, i: int) -> bool:
    """Tell whether expert i can join without breaking a budget or a group."""
    if x[i]:
        return False
    joined = x.copy()
    joined[i] = 1
    kept = (problem.usage_of(joined) <= problem.limits).all()
    return bool(kept) and all(joined[group].sum() <= 1 for group in problem.groups)


def greedy_on_objective(problem: Deployable) -> IntArray | None:
    """Add the expert with the largest gain that fits, until none gains.

    This is the set that lazy greedy returns; ties go to the lower index.
    """
    x = np.zeros(problem.size, dtype=np.int64)
    best = np.zeros(problem.clusters)
    while True:
        gains = np.maximum(problem.weighted - best[:, None], 0.0).sum(axis=0)
        able = [i for i in np.argsort(-gains, kind="stable") if gains[i] > 1e-12]
        taken = next((int(i) for i in able if fits(problem, x, int(i))), None)
        if taken is None:
            return np.flatnonzero(x) if problem.is_feasible(x) else None
        x[taken] = 1
        best = np.maximum(best, problem.weighted[:, taken])


def best_single(problem: Deployable, worth: FloatArray) -> IntArray | None:
    """Return the feasible single expert that is worth most; None when no single one is feasible."""
    alone = np.eye(problem.size, dtype=np.int64)
    able = [i for i in range(problem.size) if problem.is_feasible(alone[i])]
    return np.array([max(able, key=lambda i: (worth[i], -i))]) if able else None


def baseline_sets(
    problem: Deployable, worth: FloatArray, energy_j: FloatArray
) -> dict[str, IntArray | None]:
    """Return the sets that need no gate to be chosen, and lazy greedy, by their names.

    Parameters
    ----------
    problem
        Budgets, groups and covers that every set keeps; its values serve lazy greedy.
    worth
        ``(N,)`` accuracy of each expert alone, from prompts outside the test part.
    energy_j
        ``(N,)`` joules per prompt.
    """
    per_joule = worth / np.maximum(energy_j, 1e-12)
    return {
        "best single LLM": best_single(problem, worth),
        "greedy by accuracy": grow(problem, np.argsort(-worth, kind="stable")),
        "greedy by accuracy per joule": grow(problem, np.argsort(-per_joule, kind="stable")),
        "lazy greedy on the objective": greedy_on_objective(problem),
    }


def random_sets(problem: Deployable, count: int, seed: int) -> list[IntArray]:
    """Return feasible sets that nothing can be added to, each from a random order."""
    rng = np.random.default_rng(seed)
    found: list[IntArray] = []
    for _ in range(count * _TRIES):
        if len(found) == count:
            break
        chosen = grow(problem, rng.permutation(problem.size))
        if chosen is not None:
            found.append(chosen)
    return found
