"""The case of a placement: a model, its machine and its use, as data and derived arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.content import Content
from moe2opt.placement.experts.activation import Activation, uses_per_token
from moe2opt.placement.experts.distances import drawn_distances
from moe2opt.placement.machine.rates import Rates
from moe2opt.placement.machine.topology import Topology, Use, ram_of
from moe2opt.placement.model.precisions import Precision
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import PlacementConfig
from moe2opt.result import FloatArray


@dataclass(frozen=True, eq=False, repr=False)
class Case(Content):
    """What is known of one placement.

    Attributes
    ----------
    config
        The YAML sections.
    shape, precisions, topology, activation
        Model, Q weight formats, T tiers, use of the experts.
    folder
        Folder that the paths of the configuration are relative to.
    notes
        What must be known about the data.
    rates
        Measured seconds of this machine, None without them.
    tables
        Tables of the parts that are switched on.
    """

    config: PlacementConfig
    shape: ModelShape
    precisions: tuple[Precision, ...]
    topology: Topology
    activation: Activation
    folder: Path
    notes: tuple[str, ...] = ()
    rates: Rates | None = None
    tables: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short name."""
        return self.config.name

    @cached_property
    def expert_bytes(self) -> FloatArray:
        """``(Q,)`` bytes of one expert by precision, the mean over layers."""
        bits = [precision.bits_per_weight for precision in self.precisions]
        return np.array([self.shape.expert_bytes(b) for b in bits])

    @cached_property
    def scale(self) -> FloatArray:
        """``(L, P, Q)`` bytes of a part of an expert in each layer over the mean of all.

        P is 3 with the granularity ``tensor`` (gate, up, down), else 1. Only the format of the
        model's own files differs from 1, and only where nothing but places is planned.
        """
        parts = 3 if self.config.granularity == "tensor" else 1
        scale = np.ones((self.shape.size[0], parts, len(self.precisions)))
        if self.shape.stored_parts and not self.config.parts:
            own = np.array(self.shape.stored_parts)
            own = own if parts > 1 else own.sum(axis=1, keepdims=True)
            stored = [precision.stored for precision in self.precisions]
            scale[:, :, stored] = (own / own.mean())[:, :, None]
        return scale

    @cached_property
    def use(self) -> Use:
        """What one use of an expert costs, by tier and precision."""
        return self.topology.use(self.expert_bytes.tolist(), self.shape.hidden)

    @cached_property
    def use_scaled(self) -> Use:
        """What one use costs in each layer if all of the expert were like each of its parts.

        Its arrays are ``(L, P, T, Q)``.
        """
        scales, at = np.unique(
            self.scale.reshape(-1, len(self.precisions)), axis=0, return_inverse=True
        )
        sizes = (scales * self.expert_bytes).ravel().tolist()
        return self.topology.use(sizes, self.shape.hidden).taken(
            at.reshape(self.scale.shape[:2]), len(scales)
        )

    @cached_property
    def copied_use_s(self) -> FloatArray:
        """``(T, Q)`` seconds of one use if all that is not on a GPU is copied to the home tier."""
        topology, hidden = self.topology, self.shape.hidden
        found = self.use.seconds.copy()
        for t, tier in enumerate(topology.tiers):
            if tier.kind != "gpu":
                ways = [topology.use_in(t, topology.home, b, hidden) for b in self.expert_bytes]
                found[t] = [sum(way[:3]) for way in ways]
        return found

    @cached_property
    def dense_bytes(self) -> float:
        """Bytes of the dense part, the context, and what running was measured to take besides."""
        context = self.shape.context_bytes(self.config.model.context_tokens, self.config.batch)
        return self.shape.dense_bytes + context + self._working_bytes

    @cached_property
    def dense_read_bytes(self) -> float:
        """Bytes of the dense part that a token reads, and what it reads of the context."""
        batch = self.config.batch
        read = self.shape.context_read_bytes(self.config.model.context_depth // batch) * batch
        return self.shape.dense_bytes - self.shape.table_bytes + read + self._working_bytes

    @property
    def _working_bytes(self) -> float:
        return 0.0 if self.rates is None else self.rates.working_bytes

    @cached_property
    def fixed_bytes(self) -> FloatArray:
        """``(T,)`` what lies on each tier whatever is planned: dense part, context, token table."""
        fixed = np.zeros(len(self.topology.tiers))
        if not self.config.piped:
            table = self.shape.table_bytes if self.shape.table_in_ram else 0.0
            fixed[self.topology.home] += self.dense_bytes - table
            fixed[ram_of(self.topology.tiers, self.topology.home)] += table
        return fixed

    @property
    def layer_dense_bytes(self) -> float:
        """Dense bytes that go with each layer of a pipeline: equal shares, an approximation."""
        return self.dense_bytes / self.shape.size[0] if self.config.piped else 0.0

    @property
    def layer_dense_read_bytes(self) -> float:
        """What a token reads of `layer_dense_bytes`."""
        return self.dense_read_bytes / self.shape.size[0] if self.config.piped else 0.0

    @cached_property
    def dense_s(self) -> float:
        """Seconds per token of the dense part: measured, or what is read of it once per step."""
        if self.config.piped:
            return 0.0
        if self.rates is not None and self.rates.dense_s is not None:
            return self.rates.dense_s / self.config.batch
        rate = self.topology.tiers[self.topology.home].compute_bytes_per_s
        assert rate is not None
        return self.dense_read_bytes / rate / self.config.batch

    @cached_property
    def dense_j(self) -> float:
        """Joules per token of the dense part, NaN when the power is unknown."""
        power = self.topology.tiers[self.topology.home].power_w
        return math.nan if power is None else power * self.dense_s

    @cached_property
    def uses(self) -> FloatArray:
        """``(L, E)`` uses per token over the mixture of domains, nothing merged."""
        return uses_per_token(self.activation.mixed, self.config.batch)

    @property
    def pruned_use_s(self) -> float:
        """Seconds charged for a use of a pruned expert: another one serves, the cheapest at best.

        With aggregation the other experts of the layer take over its uses instead.
        """
        return 0.0 if self.config.aggregation is not None else float(self.use.seconds.min())

    @property
    def pruned_use_j(self) -> float:
        """Joules charged for a use of a pruned expert."""
        return 0.0 if self.config.aggregation is not None else float(self.use.joules.min())

    @property
    def prune_loss_nats(self) -> float:
        """Loss if all saliency were pruned."""
        if self.config.aggregation is not None:
            return self.config.aggregation.prune_loss_nats
        return 0.0 if self.config.prune is None else self.config.prune.loss_nats

    @cached_property
    def merge_weight(self) -> FloatArray:
        """``(L, E)`` nats per unit of distance when an expert is merged: its use-weighted share."""
        aggregation = self.config.aggregation
        scale = 0.0 if aggregation is None else aggregation.loss_nats
        mixed = self.activation.mixed
        return np.asarray(scale * mixed / mixed.sum())

    @cached_property
    def distances(self) -> FloatArray:
        """``(L, E, E)`` distances between the experts of a layer: of the file, or drawn."""
        if "distances" in self.tables:
            return np.asarray(self.tables["distances"])
        aggregation = self.config.aggregation
        assert aggregation is not None
        return drawn_distances(*self.shape.size, aggregation.seed)

    @cached_property
    def room_bytes(self) -> FloatArray:
        """``(T,)`` bytes for experts and for what lies there whatever is planned."""
        return np.array([tier.free_bytes for tier in self.topology.tiers]) + self.fixed_bytes

    def joules_of(self, ways: list[tuple[int, int]]) -> FloatArray:
        """Return ``(W, Q)`` joules of uses of an expert that is in a tier, computed at a place."""
        hidden = self.shape.hidden
        return np.array(
            [[self.topology.use_in(*way, b, hidden)[3] for b in self.expert_bytes] for way in ways]
        )

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of any plan must know."""
        made_up = [f"SYNTHETIC or assumed: {text}" for text in self.config.synthetic]
        return (*made_up, self.activation.note, *self.notes)
