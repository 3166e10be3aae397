"""Synthetic traces, which always say that they are: network, movement, memory and load, mix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moe2opt.replay.traces.trace import Trace, build_trace
from moe2opt.result import FloatArray, InputError


def synthetic_network(
    duration_s: int = 600, mean_mbit_per_s: float = 20.0, seed: int = 0, name: str = "network"
) -> Trace:
    """Return a rate that wanders on a logarithmic scale and drops out now and then.

    Parameters
    ----------
    duration_s
        Seconds.
    mean_mbit_per_s
        Median rate outside drop-outs.
    seed
        Seed.
    name
        Name of the trace.
    """
    rng = np.random.default_rng(seed)
    steps = _steps(duration_s)
    slow, fast = _wander(rng, steps, 60.0, 1.0), _wander(rng, steps, 3.0, 0.4)
    rate = mean_mbit_per_s * np.exp(slow + fast)
    rate[_bouts(rng, steps, 90.0, 5.0)] = 0.0
    return _made(name, {"mbit_per_s": rate}, f"seed {seed}")


def synthetic_walk(
    servers: Sequence[str] = ("server-a", "server-b", "server-c"),
    duration_s: int = 600,
    dwell_s: float = 60.0,
    mean_mbit_per_s: float = 40.0,
    seed: int = 0,
    name: str = "walk",
) -> Trace:
    """Return a user who walks from one edge server to the next; the rate falls at the borders.

    Parameters
    ----------
    servers
        Names, in the order of the way; there and back.
    duration_s, seed, name
        As for `synthetic_network`.
    dwell_s
        Mean seconds at a server.
    mean_mbit_per_s
        Median rate next to a server.
    """
    rng = np.random.default_rng(seed)
    steps = _steps(duration_s)
    visits = 2 + int(4 * steps / dwell_s)
    way = [*range(len(servers)), *range(len(servers) - 2, 0, -1)] or [0]
    lengths = np.maximum(10, (dwell_s * (0.5 + rng.random(visits))).astype(int))
    at = np.repeat(np.arange(visits), lengths)[:steps]
    where = (np.arange(lengths.sum())[:steps] - (np.cumsum(lengths) - lengths)[at]) / lengths[at]
    near = 1.0 - np.abs(2 * where - 1.0) ** 2
    rate = mean_mbit_per_s * (0.05 + near) * np.exp(_wander(rng, steps, 3.0, 0.4))
    names = tuple(servers[way[k % len(way)]] for k in at)
    return replace(_made(name, {"mbit_per_s": rate}, f"seed {seed}"), server=names)


def synthetic_device(
    tier: str, server_tier: str, duration_s: int = 600, seed: int = 0, name: str = "device"
) -> Trace:
    """Return memory that other programs take now and then, and a server that others load.

    Parameters
    ----------
    tier, server_tier
        Tiers whose memory and whose load change.
    duration_s, seed, name
        As for `synthetic_network`.
    """
    rng = np.random.default_rng(seed)
    steps = _steps(duration_s)
    share = np.ones(steps)
    share[_bouts(rng, steps, 150.0, 60.0)] = 0.8
    load = np.clip(0.3 + _wander(rng, steps, 40.0, 0.25), 0.0, 0.9)
    network = synthetic_network(duration_s, seed=seed + 1)
    series = {
        "mbit_per_s": network.series["mbit_per_s"],
        f"memory_share[{tier}]": share,
        f"load[{server_tier}]": load,
    }
    return _made(name, series, f"seed {seed}")


def synthetic_mix(
    domains: Sequence[str], duration_s: int = 600, seed: int = 0, name: str = "mix"
) -> Trace:
    """Return requests that drift from one domain to the next.

    Parameters
    ----------
    domains
        Names of the input domains.
    duration_s, seed, name
        As for `synthetic_network`.
    """
    rng = np.random.default_rng(seed)
    steps = _steps(duration_s)
    centre = np.linspace(0.0, steps, len(domains)) + rng.normal(0, 5, len(domains))
    width = steps / max(2.0, 1.5 * len(domains))
    weight = 0.02 + np.exp(-0.5 * ((np.arange(steps)[:, None] - centre) / width) ** 2)
    weight = weight / weight.sum(axis=1, keepdims=True)
    network = synthetic_network(duration_s, seed=seed + 1)
    series = {"mbit_per_s": network.series["mbit_per_s"]}
    series |= {f"mix[{domain}]": weight[:, d] for d, domain in enumerate(domains)}
    return _made(name, series, f"seed {seed}")


def _steps(duration_s: int) -> int:
    if not 1 <= duration_s <= 1_000_000:
        raise InputError(f"duration of {duration_s} s: it must be between 1 and 1e6")
    return int(duration_s)


def _made(name: str, series: dict[str, FloatArray], how: str) -> Trace:
    times = np.arange(len(next(iter(series.values()))), dtype=np.float64)
    source = f"moe2opt.replay.traces.synthetic, {how}"
    return build_trace(name, times, series, source=source, synthetic=True)


def _wander(rng: np.random.Generator, steps: int, memory_s: float, spread: float) -> FloatArray:
    """Return an autoregressive walk with a memory and a standard deviation."""
    keep = np.exp(-1.0 / memory_s)
    noise = rng.normal(0.0, spread * np.sqrt(1 - keep**2), steps)
    value, found = spread * rng.standard_normal(), np.empty(steps)
    for k in range(steps):
        value = keep * value + noise[k]
        found[k] = value
    return found


def _bouts(rng: np.random.Generator, steps: int, apart_s: float, length_s: float) -> FloatArray:
    """Return flags of bouts with exponential distances and lengths."""
    flags = np.zeros(steps, dtype=bool)
    at = rng.exponential(apart_s)
    while at < steps:
        length = 1.0 + rng.exponential(length_s)
        flags[int(at) : int(at + length)] = True
        at += length + rng.exponential(apart_s)
    return flags
