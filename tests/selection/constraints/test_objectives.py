"""Objectives that mix experts: not monotone, bounded by mixed-monotone functions, exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt.canonical import FacilityProblem, find_counterexample
from moe2opt.canonical.ratio import MaskedSoftmax
from moe2opt.result import InputError
from moe2opt.selection.case import Scored
from moe2opt.selection.constraints.ceiling import below, priced_ceiling
from moe2opt.selection.constraints.general import BestOfChosen, BudgetedProblem
from moe2opt.selection.constraints.objectives import Mixture, mixture_oracle, mixture_value

from ..budgets import LOGNORMAL, certified, instance_of, sets_of
from ..conftest import Load

SCORES = st.lists(st.sampled_from([0.0, 0.05, 0.2, 0.4, 0.5, 0.7, 0.9, 0.99]), min_size=15,
                  max_size=15)  # fmt: skip
KINDS = st.sampled_from([None, 2, 3, 7])


def by_hand(quality: list[float], allowed: list[bool], mixture: Mixture) -> float:
    """Return the mixture's accuracy on one prompt, straight from the definition."""
    able = sorted((q for q, a in zip(quality, allowed, strict=True) if a), reverse=True)
    able = able[: mixture.k]
    inside = [min(max(q, 1e-9), 1 - 1e-9) for q in able]
    odds = [(q / (1 - q)) ** (1 / mixture.temperature) for q in inside]
    return sum(w * q for w, q in zip(odds, able, strict=True)) / sum(odds) if able else 0.0


def drawn(scores: list[float], shut: list[int]) -> Scored:
    """Return three rows of five experts."""
    values = np.array(scores).reshape(3, 5)
    allowed = np.ones((3, 5), dtype=bool)
    allowed.flat[shut] = False
    return Scored(np.where(allowed, values, 0.0), np.array([0.5, 0.3, 0.2]), allowed)


def points(count: int) -> np.ndarray:
    """Return every 0/1 vector."""
    return np.array([[bits >> k & 1 for k in range(count)] for bits in range(2**count)])


@given(scores=SCORES, shut=st.lists(st.integers(0, 14), max_size=5), k=KINDS,
       temperature=st.sampled_from([0.2, 1.0, 5.0]))  # fmt: skip
def test_value_is_the_definition(
    scores: list[float], shut: list[int], k: int | None, temperature: float
) -> None:
    """The oracle, the plan's own computation and the definition agree on every set."""
    scored, mixture = drawn(scores, shut), Mixture(temperature, k)
    oracle = mixture_oracle(mixture, scored)
    everything = points(5)
    values = oracle(everything, everything)
    for x, value in zip(everything, values, strict=True):
        chosen = np.flatnonzero(x)
        rows = [
            by_hand(scored.values[c, chosen].tolist(), scored.allowed[c, chosen].tolist(), mixture)
            for c in range(3)
        ]
        expected = float(scored.weights @ rows)
        assert value == pytest.approx(expected, abs=1e-12)
        assert mixture_value(mixture, scored, chosen) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30)
@given(scores=SCORES, shut=st.lists(st.integers(0, 14), max_size=5), k=KINDS)
def test_bound_holds_on_every_box_and_is_mixed_monotone(
    scores: list[float], shut: list[int], k: int | None
) -> None:
    """F(x, y) is at least f(t) for all y ≤ t ≤ x, rises with x, and falls with y."""
    scored = drawn(scores, shut)
    oracle = mixture_oracle(Mixture(1.0, k), scored)
    everything = points(5)
    own = oracle(everything, everything)
    table = np.array([oracle(everything, np.broadcast_to(y, everything.shape).copy())
                      for y in everything])  # fmt: skip
    for b, y in enumerate(everything):
        for a, x in enumerate(everything):
            inside = ((everything >= y) & (everything <= x)).all(axis=1)
            if inside.any():
                assert table[b, a] >= own[inside].max() - 1e-12
            for i in np.flatnonzero(x == 0):
                assert table[b, a + 2**i] >= table[b, a] - 1e-12
            for i in np.flatnonzero(y == 0):
                assert table[b + 2**i, a] <= table[b, a] + 1e-12


def test_the_bound_of_all_experts_is_tight() -> None:
    """Without k, some set of the box reaches the bound of each single row."""
    rng = np.random.default_rng(3)
    quality = rng.random((1, 5))
    oracle = MaskedSoftmax(rng.normal(size=(1, 5)), quality)
    everything = points(5)
    own = oracle(everything, everything)
    for y in everything:
        for x in everything[(everything >= y).all(axis=1)]:
            inside = ((everything >= y) & (everything <= x)).all(axis=1) & (everything.any(axis=1))
            expected = own[inside].max() if inside.any() else 0.0
            assert oracle(x[None].copy(), y[None].copy())[0] == pytest.approx(expected)


