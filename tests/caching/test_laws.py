"""Laws of caches of experts, on random traces and on the synthetic one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from caching.conftest import random_trace
from hypothesis import given, settings
from hypothesis import strategies as st

from moe2opt.caching.adapmoe import dropped_by_gate, gated_out
from moe2opt.caching.caches import prepare
from moe2opt.caching.hobbit import UNWANTED, class_shares, importance_classes
from moe2opt.caching.policies import (
    POLICIES,
    TokenCosts,
    TokenSettings,
    replay,
    replay_prepared,
)
from moe2opt.caching.slots import (
    allocated_slots,
    equal_slots,
    global_lru_curve,
    lru_cliff,
    lru_curve,
)
from moe2opt.caching.trace import ExpertTrace
from moe2opt.placement.experts.hits import lru_hit_rates, static_hit_rates

COSTS = TokenCosts(4.0, 0.7, 0.11, 0.3, 1.0, 0.2, 0.05, 0.1, 1.0)

#: Policies that serve every expert in full and copy only what is missing.
PLAIN = tuple(
    name
    for name, policy in POLICIES.items()
    if not (policy.mixed or policy.gated or policy.prefetch or policy.cache.rule == "static")
)
#: The same, with prefetching.
FULL = tuple(
    name
    for name, policy in POLICIES.items()
    if not (policy.mixed or policy.gated or policy.cache.rule == "static")
)


@st.composite
def traces(draw: Any) -> ExpertTrace:
    """Small traces of one to four layers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    experts = draw(st.integers(2, 7))
    top_k = draw(st.integers(1, min(3, experts)))
    return random_trace(rng, draw(st.integers(1, 40)), draw(st.integers(1, 4)), experts, top_k)


between = st.sampled_from(["kept", "empty"])


@settings(max_examples=60)
@given(trace=traces(), start=between)
def test_stack_depths_are_replays_at_every_size(trace: ExpertTrace, start: Any) -> None:
    """Curves from stack depths equal replays with each number of slots, and never fall."""
    layer, every = lru_curve(trace, between=start), global_lru_curve(trace, between=start)
    for slots in range(trace.n_experts + 1):
        knobs = TokenSettings(slots * trace.n_layers, between=start)
        rates = replay(trace, knobs, "lru").layer_hit_rates()
        np.testing.assert_allclose(layer[:, slots], rates, atol=1e-12)
        shared = replay(trace, knobs, "lru-global")
        assert every[knobs.slots] == pytest.approx(shared.hit_rate)
    assert (np.diff(layer, axis=1) >= 0).all()
    assert (np.diff(every) >= 0).all()


@settings(max_examples=40)
@given(trace=traces())
def test_curves_equal_those_of_the_placement_question(trace: ExpertTrace) -> None:
    """The LRU curve is the one that placement plans with."""
    expected = lru_hit_rates(trace.experts.astype(np.int64), trace.starts, trace.n_experts)
    np.testing.assert_allclose(lru_curve(trace), expected, atol=1e-12)


@settings(max_examples=40)
@given(trace=traces(), start=between)
def test_more_slots_never_hurt_the_clairvoyant(trace: ExpertTrace, start: Any) -> None:
    """Belady's hits rise with the slots, per layer and for all layers."""
    most = trace.n_layers * trace.n_experts
    for policy in ("belady", "belady-global", "belady-filled"):
        hits = [
            replay(trace, TokenSettings(slots, between=start), policy).hits
            for slots in range(0, most + 1, trace.n_layers)
        ]
        assert all(b >= a for a, b in pairwise(hits))


