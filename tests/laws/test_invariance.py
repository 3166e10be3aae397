"""Laws about related instances: what may not change, and what may only change one way."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from laws.drawing import FAMILIES, LINEAR_FAMILY, examples, for_all
from solving import EXACT, run, same
from strategies import brute_force, choice_problems, facility_problems

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem

SEEDS = st.integers(0, 2**32 - 1)


@LINEAR_FAMILY
@examples(quick=3, slow=200)
def test_more_budget_never_hurts(family: str, count: int, shard: int) -> None:
    """Raising every limit keeps or raises the optimum, for every exact solver."""

    def law(problem: Any) -> None:
        wider = problem.with_budgets(problem.budgets * (problem.budgets > 0) * 1.5 + 1)
        for solver in EXACT:
            before, after = run(problem, solver).objective, run(wider, solver).objective
            assert after >= before or same(problem, after, before, solver)

    for_all(FAMILIES[family], count, shard, law)


def shuffled_facility(problem: FacilityProblem, rng: Any) -> FacilityProblem:
    """Return `problem` with experts, clusters and budgets in another order."""
    experts = rng.permutation(problem.size)
    clusters, rows = rng.permutation(problem.clusters), rng.permutation(len(problem.budgets))
    place = np.argsort(experts)
    return FacilityProblem(
        values=problem.values[np.ix_(clusters, experts)],
        costs=problem.costs[np.ix_(rows, experts)],
        budgets=problem.budgets[rows],
        weights=None if problem.weights is None else problem.weights[clusters],
        groups=[place[group] for group in problem.groups],
        covers=[place[cover] for cover in problem.covers],
        opening=problem.fixed[experts],
    )


def shuffled_choice(problem: MultipleChoiceProblem, rng: Any) -> MultipleChoiceProblem:
    """Return `problem` with groups, options and budgets in another order."""
    rows = rng.permutation(len(problem.budgets))
    values, usage = [], []
    for g in rng.permutation(problem.size):
        options = rng.permutation(len(problem.values[g]))
        values.append(problem.values[g][options])
        usage.append(problem.usage[g][np.ix_(options, rows)])
    return MultipleChoiceProblem(values, usage, problem.budgets[rows])


@examples(quick=4, slow=200)
def test_order_of_experts_does_not_matter(count: int, shard: int) -> None:
    """Permuting experts, clusters and budgets of a facility problem keeps the optimum."""

    def law(problem: FacilityProblem, seed: int) -> None:
        other = shuffled_facility(problem, np.random.default_rng(seed))
        best = brute_force(problem)
        for solver in EXACT:
            assert same(problem, run(other, solver).objective, best, solver)

    for_all(st.tuples(facility_problems(), SEEDS), count, shard, law)


@examples(quick=4, slow=200)
def test_order_of_options_does_not_matter(count: int, shard: int) -> None:
    """Permuting groups, options and budgets of a multiple-choice problem keeps the optimum."""

    def law(problem: MultipleChoiceProblem, seed: int) -> None:
        other = shuffled_choice(problem, np.random.default_rng(seed))
        best = brute_force(problem)
        for solver in EXACT:
            assert same(problem, run(other, solver).objective, best, solver)

    for_all(st.tuples(choice_problems(), SEEDS), count, shard, law)


@examples(quick=4, slow=150)
def test_units_of_facility_data_do_not_matter(count: int, shard: int) -> None:
    """Four times the values give four times the optimum; doubled costs and budgets nothing."""

    def law(problem: FacilityProblem) -> None:
        other = FacilityProblem(
            4 * problem.values,
            2 * problem.costs,
            2 * problem.budgets,
            problem.weights,
            problem.groups,
            problem.covers,
            4 * problem.fixed,
        )
        best = brute_force(problem)
        for solver in EXACT:
            assert same(problem, run(other, solver).objective / 4, best, solver)

    for_all(facility_problems(), count, shard, law)


@examples(quick=4, slow=150)
def test_units_of_choice_data_do_not_matter(count: int, shard: int) -> None:
    """Scaling values scales the optimum; raising all values of a group raises it by as much."""

    def law(problem: MultipleChoiceProblem) -> None:
        values = [4 * options for options in problem.values]
        values[0] = values[0] + 8.0
        usage = [2 * table for table in problem.usage]
        other = MultipleChoiceProblem(values, usage, 2 * problem.budgets)
        best = brute_force(problem)
        for solver in EXACT:
            assert same(problem, (run(other, solver).objective - 8.0) / 4, best, solver)

    for_all(choice_problems(), count, shard, law)


@examples(quick=3, slow=100)
def test_worthless_experts_change_nothing(count: int, shard: int) -> None:
    """An expert that is worth nothing anywhere, or that repeats another, leaves the optimum."""

    def law(problem: FacilityProblem) -> None:
        nothing = np.zeros((problem.clusters, 1))
        values = np.hstack([problem.values, nothing, problem.values[:, :1]])
        costs = np.hstack([problem.costs, problem.costs[:, :1], problem.costs[:, :1]])
        twin = problem.size + 1
        groups = [[*group, *([twin] if 0 in group else [])] for group in problem.groups]
        opening = np.append(problem.fixed, [2.0, problem.fixed[0]])
        other = FacilityProblem(
            values, costs, problem.budgets, problem.weights, groups, problem.covers, opening
        )
        best = brute_force(problem)
        for solver in EXACT:
            assert same(problem, run(other, solver).objective, best, solver)

    for_all(facility_problems(5), count, shard, law)
