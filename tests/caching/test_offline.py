"""The offline optimum: Belady, minimum-cost flow and packing against each other and enumeration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from caching.conftest import random_trace
from hypothesis import given, settings
from hypothesis import strategies as st
from token_caches.offline import (
    Intervals,
    belady_hits,
    intervals_of,
    optimal_packing,
    optimal_savings,
)

from moe2opt.caching.policies import TokenSettings, replay
from moe2opt.caching.trace import ExpertTrace
from moe2opt.result import InputError


def best_by_enumeration(intervals: Intervals, capacity: float, sizes: Any, savings: Any) -> float:
    """Return the best savings over all sets of intervals that fit at every step."""
    many = len(intervals.begin)
    steps = np.arange(intervals.steps)
    over = (intervals.begin[:, None] <= steps) & (steps < intervals.end[:, None])
    best = 0.0
    for mask in range(2**many):
        kept = np.array([(mask >> k) & 1 for k in range(many)], dtype=bool)
        load = (over * kept[:, None] * np.asarray(sizes)[:, None]).sum(axis=0)
        if (load <= capacity + 1e-9).all():
            best = max(best, float(np.asarray(savings)[kept].sum()))
    return best


@st.composite
def few_intervals(draw: Any) -> Intervals:
    """Up to nine intervals of a small trace."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    trace = random_trace(rng, draw(st.integers(2, 8)), draw(st.integers(1, 2)), 4, 2)
    every = intervals_of(trace, between=draw(st.sampled_from(["kept", "empty"])))
    few = slice(0, 9)
    return Intervals(
        every.begin[few], every.end[few], every.item[few], every.place[few], every.steps
    )


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    slots=st.integers(0, 9),
    start=st.sampled_from(["kept", "empty"]),
)
def test_belady_is_the_optimum_for_equal_experts(seed: int, slots: int, start: Any) -> None:
    """Greedy by ends, minimum-cost flow and the replayed clairvoyant cache hit equally often."""
    trace = random_trace(np.random.default_rng(seed), 25, 3, 5, 2)
    hits = replay(trace, TokenSettings(slots, between=start), "belady-global").hits
    intervals = intervals_of(trace, between=start)
    assert belady_hits(intervals, slots) == hits
    assert optimal_savings(intervals, slots).savings == pytest.approx(hits)


def test_belady_per_layer_is_the_optimum_of_each(synthetic: ExpertTrace) -> None:
    """On the synthetic trace the optimum of every layer is what the clairvoyant cache reaches."""
    run = replay(synthetic, TokenSettings(8 * 5), "belady")
    for layer in range(synthetic.n_layers):
        assert belady_hits(intervals_of(synthetic, layer=layer), 5) == run.outcomes[layer, 0]


@settings(max_examples=25)
@given(intervals=few_intervals(), slots=st.integers(0, 3), seed=st.integers(0, 99))
def test_flow_is_optimal_for_different_savings(intervals: Intervals, slots: int, seed: int) -> None:
    """Flow by HiGHS and by networkx both reach the best of all sets."""
    worth = np.random.default_rng(seed).integers(1, 9, len(intervals.begin)).astype(float)
    best = best_by_enumeration(intervals, slots, np.ones(len(worth)), worth)
    for method in ("highs", "networkx"):
        found = optimal_savings(intervals, slots, worth, method=method)  # type: ignore[arg-type]
        assert found.savings == pytest.approx(best)
        assert found.bound >= best - 1e-6
        assert found.savings == pytest.approx(worth[found.kept].sum())


@settings(max_examples=25)
@given(
    intervals=few_intervals(), capacity=st.sampled_from([0.5, 2.0, 3.5]), seed=st.integers(0, 99)
)
def test_packing_is_optimal_for_different_sizes(
    intervals: Intervals, capacity: float, seed: int
) -> None:
    """With sizes that differ the integer program reaches the best of all sets that fit."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0.5, 1.0, 2.0], len(intervals.begin))
    worth = rng.integers(1, 9, len(intervals.begin)).astype(float)
    found = optimal_packing(intervals, capacity, sizes, worth)
    best = best_by_enumeration(intervals, capacity, sizes, worth)
    assert found.savings == pytest.approx(best)
    assert found.bound == pytest.approx(best)


def test_packing_of_equal_sizes_is_the_flow(synthetic: ExpertTrace) -> None:
    """Where all sizes are equal, packing and flow agree on a layer of the synthetic trace."""
    intervals = intervals_of(synthetic.take(slice(0, 2)), layer=0)
    flow = optimal_savings(intervals, 5)
    packed = optimal_packing(intervals, 5.0, np.ones(len(intervals.begin)))
    assert packed.savings == flow.savings == belady_hits(intervals, 5)


def test_savings_by_importance_beat_belady_in_bytes(synthetic: ExpertTrace) -> None:
    """Kept by what a miss would move, intervals save at least the bytes of Belady's choice."""
    few = synthetic.take(slice(0, 2))
    assert few.gates is not None
    intervals = intervals_of(few)
    worth = np.where(few.gates.ravel()[intervals.place] > 0.2, 4.0, 1.0)
    weighted = optimal_savings(intervals, 40, worth)
    plain = optimal_savings(intervals, 40)
    assert weighted.savings >= worth[plain.kept].sum() - 1e-6
    assert weighted.savings == pytest.approx(weighted.bound)


@pytest.mark.parametrize(
    ("savings", "message"),
    [
        (np.array([1.0]), "savings: shape (1,) for"),
        (None, "savings[3] is nan"),
        ("negative", "savings[0] is -1.0"),
    ],
)
def test_wrong_savings_are_named(synthetic: ExpertTrace, savings: Any, message: str) -> None:
    """Savings of another length, NaN or below 0 are one error that names the entry."""
    intervals = intervals_of(synthetic, layer=0)
    worth = savings
    if not isinstance(savings, np.ndarray):
        worth = np.ones(len(intervals.begin))
        worth[0 if savings else 3] = -1.0 if savings else np.nan
    with pytest.raises(InputError) as error:
        optimal_savings(intervals, 3, worth)
    assert message in str(error.value)
