"""The placement instance: one model, its machines and its use, ready to compile and to judge."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.content import Content
from moe2opt.placement.assignment import Figures, evaluate
from moe2opt.placement.experts.activation import Activation, uses_per_token
from moe2opt.placement.machine.topology import GIB, Topology, Use
from moe2opt.placement.model.precisions import Precision
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import PlacementConfig
from moe2opt.present import Measure
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.source import Source

if TYPE_CHECKING:
    from moe2opt.placement.baselines.rules import Baseline
    from moe2opt.placement.compile import Compiled
    from moe2opt.placement.machine.rates import Rates
    from moe2opt.placement.plan import PlacementPlan


@dataclass(frozen=True, eq=False, repr=False)
class PlacementInstance(Content):
    """Which tier, precision and form each expert of one model gets.

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
    source
        The file that it was loaded from, set by `moe2opt.load`; a variant of it has none.
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
    source: Source | None = field(default=None, init=False)

    def __getstate__(self) -> dict[str, Any]:
        # What was compiled reads solutions with functions that do not travel; it comes again.
        return {name: value for name, value in self.__dict__.items() if name != "compiled"}

    @property
    def name(self) -> str:
        """Short name."""
        return self.config.name

    @cached_property
    def expert_bytes(self) -> FloatArray:
        """``(Q,)`` bytes of one expert by precision."""
        bits = [precision.bits_per_weight for precision in self.precisions]
        return np.array([self.shape.expert_bytes(b) for b in bits])

    @cached_property
    def use(self) -> Use:
        """What one use of an expert costs, by tier and precision."""
        return self.topology.use(self.expert_bytes.tolist(), self.shape.hidden)

    @property
    def piped(self) -> bool:
        """Whether the plan is a pipeline, whose stages hold their own dense parts."""
        return self.config.pattern is not None and self.config.pattern.kind == "pipeline"

    @cached_property
    def dense_bytes(self) -> float:
        """Bytes of the dense part, the context, and what running was measured to take besides."""
        context = self.shape.context_bytes(self.config.model.context_tokens)
        working = 0.0 if self.rates is None else self.rates.working_bytes
        return self.shape.dense_bytes + context + working

    @property
    def home_bytes(self) -> float:
        """What the dense part and the context take on the home tier."""
        return 0.0 if self.piped else self.dense_bytes

    @property
    def layer_dense_bytes(self) -> float:
        """Dense bytes that go with each layer of a pipeline: equal shares, an approximation."""
        return self.dense_bytes / self.shape.size[0] if self.piped else 0.0

    @cached_property
    def dense_s(self) -> float:
        """Seconds per token of the dense part: measured, or its bytes are read once per step."""
        if self.rates is not None and self.rates.dense_s is not None and not self.piped:
            return self.rates.dense_s / self.config.batch
        rate = self.topology.tiers[self.topology.home].compute_bytes_per_s
        assert rate is not None
        return self.home_bytes / rate / self.config.batch

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
        """``(L, E, E)`` distances between the experts of a layer."""
        from moe2opt.placement.modes.groupings import distances_of

        return distances_of(self)

    @cached_property
    def load_table(self) -> FloatArray:
        """``(L, E + 1)`` expected copies per token by number of cache slots."""
        from moe2opt.placement.modes.cache import load_table

        return load_table(self)

    @cached_property
    def cache_costs(self) -> FloatArray:
        """``(2, Q)`` seconds to copy an expert from the backing tier, and to compute it at home."""
        cache = self.config.cache
        assert cache is not None
        backing = self.topology.index(cache.backing, "cache.backing")
        sizes = self.expert_bytes.tolist()
        home = self.topology.home
        ways = [self.topology.use_in(backing, home, size, self.shape.hidden) for size in sizes]
        return np.array([[way[0] for way in ways], [way[1] for way in ways]])

    @cached_property
    def cache_joules(self) -> FloatArray:
        """``(2, Q)`` joules to copy an expert from the backing tier, and to compute it at home."""
        cache = self.config.cache
        assert cache is not None
        backing = self.topology.index(cache.backing, "cache.backing")
        missed, found = self._joules_of([(backing, self.topology.home), (self.topology.home,) * 2])
        return np.stack([missed - found, found])

    @cached_property
    def split_joules(self) -> FloatArray:
        """``(3, Q)`` joules of a use: resident, computed in the slow tier, copied to the fast."""
        fast, slow = self.split_tiers
        return self._joules_of([(fast, fast), (slow, slow), (slow, fast)])

    def _joules_of(self, ways: list[tuple[int, int]]) -> FloatArray:
        """Return ``(W, Q)`` joules of uses from a tier, computed at a place."""
        table = [
            [self.topology.use_in(*way, size, self.shape.hidden)[3] for size in self.expert_bytes]
            for way in ways
        ]
        return np.array(table)

    @cached_property
    def split_tiers(self) -> tuple[int, int]:
        """Positions of the fast and the slow tier of a split."""
        split = self.config.split
        assert split is not None
        index = self.topology.index
        return index(split.fast, "split.fast"), index(split.slow, "split.slow")

    @cached_property
    def split_costs(self) -> FloatArray:
        """``(3, Q)`` seconds of a use: resident, computed in the slow tier, copied to the fast."""
        fast, slow = self.split_tiers
        ways = [(fast, fast), (slow, slow), (slow, fast)]
        table = [
            [
                sum(self.topology.use_in(*way, size, self.shape.hidden)[:3])
                for size in self.expert_bytes
            ]
            for way in ways
        ]
        return np.array(table)

    @cached_property
    def compiled(self) -> Compiled:
        """The canonical problem, the names of its rows, and how to read its solutions."""
        from moe2opt.placement.compile import compile_instance

        return compile_instance(self)

    @cached_property
    def baselines(self) -> tuple[Baseline, ...]:
        """What simple rules achieve."""
        from moe2opt.placement.baselines.rules import all_baselines

        return all_baselines(self)

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of any plan must know."""
        made_up = [f"SYNTHETIC or assumed: {text}" for text in self.config.synthetic]
        return (*made_up, self.activation.note, *self.notes)

    def problem(self) -> MultipleChoiceProblem:
        """Return the multiple-choice problem; the same object at every call."""
        return self.compiled.problem

    def decode(self, x: IntArray) -> PlacementPlan:
        """Return the plan that the option indices `x` stand for."""
        from moe2opt.placement.plan import plan_of

        return plan_of(self, self.compiled.read(self.problem().vector(x)))

    def tightened(self, x: IntArray) -> IntArray:
        """Return a robust solution with the least worst case that its plan allows; else `x`."""
        if not self.activation.robust:
            return x
        at = np.flatnonzero(self.problem().values[-1] == self.evaluate(self.decode(x)))
        least = np.append(x[:-1], at[:1]) if len(at) else x
        return least if self.problem().is_feasible(least) else x

    def figures(self, plan: PlacementPlan) -> Figures:
        """Return what a plan costs, computed from the instance's own data."""
        return evaluate(self, plan.assignment)

    def evaluate(self, plan: PlacementPlan) -> float:
        """Return minus the objective's figure: problems are maximised, costs are not wanted."""
        figure = self.figures(plan).value(self.config.objective)
        return -self.compiled.rounded(figure)

    def check(self, plan: PlacementPlan) -> list[str]:
        """Return the violated requirements in words; empty for a valid plan."""
        from moe2opt.placement.checks import violations

        return violations(self, plan.assignment)

    @property
    def measure(self) -> Measure:
        """Sense and unit of the objective: a cost, in the unit of its figure."""
        return _MEASURES[self.config.objective]

    def row_names(self) -> list[str]:
        """Return the name (with unit) of each budget row."""
        return list(self.compiled.row_names)

    def cover_names(self) -> list[str]:
        """Return no names: a placement has no covers."""
        return []

    def describe(self) -> str:
        """Return one line about the size of the instance."""
        layers, experts = self.shape.size
        kind = "synthetic use: " if self.activation.synthetic else ""
        return (
            f"{kind}{self.shape.name}, {layers} layers x {experts} experts, "
            f"top-{self.shape.top_k}, "
            f"{len(self.topology.tiers)} tiers, {len(self.precisions)} precisions, "
            f"minimise {self.config.objective}"
        )


