"""Options of single units: an expert, a tensor of a layer, or a layer; costs simply add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.placement.assignment import NOWHERE, Assignment, plain
from moe2opt.placement.compile import Options
from moe2opt.placement.experts.activation import uses_per_token
from moe2opt.placement.machine.topology import GIB
from moe2opt.result import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance

#: Weight tensors of an expert that a runtime can place apart: gate, up, down.
TENSORS = ("gate", "up", "down")


@dataclass(frozen=True, slots=True, eq=False)
class Menu:
    """The options that every unit has.

    Attributes
    ----------
    tier, precision
        ``(M,)`` tier (-1 for pruned) and precision of each option.
    """

    tier: IntArray
    precision: IntArray


def menu_of(instance: PlacementInstance, *, prunable: bool) -> Menu:
    """Return every tier with every precision, and pruning where it is allowed.

    A format that is larger, loses no less and is nowhere faster than another is left out.
    """
    kept = _useful_precisions(instance)
    pairs = [(t, q) for t in range(len(instance.topology.tiers)) for q in kept]
    if prunable:
        pairs.append((NOWHERE, kept[0]))
    tier, precision = np.array(pairs, dtype=np.int64).T
    return Menu(tier, precision)


def prunable_units(instance: PlacementInstance) -> BoolArray:
    """Return the ``(L, E)`` mask of the least salient experts of each layer, which may go."""
    prune = instance.config.prune
    if prune is None:
        return np.zeros(instance.shape.size, dtype=bool)
    saliency = instance.activation.saliency
    rank = np.argsort(np.argsort(saliency, axis=1, kind="stable"), axis=1)
    return np.asarray(rank < int(prune.max_share * instance.shape.experts + 1e-9))


def _useful_precisions(instance: PlacementInstance) -> list[int]:
    size, seconds = instance.expert_bytes, instance.use.seconds
    loss = np.array([p.loss_nats for p in instance.precisions])
    return [
        q
        for q in range(len(size))
        if not any(
            (size[p], loss[p], p) < (size[q], loss[q], q)
            and loss[p] <= loss[q]
            and (seconds[:, p] <= seconds[:, q]).all()
            for p in range(len(size))
        )
    ]


def unit_options(
    instance: PlacementInstance,
) -> tuple[list[Options], Callable[[IntArray], Assignment]]:
    """Return the options of all units and how to read a choice.

    Units that may be pruned and those that may not are two blocks, as their menus differ.
    """
    tables = _tables(instance)
    may_go = prunable_units(instance).ravel()
    if len(tables.use) != len(may_go):
        may_go = np.zeros(len(tables.use), dtype=bool)
    parts = [np.flatnonzero(~may_go), np.flatnonzero(may_go)]
    menus = [menu_of(instance, prunable=False), menu_of(instance, prunable=True)]
    used = [(rows, menu) for rows, menu in zip(parts, menus, strict=True) if len(rows)]
    blocks = [_block(instance, tables.at(rows), menu) for rows, menu in used]

    def read(x: IntArray) -> Assignment:
        tier, precision = (np.empty(len(may_go), dtype=np.int64) for _ in range(2))
        start = 0
        for rows, menu in used:
            chosen = x[start : start + len(rows)]
            tier[rows], precision[rows] = menu.tier[chosen], menu.precision[chosen]
            start += len(rows)
        return _assignment(instance, tier, precision)

    return blocks, read


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """What units are: uses per token (by domain too), saliency, experts in them."""

    use: FloatArray
    by_domain: FloatArray
    saliency: FloatArray
    count: FloatArray

    def at(self, rows: IntArray) -> _Tables:
        """Return only some of the units."""
        return _Tables(
            self.use[rows], self.by_domain[:, rows], self.saliency[rows], self.count[rows]
        )


def _tables(instance: PlacementInstance) -> _Tables:
    grouped = instance.config.granularity != "expert"
    parts = len(TENSORS) if instance.config.granularity == "tensor" else 1

    def per_unit(table: FloatArray) -> FloatArray:
        """Sum a ``(L, E)`` table over the experts of each unit, shared by its tensors."""
        whole = table.sum(axis=1) if grouped else table.ravel()
        return np.repeat(whole / parts, parts)

    shares = instance.activation.shares
    batch = instance.config.batch
    return _Tables(
        per_unit(instance.uses),
        np.stack([per_unit(uses_per_token(share, batch)) for share in shares]),
        per_unit(instance.activation.saliency),
        per_unit(np.ones(instance.shape.size)),
    )


def _block(instance: PlacementInstance, units: _Tables, menu: Menu) -> Options:
    pruned = menu.tier == NOWHERE
    at = (np.maximum(menu.tier, 0), menu.precision)
    seconds = np.where(pruned, instance.pruned_use_s, instance.use.seconds[at])
    size = np.where(pruned, 0.0, instance.expert_bytes[menu.precision])
    rounding = np.array([p.loss_nats for p in instance.precisions])[menu.precision]
    loss = np.where(pruned, instance.prune_loss_nats, rounding)
    moved = np.where(pruned, 0.0, instance.use.move_s[at] > 0)
    metrics = {
        "seconds_per_token": np.outer(units.use, seconds),
        "loss_nats": np.outer(units.saliency, loss),
        "memory_gib": np.outer(units.count, size / GIB),
        "loads_per_token": np.outer(units.use, moved),
    }
    joules = np.where(pruned, instance.pruned_use_j, instance.use.joules[at])
    if np.isfinite(joules).all():
        metrics["joules_per_token"] = np.outer(units.use, joules)
    held = np.zeros((len(units.use), len(size), len(instance.topology.tiers)))
    for t in range(held.shape[2]):
        held[:, :, t] = np.outer(units.count, np.where(menu.tier == t, size, 0.0))
    domains = None
    if instance.activation.robust:
        domains = np.stack([np.outer(use, seconds) for use in units.by_domain], axis=2)
    return Options(metrics, held, domains)


def _assignment(instance: PlacementInstance, tier: IntArray, precision: IntArray) -> Assignment:
    layers, experts = instance.shape.size
    parts = len(TENSORS) if instance.config.granularity == "tensor" else 1
    single = (layers, experts if instance.config.granularity == "expert" else 1, parts)
    full = (layers, experts, parts)
    return plain(
        np.broadcast_to(tier.reshape(single), full).copy(),
        np.broadcast_to(precision.reshape(single), full).copy(),
    )
