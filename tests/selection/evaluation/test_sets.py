"""The sets of experts that the plan is compared with."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.canonical import FacilityProblem
from moe2opt.selection.evaluation.sets import (
    Facts,
    best_per_category,
    best_single,
    greedy_on_objective,
    grow,
    random_sets,
)

seeds = st.integers(0, 2**32 - 1)

#: Five experts of five LLMs.
APART = np.arange(5)


def drawn(seed: int) -> FacilityProblem:
    """Return a small problem with budgets, groups and a cover."""
    rng = np.random.default_rng(seed)
    return FacilityProblem(
        values=rng.random((4, 5)),
        costs=rng.uniform(0.2, 1.0, size=(2, 5)),
        budgets=rng.uniform(0.5, 2.0, size=2),
        groups=[[0, 1]],
        covers=[[1, 2, 3, 4]],
    )


def unit(problem: FacilityProblem, chosen: np.ndarray) -> np.ndarray:
    """Return the 0/1 vector of a set."""
    return np.isin(np.arange(problem.size), chosen).astype(int)


@given(seeds)
def test_every_set_is_feasible_and_full(seed: int) -> None:
    """Whatever the rule, its set keeps all budgets, and nothing that would help still fits."""
    problem = drawn(seed)
    rng = np.random.default_rng(seed)
    sets = [grow(problem, rng.permutation(5), APART), *random_sets(problem, 3, seed, APART)]
    for chosen in sets:
        if chosen is not None:
            x = unit(problem, chosen)
            assert problem.is_feasible(x)
            for i in np.flatnonzero(x == 0):
                more = x.copy()
                more[i] = 1
                gain = problem.evaluate(more) - problem.evaluate(x)
                assert gain <= 1e-12 or not problem.is_feasible(more)


def test_no_rule_buys_what_is_worth_nothing() -> None:
    """A copy of an LLM, and an expert that is nowhere better, are left where they stand."""
    values = [[0.9, 0.9, 0.5, 0.91, 0.0], [0.8, 0.8, 0.9, 0.81, 0.0], [0.0, 0.0, 0.0, 0.0, 0.4]]
    problem = FacilityProblem(values=values, costs=np.ones((1, 5)), budgets=[5])
    copies = np.array([0, 0, 1, 0, 0])  # the fourth is the first at a higher precision
    grown = grow(problem, range(5), copies)
    assert grown is not None
    # The last is a copy, too, but serves where the first one may not.
    assert grown.tolist() == [0, 2, 4]
    worse = FacilityProblem(values=np.array(values)[:2], costs=np.ones((1, 5)), budgets=[5])
    assert grow(worse, [0, 1, 2, 3, 4], APART).tolist() == [0, 2, 3]


def test_best_per_category_buys_nobody_for_what_he_may_not_serve() -> None:
    """A category without an expert that fits and serves it buys nothing."""
    problem = FacilityProblem(values=np.eye(2, 3), costs=np.ones((1, 3)), budgets=[3])
    shares, nothing = np.array([0.5, 0.5]), np.zeros(3)
    worth = np.array([[0.9, 0.8, 0.0], [0.0, 0.0, 0.0]])
    facts = Facts(shares @ worth, worth, shares, nothing + 1, APART[:3], nothing + 10)
    chosen = best_per_category(problem, facts)
    assert chosen is not None
    assert chosen.tolist() == [0]
    second = replace(facts, by_category=np.array([[0.9, 0.8, 0.0], [0.1, 0.4, 0.0]]))
    chosen = best_per_category(problem, second)
    assert chosen is not None
    assert chosen.tolist() == [0, 1]


@given(seeds)
def test_greedy_takes_the_largest_gain(seed: int) -> None:
    """The greedy set is at least as good as the best single feasible expert it could start with."""
    problem = drawn(seed)
    chosen = greedy_on_objective(problem)
    if chosen is None:
        return
    value = problem.evaluate(unit(problem, chosen))
    first = max(
        problem.evaluate(unit(problem, np.array([i])))
        for i in range(5)
        if (problem.usage_of(unit(problem, np.array([i]))) <= problem.limits).all()
    )
    best = max(
        problem.evaluate(bits)
        for bits in itertools.product((0, 1), repeat=5)
        if problem.is_feasible(bits)
    )
    assert first - 1e-12 <= value <= best + 1e-12


@given(seeds)
def test_best_single_is_the_best_feasible(seed: int) -> None:
    """The single expert is feasible alone and worth most; there is none when none is feasible."""
    problem = drawn(seed)
    worth = np.random.default_rng(seed).integers(3, size=5).astype(float)
    able = [i for i in range(5) if problem.is_feasible(unit(problem, np.array([i])))]
    found = best_single(problem, worth)
    assert (found is None) == (not able)
    if found is not None:
        assert found[0] in able
        assert worth[found[0]] == max(worth[i] for i in able)


def test_random_sets_repeat() -> None:
    """The same seed draws the same sets; another draws others."""
    problem = drawn(3)
    first, again, other = (random_sets(problem, 8, seed, APART) for seed in (0, 0, 1))
    assert [s.tolist() for s in first] == [s.tolist() for s in again]
    assert [s.tolist() for s in first] != [s.tolist() for s in other]


def test_no_room_at_all() -> None:
    """Where nothing fits, every rule says that it has no set."""
    problem = drawn(0).with_budgets([0.0, 0.0])
    assert grow(problem, range(5), APART) is None
    assert greedy_on_objective(problem) is None
    assert best_single(problem, np.ones(5)) is None
    assert random_sets(problem, 2, 0, APART) == []


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2]])
def test_groups_are_kept(order: list[int]) -> None:
    """Of two experts in a group, only the one that comes first is taken."""
    problem = FacilityProblem(np.eye(3), np.zeros((1, 3)), [1.0], groups=[[0, 1]])
    chosen = grow(problem, order, APART[:3])
    assert chosen is not None
    assert chosen.tolist() == sorted([order[0], 2])
