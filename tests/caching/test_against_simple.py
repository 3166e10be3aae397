"""The compiled replay and straightforward Python simulations agree, on random and real traces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from caching import simple
from caching.conftest import random_trace
from caching.policies import FOLLOWED, counts, naive
from hypothesis import given, settings
from hypothesis import strategies as st

from moe2opt.caching.caches import prepare
from moe2opt.caching.policies import (
    TokenCosts,
    TokenReplay,
    TokenSettings,
    replay,
    replay_prepared,
)
from moe2opt.caching.slots import equal_slots, resident_experts
from moe2opt.caching.trace import ExpertTrace

COSTS = TokenCosts(4.0, 0.7, 0.11, 0.3, 1.0, 0.2, 0.05)


@st.composite
def cases(draw: Any) -> tuple[ExpertTrace, TokenSettings]:
    """Small traces and settings, awkward ones included: no slots, all slots, one layer."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers, experts = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    top_k = draw(st.integers(1, min(3, experts)))
    size = (layers, experts, top_k)
    trace = random_trace(rng, draw(st.integers(1, 30)), *size)
    costs = replace(COSTS, copy_s=draw(st.sampled_from([0.0, 0.1, 0.7])))
    return trace, TokenSettings(
        slots=draw(st.integers(0, layers * experts)),
        costs=costs,
        planning=random_trace(rng, 20, *size),
        between=draw(st.sampled_from(["kept", "empty"])),
        thresholds=draw(st.sampled_from([(0.6, 0.9), (0.3, 0.5), (0.0, 1.0)])),
        weights=draw(st.sampled_from([(0.4, 0.3, 0.2, 0.1), (0.0, 0.0, 1.0, 0.0)])),
        tau=draw(st.sampled_from([0.0, 0.01, 0.1])),
        prefetch_accuracy=draw(st.sampled_from([0.0, 0.5, 0.96])),
        seed=1,
    )


@pytest.mark.parametrize("policy", FOLLOWED)
@settings(max_examples=40)
@given(case=cases())
def test_replay_equals_the_naive_simulation(
    policy: str, case: tuple[ExpertTrace, TokenSettings]
) -> None:
    """Every count and every token's seconds are those of a simulation copy by copy."""
    prepared = prepare(*case)
    found, expected = replay_prepared(prepared, policy), naive(prepared, policy)
    assert counts(found) == {k: v for k, v in expected.counts.items() if v}
    np.testing.assert_allclose(found.seconds, expected.seconds, atol=1e-9)


@settings(max_examples=100)
@given(case=cases())
def test_lru_equals_an_ordered_dictionary(case: tuple[ExpertTrace, TokenSettings]) -> None:
    """LRU per layer and for all layers hits as often as an OrderedDict does."""
    trace, knobs = case
    slots = equal_slots(knobs.slots, trace.n_layers, trace.n_experts).tolist()
    assert replay(trace, knobs, "lru").hits == simple.lru(trace, slots, knobs.between)
    assert replay(trace, knobs, "lru-global").hits == simple.lru(trace, knobs.slots, knobs.between)


@settings(max_examples=100)
@given(case=cases())
def test_belady_equals_the_farthest_next_use(case: tuple[ExpertTrace, TokenSettings]) -> None:
    """The clairvoyant caches hit as often as one that looks every next use up."""
    trace, knobs = case
    slots = equal_slots(knobs.slots, trace.n_layers, trace.n_experts).tolist()
    assert replay(trace, knobs, "belady").hits == simple.farthest(trace, slots, knobs.between)
    every = simple.farthest(trace, knobs.slots, knobs.between)
    assert replay(trace, knobs, "belady-global").hits == every


@settings(max_examples=60)
@given(case=cases())
def test_static_hits_are_those_of_its_residents(case: tuple[ExpertTrace, TokenSettings]) -> None:
    """Residents that never change hit exactly where the trace uses them."""
    trace, knobs = case
    assert knobs.planning is not None
    shares = knobs.planning.shares()
    for policy, per_layer in (("static", False), ("static-layer", True)):
        resident = resident_experts(shares, knobs.slots, per_layer=per_layer)
        assert replay(trace, knobs, policy).hits == simple.static(trace, resident)


# ---------------------------------------------------------------------- real sequences


def held_out(trace: ExpertTrace, many: int) -> tuple[ExpertTrace, ExpertTrace]:
    """Return planning sequences, and the shortest `many` of the others."""
    planning, rest = trace.halves()
    lengths = np.diff(np.append(rest.starts, rest.tokens))
    return planning, rest.take(np.sort(np.argsort(lengths, kind="stable")[:many]))


def points(replay: TokenReplay, hits: int) -> float:
    """Return the difference of two hit rates in points."""
    return abs(replay.hits - hits) / replay.wanted * 100


def check_plain(trace: ExpertTrace, knobs: TokenSettings) -> None:
    """Compare the policies without gates with the simulations."""
    prepared = prepare(trace, knobs)
    slots = equal_slots(knobs.slots, trace.n_layers, trace.n_experts).tolist()
    assert knobs.planning is not None
    shares = knobs.planning.shares()
    expected = {
        "static": simple.static(trace, resident_experts(shares, knobs.slots, per_layer=False)),
        "lru": simple.lru(trace, slots, knobs.between),
        "lru-global": simple.lru(trace, knobs.slots, knobs.between),
        "belady": simple.farthest(trace, slots, knobs.between),
    }
    for policy in ("lfu", "lfu-model", "adapmoe-slots", "prefetch-transition", "prefetch-oracle"):
        expected[policy] = naive(prepared, policy).counts["hit"]
    for policy, hits in expected.items():
        assert points(replay_prepared(prepared, policy), hits) < 0.01, policy


def check_gated(trace: ExpertTrace, knobs: TokenSettings) -> None:
    """Compare the policies that need gates, and HOBBIT's priority, with the simulation."""
    prepared = prepare(trace, knobs)
    for policy in ("hobbit-priority", "hobbit-mixed", "hobbit", "adapmoe-gating", "adapmoe"):
        hits = naive(prepared, policy).counts["hit"]
        assert points(replay_prepared(prepared, policy), hits) < 0.1, policy


def test_real_sequences_agree(gpt_oss: ExpertTrace) -> None:
    """On gpt-oss-20b sequences that nothing was learnt from, hit rates agree to 0.01 points."""
    planning, trace = held_out(gpt_oss, 4)
    check_plain(trace, TokenSettings(340, COSTS, planning))


def test_real_sequences_with_gates_agree(gpt_oss_gates: ExpertTrace) -> None:
    """So do the policies that need gate weights, and HOBBIT's priority, to 0.1 points."""
    planning, trace = held_out(gpt_oss_gates, 1)
    check_gated(trace, TokenSettings(340, COSTS, planning, tau=0.02))


@pytest.mark.slow
def test_more_real_sequences_agree(gpt_oss: ExpertTrace) -> None:
    """The same on 30 held-out sequences at another size, each sequence a cold start."""
    planning, trace = held_out(gpt_oss, 30)
    check_plain(trace, TokenSettings(192, COSTS, planning, between="empty"))


@pytest.mark.slow
def test_more_real_sequences_with_gates_agree(gpt_oss_gates: ExpertTrace) -> None:
    """The same on 3 held-out sequences with gate weights."""
    planning, trace = held_out(gpt_oss_gates, 3)
    check_gated(trace, TokenSettings(256, COSTS, planning, tau=0.02))
