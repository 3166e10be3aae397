"""Seconds, joules, copies and loss of an assignment, straight from their definitions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.placement.assignment import (
    DISTIL,
    MERGE,
    NOWHERE,
    PRUNE,
    SHARE,
    Assignment,
    layer_uses,
)
from moe2opt.result import FloatArray

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance


def seconds(instance: PlacementInstance, assignment: Assignment, shares: FloatArray) -> float:
    """Return the seconds per token when experts are used in the given ``(L, E)`` shares."""
    config = instance.config
    if config.pattern is not None and config.pattern.kind == "pipeline":
        from moe2opt.placement.modes.pipeline import stage_seconds

        stages = stage_seconds(instance, assignment, shares)
        return max(stages) if config.pattern.measure == "slowest" else math.fsum(stages)
    if config.cache is not None:
        layer_s = _cached(instance, assignment, instance.cache_costs)
        return instance.dense_s + math.fsum(layer_s.tolist())
    if config.coverage is not None:
        return instance.dense_s + _covered_seconds(instance, assignment, shares)
    uses = layer_uses(instance, assignment, shares)
    if config.split is not None:
        return instance.dense_s + _split_seconds(instance, assignment, uses)
    if config.prefetch is not None:
        return instance.dense_s + _overlapped_seconds(instance, assignment, uses)
    each = _each(assignment, instance.use.seconds, instance.pruned_use_s)
    return instance.dense_s + _sum(uses, each)


def seconds_by_layer(
    instance: PlacementInstance, assignment: Assignment, shares: FloatArray
) -> FloatArray:
    """Return the ``(L,)`` seconds per token of the experts of each layer.

    Not for pipelines, splits and coverage, whose layers are not judged by themselves.
    """
    config = instance.config
    if config.cache is not None:
        return _cached(instance, assignment, instance.cache_costs)
    uses = layer_uses(instance, assignment, shares)
    if config.prefetch is not None:
        copies = (uses * _each(assignment, instance.use.move_s)).sum(axis=1)
        rest = _each(assignment, instance.use.compute_s + instance.use.hand_over_s)
        return np.asarray((uses * rest).sum(axis=1) + exposed(copies, instance))
    each = _each(assignment, instance.use.seconds, instance.pruned_use_s)
    return np.asarray((uses * each).sum(axis=1))


def loads_by_layer(
    instance: PlacementInstance, assignment: Assignment, shares: FloatArray
) -> FloatArray:
    """Return the ``(L,)`` copies of experts per token of each layer."""
    if instance.config.cache is not None:
        return _misses(instance, assignment)
    uses = layer_uses(instance, assignment, shares)
    moved = (_each(assignment, instance.use.move_s) > 0).astype(np.float64)
    return np.asarray((uses * moved).sum(axis=1))


def joules(instance: PlacementInstance, assignment: Assignment, shares: FloatArray) -> float:
    """Return the joules per token; NaN where a power or a link's energy is unknown."""
    if instance.config.cache is not None:
        layer_j = _cached(instance, assignment, instance.cache_joules)
        return instance.dense_j + math.fsum(layer_j.tolist())
    uses = layer_uses(instance, assignment, shares)
    each = _each(assignment, instance.use.joules, instance.pruned_use_j)
    if instance.config.split is not None:
        each = _split_joules(instance, assignment)
    used = uses > 0
    return instance.dense_j + math.fsum((uses[used] * each[used]).tolist())


def loads(instance: PlacementInstance, assignment: Assignment, shares: FloatArray) -> float:
    """Return the copies of experts per token."""
    if instance.config.cache is not None:
        return math.fsum(_misses(instance, assignment).tolist())
    uses = layer_uses(instance, assignment, shares)
    moved = (_each(assignment, instance.use.move_s) > 0).astype(np.float64)
    if assignment.copied is not None:
        moved = assignment.copied.astype(np.float64)
    return _sum(uses, moved)


def loss(instance: PlacementInstance, assignment: Assignment) -> float:
    """Return the rise of the logarithm of perplexity; contributions add up (an assumption)."""
    total = instance.activation.saliency
    rounding = np.array([p.loss_nats for p in instance.precisions])[assignment.precision]
    kept = (assignment.form != PRUNE).astype(np.float64)
    parts = [(total * kept * rounding.mean(axis=2)).ravel()]
    pruned = assignment.form == PRUNE
    parts.append((total * instance.prune_loss_nats)[pruned])
    aggregation = instance.config.aggregation
    if aggregation is not None:
        distance = np.take_along_axis(
            instance.distances, assignment.representative[:, :, None], axis=2
        )[:, :, 0]
        merged = instance.merge_weight * distance
        share = np.where(assignment.form == SHARE, aggregation.rank_loss_share, 1.0)
        parts.append((merged * share)[np.isin(assignment.form, (MERGE, SHARE))])
        parts.append(_distilled(instance, assignment))
    return math.fsum(np.concatenate(parts).tolist())


def uncovered(instance: PlacementInstance, assignment: Assignment) -> float:
    """Return the layers per token whose experts are not all resident."""
    if instance.config.coverage is None:
        return math.nan
    return math.fsum((1.0 - covered_shares(instance, assignment)).tolist())


