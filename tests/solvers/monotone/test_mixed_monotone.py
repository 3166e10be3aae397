"""The masked softmax objective: its bound is true, monotone and tight, and the engine proves it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solving import run
from strategies import Difference, Polynomial, brute_force, budgets_for, matrices

from moe2opt.canonical import MonotoneProblem, find_counterexample
from moe2opt.canonical.ratio import (
    MaskedSoftmax,
    masked_softmax_ceiling,
    masked_softmax_problem,
)
from moe2opt.certify import certify
from moe2opt.result import InputError, Status
from moe2opt.solvers import brb
from moe2opt.solvers.monotone import relaxation as corner_bound

#: Rounding of a mean of a few dozen numbers.
CLOSE = 1e-12


def mixture(logits: Any, quality: Any, chosen: Any) -> float:
    """Return the sum over clusters of the masked softmax mixture, by its definition."""
    picked = np.flatnonzero(chosen)
    if not len(picked):
        return 0.0
    shifted = np.asarray(logits)[:, picked]
    weight = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    share = weight / weight.sum(axis=1, keepdims=True)
    return float((share * np.asarray(quality)[:, picked]).sum())


def subsets(size: int) -> Any:
    """Return all 0/1 vectors."""
    return np.array(list(itertools.product((0, 1), repeat=size)))


def synthetic(kind: str, experts: int, clusters: int, seed: int) -> Any:
    """Return logits and quality: a gate blind to quality, or ranking iid or latent quality."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(clusters, experts))
    if kind == "blind":
        return 1.5 * noise, rng.random((clusters, experts))
    if kind == "ranking":
        quality = rng.random((clusters, experts))
        return quality / 0.1 + noise, quality
    skill, need = rng.random((experts, 3)), rng.random((clusters, 3))
    scatter = 0.2 * rng.normal(size=(clusters, experts))
    quality = 1 / (1 + np.exp(-4 * (need @ skill.T - 0.7 + scatter)))
    return quality / 0.3 + noise, quality


def instance(kind: str, experts: int, clusters: int, seed: int) -> MonotoneProblem:
    """Return a problem with two budgets of 35 % of the total use."""
    costs = np.random.default_rng(seed + 1000).random((2, experts))
    logits, quality = synthetic(kind, experts, clusters, seed)
    return masked_softmax_problem(logits, quality, costs, 0.35 * costs.sum(axis=1))


@st.composite
def gates(draw: Any, experts: int = 5, clusters: int = 3) -> Any:
    """Logits and qualities with ties, zeros and gates from flat to almost hard."""
    n, c = draw(st.integers(1, experts)), draw(st.integers(1, clusters))
    logits = draw(matrices(c, n, -4, 4)) / draw(st.sampled_from((4, 1, 0.1)))
    return logits.clip(-40, 40), draw(matrices(c, n)) / 9


def corner(size: int) -> Any:
    """Any 0/1 vector."""
    return st.lists(st.integers(0, 1), min_size=size, max_size=size).map(np.array)


# ---------------------------------------------------------------------- the function


@given(gates())
def test_on_points_it_is_the_softmax_mixture(gate: Any) -> None:
    """F(x, x) is the masked softmax expectation, and 0 for no expert."""
    points = subsets(gate[0].shape[1])
    values = MaskedSoftmax(*gate)(points, points)
    expected = [mixture(*gate, x) for x in points]
    np.testing.assert_allclose(values, expected, rtol=CLOSE, atol=1e-15)
    assert values[0] == 0.0


@given(gates(experts=4), st.data())
def test_on_boxes_it_is_the_best_choice_of_each_cluster(gate: Any, data: Any) -> None:
    """For y ≤ x the value of a cluster is the maximum over the choices between them."""
    size = gate[0].shape[1]
    x = data.draw(corner(size))
    y = x * data.draw(corner(size))
    inside = [t for t in subsets(size) if (y <= t).all() and (t <= x).all()]
    best = MaskedSoftmax(*gate).best_mixtures(x[None], y[None])[0]
    for c, value in enumerate(best):
        expected = max(mixture(gate[0][[c]], gate[1][[c]], t) for t in inside)
        assert value == pytest.approx(expected, rel=CLOSE, abs=1e-15)


