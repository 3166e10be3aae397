"""Sets of experts to compare with the selected one: greedy, random and single."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.constraints.compiled import Compiled

#: Name of random sets in tables, and how many are drawn.
RANDOM, RANDOM_SETS = "random feasible set", 20

#: Names of two rules: cheapest experts first, and the best of each category.
ALL_THAT_FIT, PER_CATEGORY = "all experts that fit", "best per category"

#: Name of the search from the best rule's set, where experts vote.
LOCAL_SEARCH = "local search on the vote"

#: Random orders tried for each random set before giving up.
_TRIES = 50


#: Budgets, groups and covers of a set of experts.
Deployable = FacilityProblem | Compiled


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What rules of thumb know of the N experts, from prompts outside the test part.

    Attributes
    ----------
    worth
        ``(N,)`` accuracy of each expert alone.
    by_category
        ``(K, N)`` accuracy in each category, 0 where it may not serve.
    shares
        ``(K,)`` share of the prompts.
    energy_j
        ``(N,)`` joules per prompt.
    model_of
        ``(N,)`` number of the LLM of each expert.
    runs
        ``(N,)`` outcomes that `worth` is the mean of.
    price
        ``(N,)`` money per prompt; None where it does not matter.
    """

    worth: FloatArray
    by_category: FloatArray
    shares: FloatArray
    energy_j: FloatArray
    model_of: IntArray
    runs: FloatArray
    price: FloatArray | None = None

    @property
    def cost(self) -> FloatArray:
        """``(N,)`` what makes an expert dear: joules, or money where no joules of it are known."""
        return self.energy_j if self.price is None or self.energy_j.any() else self.price


def grow(problem: Deployable, order: Iterable[int], model_of: IntArray) -> IntArray | None:
    """Take experts in order while they fit; None when the result misses a cover.

    What gains nothing is not bought: an expert that is nowhere better than those taken, and
    another copy of an LLM, at whatever precision, unless it serves where the first one may not.
    """
    x = np.zeros(problem.size, dtype=np.int64)
    for i in map(int, order):
        if fits(problem, x, i) and _gains(problem, x, i, model_of):
            x[i] = 1
    return np.flatnonzero(x) if problem.is_feasible(x) else None


def _gains(problem: Deployable, x: IntArray, i: int, model_of: IntArray) -> bool:
    values = problem.weighted
    own, taken = values[:, i], values[:, x > 0]
    copies = values[:, (x > 0) & (model_of == model_of[i])]
    if copies.shape[1] and not (own[(copies == 0).all(axis=1)] > 0).any():
        return False
    return bool((own > taken.max(axis=1, initial=0.0)).any())


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


def local_search(
    problem: Deployable, start: IntArray, value: Callable[[IntArray], float]
) -> IntArray:
    """Add, drop or exchange experts, whichever raises the value most, until nothing does.

    Parameters
    ----------
    start
        Experts of a set that keeps all budgets, as every set on the way does.
    value
        What a set is worth.
    """
    own = np.zeros(problem.size, dtype=np.int64)
    own[start] = 1
    best = value(np.flatnonzero(own))
    while True:
        gone = [None, *np.flatnonzero(own)]
        come = [None, *np.flatnonzero(own == 0)]
        found = []
        for out, into in itertools.product(gone, come):
            near = own.copy()
            near[[i for i in (out, into) if i is not None]] ^= 1
            if problem.is_feasible(near):
                found.append((value(np.flatnonzero(near)), near))
        most, near = max(found, key=lambda pair: pair[0])
        if most <= best + 1e-12:
            return np.flatnonzero(own)
        best, own = most, near


def best_single(problem: Deployable, worth: FloatArray) -> IntArray | None:
    """Return the feasible single expert that is worth most; None when no single one is feasible."""
    alone = np.eye(problem.size, dtype=np.int64)
    able = [i for i in range(problem.size) if problem.is_feasible(alone[i])]
    return np.array([max(able, key=lambda i: (worth[i], -i))]) if able else None


def best_per_category(problem: Deployable, facts: Facts) -> IntArray | None:
    """Take, for one category after the other, the expert that is best there and still fits.

    The largest category comes first. Nobody is bought for a category that it may not serve.
    """
    x = np.zeros(problem.size, dtype=np.int64)
    for k in np.argsort(-facts.shares, kind="stable"):
        ranked = np.argsort(-facts.by_category[k], kind="stable")
        able = (int(i) for i in ranked if facts.by_category[k, i] > 0)
        best = next((i for i in able if x[i] or fits(problem, x, i)), None)
        if best is not None:
            x[best] = 1
    return np.flatnonzero(x) if problem.is_feasible(x) else None


def baseline_sets(problem: Deployable, facts: Facts) -> dict[str, IntArray | None]:
    """Return the sets that rules of thumb choose, and lazy greedy, by their names.

    Parameters
    ----------
    problem
        Budgets, groups and covers that every set keeps; its values say what gains nothing.
    facts
        What the rules go by.
    """
    per_joule = facts.worth / np.maximum(facts.energy_j, 1e-12)
    orders = {
        "greedy by accuracy": -facts.worth,
        "greedy by accuracy per joule": -per_joule,
        ALL_THAT_FIT: facts.cost,
    }
    if facts.price is not None:
        orders["greedy by accuracy per price"] = -facts.worth / np.maximum(facts.price, 1e-12)
    grown = {
        name: grow(problem, np.argsort(keys, kind="stable"), facts.model_of)
        for name, keys in orders.items()
    }
    return {
        "best single LLM": best_single(problem, facts.worth),
        **grown,
        PER_CATEGORY: best_per_category(problem, facts),
        "lazy greedy on the objective": greedy_on_objective(problem),
    }


def random_sets(problem: Deployable, count: int, seed: int, model_of: IntArray) -> list[IntArray]:
    """Return feasible sets that nothing of worth can be added to, each from a random order."""
    rng = np.random.default_rng(seed)
    found: list[IntArray] = []
    for _ in range(count * _TRIES):
        if len(found) == count:
            break
        chosen = grow(problem, rng.permutation(problem.size), model_of)
        if chosen is not None:
            found.append(chosen)
    return found
