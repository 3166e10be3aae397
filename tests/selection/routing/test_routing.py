"""Routing of single prompts, prices, and selection together with prices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt.canonical import FacilityProblem
from moe2opt.result import InputError, IntArray
from moe2opt.selection.routing.joint import offset, priced_problem, solve_jointly
from moe2opt.selection.routing.prices import Market, price
from moe2opt.selection.routing.prompts import Routing, majority_score, pooled, route, vote

seeds = st.integers(0, 2**32 - 1)

SCORES = np.array([[0.2, 0.9, 0.5, 0.7], [0.6, 0.6, 0.1, 0.6]])


def test_mask_then_top_k() -> None:
    """The best expert that is not deployed is passed over; the two best deployed ones remain."""
    found = route(SCORES, np.array([0, 2, 3]), k=2)
    assert found.experts[0].tolist() == [3, 2]
    assert found.weights.sum(axis=1) == pytest.approx(1)


def test_weights_are_a_softmax_over_the_kept() -> None:
    """Weights are the softmax of the kept logits alone: masked before, not zeroed after."""
    logits = np.log([[1.0, 3.0, 2.0, 94.0]])
    found = route(SCORES[:1], np.array([0, 1, 2]), logits=logits, k=2)
    assert found.experts[0].tolist() == [1, 2]
    assert found.weights[0].tolist() == pytest.approx([0.6, 0.4])


def test_default_weights_are_odds() -> None:
    """Without logits the weights are proportional to the odds q / (1 - q)."""
    found = route(np.array([[0.8, 0.5]]), np.array([0, 1]), k=2)
    assert found.weights[0].tolist() == pytest.approx([0.8, 0.2])


def test_ties_go_to_the_lower_cost() -> None:
    """Equal scores are broken by cost, then by index."""
    chosen = np.array([0, 1, 3])
    assert route(SCORES, chosen, costs=np.array([3.0, 2.0, 0.0, 1.0])).first[1] == 3
    assert route(SCORES, chosen, costs=np.zeros(4)).first[1] == 0


def test_late_experts_do_not_answer() -> None:
    """An expert that may not answer is masked; a prompt without any is answered by nobody."""
    allowed = np.array([[True, False, True, True], [False] * 4])
    found = route(SCORES, np.arange(4), allowed=allowed, k=3)
    assert found.experts.tolist() == [[3, 2, 0], [-1, -1, -1]]
    assert found.weights[1].tolist() == [0, 0, 0]


def test_k_beyond_the_set_is_the_set() -> None:
    """Asking for more experts than are deployed asks all of them; asking for none is an error."""
    assert route(SCORES, np.array([1, 2]), k=9).experts.shape == (2, 2)
    with pytest.raises(InputError, match="k = 0"):
        route(SCORES, np.array([1]), k=0)


@given(seeds)
def test_first_expert_is_the_best_allowed(seed: int) -> None:
    """The first expert has the largest score among the deployed ones that may answer."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, size=(6, 5)) / 4
    allowed = rng.random(scores.shape) < 0.7
    chosen = np.flatnonzero(rng.random(5) < 0.6)
    if len(chosen):
        first = route(scores, chosen, allowed=allowed).first
        for x, n in enumerate(first):
            open_to = [m for m in chosen if allowed[x, m]]
            assert (n < 0) == (not open_to)
            assert n < 0 or scores[x, n] == max(scores[x, m] for m in open_to)


def test_vote_by_weight() -> None:
    """Two experts of small weight that agree outvote one of larger weight; ties go to the first."""
    answers = np.array([[7, 8, 8], [7, 8, -1]])
    everybody = np.array([[0, 1, 2], [0, 1, 2]])
    outvoted = Routing(everybody, np.array([[0.4, 0.3, 0.3], [0.5, 0.5, 0.0]]))
    assert vote(answers, outvoted).tolist() == [1, 0]


def test_nobody_votes() -> None:
    """A prompt that nobody is asked, or that nobody answers, has no winner among the answers."""
    nobody = Routing(np.array([[-1, -1]]), np.zeros((1, 2)))
    assert vote(np.array([[3, 3]]), nobody).tolist() == [-1]


def test_pool_is_a_weighted_mean() -> None:
    """Pooled probabilities are the weighted mean of those of the experts asked."""
    chances = np.array([[[0.9, 0.1], [0.2, 0.8], [0.0, 1.0]]])
    mixed = pooled(chances, Routing(np.array([[1, 0]]), np.array([[0.75, 0.25]])))
    assert mixed[0].tolist() == pytest.approx([0.375, 0.625])


@given(seeds)
def test_majority_is_a_lower_bound_of_the_vote(seed: int) -> None:
    """Counting only outright majorities never rates a vote above what the answers themselves give.

    With two options it is exact, unless the vote is tied.
    """
    rng = np.random.default_rng(seed)
    options = int(rng.integers(2, 5))
    answers = rng.integers(options, size=(5, 4))
    score = (answers == 0).astype(float)
    weights = rng.dirichlet(np.ones(4), size=5)
    routing = Routing(np.tile(np.arange(4), (5, 1)), weights)
    winner = vote(answers, routing)
    exact = score[np.arange(5), winner]
    bound = majority_score(score, routing)
    assert (bound <= exact).all()
    assert options > 2 or (bound == exact).all()