def covered_shares(instance: PlacementInstance, assignment: Assignment) -> FloatArray:
    """Return the ``(L,)`` share of tokens all of whose experts are resident, from the trace."""
    coverage, trace = instance.config.coverage, instance.activation.trace
    assert coverage is not None and trace is not None
    fast = instance.topology.index(coverage.tier, "coverage.tier")
    resident = assignment.tier[:, :, 0] == fast
    hit = np.stack([resident[layer][trace[:, layer]] for layer in range(len(resident))], axis=1)
    return np.asarray(hit.all(axis=2).mean(axis=0))


def _sum(uses: FloatArray, each: FloatArray) -> float:
    return math.fsum((uses * each).ravel().tolist())


def _each(assignment: Assignment, table: FloatArray, pruned: float = 0.0) -> FloatArray:
    """Return the ``(L, E)`` entries of a (tier, precision) table, parts averaged."""
    tier = np.maximum(assignment.tier, 0)
    each = np.where(assignment.tier == NOWHERE, pruned, table[tier, assignment.precision])
    return np.asarray(each.mean(axis=2))


def _distilled(instance: PlacementInstance, assignment: Assignment) -> FloatArray:
    aggregation = instance.config.aggregation
    assert aggregation is not None
    kept = assignment.stored.sum(axis=1)
    layers = np.flatnonzero((assignment.form == DISTIL).any(axis=1))
    share = instance.merge_weight.sum(axis=1) / instance.merge_weight.sum()
    return np.array([share[row] * aggregation.distil_loss[int(kept[row])] for row in layers])


def _overlapped_seconds(
    instance: PlacementInstance, assignment: Assignment, uses: FloatArray
) -> float:
    prefetch = instance.config.prefetch
    assert prefetch is not None
    copies = (uses * _each(assignment, instance.use.move_s)).sum(axis=1)
    rest = uses * _each(assignment, instance.use.compute_s + instance.use.hand_over_s)
    return math.fsum([*rest.ravel().tolist(), *exposed(copies, instance).tolist()])


def exposed(copies_s: FloatArray, instance: PlacementInstance) -> FloatArray:
    """Return the seconds of copies that computing does not hide.

    With accuracy a and window W, the missed part (1 - a) X waits in the open; of the predicted part
    (and of as many wrong copies, if they occupy the link) what exceeds W does.
    """
    prefetch = instance.config.prefetch
    assert prefetch is not None
    wasted = 1.0 - prefetch.accuracy if prefetch.wasted else 0.0
    early = (prefetch.accuracy + wasted) * copies_s - prefetch.window_us * 1e-6
    return np.asarray((1.0 - prefetch.accuracy) * copies_s + np.maximum(early, 0.0))


def _split_seconds(instance: PlacementInstance, assignment: Assignment, uses: FloatArray) -> float:
    assert assignment.copied is not None
    split = instance.split_costs[:, assignment.precision[:, :, 0]]
    slow = instance.split_tiers[1]
    off = assignment.tier[:, :, 0] == slow
    copied = off & (assignment.copied == 1)
    cpu = (uses * split[1] * (off & ~copied)).sum(axis=1)
    gpu = (uses * np.where(copied, split[2], np.where(off, 0.0, split[0]))).sum(axis=1)
    return math.fsum(np.maximum(cpu, gpu).tolist())


def _misses(instance: PlacementInstance, assignment: Assignment) -> FloatArray:
    """Return the ``(L,)`` copies per token into the cache of each layer."""
    assert assignment.slots is not None
    return np.asarray(instance.load_table[np.arange(len(assignment.slots)), assignment.slots])


def _cached(instance: PlacementInstance, assignment: Assignment, costs: FloatArray) -> FloatArray:
    """Return ``(L,)`` sums per token behind caches, given ``(2, Q)`` costs to copy and compute."""
    copy, compute = costs[:, assignment.precision[:, 0, 0]]
    misses = _misses(instance, assignment)
    return np.asarray(misses * copy + instance.shape.top_k * compute)


def _split_joules(instance: PlacementInstance, assignment: Assignment) -> FloatArray:
    """Return the ``(L, E)`` joules of one use of each expert."""
    assert assignment.copied is not None
    stay, slow, copy = instance.split_joules[:, assignment.precision[:, :, 0]]
    off = assignment.tier[:, :, 0] == instance.split_tiers[1]
    each = np.where(assignment.copied == 1, copy, np.where(off, slow, stay))
    return np.where(assignment.tier[:, :, 0] == NOWHERE, instance.pruned_use_j, each)


def _covered_seconds(
    instance: PlacementInstance, assignment: Assignment, shares: FloatArray
) -> float:
    coverage = instance.config.coverage
    assert coverage is not None
    uses = layer_uses(instance, assignment, shares)
    sync = (1.0 - covered_shares(instance, assignment)) * coverage.sync_us * 1e-6
    each = uses * _each(assignment, instance.use.seconds)
    return math.fsum([*each.ravel().tolist(), *sync.tolist()])
