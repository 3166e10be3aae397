"""Units by themselves: an expert, a tensor of a layer, or a layer; costs simply add up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from moe2opt.placement.assignment import NOWHERE, Assignment, plain
from moe2opt.placement.baselines.caches import cached_layers
from moe2opt.placement.baselines.rules import fixed_places
from moe2opt.placement.case import Case
from moe2opt.placement.experts.activation import uses_per_token
from moe2opt.placement.figures import Baseline
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.mode import Mode
from moe2opt.placement.options import Options, Read
from moe2opt.placement.sections import PlacementConfig
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray

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


def menu_of(case: Case, *, prunable: bool) -> Menu:
    """Return every tier with every precision, and pruning where it is allowed.

    A format that is larger, loses no less and is nowhere faster than another is left out.
    """
    kept = _useful_precisions(case)
    pairs = [(t, q) for t in range(len(case.topology.tiers)) for q in kept]
    if prunable:
        pairs.append((NOWHERE, kept[0]))
    tier, precision = np.array(pairs, dtype=np.int64).T
    return Menu(tier, precision)


def prunable_units(case: Case) -> BoolArray:
    """Return the ``(L, E)`` mask of the least salient experts of each layer, which may go."""
    prune = case.config.prune
    if prune is None:
        return np.zeros(case.shape.size, dtype=bool)
    saliency = case.activation.saliency
    rank = np.argsort(np.argsort(saliency, axis=1, kind="stable"), axis=1)
    return np.asarray(rank < int(prune.max_share * case.shape.experts + 1e-9))


def _useful_precisions(case: Case) -> list[int]:
    if (case.scale != 1).any():  # which of two formats is larger may depend on the layer
        return list(range(len(case.precisions)))
    size, seconds = case.expert_bytes, case.use.seconds
    loss = np.array([p.loss_nats for p in case.precisions])
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


@dataclass(frozen=True, eq=False)
class Units(Mode):
    """Every unit has a tier and a precision of its own, or is pruned."""

    @classmethod
    def asked(cls, config: PlacementConfig) -> bool:
        """Return True: where nothing else is asked for, units have places of their own."""
        return True

    def check(self) -> None:
        """Raise `InputError` for pruning of anything but experts."""
        if self.case.config.prune is not None and self.case.config.granularity != "expert":
            raise InputError("prune: needs the granularity expert")

    @property
    def parts(self) -> int:
        """Parts of an expert that are placed apart."""
        return len(TENSORS) if self.case.config.granularity == "tensor" else 1

    def placed(self, tier: IntArray, precision: IntArray) -> Assignment:
        """Return experts whose parts all stay where the expert is."""
        return plain(*(np.repeat(table, self.parts, axis=2) for table in (tier, precision)))

    def baselines(self) -> Iterator[Baseline]:
        """Yield rules with fixed places, and caches of one size in every layer."""
        yield from fixed_places(self)
        yield from cached_layers(self)

    def options(self) -> tuple[list[Options], Read]:
        """Return the options of all units and how to read a choice.

        Units that may be pruned and those that may not are two blocks, as their menus differ.
        """
        tables = _tables(self.case, self.parts)
        may_go = prunable_units(self.case).ravel()
        if len(tables.use) != len(may_go):
            may_go = np.zeros(len(tables.use), dtype=bool)
        parts = [np.flatnonzero(~may_go), np.flatnonzero(may_go)]
        menus = [menu_of(self.case, prunable=False), menu_of(self.case, prunable=True)]
        used = [(rows, menu) for rows, menu in zip(parts, menus, strict=True) if len(rows)]
        blocks = [_block(self.case, tables.at(rows), menu) for rows, menu in used]

        def read(x: IntArray) -> Assignment:
            tier, precision = (np.empty(len(may_go), dtype=np.int64) for _ in range(2))
            start = 0
            for rows, menu in used:
                chosen = x[start : start + len(rows)]
                tier[rows], precision[rows] = menu.tier[chosen], menu.precision[chosen]
                start += len(rows)
            return self._assignment(tier, precision)

        return blocks, read

    def _assignment(self, tier: IntArray, precision: IntArray) -> Assignment:
        """Return the assignment of the units' ``(U,)`` tiers and precisions."""
        layers, experts = self.case.shape.size
        own = experts if self.case.config.granularity == "expert" else 1
        full = (layers, experts, self.parts)
        units = [t.reshape(layers, own, self.parts) for t in (tier, precision)]
        return plain(*(np.broadcast_to(table, full).copy() for table in units))


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """What units are: uses per token (by domain too), saliency, experts in them, layer, part."""

    use: FloatArray
    by_domain: FloatArray
    saliency: FloatArray
    count: FloatArray
    layer: IntArray
    part: IntArray

    def at(self, rows: IntArray) -> _Tables:
        """Return only some of the units."""
        return _Tables(
            self.use[rows],
            self.by_domain[:, rows],
            self.saliency[rows],
            self.count[rows],
            self.layer[rows],
            self.part[rows],
        )


def _tables(case: Case, parts: int) -> _Tables:
    grouped = case.config.granularity != "expert"

    def per_unit(table: FloatArray) -> FloatArray:
        """Sum a ``(L, E)`` table over the experts of each unit, shared by its tensors."""
        whole = table.sum(axis=1) if grouped else table.ravel()
        return np.repeat(whole / parts, parts)

    batch = case.config.batch
    layers, experts = case.shape.size
    own = (1 if grouped else experts) * parts
    return _Tables(
        per_unit(case.uses),
        np.stack([per_unit(uses_per_token(share, batch)) for share in case.activation.shares]),
        per_unit(case.activation.saliency),
        per_unit(np.ones(case.shape.size)),
        np.repeat(np.arange(layers), own),
        np.arange(layers * own) % parts,
    )


def _block(case: Case, units: _Tables, menu: Menu) -> Options:
    pruned = menu.tier == NOWHERE
    row, part = units.layer[:, None], units.part[:, None]
    at = (row, part, np.maximum(menu.tier, 0), menu.precision)
    use = case.use_scaled
    seconds = np.where(pruned, case.pruned_use_s, use.seconds[at])
    size = case.expert_bytes[menu.precision] * case.scale[row, part, menu.precision]
    size = units.count[:, None] * np.where(pruned, 0.0, size)
    rounding = np.array([p.loss_nats for p in case.precisions])[menu.precision]
    loss = np.where(pruned, case.prune_loss_nats, rounding)
    moved = np.where(pruned, 0.0, use.move_s[at] > 0)
    metrics = {
        "seconds_per_token": units.use[:, None] * seconds,
        "loss_nats": np.outer(units.saliency, loss),
        "memory_gib": size / GIB,
        "loads_per_token": units.use[:, None] * moved,
    }
    joules = np.where(pruned, case.pruned_use_j, use.joules[at])
    if np.isfinite(joules).all():
        metrics["joules_per_token"] = units.use[:, None] * joules
    tiers = np.arange(len(case.topology.tiers))
    held = size[:, :, None] * (menu.tier[:, None] == tiers)
    domains = None
    if case.activation.robust:
        domains = np.stack([own[:, None] * seconds for own in units.by_domain], axis=2)
    return Options(metrics, held, domains)
