"""Laws and predictions on gpt-oss-20b sequences that nothing was learnt from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from token_caches.offline import belady_hits, intervals_of, optimal_savings

from moe2opt.caching.caches import Prepared, prepare
from moe2opt.caching.hobbit import class_shares, importance_classes
from moe2opt.caching.policies import (
    POLICIES,
    TokenCosts,
    TokenSettings,
    replay,
    replay_prepared,
)
from moe2opt.caching.slots import global_lru_curve, lru_cliff, lru_curve
from moe2opt.caching.trace import ExpertTrace
from moe2opt.placement.experts.hits import lru_hit_rates, static_hit_rates
from moe2opt.schema.csv import read_table

COSTS = TokenCosts(4.0, 0.7, 0.11, 0.3, 1.0, 0.2, 0.05, 0.1, 1.0)
SLOTS = 8 * 24


@pytest.fixture(scope="module")
def held_out(gpt_oss: ExpertTrace) -> Prepared:
    """Every fourth of the held-out sequences, planned on the other half."""
    planning, rest = gpt_oss.halves()
    return prepare(rest.take(slice(0, None, 4)), TokenSettings(SLOTS, COSTS, planning))


def test_the_trace_is_the_published_one(gpt_oss: ExpertTrace) -> None:
    """399 sequences without repetition; consecutive tokens share 40 to 45 % of their experts."""
    assert (gpt_oss.sequences, gpt_oss.n_layers, gpt_oss.top_k) == (399, 24, 4)
    now, before = gpt_oss.experts[1:], gpt_oss.experts[:-1]
    shared = (now[:, :, :, None] == before[:, :, None, :]).any(axis=3)
    overlap = shared[~gpt_oss.fresh[1:]].mean()
    assert 0.38 < overlap < 0.46


def test_belady_bounds_every_policy_on_real_sequences(held_out: Prepared) -> None:
    """No policy that serves every expert in full makes fewer copies than the clairvoyant cache."""
    full = [
        name
        for name, policy in POLICIES.items()
        if not (policy.mixed or policy.gated) and name != "belady-filled"
    ]
    copies = {}
    for name in full:
        run = replay_prepared(held_out, name)
        copies[name] = run.on_demand_loads + run.prefetches
    assert min(copies, key=copies.__getitem__) == "belady-global"
    per_layer = ("lru", "lfu", "lfu-model", "prefetch-oracle", "prefetch-transition")
    assert all(copies["belady"] < copies[name] for name in per_layer)


def test_belady_is_the_optimum_on_real_sequences(held_out: Prepared) -> None:
    """Another algorithm for the optimum of a layer finds the hits of the clairvoyant cache."""
    run = replay_prepared(held_out, "belady")
    for layer in (0, 11, 23):
        assert belady_hits(intervals_of(held_out.trace, layer=layer), 8) == run.outcomes[layer, 0]


def test_flow_is_belady_on_a_real_sequence(gpt_oss: ExpertTrace) -> None:
    """Minimum-cost flow over all layers of one sequence reaches the clairvoyant cache's hits."""
    one = gpt_oss.take(5)
    found = optimal_savings(intervals_of(one), SLOTS)
    assert found.savings == replay(one, TokenSettings(SLOTS), "belady-global").hits


def test_static_prediction_holds_on_held_out_sequences(held_out: Prepared) -> None:
    """Hits that placement predicts for fixed residents hold within 2 points on average."""
    planning = held_out.learnt_shares
    for slots in (4, 8, 16, 24):
        knobs = TokenSettings(slots * 24, planning=held_out.settings.planning)
        run = replay(held_out.trace, knobs, "static-layer")
        expected = static_hit_rates(planning, planning)[:, slots].mean()
        assert abs(run.hit_rate - expected) < 0.02


def test_lru_prediction_holds_on_held_out_sequences(held_out: Prepared) -> None:
    """Hits that placement predicts for LRU per layer hold within 2 points on average."""
    assert held_out.settings.planning is not None
    some = held_out.settings.planning.take(slice(0, None, 4))
    curve = lru_hit_rates(some.experts.astype(np.int64), some.starts, 32).mean(axis=0)
    for slots in (4, 8, 16, 24):
        run = replay(held_out.trace, TokenSettings(slots * 24, between="empty"), "lru")
        assert abs(run.hit_rate - curve[slots]) < 0.02


def test_built_in_hit_rates_are_those_of_replays(gpt_oss: ExpertTrace, checkout: Path) -> None:
    """The table that travels with gpt_oss_20b_orin is the LRU curve of its planning sequences."""
    from moe2opt.placement.experts.hits import HIT_RATES

    rows = read_table(checkout / "problems/placement/gpt_oss_20b/lru.csv", HIT_RATES)
    curve = lru_curve(gpt_oss.halves()[0])
    for row in rows:
        assert row["hit_rate"] == pytest.approx(curve[row["layer"], row["slots"]], abs=6e-6)


def test_random_residents_hit_less_than_the_most_used(held_out: Prepared) -> None:
    """The share of resident experts, which random residents hit, is beaten by those most used."""
    run = replay_prepared(held_out, "static-layer")
    assert run.hit_rate > 8 / 32 + 0.15


def test_real_cliff(held_out: Prepared) -> None:
    """One LRU cache for all layers hits nothing below one token's experts, Belady does."""
    at = lru_cliff(held_out.trace)
    curve = global_lru_curve(held_out.trace)
    assert at == 92
    assert curve[at] == 0.0
    assert curve[2 * at] > 0.3
    assert replay(held_out.trace, TokenSettings(at), "belady-global").hit_rate > 0.4


def test_hobbit_classes_of_real_gates(gpt_oss_gates: ExpertTrace) -> None:
    """With T1 = 0.6 and T2 = 0.9 under 1 % are skipped: four experts share the weight evenly."""
    shares = class_shares(importance_classes(gpt_oss_gates, TokenSettings(1)))
    assert shares == pytest.approx({"full": 0.611, "low": 0.384, "skip": 0.005}, abs=0.002)