@settings(max_examples=60)
@given(trace=traces(), start=between, share=st.floats(0, 1))
def test_belady_bounds_every_policy(trace: ExpertTrace, start: Any, share: float) -> None:
    """No policy that serves all experts in full makes fewer copies than the clairvoyant cache.

    With the same slots in every layer the bound per layer holds, too; one that is filled before the
    start bounds residents that are there from the start.
    """
    most = trace.n_layers * trace.n_experts
    knobs = TokenSettings(
        int(share * most), COSTS, trace, start, prefetch_accuracy=0.7, weights=(0.4, 0.3, 0.2, 0.1)
    )
    prepared = prepare(trace, knobs)
    copies = {
        name: run.on_demand_loads + run.prefetches
        for name in (*FULL, "static", "static-layer")
        for run in [replay_prepared(prepared, name)]
    }
    assert all(copies["belady-global"] <= copies[name] for name in PLAIN if name != "belady-filled")
    assert all(copies["belady-filled"] <= number for number in copies.values())
    for name in ("lru", "lfu", "lfu-model", "prefetch-oracle", "prefetch-transition"):
        assert copies["belady"] <= copies[name]


@settings(max_examples=40)
@given(trace=traces(), tau=st.sampled_from([0.01, 0.05, 0.3]))
def test_belady_on_what_is_wanted_bounds_gating(trace: ExpertTrace, tau: float) -> None:
    """What the gate leaves out is not asked of the cache, and the rest cannot beat Belady."""
    knobs = TokenSettings(trace.n_layers * 2, COSTS, trace, tau=tau)
    gated = replay(trace, knobs, "adapmoe-gating")
    left_out = int((dropped_by_gate(trace, knobs) == UNWANTED).sum())
    assert gated.totals["dropped"] == left_out
    assert gated.wanted == trace.experts.size - left_out
    # Leaving experts out can save at most as many copies as there are experts left out.
    belady = replay(trace, knobs, "belady")
    assert gated.on_demand_loads >= belady.on_demand_loads - left_out


@pytest.mark.parametrize("policy", list(POLICIES))
def test_layers_add_up(synthetic: ExpertTrace, policy: str) -> None:
    """In every layer the outcomes are the experts of all tokens; time and bytes add up."""
    planning, trace = synthetic.halves()
    run = replay(trace, TokenSettings(60, COSTS, planning, tau=0.05), policy)
    assert (run.outcomes.sum(axis=1) == trace.tokens * trace.top_k).all()
    assert run.hits + run.misses + run.totals["dropped"] == trace.experts.size
    full = run.totals["loaded"] + run.prefetched[:, 0].sum()
    low = run.totals["loaded_low"] + run.prefetched[:, 1].sum()
    assert run.bytes_moved == pytest.approx(4.0 * full + 1.0 * low)
    assert len(run.seconds) == trace.tokens
    frame = run.to_frame()
    assert frame["hit"].sum() == run.totals["hit"]


@pytest.mark.parametrize("policy", PLAIN)
def test_time_is_layers_copies_and_uses(synthetic: ExpertTrace, policy: str) -> None:
    """Without prefetching, seconds are those of the layers, of all copies, and of all uses."""
    planning, trace = synthetic.halves()
    run = replay(trace, TokenSettings(60, COSTS, planning), policy)
    steps = trace.tokens * trace.n_layers
    expected = COSTS.layer_s * steps + COSTS.compute_s * trace.experts.size
    expected += COSTS.copy_s * run.on_demand_loads
    assert run.seconds.sum() == pytest.approx(expected)


def test_static_hits_are_shares_of_use(synthetic: ExpertTrace) -> None:
    """The hit rate of fixed residents is their share of the uses, as placement predicts it."""
    planning, trace = synthetic.halves()
    curve = static_hit_rates(planning.shares(), trace.shares())
    for slots in (0, 3, 8, 16):
        run = replay(trace, TokenSettings(slots * 8, COSTS, planning), "static-layer")
        np.testing.assert_allclose(run.layer_hit_rates(), curve[:, slots], atol=1e-12)


def test_the_most_used_of_all_layers_are_the_best_residents(synthetic: ExpertTrace) -> None:
    """On the sequences they were learnt from, no choice of residents beats the most used ones."""
    knobs = TokenSettings(40, COSTS, synthetic)
    best = np.sort(synthetic.shares().ravel())[::-1][:40].sum() * synthetic.tokens
    assert replay(synthetic, knobs, "static").hits == pytest.approx(best)
    assert replay(synthetic, knobs, "static").hits >= replay(synthetic, knobs, "static-layer").hits


