"""Slots of a cache per layer on the home tier; every expert also lives in the backing tier."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from moe2opt.placement.assignment import Assignment, plain
from moe2opt.placement.baselines.slots import greedy_slots, is_convex, released_slots
from moe2opt.placement.case import Case
from moe2opt.placement.experts.hits import (
    held_out_hit_rates,
    lru_hit_rates,
    prefetched_loads,
)
from moe2opt.placement.figures import Baseline
from moe2opt.placement.judge import evaluate, violations
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.modes.layered import Layered, LayerMenu
from moe2opt.placement.sections import Cache
from moe2opt.result import FloatArray, InputError, IntArray


@dataclass(frozen=True, eq=False)
class Cached(Layered):
    """Every layer has a number of slots, in which experts come and go."""

    part: ClassVar[str] = "cache"
    by_place: ClassVar[bool] = False

    @property
    def section(self) -> Cache:
        """The part of the configuration."""
        section = self.case.config.cache
        assert section is not None
        return section

    @property
    def backing(self) -> int:
        """Position of the tier that holds all experts."""
        return self.case.topology.index(self.section.backing, "cache.backing")

    @property
    def most(self) -> int:
        """Largest number of slots of a layer."""
        experts = self.case.shape.experts
        return experts if self.section.most is None else min(self.section.most, experts)

    def check(self) -> None:
        """Raise `InputError` for a cache without its data or without any number of slots."""
        cache = self.section
        if cache.hits == "published" and cache.table is None:
            raise InputError("cache.table: hits 'published' need a table")
        if cache.hits == "lru" and cache.table is None and self.case.activation.trace is None:
            raise InputError("cache.table: hits 'lru' need a table, or an activation with a trace")
        if cache.least > self.most:
            raise InputError(
                f"cache.least: {cache.least} slots, but a layer has {self.most} at most"
            )
        if self.case.config.batch > 1:
            raise InputError("batch: hit rates of cache and coverage are those of single tokens")

    @cached_property
    def load_table(self) -> FloatArray:
        """``(L, E + 1)`` expected copies per token by number of cache slots."""
        activation, hits = self.case.activation, self.section.hits
        layers, experts = self.case.shape.size
        top_k = self.case.shape.top_k
        if hits == "hypergeometric":
            return np.tile(prefetched_loads(experts, top_k, 0.0, 0.0), (layers, 1))
        if hits == "published":
            accuracy, single = self.case.tables["cache"]
            pairs = zip(accuracy, single, strict=True)
            return np.stack([prefetched_loads(experts, top_k, a, s) for a, s in pairs])
        if hits == "static" and activation.trace is not None:
            assert activation.starts is not None
            return top_k * (1 - held_out_hit_rates(activation.trace, activation.starts, experts))
        if hits == "static":
            ranked = -np.sort(-activation.mixed, axis=1)
            start = np.zeros((layers, 1))
            served = np.concatenate([start, np.cumsum(ranked, axis=1)], axis=1)
            return np.asarray(np.maximum(served[:, -1:] - served, 0.0))
        rates = self.case.tables.get("cache")
        if rates is None:
            assert activation.trace is not None and activation.starts is not None
            rates = lru_hit_rates(activation.trace, activation.starts, experts)
        return np.asarray(top_k * (1.0 - np.asarray(rates)))

    @cached_property
    def costs(self) -> FloatArray:
        """``(2, Q)`` seconds to copy an expert from the backing tier, and to compute it at home."""
        case, home = self.case, self.case.topology.home
        ways = [
            case.topology.use_in(self.backing, home, size, case.shape.hidden)
            for size in case.expert_bytes.tolist()
        ]
        return np.array([[way[0] for way in ways], [way[1] for way in ways]])

    @cached_property
    def joules_of(self) -> FloatArray:
        """``(2, Q)`` joules to copy an expert from the backing tier, and to compute it at home."""
        home = self.case.topology.home
        missed, found = self.case.joules_of([(self.backing, home), (home, home)])
        return np.stack([missed - found, found])

    def misses(self, assignment: Assignment) -> FloatArray:
        """Return the ``(L,)`` copies per token into the cache of each layer."""
        assert assignment.slots is not None
        return np.asarray(self.load_table[np.arange(len(assignment.slots)), assignment.slots])

    def _terms(self, assignment: Assignment, costs: FloatArray) -> list[FloatArray]:
        """Return ``(L,)`` sums per token, given ``(2, Q)`` costs to copy and to compute."""
        copy, compute = costs[:, assignment.precision[:, 0, 0]]
        return [self.misses(assignment) * copy + self.case.shape.top_k * compute]

    def second_terms(self, assignment: Assignment, shares: FloatArray) -> list[FloatArray]:
        """Return the copies into the caches and the experts computed at home."""
        return self._terms(assignment, self.costs)

    def joule_terms(self, assignment: Assignment, shares: FloatArray) -> list[FloatArray]:
        """Return the copies into the caches and the experts computed at home."""
        return self._terms(assignment, self.joules_of)

    def load_terms(self, assignment: Assignment, shares: FloatArray) -> list[FloatArray]:
        """Return the misses."""
        return [self.misses(assignment)]

    def held_bytes(self, assignment: Assignment) -> FloatArray:
        """Return the bytes of all experts in the backing tier, and of the slots."""
        held = super().held_bytes(assignment)
        if assignment.slots is not None:
            by_layer = self.case.expert_bytes[assignment.precision[:, 0, 0]]
            held[self.case.topology.home] += float(by_layer @ assignment.slots)
        return held

    def menus(self, layer: int) -> Iterator[LayerMenu]:
        """Yield every number of slots at each precision."""
        case, top_k = self.case, self.case.shape.top_k
        slots = np.arange(self.section.least, self.most + 1)
        nothing = np.zeros(len(slots), dtype=np.int64)
        saliency = float(case.activation.saliency[layer].sum())
        misses = self.load_table[layer, slots]
        for q, precision in enumerate(case.precisions):
            size = float(case.expert_bytes[q])
            copy, compute = self.costs[:, q]
            held = np.zeros((len(slots), len(case.topology.tiers)))
            held[:, self.backing] = case.shape.experts * size
            held[:, case.topology.home] += slots * size
            metrics = {
                "seconds_per_token": misses * copy + top_k * compute,
                "loads_per_token": misses,
                "loss_nats": np.full(len(slots), saliency * precision.loss_nats),
                "memory_gib": held.sum(axis=1) / GIB,
                "slots": slots.astype(np.float64),
            }
            copy_j, compute_j = self.joules_of[:, q]
            if np.isfinite([copy_j, compute_j]).all():
                metrics["joules_per_token"] = misses * copy_j + top_k * compute_j
            yield LayerMenu(metrics, held, nothing, nothing + q, slots[:, None])

    def read(self, menus: list[LayerMenu], x: IntArray) -> Assignment:
        """Return the chosen numbers of slots."""
        slots = np.array([menu.counts[i, 0] for menu, i in zip(menus, x, strict=True)])
        return self.slotted(slots, self.chosen_precision(menus, x))

    def slotted(self, slots: IntArray, precision: IntArray) -> Assignment:
        """Return the assignment of `slots` ``(L,)``; `precision` is ``(L, E, 1)``."""
        return plain(np.full_like(precision, self.backing), precision, slots=slots)

    def baselines(self) -> Iterator[Baseline]:
        """Yield what simple allocations of slots achieve."""
        case, table = self.case, self.load_table
        quality = int(np.argmax(case.expert_bytes))
        precision = np.full((*case.shape.size, 1), quality)
        layers, experts = case.shape.size
        total = slot_limit(case, quality)
        even = np.full(layers, min(experts, total // layers), dtype=np.int64)
        left = min(total, layers * experts) - int(even.sum())
        even[: max(0, left)] += 1
        front = np.clip(total - experts * np.arange(layers), 0, experts).astype(np.int64)
        marginal = "marginal gain"
        rules = {
            "no cache": np.zeros(layers, dtype=np.int64),
            "same number in every layer": np.minimum(even, experts),
            "front layers first": front,
            "released AdapMoE allocation": released_slots(table, min(total, layers * experts)),
            marginal: greedy_slots(table, total),
        }
        convex = is_convex(table) and len(set(case.expert_bytes)) == 1
        for name, slots in rules.items():
            assignment = self.slotted(slots, precision)
            figures = evaluate(self, assignment)
            broken = violations(self, assignment, figures)
            note = broken[0] if broken else ""
            if name == marginal:
                note = note or ("exact: every curve is convex" if convex else "not exact here")
            yield Baseline(
                name,
                figures.value(case.config.objective),
                not broken,
                note=note,
                exact=convex and name == marginal,
            )


def slot_limit(case: Case, precision: int) -> int:
    """Return the slots that memory and budget allow together at one precision."""
    layers, experts = case.shape.size
    free = case.topology.tiers[case.topology.home].free_bytes
    room = free / float(case.expert_bytes[precision])
    budget = case.config.budgets.cache_slots
    most = layers * experts if budget is None else min(budget, layers * experts)
    return min(most, math.floor(room * (1 + 1e-12))) if math.isfinite(room) else most