@pytest.mark.parametrize("k", [None, 2])
def test_another_expert_may_lower_a_mixture(k: int | None) -> None:
    """Neither mixture is monotone: adding a worse expert to one good expert lowers the value."""
    scored = Scored(np.array([[0.9, 0.6]]), np.ones(1), np.ones((1, 2), dtype=bool))
    mixture = Mixture(1.0, k)
    alone, both = (mixture_value(mixture, scored, np.array(s)) for s in ([0], [0, 1]))
    assert both < alone == 0.9


def test_a_full_top_k_may_fall_too() -> None:
    """Even with k experts deployed, a newcomer that beats the last of them can lower the value."""
    scored = Scored(np.array([[0.9, 0.01, 0.6]]), np.ones(1), np.ones((1, 3), dtype=bool))
    mixture = Mixture(1.0, 2)
    before, after = (mixture_value(mixture, scored, np.array(s)) for s in ([0, 1], [0, 1, 2]))
    assert after < before


def test_one_expert_per_prompt_is_the_default_objective() -> None:
    """`top_k` with k = 1 compiles to the same facility problem as the default objective."""
    plain = instance_of(energy={"limit_j_per_prompt": 130})
    first = instance_of(energy={"limit_j_per_prompt": 130}, objective="top_k", mixture={"k": 1})
    assert isinstance(first.problem(), FacilityProblem)
    assert first.problem().fingerprint == plain.problem().fingerprint


@settings(max_examples=15)
@given(
    objective=st.sampled_from(["masked_softmax", "top_k"]),
    k=st.integers(2, 3),
    temperature=st.sampled_from([0.1, 0.5, 1.0, 20.0]),
    energy=st.integers(20, 400),
    limit_s=st.sampled_from([None, 1.5, {"code": 5.0, "prose": 10.0}, {"code": 2.5}]),
    servers=st.sampled_from(["both", "slow"]),
)
def test_certified_optimum_equals_enumeration(
    objective: str, k: int, temperature: float, energy: int, limit_s: Any, servers: str
) -> None:
    """The certified optimum is the best of all sets that pass the instance's own check."""
    keys: dict[str, Any] = {
        "objective": objective,
        "mixture": {"temperature": temperature, **({"k": k} if objective == "top_k" else {})},
        "energy": {"limit_j_per_prompt": energy},
        "delay": {"limit_s": limit_s},
    }
    instance = instance_of(**keys)
    if servers == "slow":
        keys["servers"] = [{"name": "slow", "device": "slow-box", "uplink_mbps": 1000,
                            "downlink_mbps": 1000}]  # fmt: skip
        instance = instance_of(**keys)
    values = []
    for x in sets_of(instance):
        plan = instance.decode(x)
        ok = instance.check(plan) == []
        assert ok == instance.problem().is_feasible(x)
        assert instance.evaluate(plan) == pytest.approx(instance.problem().evaluate(x), abs=1e-12)
        if ok:
            values.append(instance.evaluate(plan))
    result = certified(instance)
    assert result.objective == pytest.approx(max(values, default=-math.inf), abs=1e-9)


def test_plan_reports_who_shares_a_prompt() -> None:
    """Shares sum to one, joules count everybody who takes part, and the objective is named."""
    instance = instance_of(objective="masked_softmax")
    plan = instance.decode(np.array([1, 0, 1, 0, 0, 0]))
    assert sum(e.share_of_prompts for e in plan.experts) == pytest.approx(1)
    assert plan.energy_j_per_prompt == pytest.approx(21 + 42)
    assert plan.objective == "all experts, softmax at temperature 1"
    assert "Every prompt is answered by: all experts" in plan.summary()
    accuracies = [r.predicted_accuracy * r.share_of_prompts for r in plan.by_category]
    assert sum(accuracies) == pytest.approx(plan.predicted_accuracy)
    assert type(plan).from_dict(plan.to_dict()) == plan


def test_gated_instances_mix_too(load: Load) -> None:
    """With a trained gate both mixtures are solved exactly, and routing.top_k is the default k."""
    two = load("tiny_gate", None, {"objective": "top_k", "routing.top_k": 2})
    assert two.mixture == Mixture(1.0, 2)
    for instance in (two, load("tiny_gate", None, {"objective": "masked_softmax"})):
        values = []
        for x in sets_of(instance):
            plan = instance.decode(x)
            if instance.check(plan) == []:
                values.append(instance.evaluate(plan))
        assert certified(instance).objective == pytest.approx(max(values), abs=1e-9)