@settings(max_examples=40)
@given(trace=traces())
def test_lru_cliff(trace: ExpertTrace) -> None:
    """One LRU cache for all layers that holds no more than the other layers' experts never hits."""
    knobs = TokenSettings(lru_cliff(trace))
    assert replay(trace, knobs, "lru-global").hits == 0
    assert global_lru_curve(trace)[lru_cliff(trace)] == 0.0


def test_the_cliff_is_where_hits_begin(synthetic: ExpertTrace) -> None:
    """One slot more and the trace with local reuse hits; the clairvoyant hits long before."""
    at = lru_cliff(synthetic)
    assert at == 7 * 4
    assert global_lru_curve(synthetic)[at + 1] > 0
    assert replay(synthetic, TokenSettings(at), "belady-global").hit_rate > 0.1
    assert replay(synthetic, TokenSettings(at), "lru").hit_rate > 0.1


def test_all_slots_leave_first_uses_only(synthetic: ExpertTrace) -> None:
    """With room for everything every policy misses each expert once."""
    knobs = TokenSettings(8 * 16, COSTS, synthetic)
    used = int((synthetic.shares() > 0).sum())
    for policy in ("lru", "lru-global", "lfu", "hobbit-priority", "belady"):
        assert replay(synthetic, knobs, policy).misses == used
    assert replay(synthetic, knobs, "static").misses == 0


def test_allocated_slots_are_the_best_split() -> None:
    """Dynamic programming finds the best of all splits, also for curves that are not concave."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        curve = np.sort(rng.random((3, 5)), axis=1)
        slots = allocated_slots(curve, 6)
        every = [
            (curve[0, a] + curve[1, b] + curve[2, c])
            for a in range(5)
            for b in range(5)
            for c in range(5)
            if a + b + c <= 6
        ]
        assert slots.sum() <= 6
        assert curve[np.arange(3), slots].sum() == pytest.approx(max(every))


def test_allocation_never_loses_where_it_was_learnt(synthetic: ExpertTrace) -> None:
    """On its own planning sequences the allocation hits at least as often as equal slots."""
    knobs = TokenSettings(48, COSTS, synthetic, "empty")
    allocated, equal = (replay(synthetic, knobs, name) for name in ("adapmoe-slots", "lru"))
    assert allocated.hits >= equal.hits
    assert equal_slots(50, 8, 16).tolist() == [7, 7, 6, 6, 6, 6, 6, 6]


# ---------------------------------------------------------------------- prefetching


def test_prefetching_in_time_hides_every_copy(synthetic: ExpertTrace) -> None:
    """With the truth, a fast link and room, only first layers of sequences wait."""
    costs = TokenCosts(copy_s=1e-3, compute_s=1.0, layer_s=1.0)
    knobs = TokenSettings(8 * 16, costs, synthetic, "empty")
    run = replay(synthetic, knobs, "prefetch-oracle")
    assert run.late_prefetches == 0
    assert run.outcomes[1:, 4:].sum() == 0
    assert run.on_demand_loads == synthetic.sequences * synthetic.top_k
    assert run.prefetched[:, 2].sum() == 0


def test_a_slow_link_makes_prefetches_late(synthetic: ExpertTrace) -> None:
    """With copies longer than a layer, prefetches arrive late, at most one before each gate."""
    costs = TokenCosts(copy_s=50.0, compute_s=0.1, layer_s=0.1)
    run = replay(synthetic, TokenSettings(64, costs, synthetic), "prefetch-oracle")
    assert run.late_prefetches > 0
    assert (run.prefetched[:, 0] <= synthetic.tokens).all()


def test_wrong_prefetches_cost_bytes(synthetic: ExpertTrace) -> None:
    """The less accurate the look-ahead, the more bytes move and the longer tokens take."""
    costs = TokenCosts(copy_s=0.3, compute_s=0.1, layer_s=0.2)
    runs = [
        replay(
            synthetic,
            TokenSettings(64, costs, synthetic, prefetch_accuracy=accuracy),
            "adapmoe-prefetch",
        )
        for accuracy in (1.0, 0.7, 0.0)
    ]
    moved = [run.bytes_moved for run in runs]
    assert moved == sorted(moved)
    assert runs[0].seconds.mean() < runs[1].seconds.mean() < runs[2].seconds.mean()
    assert runs[2].prefetched[:, 2].sum() > runs[0].prefetched[:, 2].sum()


# ---------------------------------------------------------------------- gates


def test_adapmoe_rule_for_two_experts() -> None:
    """For k = 2 the second expert goes exactly where weight < sqrt(tau / sensitivity)."""
    rng = np.random.default_rng(0)
    first = rng.uniform(0.5, 1.0, size=(200, 3))
    gates = np.stack([first, 1 - first], axis=2)
    sensitivity = np.array([4.0, 1.0, 0.02])
    out = gated_out(gates, 0.005, sensitivity)
    assert (out[:, :, 1] == (gates[:, :, 1] < np.sqrt(0.005 / sensitivity))).all()
    assert not out[:, :, 0].any()


def test_gating_drops_more_with_a_larger_threshold(synthetic: ExpertTrace) -> None:
    """Dropped experts and expected loss grow with tau, bytes fall; tau = 0 is plain LRU."""
    planning, trace = synthetic.halves()
    base = TokenSettings(60, COSTS, planning)
    runs = [
        replay(trace, replace(base, tau=tau), "adapmoe-gating") for tau in (0.0, 0.01, 0.05, 9.0)
    ]
    plain = replay(trace, base, "lru")
    assert runs[0].totals == plain.totals
    assert runs[0].expected_loss_nats == 0.0
    losses = [run.expected_loss_nats for run in runs]
    assert losses == sorted(losses)
    assert runs[-1].totals["dropped"] == trace.experts.size * 3 // 4
    bytes_ = [run.bytes_moved for run in runs]
    assert bytes_ == sorted(bytes_, reverse=True)


def test_generous_thresholds_are_full_precision(synthetic: ExpertTrace) -> None:
    """With T1 = 1 and no low cache, HOBBIT's rule is plain LRU."""
    planning, trace = synthetic.halves()
    knobs = TokenSettings(60, COSTS, planning, thresholds=(1.0, 1.0), low_slots_share=0.0)
    mixed, plain = (replay(trace, knobs, name) for name in ("hobbit-mixed", "lru-global"))
    assert mixed.totals == plain.totals
    assert mixed.expected_loss_nats == 0.0


