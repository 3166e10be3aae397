"""Measure the tables of docs/guides/caching.md on published traces of experts.

    python docs/studies/cache_tables.py DATA [TABLE ...]

Tables: hits, predicted, ideas, tuning, offline, cliff, time. DATA is a folder with
`moe_traces/gpt_oss_20b` as described in docs/guides/placement.md. Every second sequence is
learnt from, the others are replayed. `--write-synthetic` instead of DATA writes
problems/traces/experts_synthetic.npz.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from token_caches.offline import intervals_of, optimal_savings
from token_caches.tuning import calibrate, tune_thresholds
from token_caches.tuning_replay import best_thresholds, replayed_grid, tune_weights

import moe2opt as mo
from moe2opt.caching.caches import prepare
from moe2opt.caching.hobbit import importance_classes
from moe2opt.caching.policies import (
    POLICIES,
    TokenSettings,
    compare,
    link_costs,
    replay_prepared,
    settings_of,
)
from moe2opt.caching.slots import global_lru_curve, lru_cliff, lru_curve
from moe2opt.caching.synthetic import synthetic_trace
from moe2opt.caching.trace import ExpertTrace
from moe2opt.caching.trace_reading import read_trace
from moe2opt.placement.experts.hits import lru_hit_rates, static_hit_rates

#: Bits and loss of IQ2_S (problems/placement/tables/precisions.csv; the loss is Mixtral's), and
#: bits of the native format.
LOW_BITS, LOW_LOSS_NATS, FULL_BITS = 2.415, 0.12426, 4.25
#: Assumed: if all routed experts were left out.
DROP_LOSS_NATS = 1.0
TAU = 0.02
#: The synthetic trace that travels with the package has the shape of gpt-oss-20b.
BUILT_IN = {"sequences": 8, "tokens": 60, "layers": 24, "experts": 32, "top_k": 4}


def traces(data: Path) -> tuple[ExpertTrace, ExpertTrace]:
    """Return all sequences without repetition, and those with gate weights."""
    folder = data / "moe_traces" / "gpt_oss_20b"
    index = folder / "sequences.parquet"
    plain = read_trace(folder / "trace_experts.npz", n_experts=32, index=index, repetition=False)
    index = folder / "trace_subset_index.csv"
    return plain, read_trace(folder / "trace_subset.npz", n_experts=32, index=index)


def orin(planning: ExpertTrace) -> TokenSettings:
    """Return the settings of the built-in problem, with low-precision copies."""
    base = settings_of(mo.load("gpt_oss_20b_orin"), planning, tau=TAU)
    share = LOW_BITS / FULL_BITS
    size = base.costs.expert_bytes
    # Link, rate and overhead as in the problem.
    costs = link_costs(
        size,
        1.362e9,
        latency_s=1e-4,
        compute_bytes_per_s=102e9,
        low_share=share,
        layer_s=base.costs.layer_s,
        low_loss_nats=LOW_LOSS_NATS,
        drop_loss_nats=DROP_LOSS_NATS,
    )
    overhead = {name: getattr(costs, name) + 2e-5 for name in ("compute_s", "low_compute_s")}
    costs = replace(costs, **overhead)
    assert abs(costs.copy_s - base.costs.copy_s) < 1e-9
    assert abs(costs.compute_s - base.costs.compute_s) < 1e-9
    return replace(base, costs=costs)


def card(planning: ExpertTrace) -> TokenSettings:
    """Return the same slots on a graphics card: rates as in the problem mixtral_8x7b_4090."""
    nano = orin(planning)
    costs = link_costs(
        nano.costs.expert_bytes,
        25.6e9,
        latency_s=1e-5,
        compute_bytes_per_s=921e9,
        low_share=LOW_BITS / FULL_BITS,
        layer_s=nano.costs.layer_s * 102 / 921,
        low_loss_nats=LOW_LOSS_NATS,
        drop_loss_nats=DROP_LOSS_NATS,
    )
    overhead = {name: getattr(costs, name) + 1e-5 for name in ("compute_s", "low_compute_s")}
    return replace(nano, costs=replace(costs, **overhead))


def hits(plain: ExpertTrace, _: ExpertTrace) -> None:
    """Print hit rates by slots per layer."""
    planning, trace = plain.halves()
    names = ("static", "static-layer", "lru", "lru-global", "adapmoe-slots", "lfu-model", "lfu")
    names = (*names, "hobbit-priority", "belady", "belady-global")
    sizes = (4, 8, 12, 16, 24)
    print(trace.describe())
    print("| policy |", " | ".join(f"{s} per layer" for s in sizes), "|")
    for name in names:
        rates = []
        for size in sizes:
            prepared = prepare(trace, TokenSettings(size * trace.n_layers, planning=planning))
            rates.append(100 * replay_prepared(prepared, name).hit_rate)
        print(f"| `{name}` |", " | ".join(f"{rate:.1f}" for rate in rates), "|", flush=True)


def predicted(plain: ExpertTrace, _: ExpertTrace) -> None:
    """Print hit rates that placement predicts from the planning half beside replays of the rest."""
    planning, trace = plain.halves()
    learnt, tested = planning.shares(), trace.shares()
    curves = {
        "static-layer": static_hit_rates(learnt, learnt),
        "lru": lru_hit_rates(planning.experts.astype(np.int64), planning.starts, 32),
        "random residents": np.tile(np.arange(33) / 32, (24, 1)),
    }
    assert np.allclose(static_hit_rates(tested, tested)[:, -1], 1.0)
    for name, curve in curves.items():
        for size in (4, 8, 16, 24):
            knobs = TokenSettings(size * 24, planning=planning, between="empty")
            policy = "static-layer" if name.startswith("random") else name
            rates = replay_prepared(prepare(trace, knobs), policy).layer_hit_rates()
            off = 100 * (curve[:, size] - rates)
            print(
                f"| {name} | {size} | {100 * curve[:, size].mean():.2f} | {100 * rates.mean():.2f} "
                f"| {off.mean():+.2f} | {np.abs(off).max():.2f} |",
                flush=True,
            )


def shared(planning: ExpertTrace, settings: TokenSettings) -> TokenSettings:
    """Return the settings with the share of low-precision slots that is fastest on `planning`."""
    seconds = {}
    for share in (0.02, 0.05, 0.1, 0.25):
        knobs = replace(settings, low_slots_share=share)
        run = replay_prepared(prepare(planning, knobs), "hobbit-mixed")
        seconds[share] = float(run.seconds.mean())
    print("seconds by share of low-precision slots, planning half", seconds)
    return replace(settings, low_slots_share=min(seconds, key=seconds.__getitem__))


def ideas(_: ExpertTrace, gated: ExpertTrace) -> None:
    """Print what each idea of HOBBIT and AdapMoE buys on two links."""
    planning, trace = gated.halves()
    for name, settings in (("orin", orin(planning)), ("card", card(planning))):
        tuned = tune_weights(planning, settings, steps=4)
        print(name, settings.slots, "slots; weights", tuned.weights, "certified", tuned.certified)
        knobs = shared(planning, replace(settings, weights=tuned.weights))
        print(compare(trace, knobs, [n for n in POLICIES if n != "belady"]).summary(), flush=True)


def tuning(_: ExpertTrace, gated: ExpertTrace) -> None:
    """Print tuned thresholds, and what replays say of them."""
    planning, trace = gated.halves()
    knobs = orin(planning)
    calibration, replays = calibrate(planning, knobs), replayed_grid(planning, knobs)
    print("replayed tables monotone:", replays.is_monotone)
    print(replays.to_frame().to_string(), flush=True)
    for limit in (0.005, 0.01, 0.02):
        fixed = tune_thresholds(calibration, loss_nats=limit)
        layers = tune_thresholds(calibration, loss_nats=limit, per_layer=True)
        best = best_thresholds(replays, loss_nats=limit)
        assert fixed is not None and layers is not None and best is not None
        for name, found in (("fixed misses", fixed), ("per layer", layers), ("replays", best)):
            moved = f"{found.bytes_per_token / 1e6:.1f} MB, loss {found.loss_nats:.4f}"
            print(limit, name, moved, found.result.status, "certified", found.certified)
        for name, pair in (("fixed misses", fixed.thresholds[0]), ("replays", best.thresholds)):
            tried = replace(knobs, thresholds=(float(pair[0]), float(pair[1])))
            for part, label in ((planning, "planning"), (trace, "held out")):
                row = compare(part, tried, ["hobbit-mixed"], None).rows()[0]
                moved = f"{row['bytes_per_token'] / 1e6:.1f} MB"
                loss = f"loss {row['expected_loss_nats']:.4f}"
                print("   ", name, tried.thresholds, label, moved, loss, flush=True)
    best = tune_weights(planning, knobs, steps=4)
    print("weights", best.weights, f"{best.penalty:.2f} copies per token", best.certified)
    for weights in (best.weights, (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.25,) * 4):
        tried = replace(knobs, weights=weights)
        row = compare(trace, tried, ["hobbit-priority"], None).rows()[0]
        copies = row["on_demand_loads"] / trace.tokens
        print("    held out", weights, f"{copies:.2f} copies per token")


def offline(_: ExpertTrace, gated: ExpertTrace) -> None:
    """Print bytes at HOBBIT's classes: optimum by flow beside Belady's choice, each sequence alone.

    A miss moves the bytes of its class and only copies in full are kept; a use by a resident copy
    saves them.
    """
    planning, trace = gated.halves()
    knobs = orin(planning)
    lengths = np.diff(np.append(trace.starts, trace.tokens))
    some = trace.take(np.sort(np.argsort(lengths, kind="stable")[:8]))
    size = np.array([1.0, knobs.costs.low_bytes / knobs.costs.expert_bytes, 0.0])
    saved = {"optimum": 0.0, "belady": 0.0, "all": 0.0}
    for k in range(some.sequences):
        one = some.take(k)
        intervals = intervals_of(one)
        worth = size[importance_classes(one, knobs).ravel()]
        saved["all"] += worth.sum()
        worth = worth[intervals.place]
        best = optimal_savings(intervals, knobs.slots, worth)
        saved["optimum"] += best.savings
        saved["belady"] += worth[optimal_savings(intervals, knobs.slots).kept].sum()
        assert abs(best.bound - best.savings) < 1e-6 * max(1.0, best.bound)
    for name in ("optimum", "belady"):
        copies = (saved["all"] - saved[name]) / some.tokens
        print(f"{name}: {copies:.3f} full copies per token, {some.tokens} tokens")


def cliff(plain: ExpertTrace, _: ExpertTrace) -> None:
    """Print the cliff of one LRU cache for all layers."""
    _, trace = plain.halves()
    at = lru_cliff(trace)
    every, layer = global_lru_curve(trace), lru_curve(trace, between="kept")
    print("cliff at", at)
    for slots in (48, 72, at, 96, 120, 144, 192, 384):
        knobs = TokenSettings(slots)
        belady = replay_prepared(prepare(trace, knobs), "belady-global").hit_rate
        equal = replay_prepared(prepare(trace, knobs), "lru").hit_rate
        print(f"| {slots} | {100 * every[slots]:.1f} | {100 * equal:.1f} | {100 * belady:.1f} |")
    assert layer.shape == (24, 33)


def speed(plain: ExpertTrace, _: ExpertTrace) -> None:
    """Print seconds per million token-layer steps, each policy once compiled."""
    planning, trace = plain.halves()
    steps = trace.tokens * trace.n_layers
    knobs = TokenSettings(340, planning=planning)
    for name in ("static", "lru", "lru-global", "lfu", "hobbit-priority", "belady-global"):
        replay_prepared(prepare(trace.take(slice(0, 2)), knobs), name)
        prepared = prepare(trace, knobs)
        begin = time.perf_counter()
        replay_prepared(prepared, name)
        spent = time.perf_counter() - begin
        print(f"| `{name}` | {steps} | {spent:.2f} | {spent / steps * 1e6:.2f} |", flush=True)


TABLES = {
    "hits": hits,
    "predicted": predicted,
    "ideas": ideas,
    "tuning": tuning,
    "offline": offline,
    "cliff": cliff,
    "time": speed,
}


def main() -> None:
    """Print the tables that are asked for, all when none is."""
    if "--write-synthetic" in sys.argv:
        problems = Path(__file__).resolve().parents[2] / "problems"
        made = synthetic_trace(**BUILT_IN)
        made.save(problems / "traces" / "experts_synthetic.npz")
        return
    both = traces(Path(sys.argv[1]))
    for name in sys.argv[2:] or TABLES:
        print(f"\n{name}")
        TABLES[name](*both)


if __name__ == "__main__":
    main()
