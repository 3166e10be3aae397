"""The timeline of a replay: rate, latency by policy, and bytes moved so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from moe2opt.replay.journal import latencies
from moe2opt.replay.world import World

#: Points of a curve at most; of each block of steps the mean is drawn.
_POINTS = 600


def timeline(world: World, records: Mapping[str, Sequence[dict[str, Any]]]) -> Any:
    """Return a matplotlib figure of the steps of all policies in a world."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    rate, latency, moved = figure.subplots(3, 1, sharex=True)
    seconds = world.trace.t_s - world.trace.t_s[0]
    rate.plot(*_thinned(seconds, world.rates[:, world.link] * 8e-6), color="0.3", lw=0.8)
    rate.set_ylabel("link, Mbit/s")
    made_up = " (synthetic)" if world.trace.synthetic else ""
    rate.set_title(f"{world.model.instance.name} on {world.trace.name}{made_up}")
    for name, steps in records.items():
        bound = name == "clairvoyant"
        style = {"color": "k", "ls": ":"} if bound else {}
        label = "clairvoyant (bound)" if bound else name
        latency.plot(*_thinned(seconds, latencies(steps)), lw=0.9, label=label, **style)
        if not bound:
            total = np.cumsum([step["bytes"] for step in steps]) / 1e9
            moved.plot(*_thinned(seconds, total), lw=0.9)
    latency.set_ylabel("latency, s per token")
    latency.legend(fontsize="small", ncols=3)
    moved.set_ylabel("moved so far, GB")
    moved.set_xlabel("time, s")
    return figure


def _thinned(x: Any, y: Any) -> tuple[Any, Any]:
    """Return means over blocks of steps, so that a figure stays small."""
    block = max(1, -(-len(x) // _POINTS))
    whole = len(x) // block * block
    if block == 1:
        return x, y
    return x[:whole:block], np.asarray(y)[:whole].reshape(-1, block).mean(axis=1)
