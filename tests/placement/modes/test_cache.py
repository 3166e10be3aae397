"""Slots per layer: published figures, hit curves, greedy and dynamic programming."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.placement.baselines import slots as slots_rules
from moe2opt.placement.experts import hits
from moe2opt.placement.experts.hits import che_hit_rates

#: Slots -> expected loads per token of the optimum and of the released rule (AdapMoE).
PUBLISHED = {
    16: (25.229, 27.029),
    32: (21.522, 23.093),
    48: (18.221, 19.372),
    64: (15.303, 16.156),
    96: (10.448, 10.897),
    128: (6.662, 6.909),
    192: (1.858, 1.901),
}


@pytest.mark.parametrize("slots", PUBLISHED)
def test_published_allocation(slots: int, load: Any) -> None:
    """The certified optimum and the released rule have the published loads per token."""
    instance = load("adapmoe_mixtral_cache", f"slots{slots}")
    result = mo.solve(instance)
    mo.certify(instance, result).raise_if_failed()
    optimum, released = PUBLISHED[slots]
    assert round(-result.objective, 3) == optimum
    rules = {b.name: b for b in result.plan.baselines}
    assert round(rules["released AdapMoE allocation"].value, 3) == released
    assert rules["marginal gain"].exact
    assert rules["marginal gain"].value == pytest.approx(-result.objective, rel=1e-9)


def test_general_formula_is_the_published_one() -> None:
    """With 8 experts and top-2 the general load function is that of the released code."""
    rho, beta = 0.3, 0.8
    found = hits.prefetched_loads(8, 2, beta, rho)
    for s in range(9):
        none, one = (8 - s) * (7 - s) / 56, 2 * s * (8 - s) / 56
        several = 2 * none * (1 - beta) + none * beta + one * (1 - beta)
        want = rho * (1 - beta) * (1 - s / 8) + (1 - rho) * several
        assert found[s] == pytest.approx(want, abs=1e-12)


def test_random_residents_miss_in_proportion() -> None:
    """With random residents the expected misses are k (1 - s / N)."""
    for slots in range(11):
        misses = hits.miss_probabilities(10, 3, slots) @ np.arange(4)
        assert misses == pytest.approx(3 * (1 - slots / 10))


def test_greedy_is_exact_on_convex_curves() -> None:
    """On convex curves marginal gains find the best of all allocations."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        steps = -np.sort(-rng.random((3, 4)), axis=1)
        table = np.concatenate([np.zeros((3, 1)), -np.cumsum(steps, axis=1)], axis=1) + 10
        assert slots_rules.is_convex(table)
        every = [s for s in itertools.product(range(5), repeat=3) if sum(s) <= 6]
        best = min(sum(table[row, s[row]] for row in range(3)) for s in every)
        slots = slots_rules.greedy_slots(table, 6)
        assert sum(table[row, slots[row]] for row in range(3)) == pytest.approx(best)


def naive_lru(tokens: Any, starts: Any, slots: int) -> float:
    """Return the hit rate of one layer by simulating a list."""
    held: list[int] = []
    hits = 0
    for k, chosen in enumerate(tokens):
        if k in starts:
            held = []
        hits += sum(e in held for e in chosen)
        for e in chosen:
            held = [h for h in held if h != e] + [e]
        held = held[len(held) - min(slots, len(held)) :]
    return hits / tokens.size


def test_lru_curve_is_a_simulated_cache() -> None:
    """The hit rates from stack distances are those of caches that are simulated one by one."""
    rng = np.random.default_rng(2)
    trace = np.array([[rng.choice(7, 2, replace=False) for _ in range(2)] for _ in range(60)])
    starts = np.array([0, 25])
    rates = hits.lru_hit_rates(trace, starts, 7)
    for layer, slots in itertools.product(range(2), range(2, 8)):
        assert rates[layer, slots] == pytest.approx(naive_lru(trace[:, layer], {0, 25}, slots))


def test_lru_of_independent_tokens_is_near_the_estimate() -> None:
    """Che's estimate is within two points of a simulated cache when tokens are independent."""
    rng = np.random.default_rng(4)
    weights = 1 / np.arange(1, 17)
    weights /= weights.sum()
    trace = rng.choice(16, size=(20_000, 1, 1), p=weights)
    rates = hits.lru_hit_rates(trace, np.zeros(1, dtype=int), 16)
    assert che_hit_rates(weights[None], 6)[0] == pytest.approx(rates[0, 6], abs=0.02)