_MEASURES = {
    name: Measure("minimize", unit, quantity)
    for name, unit, quantity in (
        ("seconds_per_token", "s per token", "time"),
        ("joules_per_token", "J per token", "energy"),
        ("loss_nats", "nats", "quality loss"),
        ("memory_gib", "GiB", "memory"),
        ("loads_per_token", "loads per token", "loads"),
        ("uncovered_per_token", "layers per token", "uncovered layers"),
    )
}


def build(
    config: PlacementConfig, folder: Path, *, allow_outside: bool = False
) -> PlacementInstance:
    """Read what `config` names and return the instance.

    Parameters
    ----------
    config
        Validated configuration.
    folder
        Folder of the YAML file; paths are relative to it.
    allow_outside
        Whether paths may leave that folder.

    Raises
    ------
    InputError
        For unreadable sources, unknown names, or capacities that cannot hold what they must.
    """
    from moe2opt.placement.reading import Reader

    reader = Reader(config, folder, allow_outside)
    shape = reader.shape()
    reserved = shape.dense_bytes + shape.context_bytes(config.model.context_tokens)
    precisions = reader.precisions(shape)
    rates = reader.rates(shape, precisions)
    reserved += 0.0 if rates is None else rates.working_bytes
    if config.pattern is not None and config.pattern.kind == "pipeline":
        reserved = 0.0
    from moe2opt.placement.machine.topology import build_topology

    instance = PlacementInstance(
        config=config,
        shape=shape,
        precisions=precisions,
        topology=build_topology(config.tiers, config.links, config.home, reserved, rates),
        activation=reader.activation(shape),
        folder=folder,
        notes=tuple(reader.notes(shape, rates)),
        rates=rates,
        tables=reader.tables(shape),
    )
    _check_sizes(instance)
    from moe2opt.placement.checks import check_parts

    check_parts(instance)
    return instance


def _check_sizes(instance: PlacementInstance) -> None:
    """Raise when an expert fits no tier at any precision."""
    least = float(instance.expert_bytes.min())
    most = max(tier.free_bytes for tier in instance.topology.tiers)
    if least > most:
        raise InputError(
            f"tiers: an expert of {least / GIB:.3f} GiB fits no tier; the largest has "
            f"{most / GIB:.3f} GiB free"
        )
