"""The theory of training once and masking, as executable facts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.selection.gate.theory import (
    COUNTEREXAMPLE,
    best_weights,
    excess_loss,
    pooled_loss,
    routed_value,
    routing_regret,
)

seeds = st.integers(0, 2**32 - 1)


def subsets(size: int) -> list[tuple[int, ...]]:
    """Return all non-empty subsets."""
    return [s for k in range(1, size + 1) for s in itertools.combinations(range(size), k)]


def drawn(seed: int, prompts: int = 3) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Return random targets, logits and a random subset."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 8))
    targets = rng.dirichlet(np.full(size, rng.choice([0.3, 1.0, 5.0])), size=prompts) + 1e-9
    targets /= targets.sum(axis=1, keepdims=True)
    logits = rng.normal(scale=rng.choice([0.1, 1.0, 5.0]), size=targets.shape)
    subset = tuple(np.flatnonzero(rng.random(size) < 0.6)) or (0,)
    return targets, logits, subset


def test_full_optimum_is_that_of_the_labels() -> None:
    """The full set can match the labels exactly, so its least loss is their entropy."""
    weights = best_weights(COUNTEREXAMPLE, (0, 1, 2))
    assert np.round(weights, 3).tolist() == [0.458, 0.208, 0.333]
    labels = np.array(COUNTEREXAMPLE.labels)
    entropy = -(labels * np.log(labels)).sum()
    assert pooled_loss(COUNTEREXAMPLE, weights, (0, 1, 2)) == pytest.approx(entropy, abs=1e-9)


@pytest.mark.parametrize(
    ("subset", "masked", "best"), [((0, 1), 1.08944, 1.07406), ((0, 2), 1.06127, 1.04568)]
)
def test_full_optimum_is_not_optimal_on_a_subset(
    subset: tuple[int, ...], masked: float, best: float
) -> None:
    """Weights that are best for three experts, masked to two, lose to the best for those two."""
    full = best_weights(COUNTEREXAMPLE, (0, 1, 2))
    assert pooled_loss(COUNTEREXAMPLE, full, subset) == pytest.approx(masked, abs=5e-5)
    own = best_weights(COUNTEREXAMPLE, subset)
    assert pooled_loss(COUNTEREXAMPLE, own, subset) == pytest.approx(best, abs=5e-5)


def test_fixed_weights_are_not_monotone() -> None:
    """With the weights of the full set, adding expert 1 to expert 0 raises the loss."""
    full = best_weights(COUNTEREXAMPLE, (0, 1, 2))
    alone = pooled_loss(COUNTEREXAMPLE, full, (0,))
    assert alone == pytest.approx(1.07712, abs=5e-5)
    assert pooled_loss(COUNTEREXAMPLE, full, (0, 1)) > alone + 0.01


def test_best_weights_are_monotone() -> None:
    """With weights fitted to each set, a larger set never has a larger least loss."""
    least = {s: pooled_loss(COUNTEREXAMPLE, best_weights(COUNTEREXAMPLE, s), s) for s in subsets(3)}
    for small, large in itertools.permutations(least, 2):
        if set(small) < set(large):
            assert least[large] <= least[small] + 1e-9


@given(seeds)
def test_conditional_softmax(seed: int) -> None:
    """A gate that matches the targets on all experts matches their conditionals on every subset."""
    targets, _, _ = drawn(seed)
    shift = np.random.default_rng(seed).normal(size=(len(targets), 1))
    for subset in subsets(targets.shape[1]):
        assert np.abs(excess_loss(targets, np.log(targets) + shift, subset)).max() < 1e-12


@given(seeds)
def test_excess_on_a_subset_is_at_most_that_on_all(seed: int) -> None:
    """Whatever the gate, its excess loss on a subset never exceeds that on the full set."""
    targets, logits, subset = drawn(seed)
    everybody = range(targets.shape[1])
    assert (
        excess_loss(targets, logits, subset) <= excess_loss(targets, logits, everybody) + 1e-12
    ).all()


@pytest.mark.slow
def test_excess_on_many_random_cases() -> None:
    """The same for every subset in each of 20,000 random cases."""
    rng = np.random.default_rng(0)
    for size in (2, 3, 4, 5, 6):
        targets = rng.dirichlet(np.ones(size), size=4000) + 1e-9
        targets /= targets.sum(axis=1, keepdims=True)
        logits = rng.normal(scale=2.0, size=targets.shape)
        full = excess_loss(targets, logits, range(size))
        for subset in subsets(size):
            assert (excess_loss(targets, logits, subset) <= full + 1e-12).all()


@given(seeds)
def test_excess_is_strict_somewhere(seed: int) -> None:
    """The bound is no equality in disguise: a subset of one expert has no excess at all."""
    targets, logits, _ = drawn(seed)
    assert np.abs(excess_loss(targets, logits, (0,))).max() < 1e-12
    assert (excess_loss(targets, logits, range(targets.shape[1])) > 0).any()


@given(seeds, st.floats(0, 0.4))
def test_score_gates_lose_at_most_twice_their_error(seed: int, delta: float) -> None:
    """Routing by scores off by at most delta loses at most two delta, on every subset."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 6))
    chances = rng.random((4, size))
    estimates = chances + rng.uniform(-delta, delta, size=chances.shape)
    for subset in subsets(size):
        assert (routing_regret(chances, estimates, subset) <= 2 * delta + 1e-12).all()


def test_twice_the_error_is_reached() -> None:
    """Two experts 2 delta apart that are estimated alike lose all of it: the bound is tight."""
    chances = np.array([[0.5, 0.7]])
    estimates = np.array([[0.6, 0.6]])
    assert routing_regret(chances, estimates, (0, 1))[0] == pytest.approx(0.2)


@given(seeds)
def test_value_of_one_more_expert(seed: int) -> None:
    """Adding expert j to S changes the routed value by p_j (q_j - value on S)."""
    _, logits, subset = drawn(seed)
    chances = np.random.default_rng(seed).random(logits.shape)
    before = routed_value(chances, logits, subset)
    for j in set(range(logits.shape[1])) - set(subset):
        joined = (*subset, j)
        raised = np.exp(logits[:, joined] - logits[:, joined].max(axis=1, keepdims=True))
        share = raised[:, -1] / raised.sum(axis=1)
        change = routed_value(chances, logits, joined) - before
        assert change == pytest.approx(share * (chances[:, j] - before), abs=1e-12)