def test_classes_by_hand() -> None:
    """Experts behind 0.6 of the weight are low, behind 0.9 skipped, the first never."""
    gates = np.array([[[0.65, 0.3, 0.05], [0.95, 0.03, 0.02], [0.4, 0.35, 0.25]]])
    experts = np.tile(np.arange(3), (1, 3, 1))
    trace = ExpertTrace(experts, 3, np.array([0]), gates)
    classes = importance_classes(trace, TokenSettings(1))
    assert classes.tolist() == [[[0, 1, 2], [0, 2, 2], [0, 0, 1]]]
    shares = class_shares(classes)
    assert shares == pytest.approx({"full": 4 / 9, "low": 2 / 9, "skip": 3 / 9})


def test_loss_by_hand() -> None:
    """Expected loss is gate weight over layers times the loss of what was served."""
    gates = np.array([[[0.5, 0.3, 0.2]], [[0.5, 0.3, 0.2]]])
    trace = ExpertTrace(np.array([[[0, 1, 2]], [[0, 1, 2]]]), 3, np.array([0]), gates)
    knobs = TokenSettings(0, COSTS, thresholds=(0.0, 0.5), low_slots_share=0.0)
    run = replay(trace, knobs, "hobbit-mixed")
    assert (run.low_weight, run.dropped_weight) == pytest.approx((0.3, 0.2))
    assert run.expected_loss_nats == pytest.approx(0.3 * 0.1 + 0.2 * 1.0)
    assert run.bytes_moved == pytest.approx(2 * (4.0 + 1.0))
