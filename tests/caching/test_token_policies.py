"""Policies by name, settings, and the comparison that the command line shows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.caching.policies import (
    CLAIRVOYANT,
    POLICIES,
    TokenCosts,
    TokenSettings,
    compare,
    link_costs,
    replay,
    settings_of,
)
from moe2opt.caching.prefetch import accuracy_of, predictions
from moe2opt.caching.synthetic import synthetic_trace
from moe2opt.caching.trace import ExpertTrace
from moe2opt.result import InputError

COSTS = link_costs(1e7, 1e10, latency_s=2e-5, low_loss_nats=0.1, drop_loss_nats=1.0)


def test_comparison_has_a_row_per_policy(synthetic: ExpertTrace) -> None:
    """Every policy can be compared; the clairvoyant row comes last and has no regret."""
    names = [name for name in POLICIES if name != "belady"]
    table = compare(synthetic, TokenSettings(64, COSTS), names)
    frame = table.to_frame()
    assert list(frame.index) == [*names, "belady"]
    assert frame.loc["belady", "regret"] == 0.0
    assert frame.loc["lru", "regret"] > 0
    assert frame["hit_rate"].between(0, 1).all()
    assert (frame["s_per_token_mean"] <= frame["s_per_token_p99"]).all()
    assert "SYNTHETIC" in table.summary()


def test_learning_policies_never_see_what_is_replayed(synthetic: ExpertTrace) -> None:
    """Without planning sequences every second one is learnt from and only the others replayed."""
    table = compare(synthetic, TokenSettings(64, COSTS), ["static", "lru"])
    planning, rest = synthetic.halves()
    alone = replay(rest, TokenSettings(64, COSTS, planning), "static")
    assert table.replays[0].totals == alone.totals
    assert any("every second sequence" in note for note in table.notes)
    plain = compare(synthetic, TokenSettings(64, COSTS), ["lru"])
    assert plain.replays[0].tokens == synthetic.tokens


def test_comparison_is_json(synthetic: ExpertTrace) -> None:
    """The comparison goes through strict JSON, also where the loss is not known."""
    knobs = TokenSettings(64, replace(COSTS, low_loss_nats=math.nan))
    table = compare(synthetic, knobs, ["hobbit-mixed"], "belady-global")
    text = json.dumps(table.to_dict(), allow_nan=False)
    rows = json.loads(text)["policies"]
    assert [row["policy"] for row in rows] == ["hobbit-mixed", "belady-global"]
    assert rows[0]["expected_loss_nats"] is None


def test_clairvoyant_is_listed_once(synthetic: ExpertTrace) -> None:
    """A clairvoyant policy that is asked for by name does not appear twice."""
    table = compare(synthetic, TokenSettings(64), ["belady", "lru"], "clairvoyant")
    assert list(table.to_frame().index) == ["belady", "lru"]
    alone = compare(synthetic, TokenSettings(64), ["lru"], None)
    assert list(alone.to_frame().index) == ["lru"]
    assert alone.to_frame()["regret"].isna().all()


def test_every_policy_says_what_it_is() -> None:
    """Each policy has a line for lists, and the clairvoyant ones are marked as such."""
    assert all(policy.about for policy in POLICIES.values())
    found = {name for name, policy in POLICIES.items() if policy.cache.rule == "belady"}
    assert found == set(CLAIRVOYANT)


def without_gates(trace: ExpertTrace) -> ExpertTrace:
    """Return a trace that does not know its gate weights."""
    return replace(trace, gates=None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: replay(t, TokenSettings(9), "lur"), "no policy 'lur'"),
        (lambda t: compare(t, TokenSettings(9), ["fifo"]), "no policy 'fifo'"),
        (lambda t: compare(t, TokenSettings(9), ["lru"], "lru"), "against: 'lru' is none of"),
        (lambda t: replay(t, TokenSettings(9), "static"), "learns from sequences"),
        (lambda t: replay(t, TokenSettings(9), "prefetch-transition"), "learns from sequences"),
        (lambda t: replay(without_gates(t), TokenSettings(9), "hobbit"), "needs gate weights"),
        (
            lambda t: replay(without_gates(t), TokenSettings(9), "adapmoe-gating"),
            "needs gate weights",
        ),
        (lambda t: replay(t, TokenSettings(129), "lru"), "129 slots, but the model has 128"),
        (
            lambda t: replay(t, TokenSettings(9, planning=synthetic_trace(layers=3)), "static"),
            "does not have the layers and experts",
        ),
        (lambda t: replay(t, TokenSettings(9, sensitivity=(1.0,)), "lru"), "1 values for 8"),
        (
            lambda t: compare(t, mo.load("gpt_oss_20b_orin"), ["lru"]),
            "does not fit the model",
        ),
        (lambda t: compare(t, mo.load("tiny"), ["lru"]), "is no placement problem"),
        (lambda t: TokenSettings(-1), "slots: -1"),
        (lambda t: TokenSettings(1.5), "slots: 1.5"),
        (lambda t: TokenSettings(1, between="never"), "between: 'never'"),
        (lambda t: TokenSettings(1, thresholds=(0.5, math.nan)), "thresholds"),
        (lambda t: TokenSettings(1, weights=(0.0, 0.0, 0.0, 0.0)), "weights: all are 0"),
        (lambda t: TokenSettings(1, prefetch_accuracy=1.5), "prefetch_accuracy: 1.5"),
        (lambda t: TokenSettings(1, tau=-1.0), "tau"),
        (lambda t: TokenCosts(copy_s=math.nan), "costs.copy_s: nan"),
        (lambda t: TokenCosts(low_bytes=2.0), "costs.low_bytes: 2"),
        (lambda t: link_costs(1.0, 0.0), "bytes_per_s: 0.0 is not positive"),
        (lambda t: predictions("crystal", t, TokenSettings(9)), "no prefetcher 'crystal'"),
        (lambda t: predictions("frequency", t, TokenSettings(9)), "learns from sequences"),
    ],
)
def test_wrong_calls_are_refused(synthetic: ExpertTrace, call: Any, message: str) -> None:
    """Every wrong name, number or missing part is one error that names it."""
    with pytest.raises(InputError) as error:
        call(synthetic)
    assert message in str(error.value)


def test_settings_come_from_a_placement_instance() -> None:
    """Slots, bytes and seconds are those that the placement question computes with."""
    instance = mo.load("gpt_oss_20b_orin", "lru")
    knobs = settings_of(instance)
    copy, compute = instance.mode.costs[:, 0]
    assert knobs.costs.copy_s == pytest.approx(float(copy))
    assert knobs.costs.compute_s == pytest.approx(float(compute))
    assert knobs.costs.layer_s * 24 == pytest.approx(instance.dense_s)
    free = instance.topology.tiers[instance.topology.home].free_bytes
    assert knobs.slots == int(free // knobs.costs.expert_bytes)
    assert settings_of(instance, slots=7).slots == 7


def test_a_placement_instance_can_be_compared(built_in: ExpertTrace) -> None:
    """A comparison takes an instance in place of settings."""
    table = compare(built_in, mo.load("gpt_oss_20b_orin"), ["static", "lru"])
    assert list(table.to_frame().index) == ["static", "lru", "belady"]
    assert table.replays[0].seconds.mean() > 0.01


def test_a_single_tier_has_nothing_to_copy_from() -> None:
    """An instance without a second tier is refused."""
    instance = mo.load("gpt_oss_20b_orin")
    alone = replace(instance.topology, tiers=instance.topology.tiers[:1], links=())
    with pytest.raises(InputError, match="no second tier"):
        settings_of(replace(instance, topology=alone))


@pytest.mark.parametrize("kind", ["frequency", "transition"])
def test_learnt_predictions_beat_guessing(synthetic: ExpertTrace, kind: str) -> None:
    """On sequences that were not learnt from, predictions come true more often than k in E."""
    planning, trace = synthetic.halves()
    ahead = predictions(kind, trace, TokenSettings(9, planning=planning))
    assert (ahead.experts[trace.starts, 0] == -1).all()
    assert accuracy_of(ahead, trace) > 1.2 * trace.top_k / trace.n_experts


def test_looking_ahead_is_as_accurate_as_it_says(synthetic: ExpertTrace) -> None:
    """The stand-in for the next gate is right in its share of cases, the oracle always."""
    knobs = TokenSettings(9, prefetch_accuracy=0.9)
    oracle = predictions("oracle", synthetic, knobs)
    assert accuracy_of(oracle, synthetic) == 1.0
    found = accuracy_of(predictions("lookahead", synthetic, knobs), synthetic)
    # A wrong guess may still be another of the token's experts.
    assert 0.9 <= found <= 0.93
    assert "by assumption" in predictions("lookahead", synthetic, knobs).note


def test_fewer_predictions_are_the_likeliest(synthetic: ExpertTrace) -> None:
    """With fewer experts predicted per layer the first ranks stay."""
    one = predictions("oracle", synthetic, TokenSettings(9, prefetch_experts=1))
    assert one.experts.shape[2] == 1
    np.testing.assert_array_equal(one.experts[1:60], synthetic.experts[1:60, :, :1])


def test_replays_repeat_exactly(synthetic: ExpertTrace) -> None:
    """The same trace, settings and policy give the same seconds to the last bit."""
    knobs = TokenSettings(40, COSTS, synthetic)
    for policy in ("hobbit", "adapmoe"):
        a, b = (replay(synthetic, knobs, policy) for _ in range(2))
        np.testing.assert_array_equal(a.seconds, b.seconds)
        assert a.totals == b.totals