def test_a_heavy_expert_does_not_hide_a_light_better_one() -> None:
    """An expert of weight e^-40 beside a worse one of weight 1 is the best choice of the box."""
    ninth = 1 / 9
    function = MaskedSoftmax([[0.0, 40.0, 0.0, 0.0]], [[ninth, ninth, 2 * ninth, ninth]])
    x, y = np.array([[0, 1, 1, 0]]), np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    values = function(np.repeat(x, 3, axis=0), y)
    assert values.tolist() == pytest.approx([2 * ninth, ninth, 2 * ninth], rel=CLOSE)


@given(gates(), st.data())
def test_it_increases_in_x_and_decreases_in_y(gate: Any, data: Any) -> None:
    """Raising x never lowers F and raising y never raises it, also where y is not below x."""
    size, function = gate[0].shape[1], MaskedSoftmax(*gate)
    x, y = data.draw(corner(size)), data.draw(corner(size))
    more = np.maximum(np.eye(size, dtype=np.int64), x)
    value = function(x[None], y[None])[0]
    margin = CLOSE * max(1.0, value)
    assert (function(more, np.tile(y, (size, 1))) >= value - margin).all()
    more = np.maximum(np.eye(size, dtype=np.int64), y)
    assert (function(np.tile(x, (size, 1)), more) <= value + margin).all()


def test_no_choice_of_a_box_exceeds_its_bound() -> None:
    """However far apart weights and qualities lie, no computed value exceeds that of its box."""
    rng = np.random.default_rng(0)
    far = MaskedSoftmax([[-20.0, 20.0, -20.0, -20.0]], [[1.0, 1 / 3, 1e9, 1.0]])
    gates = [(far, np.array([1, 1, 0, 1]), np.array([1, 0, 0, 0]))]
    for _ in range(300):
        clusters, experts = int(rng.integers(1, 4)), int(rng.integers(1, 6))
        quality = rng.choice([0.0, 0.1, 0.3, 1 / 3, 1e-9, 1e9, 1.0], size=(clusters, experts))
        logits = rng.choice([0.0, 0.1, -3.0, 5.0, 20.0, -20.0], size=(clusters, experts))
        weights = rng.choice([0.0, 1.0, 0.1, 1e6, 1e-9], size=clusters)
        upper = rng.integers(0, 2, experts)
        lower = upper * rng.integers(0, 2, experts)
        gates.append((MaskedSoftmax(logits, quality, weights), upper, lower))
    for gate, upper, lower in gates:
        bound = gate(upper[None, :], lower[None, :])[0]
        for inside in itertools.product(
            *(range(a, b + 1) for a, b in zip(lower, upper, strict=True))
        ):
            point = np.array([inside])
            assert gate(point, point)[0] <= bound


@pytest.mark.parametrize("kind", ["blind", "ranking", "latent"])
def test_the_self_test_agrees(kind: str) -> None:
    """No sample contradicts F, while f declared as increasing is caught at once."""
    problem = instance(kind, 12, 30, 0)
    assert find_counterexample(problem, samples=2000) is None
    claimed = MonotoneProblem(problem.lower, problem.upper, problem.objective_values)
    found = find_counterexample(claimed)
    assert found is not None
    assert found.oracle == "objective"
    assert found.after < found.before


