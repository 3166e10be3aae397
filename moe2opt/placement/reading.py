"""Reads the files that a placement configuration names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moe2opt.placement.experts import activation as use
from moe2opt.placement.experts.activation import Activation
from moe2opt.placement.experts.distances import read_distances
from moe2opt.placement.experts.hits import read_hits
from moe2opt.placement.experts.laws import from_law, synthetic
from moe2opt.placement.machine.rates import Rates, read_rates
from moe2opt.placement.model.files import shape_from_files
from moe2opt.placement.model.precisions import Precision, read_precisions
from moe2opt.placement.model.shape import ModelShape, builtin_table, shape_from_table
from moe2opt.placement.sections import PlacementConfig
from moe2opt.result import InputError
from moe2opt.schema.paths import inside


@dataclass(frozen=True, slots=True)
class Reader:
    """A configuration and the folder that its paths are relative to."""

    config: PlacementConfig
    folder: Path
    allow_outside: bool

    def path(self, name: str, key: str) -> Path:
        """Return a path of the configuration; it may not leave the folder unless allowed.

        Raises
        ------
        InputError
            When it leaves the folder.
        """
        return inside(self.folder, name, key, allow_outside=self.allow_outside)

    def shape(self) -> ModelShape:
        """Return the model."""
        model = self.config.model
        if model.table is not None:
            named = model.models
            table = (
                builtin_table("models.csv") if named is None else self.path(named, "model.models")
            )
            return shape_from_table(table, model.table, model.dense_bits, model.kv_bits)
        for kind in ("gguf", "safetensors", "hf"):
            name = getattr(model, kind)
            if name is not None:
                return shape_from_files(kind, self.path(name, f"model.{kind}"), model)
        raise InputError("model: no source is given")

    def precisions(self, shape: ModelShape) -> tuple[Precision, ...]:
        """Return the weight formats; `stored` is the format of the model's own files."""
        named = self.config.precision_table
        table = builtin_table("precisions.csv")
        if named is not None:
            table = self.path(named, "precision_table")
        wanted, stored = list(self.config.precisions), set()
        for k, entry in enumerate(wanted):
            if entry.name == "stored" and entry.bits_per_weight is None:
                if shape.stored_bytes is None:
                    raise InputError(
                        f"precisions.{k}.name: 'stored' needs a model read from gguf or safetensors"
                    )
                # With a part every layer counts as the largest one.
                held = shape.stored_bytes
                if self.config.parts and shape.stored_parts:
                    held = max(map(sum, shape.stored_parts))
                bits = 8 * held / shape.params_per_expert
                stored.add(k)
                loss = entry.loss_nats or 0.0
                wanted[k] = entry.model_copy(update={"bits_per_weight": bits, "loss_nats": loss})
        found = read_precisions(table, wanted)
        return tuple(replace(p, stored=k in stored) for k, p in enumerate(found))

    def activation(self, shape: ModelShape) -> Activation:
        """Return how often experts are used."""
        section = self.config.activation
        layers, experts = shape.size
        if section.counts is not None:
            path = self.path(section.counts, "activation.counts")
            found = use.from_counts(path, shape.layers, experts, shape.top_k, section.domains)
        elif section.trace is not None:
            path = self.path(section.trace, "activation.trace")
            found = use.from_trace(path, layers, experts, shape.top_k)
        elif section.law is not None:
            path = self.path(section.law, "activation.law")
            found = from_law(path, shape, section.seed)
        else:
            exponent = section.zipf or 0.0
            found = synthetic(
                layers, experts, shape.top_k, exponent, section.seed, uniform=section.uniform
            )
        return replace(found, robust=section.robust, resolution=section.robust_resolution)

    def tables(self, shape: ModelShape) -> dict[str, Any]:
        """Return the tables of the parts that are switched on."""
        found: dict[str, Any] = {}
        cache, aggregation = self.config.cache, self.config.aggregation
        measured = self.config.activation.lru
        if measured is not None:
            found["lru"] = read_hits(self.path(measured, "activation.lru"), "lru", shape)
        if cache is not None and cache.table is not None:
            found["cache"] = read_hits(self.path(cache.table, "cache.table"), cache.hits, shape)
        if aggregation is not None and aggregation.distances is not None:
            path = self.path(aggregation.distances, "aggregation.distances")
            found["distances"] = read_distances(path, shape)
        return found

    def rates(self, shape: ModelShape, precisions: tuple[Precision, ...]) -> Rates | None:
        """Return what the profile named by `rates` says, None without one."""
        named = self.config.rates
        if named is None:
            return None
        config = self.config
        return read_rates(
            self.path(named, "rates"),
            config.tiers,
            config.execute.tiers,
            shape,
            precisions,
        )

    def _free_quality(self, shape: ModelShape) -> Iterator[str]:
        """Yield that quality costs nothing where nothing limits the loss of several formats."""
        config = self.config
        if len(config.precisions) < 2 or config.objective == "loss_nats":
            return
        if config.budgets.loss_nats is not None:
            return
        best = min(self.precisions(shape), key=lambda p: (p.loss_nats, p.bits_per_weight))
        size = math.prod(shape.size) * shape.expert_bytes(best.bits_per_weight) + shape.dense_bytes
        sizes = [t.capacity_gib and t.capacity_gib - t.margin_gib for t in config.tiers]
        room = math.inf if None in sizes else 2**30 * sum(s or 0.0 for s in sizes)
        fits = f"; all experts at {best.name} would fit" if size <= room else ""
        yield (
            "QUALITY IS FREE: several formats are offered and no budgets.loss_nats is set, so that "
            f"the plan takes bits away wherever that makes {config.objective} smaller{fits} "
            f"(budgets: {{loss_nats: {best.loss_nats:.4g}}} asks for the loss of {best.name})"
        )

    def notes(self, shape: ModelShape, rates: Rates | None = None) -> Iterator[str]:
        """Yield what must be known about the data."""
        if shape.note:
            yield f"model: {shape.note}"
        if rates is not None:
            yield rates.note
        else:
            yield (
                "seconds come from a model of bytes over bandwidth plus latencies (not measured on "
                "these machines)"
            )
        if len(self.config.precisions) > 1 or self.config.budgets.loss_nats is not None:
            yield (
                "losses add up over experts in proportion to saliency, an assumption; the totals "
                "per precision are transcribed from other models where the table says so"
            )
        yield from self._free_quality(shape)
        config = self.config
        sizes = {sum(parts) for parts in shape.stored_parts}
        if config.parts and len(sizes) > 1:
            yield (
                f"{config.parts[0]}: the layers of the file differ in size, from {min(sizes):,.0f} "
                f"to {max(sizes):,.0f} bytes an expert; each counts as the largest"
            )
        if config.parts and config.pattern is None and len(config.precisions) > 1:
            yield (
                f"{config.parts[0]}: all experts of a layer have one precision; a plan that mixes "
                "formats within a layer may be better and is not on offer"
            )
        if self.config.aggregation is not None and self.config.aggregation.distances is None:
            yield "SYNTHETIC: distances between experts are drawn, not measured"
