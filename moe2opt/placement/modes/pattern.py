"""Options for the whole model: whole layers by a rule that a runtime can express."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.placement.assignment import Assignment, plain
from moe2opt.placement.compile import Options
from moe2opt.placement.machine.topology import GIB
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.steps import step

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance


def pattern_options(
    instance: PlacementInstance,
) -> tuple[list[Options], Callable[[IntArray], Assignment]]:
    """Return one group with every instance of the pattern at every precision."""
    pattern = instance.config.pattern
    assert pattern is not None
    if pattern.kind == "pipeline":
        from moe2opt.placement.modes.pipeline import pipeline_tiers

        tiers, seconds = pipeline_tiers(instance)
    else:
        tiers = _tiers(instance)
        table = np.einsum("le,tq->ltq", instance.uses, instance.use.seconds)
        seconds = _per_layer(table, tiers)
    qualities = len(instance.precisions)
    layers, experts = instance.shape.size
    tier_count = len(instance.topology.tiers)
    number = np.stack([(tiers == t).sum(axis=1) for t in range(tier_count)], axis=1)
    per_layer = experts * instance.expert_bytes + instance.layer_dense_bytes
    held = number[:, None, :] * per_layer[None, :, None]
    loss = np.array([p.loss_nats for p in instance.precisions])
    moved = np.einsum("le,tq->ltq", instance.uses, (instance.use.move_s > 0).astype(float))
    metrics = {
        "seconds_per_token": seconds.reshape(1, -1),
        "loss_nats": np.tile(loss, len(tiers))[None, :],
        "memory_gib": held.sum(axis=2).reshape(1, -1) / GIB,
    }
    if pattern.kind != "pipeline":
        metrics["loads_per_token"] = _per_layer(moved, tiers).reshape(1, -1)
        joules = np.einsum("le,tq->ltq", instance.uses, instance.use.joules)
        if np.isfinite(joules).all():
            metrics["joules_per_token"] = _per_layer(joules, tiers).reshape(1, -1)

    def read(x: IntArray) -> Assignment:
        way, quality = divmod(int(x[0]), qualities)
        shape = (layers, experts, 1)
        wide = np.broadcast_to(tiers[way][:, None, None], shape).astype(np.int64)
        return plain(wide, np.full(shape, quality, dtype=np.int64))

    return [Options(metrics, held.reshape(1, -1, tier_count))], read


def _per_layer(table: FloatArray, tiers: IntArray) -> FloatArray:
    """Return ``(M, Q)`` sums of a ``(L, T, Q)`` table over the layers' tiers."""
    rows, sums = np.arange(tiers.shape[1]), []
    for way in tiers:
        step()
        sums.append(table[rows, way].sum(axis=0))
    return np.stack(sums)


def _tiers(instance: PlacementInstance) -> IntArray:
    """Return the ``(M, L)`` different ways of the pattern."""
    pattern = instance.config.pattern
    assert pattern is not None
    names = instance.topology.names
    fast = instance.topology.index(pattern.fast or names[0], "pattern.fast")
    if pattern.slow is None and len(names) < 2:
        raise InputError("pattern: needs a second tier")
    slow = instance.topology.index(pattern.slow or names[1], "pattern.slow")
    layers = instance.shape.size[0]
    off = np.array(list(_off(pattern.kind, layers, pattern.longest_period)))
    return np.where(np.unique(off, axis=0), slow, fast).astype(np.int64)


def _off(kind: str, layers: int, longest: int) -> Iterator[list[bool]]:
    """Yield for each way which layers are off the fast tier."""
    rows = range(layers)
    if kind in ("first", "last"):
        for number in range(layers + 1):
            on = [row >= number for row in rows]
            yield [not o for o in (on if kind == "first" else on[::-1])]
    elif kind == "contiguous":
        for start in range(layers + 1):
            for end in range(start, layers + 1):
                step()
                yield [not start <= row < end for row in rows]
    else:
        for period in range(1, longest + 1):
            for number in range(period + 1):
                yield [row % period >= period - number for row in rows]