@given(gates(), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_weights_scale_clusters(gate: Any, weights: list[int]) -> None:
    """A weighted sum is the sum of the clusters times their weights."""
    w = np.array(weights[: len(gate[0])], dtype=np.float64)
    points = subsets(gate[0].shape[1])
    single = [MaskedSoftmax(gate[0][[c]], gate[1][[c]])(points, points) for c in range(len(w))]
    np.testing.assert_allclose(
        MaskedSoftmax(*gate, w)(points, points), w @ np.array(single), rtol=CLOSE, atol=1e-15
    )


def test_a_row_has_the_same_bits_alone_and_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound does not depend on the boxes evaluated beside it, or on how a batch is parted."""
    rng = np.random.default_rng(1)
    function = MaskedSoftmax(*synthetic("ranking", 9, 70, 1), rng.random(70))
    x = rng.integers(0, 2, (40, 9))
    y = x * rng.integers(0, 2, (40, 9))
    whole = function(x, y)
    alone = [function(x[[k]], y[[k]])[0] for k in range(len(x))]
    monkeypatch.setattr("moe2opt.canonical.ratio._MOST_NUMBERS", 9 * 70 * 3)
    assert whole.tolist() == alone == function(x, y).tolist()


def test_experts_that_the_gate_ignores_count_when_alone() -> None:
    """The mask comes before the softmax: 500 nats below the others is no handicap if they go."""
    function = MaskedSoftmax([[0.0, -500.0, -501.0]], [[0.1, 0.7, 0.9]])
    x = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 1]])
    share = 1 / (1 + np.exp(-1.0))
    expected = [0.7, 0.1, share * 0.7 + (1 - share) * 0.9]
    np.testing.assert_allclose(function(x, x), expected, rtol=CLOSE)


# ---------------------------------------------------------------------- how tight


@pytest.mark.parametrize("seed", range(4))
def test_tighter_than_the_textbook_bounds(seed: int) -> None:
    """Maximum ≤ F < best quality < A(x)/Z(y) on a box of 1024 choices, by wide margins.

    The three bounds are ordered as on the box that first showed it (0.541, 0.693, 0.903, 13.5).
    """
    logits, quality = synthetic("blind", 12, 50, seed)
    logits /= 1.5
    inside = subsets(12)[:, ::-1]
    inside = inside[(inside[:, :2] == 1).all(axis=1)]
    lower, upper = inside.min(axis=0), inside.max(axis=0)
    function = MaskedSoftmax(logits, quality)
    largest = function(inside, inside).max()
    tight = function(upper[None], lower[None])[0]
    best = quality.max(axis=1).sum()
    mass = np.exp(logits)
    naive = ((mass * quality).sum(axis=1) / (mass @ lower)).sum()
    assert largest <= tight < best < naive
    assert best - tight > 0.45 * (best - largest)
    assert naive > 3 * best


@settings(max_examples=60)
@given(gates(), st.data())
def test_the_ceiling_bounds_every_gate(gate: Any, data: Any) -> None:
    """The best-of-chosen facility problem is worth at least as much, under the same budgets."""
    n = gate[0].shape[1]
    costs = data.draw(matrices(2, n, 0, 6))
    budgets = data.draw(budgets_for(costs.sum(axis=1)))
    some = data.draw(st.booleans())
    problem = masked_softmax_problem(*gate, costs, budgets, at_least_one=some)
    ceiling = masked_softmax_ceiling(gate[1], costs, budgets, at_least_one=some)
    points = subsets(n)
    assert [problem.is_feasible(x) for x in points] == [ceiling.is_feasible(x) for x in points]
    assert brute_force(problem) <= brute_force(ceiling) * (1 + CLOSE)


# ---------------------------------------------------------------------- the engine


@settings(max_examples=60)
@given(gates(), st.data())
def test_brb_is_enumeration_with_a_proof(gate: Any, data: Any) -> None:
    """On tiny problems `brb` finds the optimum or infeasibility, and the checker agrees."""
    costs = data.draw(matrices(2, gate[0].shape[1], 0, 6))
    budgets = data.draw(budgets_for(costs.sum(axis=1)))
    problem = masked_softmax_problem(*gate, costs, budgets, at_least_one=data.draw(st.booleans()))
    best, result = brute_force(problem), run(problem, "brb", bound="mixed")
    verdict = certify(problem, result)
    assert (verdict.ok, verdict.kind) == (True, "checked"), verdict.failures
    if best == -np.inf:
        assert result.status is Status.INFEASIBLE
    else:
        assert result.status is Status.OPTIMAL
        assert result.objective == pytest.approx(best, rel=2e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["blind", "ranking", "latent"])
def test_fourteen_experts_are_proven(kind: str) -> None:
    """With 14 experts and 50 clusters the optimum of enumeration is proven and certified."""
    problem = instance(kind, 14, 50, 0)
    result = run(problem, "brb", bound="mixed")
    assert result.status is Status.OPTIMAL
    assert certify(problem, result).kind == "checked"
    assert certify(problem, result).ok
    assert result.objective == pytest.approx(run(problem, "enumerate").objective, rel=2e-9)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("blind", marks=pytest.mark.slow),
        pytest.param("ranking", marks=pytest.mark.slow),
        "latent",
    ],
)
def test_twenty_experts_are_proven(kind: str) -> None:
    """With 20 experts and 50 clusters the optimum is proven, certified and unbeaten."""
    problem = instance(kind, 20, 50, 0)
    result = run(problem, "brb", bound="mixed")
    assert result.status is Status.OPTIMAL
    assert certify(problem, result).ok
    assert run(problem, "local_search").objective <= result.objective * (1 + 2e-9)


def test_a_stopped_run_is_certified_too() -> None:
    """A node limit leaves a bound that the checker confirms, and rejects when it is lowered."""
    problem = instance("blind", 16, 30, 3)
    result = run(problem, "brb", bound="mixed", node_limit=20)
    assert result.status is Status.FEASIBLE
    assert certify(problem, result).ok
    assert result.certificate is not None
    lowered = replace(result.certificate, claim=result.objective).sealed()
    forged = replace(result, bound=result.objective, certificate=lowered)
    assert "does not hold" in certify(problem, forged).failures[0]


def test_some_expert_or_none() -> None:
    """Where no expert fits, "at least one" is infeasible, and otherwise nothing is worth 0."""
    data = ([[0.0, 1.0]], [[0.5, 0.9]], [[2, 3]], [1])
    needed, free = (masked_softmax_problem(*data, at_least_one=some) for some in (True, False))
    assert run(needed, "brb").status is Status.INFEASIBLE
    result = run(free, "brb")
    assert (result.status, result.objective) == (Status.OPTIMAL, 0.0)
    assert result.x is not None
    assert result.x.tolist() == [0, 0]


def test_a_worse_expert_is_left_out_although_it_fits() -> None:
    """The optimum need not use the budget: a confident bad expert would only take traffic."""
    problem = masked_softmax_problem([[0.0, 5.0]], [[0.9, 0.5]], [[1, 1]], [2])
    result = run(problem, "brb")
    assert result.x is not None
    assert (result.x.tolist(), result.objective) == ([1, 0], 0.9)


class WholeOnly(corner_bound.CornerRelaxation):
    """The corner bound without the bounds of halves."""


@pytest.mark.parametrize("kind", ["blind", "latent"])
def test_bounding_both_halves_saves_nodes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of both halves of every axis at least halve the tree, at the same optimum."""
    problem = instance(kind, 16, 40, 2)
    halves = run(problem, "brb")
    monkeypatch.setattr(brb, "choose_relaxation", lambda problem, search: WholeOnly(problem))
    whole = run(problem, "brb")
    assert halves.objective == pytest.approx(whole.objective, rel=2e-9)
    assert halves.stats["nodes"] * 2 <= whole.stats["nodes"]


def test_wide_boxes_are_halved_to_their_best_point() -> None:
    """A difference of two increasing functions over 400² points: the optimum, with a proof."""
    gain = Polynomial((0, 0), (200.0, 180.0), ((0.0, 0.0), (0.0, 0.0)))
    price = Polynomial((0, 0), (0.0, 0.0), ((1.0, 0.5), (0.0, 1.0)))
    problem = MonotoneProblem([0, 0], [399, 399], mixed_objective=Difference(gain, price))
    result = run(problem, "brb")
    axis = np.arange(400)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert result.objective == problem.objective_values(grid).max()
    assert result.status is Status.OPTIMAL
    assert certify(problem, result).ok


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quality": [[0.5, -0.1]]}, r"quality\[0, 1\] is -0.1; no entry may be negative"),
        ({"gate_logits": [[0.0]]}, r"logits: shape \(1, 1\) does not match \(C, N\) = \(1, 2\)"),
        ({"gate_logits": [[0.0, np.inf]]}, r"logits\[0, 1\] is inf; every entry must be finite"),
        ({"gate_logits": [[0.0, 700.0]]}, r"logits\[0\] span 700 nats; beyond 600 weights underf"),
        ({"quality": np.zeros((1, 0)), "gate_logits": np.zeros((1, 0))}, "holds no expert"),
        ({"weights": [1, 2]}, r"weights: shape \(2,\) does not match \(C,\) = \(1,\)"),
        ({"costs": [[1.0]]}, r"costs: shape \(1, 1\) does not match \(K, N\) = \(1, 2\)"),
        ({"budgets": [1, 2]}, r"budgets: shape \(2,\) does not match \(K,\) = \(1,\)"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    """The message names the array and the entry at fault."""
    good = {
        "gate_logits": [[0.0, 1.0]],
        "quality": [[0.5, 0.6]],
        "costs": [[1, 1]],
        "budgets": [1],
    }
    with pytest.raises(InputError, match=message):
        masked_softmax_problem(**{**good, **change})