@settings(max_examples=30)
@given(data=st.data())
def test_ceiling_bounds_every_feasible_set(data: st.DataObject) -> None:
    """The ceiling is at least the best feasible value of each box, and no less than f at points."""
    seed = data.draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    problem = FacilityProblem(
        values=rng.random((4, 5)),
        costs=rng.integers(1, 9, size=(2, 5)) * data.draw(st.sampled_from([1.0, 0.37])),
        budgets=rng.integers(0, 20, size=2).astype(float),
        weights=rng.random(4),
    )
    own = BestOfChosen(problem.weighted)
    bound = below(own, priced_ceiling(problem))
    everything = points(5)
    feasible = np.array([problem.is_feasible(x) for x in everything])
    values = np.array([problem.evaluate(x) for x in everything])
    same = bound(everything[feasible], everything[feasible])
    assert same == pytest.approx(values[feasible], abs=1e-12)
    for y in everything:
        for x in everything[(everything >= y).all(axis=1)]:
            inside = feasible & ((everything >= y) & (everything <= x)).all(axis=1)
            if inside.any():
                assert bound(x[None], y[None])[0] >= values[inside].max() - 1e-12


def test_ceiling_is_no_weaker_than_the_corner_and_often_stronger() -> None:
    """At the root of a tight budget the ceiling lies below the value of all experts together."""
    rng = np.random.default_rng(1)
    problem = FacilityProblem(rng.random((30, 20)), rng.random((1, 20)), [1.0])
    everyone, nobody = np.ones((1, 20), dtype=np.int64), np.zeros((1, 20), dtype=np.int64)
    corner = BestOfChosen(problem.weighted)(everyone, nobody)[0]
    assert priced_ceiling(problem)(everyone, nobody)[0] < 0.97 * corner


@pytest.mark.parametrize("seed", range(20))
def test_best_of_chosen_takes_no_shortcut_that_shows(seed: int) -> None:
    """Sets that lack one expert get the same values to the last bit in one batch as one by one.

    A value that is less in a batch would be a bound below the truth.
    """
    rng = np.random.default_rng(seed)
    oracle = BestOfChosen(rng.random((9, 6)) * 10.0 ** rng.integers(-12, 13, (9, 6)))
    batch = np.ones((7, 6), dtype=np.int64) - np.vstack([np.eye(6, dtype=np.int64), np.zeros(6)])
    batch = batch.astype(np.int64)
    single = [oracle(x[None], x[None])[0] for x in batch]
    assert oracle(batch, batch).tolist() == single


def test_no_counterexample_in_what_compiles() -> None:
    """The declared directions of every oracle survive random pairs, nested or not."""
    for keys in (
        {"objective": "masked_softmax"},
        {"objective": "top_k", "mixture": {"k": 2}, "energy": {"limit_j_per_prompt": 130}},
        {"queue": {"prompts_per_s": 0.1, "wait_limit_s": 1.0}, "lengths": LOGNORMAL},
    ):
        problem = instance_of(**keys).problem()
        assert isinstance(problem, BudgetedProblem)
        assert find_counterexample(problem, samples=300) is None


def test_fingerprint_tells_mixtures_apart() -> None:
    """Two instances that differ in the temperature, or in k, have different fingerprints."""
    keys = [
        {"objective": "masked_softmax"},
        {"objective": "masked_softmax", "mixture": {"temperature": 2.0}},
        {"objective": "top_k", "mixture": {"k": 2}},
        {"objective": "top_k", "mixture": {"k": 3}},
    ]
    assert len({instance_of(**own).problem().fingerprint for own in keys}) == 4


def test_k_needs_logits_that_rank_as_quality() -> None:
    """The oracle refuses k when a worse expert has the larger logit, and k below one."""
    with pytest.raises(InputError, match=r"logits\[0\] do not rank as quality\[0\]"):
        MaskedSoftmax([[0.0, 1.0]], [[0.9, 0.2]], k=2)
    with pytest.raises(InputError, match="k is 0; expected at least 1"):
        MaskedSoftmax([[1.0, 0.0]], [[0.9, 0.2]], k=0)


def test_a_plan_is_found_before_the_first_box() -> None:
    """Climbing gives brb a feasible plan of a general instance, whatever its bound is worth."""
    instance = instance_of(objective="masked_softmax", energy={"limit_j_per_prompt": 130})
    stopped = mo.solve(instance, solver="brb", node_limit=1)
    assert stopped.x is not None
    assert stopped.objective <= certified(instance).objective <= stopped.bound