def random_market(rng: np.random.Generator, prompts: int = 3, experts: int = 3) -> Market:
    """Return a small market in which every prompt has somebody and some routing is affordable."""
    allowed = rng.random((prompts, experts)) < 0.8
    allowed[:, 0] = True
    costs = rng.uniform(0.1, 1.0, size=(2, prompts, experts))
    values = rng.random((prompts, experts))
    cheap = np.where(allowed, costs.sum(axis=0), np.inf).argmin(axis=1)
    least = costs[:, np.arange(prompts), cheap].mean(axis=1)
    return Market(values, costs, least * rng.uniform(1.0, 2.0, size=2), allowed)


def best_routing(market: Market, chosen: IntArray) -> float:
    """Return the largest mean value of a routing within the budgets, by trying all of them."""
    best = -np.inf
    rows = range(len(market.values))
    for answer in itertools.product(chosen, repeat=len(market.values)):
        if all(market.allowed[x, n] for x, n in zip(rows, answer, strict=True)):
            value, costs = market.worth(np.array(answer))
            if (costs <= market.limits * (1 + 1e-12)).all():
                best = max(best, value)
    return best


@given(seeds)
def test_prices_bound_every_routing(seed: int) -> None:
    """The priced routing keeps the budgets, and no routing that keeps them beats the bound."""
    market = random_market(np.random.default_rng(seed))
    found = price(market)
    best = best_routing(market, np.arange(3))
    assert best <= found.bound + 1e-9
    if found.answer is not None:
        assert (market.worth(found.answer)[1] <= market.limits * (1 + 1e-9)).all()
        assert found.value <= best + 1e-12


@given(seeds)
def test_prices_of_loose_budgets_are_zero(seed: int) -> None:
    """With budgets that nothing can exceed, routing is by value alone and the bound is reached."""
    rng = np.random.default_rng(seed)
    market = random_market(rng)
    loose = Market(market.values, market.costs, np.full(2, 10.0), market.allowed)
    found = price(loose)
    assert found.prices == pytest.approx(0)
    assert found.value == pytest.approx(best_routing(loose, np.arange(3)))
    assert found.bound == pytest.approx(found.value)


def test_price_gap_shrinks_with_the_prompts() -> None:
    """With many prompts, the routing found is within a few prompts' worth of the bound."""
    rng = np.random.default_rng(0)
    market = random_market(rng, prompts=2000, experts=6)
    found = price(market)
    assert found.bound - found.value < 4 / 2000


def test_unaffordable_budgets() -> None:
    """Where no routing keeps the budgets there is no answer, and the value says so."""
    market = Market(np.ones((2, 1)), np.ones((1, 2, 1)), np.array([0.5]), np.ones((2, 1), bool))
    found = price(market)
    assert found.answer is None
    assert found.value == -np.inf


def enumerated(problem: FacilityProblem) -> tuple[IntArray | None, float]:
    """Solve a facility problem by trying every set."""
    best, value = None, -np.inf
    for bits in itertools.product((0, 1), repeat=problem.size):
        if problem.is_feasible(bits) and problem.evaluate(bits) > value:
            best, value = np.array(bits), problem.evaluate(bits)
    return best, value


def random_joint(seed: int) -> tuple[FacilityProblem, Market]:
    """Return a joint problem small enough to try every set and every routing."""
    rng = np.random.default_rng(seed)
    market = random_market(rng, prompts=3, experts=4)
    deployments = FacilityProblem(
        values=market.values,
        costs=rng.uniform(0.2, 1.0, size=(1, 4)),
        budgets=[1.5],
        covers=[np.flatnonzero(row) for row in market.allowed],
    )
    return deployments, market


@given(seeds)
def test_joint_bound_holds(seed: int) -> None:
    """No deployment with a routing within the budgets beats the bound; the one found is one."""
    problem, market = random_joint(seed)
    best = max(
        (
            best_routing(market, np.flatnonzero(bits))
            for bits in itertools.product((0, 1), repeat=4)
            if problem.is_feasible(bits)
        ),
        default=-np.inf,
    )
    found = solve_jointly(problem, market, enumerated)
    assert best <= found.bound + 1e-9
    assert found.value <= best + 1e-9
    if found.chosen is not None and found.routing is not None:
        bits = np.isin(np.arange(4), found.chosen).astype(int)
        assert problem.is_feasible(bits)
        assert (found.routing.costs <= market.limits * (1 + 1e-9)).all()


@given(seeds, st.floats(0, 3), st.floats(0, 3))
def test_every_price_gives_a_bound(seed: int, first: float, second: float) -> None:
    """The priced facility problem, moved back by its offset, bounds the best plan at any prices."""
    problem, market = random_joint(seed)
    prices = np.array([first, second])
    _, value = enumerated(priced_problem(problem, market, prices))
    for bits in itertools.product((0, 1), repeat=4):
        if problem.is_feasible(bits):
            best = best_routing(market, np.flatnonzero(bits))
            assert best <= value + offset(market, prices) + 1e-9


def test_joint_with_the_real_solver() -> None:
    """With the certified solver the loop gives the same bound as with enumeration."""
    problem, market = random_joint(4)

    def solve(target: FacilityProblem) -> tuple[IntArray | None, float]:
        done = mo.solve(target)
        return done.x, done.bound

    ours, theirs = (solve_jointly(problem, market, f) for f in (solve, enumerated))
    assert ours.bound == pytest.approx(theirs.bound, abs=1e-9)
    assert ours.value == pytest.approx(theirs.value, abs=1e-9)


def test_joint_without_a_deployment() -> None:
    """Where no deployment is feasible the bound is minus infinity and nothing is chosen."""
    problem, market = random_joint(0)
    impossible = problem.with_budgets([-1.0])
    found = solve_jointly(impossible, market, enumerated)
    assert found.chosen is None
    assert found.bound == -np.inf