def test_predicted_hit_rates_hold_on_unseen_sequences(shared_data: Any) -> None:
    """Hit rates learnt on half of the gpt-oss sequences are within two points on the other half."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    folder = shared_data / "moe_traces" / "gpt_oss_20b"
    sequences = pd.read_parquet(folder / "sequences.parquet")
    experts = np.load(folder / "trace_experts.npz", allow_pickle=False)["experts"]
    calm = sequences[~sequences.repetition]
    halves = []
    for rows in (calm.iloc[::2], calm.iloc[1::2]):
        parts = [experts[r.offset : r.offset + r.tokens][:120] for r in rows.itertuples()]
        starts = np.cumsum([0, *(len(p) for p in parts[:-1])])
        halves.append((np.concatenate(parts).astype(np.int64), starts))
    (learnt, _), (unseen, _) = halves
    from moe2opt.placement.experts.activation import trace_shares

    shares = [trace_shares(part, 32) for part in (learnt, unseen)]
    predicted = hits.static_hit_rates(shares[0], shares[0]).mean(axis=0)
    replayed = hits.static_hit_rates(shares[0], shares[1]).mean(axis=0)
    assert np.abs(predicted - replayed).max() < 0.02
    curves = [hits.lru_hit_rates(part, starts, 32).mean(axis=0) for part, starts in halves]
    assert np.abs(curves[0] - curves[1]).max() < 0.02


def test_what_static_residents_promise_holds_for_others() -> None:
    """On average of drawn traces, rates of tokens held out are nearer to those of new sequences."""
    promised, held, found = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        base = rng.dirichlet(np.full(16, 8.0))

        def drawn(rng: Any = rng, base: Any = base) -> Any:
            own = rng.dirichlet(16 * base)
            return np.argsort(-(np.log(own + 1e-9) + rng.gumbel(size=(30, 1, 16))), axis=2)[..., :2]

        learnt, unseen = (np.concatenate([drawn() for _ in range(n)]) for n in (40, 300))
        starts = np.arange(0, len(learnt), 30)
        ours, theirs = (
            np.bincount(part.ravel(), minlength=16)[None].astype(float) for part in (learnt, unseen)
        )
        promised.append(hits.static_hit_rates(ours, ours)[0, 4])
        held.append(hits.held_out_hit_rates(learnt, starts, 16)[0, 4])
        found.append(hits.static_hit_rates(ours, theirs)[0, 4])
    assert np.mean(promised) - np.mean(found) > 0.01
    assert abs(np.mean(held) - np.mean(found)) < 0.5 * (np.mean(promised) - np.mean(found))


def test_rates_of_held_out_tokens_rise_to_one() -> None:
    """More slots never hit less, all slots always hit, and a single sequence is cut into parts."""
    trace = np.random.default_rng(1).integers(0, 6, size=(90, 3, 1))
    rates = hits.held_out_hit_rates(trace, np.zeros(1, dtype=np.int64), 6)
    assert (np.diff(rates, axis=1) >= 0).all()
    assert rates[:, 0].tolist() == [0.0] * 3
    assert rates[:, -1] == pytest.approx(1.0)
    short = hits.held_out_hit_rates(trace[:1], np.zeros(1, dtype=np.int64), 6)
    assert short[:, -1] == pytest.approx(1.0)


def test_cache_from_a_trace(build: Any, trace: Any) -> None:
    """With `hits: lru` a trace gives the same plan as its own hit-rate table."""
    name = trace(3, 6, 2)
    instance = build(
        activation={"trace": name},
        cache={"backing": "slow", "hits": "lru"},
        tiers=[
            {"name": "fast", "kind": "gpu", "capacity_gib": 1, "compute_gb_per_s": 100},
            {"name": "slow", "kind": "cpu"},
        ],
        links=[{"between": ["fast", "slow"], "gb_per_s": 8}],
        precisions=[{"name": "wide", "bits_per_weight": 8, "loss_nats": 0}],
        budgets={"cache_slots": 7},
        objective="loads_per_token",
    )
    result = mo.solve(instance)
    mo.certify(instance, result).raise_if_failed()
    table = instance.mode.load_table
    every = [s for s in itertools.product(range(7), repeat=3) if sum(s) <= 7]
    best = min(sum(table[row, s[row]] for row in range(3)) for s in every)
    assert -result.objective == pytest.approx(best)
    assert int(result.plan.assignment.slots.sum()) <= 7
