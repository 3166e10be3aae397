"""Pipelines: consecutive runs of layers on several tiers that work at the same time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.placement.assignment import Assignment, evaluate, plain
from moe2opt.placement.baselines.rules import Baseline
from moe2opt.placement.checks import violations
from moe2opt.placement.experts.activation import uses_per_token
from moe2opt.result import FloatArray, InputError, IntArray

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance

_MOST_CUTS = 200_000


def stages_of(instance: PlacementInstance) -> list[int]:
    """Return the tiers of the pipeline, in order.

    Raises
    ------
    InputError
        With fewer than two, a repeated one, or one on which nothing computes.
    """
    pattern = instance.config.pattern
    assert pattern is not None
    names = pattern.stages
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError("pattern.stages: a pipeline needs two or more different tiers")
    found = [instance.topology.index(n, f"pattern.stages.{k}") for k, n in enumerate(names)]
    for k, tier in enumerate(found):
        if instance.topology.tiers[tier].compute_bytes_per_s is None:
            raise InputError(f"pattern.stages.{k}: nothing computes on tier '{names[k]}'")
    return found


def cut_vectors(layers: int, stages: int) -> IntArray:
    """Return the ``(M, stages)`` numbers of layers per stage, in every way.

    Raises
    ------
    InputError
        When there are too many ways.
    """
    import math

    ways = math.comb(layers + stages - 1, stages - 1)
    if ways > _MOST_CUTS:
        raise InputError(f"pattern.stages: {ways} ways to cut {layers} layers are too many")
    bars = itertools.combinations(range(layers + stages - 1), stages - 1)
    cuts = np.array(list(bars), dtype=np.int64).reshape(ways, stages - 1)
    edges = np.column_stack([np.full(ways, -1), cuts, np.full(ways, layers + stages - 1)])
    return np.asarray(np.diff(edges, axis=1) - 1)


def layer_seconds(instance: PlacementInstance, shares: FloatArray) -> FloatArray:
    """Return ``(L, T, Q)`` seconds per token of a layer computed in place on each tier."""
    uses = uses_per_token(shares, instance.config.batch).sum(axis=1)
    tiers, qualities = len(instance.topology.tiers), len(instance.precisions)
    table = np.full((len(uses), tiers, qualities), np.inf)
    for t, tier in enumerate(instance.topology.tiers):
        if tier.compute_bytes_per_s is None:
            continue
        dense = instance.layer_dense_bytes / tier.compute_bytes_per_s / instance.config.batch
        for q, size in enumerate(instance.expert_bytes):
            table[:, t, q] = uses * (size / tier.compute_bytes_per_s + tier.overhead_s) + dense
    return table


def hand_over_s(instance: PlacementInstance, a: int, b: int) -> float:
    """Return the seconds to send a token's activation from one tier to another."""
    return instance.topology.transfer_s(a, b, 2.0 * instance.shape.hidden)


def stage_seconds(
    instance: PlacementInstance, assignment: Assignment, shares: FloatArray
) -> list[float]:
    """Return the seconds per token of each stage, its hand-over to the next one included."""
    tier, precision = assignment.tier[:, 0, 0], assignment.precision[:, 0, 0]
    table = layer_seconds(instance, shares)
    runs = [list(g) for _, g in itertools.groupby(range(len(tier)), key=lambda row: tier[row])]
    times = [float(sum(table[row, tier[row], precision[row]] for row in run)) for run in runs]
    for k in range(len(runs) - 1):
        times[k] += hand_over_s(instance, int(tier[runs[k][0]]), int(tier[runs[k + 1][0]]))
    return times


def pipeline_tiers(instance: PlacementInstance) -> tuple[IntArray, FloatArray]:
    """Return ``(M, L)`` tiers of the layers and ``(M, Q)`` seconds of every way to cut."""
    pattern = instance.config.pattern
    assert pattern is not None
    stages = stages_of(instance)
    layers = instance.shape.size[0]
    counts = cut_vectors(layers, len(stages))
    ends = np.cumsum(counts, axis=1)
    starts = ends - counts
    table = layer_seconds(instance, instance.activation.mixed)
    sums = np.concatenate([np.zeros((1, *table.shape[1:])), np.cumsum(table, axis=0)])
    times = np.stack([sums[ends[:, j], t] - sums[starts[:, j], t] for j, t in enumerate(stages)])
    times += _hand_overs(instance, counts, stages)[:, :, None]
    seconds = times.max(axis=0) if pattern.measure == "slowest" else times.sum(axis=0)
    tiers = np.stack([np.repeat(stages, row) for row in counts])
    return tiers, seconds


def _hand_overs(instance: PlacementInstance, counts: IntArray, stages: list[int]) -> FloatArray:
    """Return ``(stages, M)`` seconds that each stage needs to reach the next one in use."""
    found = np.zeros((len(stages), len(counts)))
    for j, k in itertools.combinations(range(len(stages)), 2):
        between = counts[:, j + 1 : k].sum(axis=1) == 0
        follows = (counts[:, j] > 0) & (counts[:, k] > 0) & between
        found[j, follows] = hand_over_s(instance, stages[j], stages[k])
    return found


def pipeline_baselines(instance: PlacementInstance) -> Iterator[Baseline]:
    """Yield equal runs, runs in proportion to free memory, and everything on one stage."""
    stages = stages_of(instance)
    layers = instance.shape.size[0]
    free = np.array([instance.topology.tiers[t].free_bytes for t in stages])
    shares = {"equal runs": np.ones(len(stages))}
    if np.isfinite(free).all():
        shares["runs in proportion to memory"] = free
    for k, tier in enumerate(stages):
        name = f"all on {instance.topology.names[tier]}"
        shares[name] = (np.arange(len(stages)) == k).astype(np.float64)
    for name, share in shares.items():
        ends = np.round(np.cumsum(share) / share.sum() * layers).astype(np.int64)
        runs = np.repeat(stages, np.diff(ends, prepend=0))
        yield _best_of(instance, name, runs)


def _best_of(instance: PlacementInstance, name: str, tier: IntArray) -> Baseline:
    """Return the best precision that fits, else the smallest one and what it breaks."""
    found: list[Baseline] = []
    for q in np.argsort(-instance.expert_bytes):
        shape = (*instance.shape.size, 1)
        wide = np.broadcast_to(tier[:, None, None], shape).astype(np.int64)
        assignment = plain(wide, np.full(shape, q, dtype=np.int64))
        broken = violations(instance, assignment)
        value = evaluate(instance, assignment).value(instance.config.objective)
        note = f"all at {instance.precisions[int(q)].name}"
        note = f"{note}: {broken[0]}" if broken else note
        found.append(Baseline(name, value, not broken, note=note))
    fits = [b for b in found if b.feasible]
    return min(fits, key=lambda b: float(b.value or 0.0)) if fits else found[-1]
