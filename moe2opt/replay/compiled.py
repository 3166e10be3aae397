"""A placement instance compiled for replays: fixed options, coefficients that follow conditions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import networkx as nx
import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.placement.experts.activation import uses_per_token
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.modes.units import menu_of
from moe2opt.placement.question import PlacementInstance
from moe2opt.replay.paths import PathTable, Table
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.source import name_of

#: Parts of a placement that a replay does not follow.
_PARTS = (
    "aggregation", "cache", "coverage", "prefetch", "split", "lots", "pattern", "prune",
)  # fmt: skip


class Places(NamedTuple):
    """What serves each unit.

    Attributes
    ----------
    tier, precision
        ``(U,)`` where its weights are, and their format.
    form
        ``(U,)`` which weights: a column of `ReplayModel.weights`.
    """

    tier: IntArray
    precision: IntArray
    form: IntArray


#: Budgets whose rows do not change while a trace runs.
_STEADY = ("loss_nats", "memory_gib")


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """The state of the world in one step, or an estimate of it.

    Attributes
    ----------
    rates
        ``(L,)`` bytes per second of the links.
    memory_share
        ``(T,)`` share of each tier's capacity that exists.
    load
        ``(T,)`` share of each tier's compute that others take.
    mix
        ``(D,)`` weights of the input domains, summing to 1.
    server
        Server in reach, empty where there is none; None when servers play no part.
    """

    rates: FloatArray
    memory_share: FloatArray
    load: FloatArray
    mix: FloatArray
    server: str | None = None


class ReplayModel:
    """Options, sizes and uses of an instance, and its coefficients under any conditions.

    Parameters
    ----------
    instance
        Placement of experts or layers without further parts, objective ``seconds_per_token``.
    timeout_s
        A use that would take longer than this is served from a store after waiting this long, once
        per token; ``inf`` to wait for ever.

    Raises
    ------
    InputError
        For an instance that a replay cannot follow.

    Attributes
    ----------
    follows
        Parts of a placement that are followed.
    many
        Whether there are so many options that plans are left as a descent and a rounding find them.
    weights
        ``(U, F)`` which weights serve a unit in each of its forms, -1 where none do. Here each has
        its own.
    """

    follows: ClassVar[frozenset[str]] = frozenset()
    many: bool = True

    def __init__(self, instance: PlacementInstance, timeout_s: float = 1.0) -> None:
        check_instance(instance, self.follows)
        if not timeout_s >= 0:
            raise InputError(f"timeout of {timeout_s} s: it must not be negative")
        self.instance, self.timeout_s = instance, timeout_s
        self.topology = instance.topology
        self.per_layer = instance.config.granularity == "layer"
        self.count = instance.shape.experts if self.per_layer else 1
        self.saliency = self._sum(instance.activation.saliency)
        self.domain_uses = np.stack([self._units(share) for share in instance.activation.shares])
        self.weights = self._weights()
        self.stores = _stores(instance, int(self.weights.max()) + 1)
        self.paths = PathTable(
            self.topology, instance.expert_bytes, instance.shape.hidden, self.stores
        )
        self.bytes = instance.expert_bytes * self.count
        self.loss = self.saliency[:, None] * np.array([p.loss_nats for p in instance.precisions])
        nominal = self.paths.table().seconds[self.stores, 0]
        self.library = int(self.stores[np.argmin(nominal)])
        self.rows = instance.row_names()
        self.problem: MultipleChoiceProblem = self._problem()

    def _weights(self) -> IntArray:
        """Return `weights`."""
        return np.arange(len(self.saliency))[:, None]

    def _problem(self) -> MultipleChoiceProblem:
        """Return the problem whose coefficients follow the conditions."""
        self.menu = menu_of(self.instance, prunable=False)
        self._lookup = np.full((len(self.topology.tiers), len(self.bytes)), -1)
        self._lookup[self.menu.tier, self.menu.precision] = np.arange(len(self.menu.tier))
        return self.instance.problem()

    @property
    def units(self) -> int:
        """Number of units: experts, or layers."""
        return len(self.saliency)

    @cached_property
    def stock_uses(self) -> FloatArray:
        """``(W,)`` uses per token of each of the weights in the first domain, as they are alone."""
        inside = self.weights >= 0
        uses = np.broadcast_to(self.domain_uses[0][:, None], self.weights.shape)
        return np.asarray(np.bincount(self.weights[inside], uses[inside]), dtype=np.float64)

    def _sum(self, table: FloatArray) -> FloatArray:
        return np.asarray(table.sum(axis=1) if self.per_layer else table.ravel())

    def _units(self, share: FloatArray) -> FloatArray:
        return self._sum(uses_per_token(share, self.instance.config.batch))

    # ------------------------------------------------------------------ conditions

    @cached_property
    def nominal(self) -> Conditions:
        """The conditions that the configuration states."""
        tiers = len(self.topology.tiers)
        return Conditions(
            self.paths.rates,
            np.ones(tiers),
            np.zeros(tiers),
            np.asarray(self.instance.activation.weights),
        )

    def weights_of(self, form: IntArray) -> IntArray:
        """Return the ``(U,)`` weights that serve units in a form each."""
        return np.asarray(self.weights[np.arange(self.units), form])

    def loss_of(self, precision: IntArray, form: IntArray) -> FloatArray:
        """Return the ``(U,)`` losses of units at a precision and in a form each."""
        return np.asarray(self.loss[np.arange(self.units), precision])

    def uses(self, conditions: Conditions, form: IntArray | None = None) -> FloatArray:
        """Return the ``(U,)`` uses per token of each unit; only groups depend on the form."""
        if self.instance.config.batch == 1 or len(self.domain_uses) == 1:
            return np.asarray(conditions.mix @ self.domain_uses)
        share = np.tensordot(conditions.mix, self.instance.activation.shares, axes=1)
        return self._units(share)

    def table(self, conditions: Conditions, wait_s: float = 0.0) -> Table:
        """Return the costs of a use; those that time out are served from a store.

        Parameters
        ----------
        conditions
            What holds, or what is expected.
        wait_s
            Seconds of waiting to charge for each use that times out. Tokens wait once, however many
            of their uses are late: see `latency_s`.
        """
        table = self.paths.table(conditions.rates, conditions.load)
        if math.isinf(self.timeout_s):
            return table
        late = self._late(table)
        q = np.arange(table.seconds.shape[1])
        store = self.stores[np.argmin(table.seconds[self.stores], axis=0)]
        return Table(
            np.where(late, wait_s + table.seconds[store, q], table.seconds),
            np.where(late, table.joules[store, q], table.joules),
            np.where(late, table.copied[store, q], table.copied),
            table.move_s,
            table.move_j,
            table.move_links,
            late,
        )

    def _late(self, table: Table) -> BoolArray:
        """Return ``(T, Q)`` flags of uses, stores left out, that take longer than the timeout."""
        late = table.seconds > self.timeout_s
        late[self.stores] = False
        return np.asarray(late)

    def limits(self, conditions: Conditions) -> FloatArray:
        """Return the ``(K,)`` budgets of the problem."""
        budgets = np.array(self.problem.budgets)
        for t, tier in enumerate(self.topology.tiers):
            name = f"memory_gib[{tier.name}]"
            if conditions.memory_share[t] < 1 and name in self.rows:
                lost = (1 - conditions.memory_share[t]) * tier.capacity_bytes
                budgets[self.rows.index(name)] = (tier.free_bytes - lost + self.own(t)) / GIB
        return budgets

    def own(self, tier: int) -> float:
        """Return the bytes on a tier whatever is planned: dense part, context, token table."""
        return float(self.instance.fixed_bytes[tier])

    def free_bytes(self, conditions: Conditions) -> FloatArray:
        """Return the ``(T,)`` bytes for experts on each tier, negative where nothing fits."""
        free = np.array([tier.free_bytes for tier in self.topology.tiers])
        for t in np.flatnonzero(conditions.memory_share < 1):
            lost = (1 - conditions.memory_share[t]) * self.topology.tiers[t].capacity_bytes
            free[t] -= lost
        return free

    def dense_s(self, conditions: Conditions) -> float:
        """Return the seconds per token of the dense part."""
        return self.instance.dense_s / max(1 - float(conditions.load[self.topology.home]), 1e-9)

    # ------------------------------------------------------------------ coefficients

    def values(
        self,
        conditions: Conditions,
        table: Table | None = None,
        extra_s: FloatArray | None = None,
        present: Places | None = None,
    ) -> FloatArray:
        """Return the ``(M,)`` values of all options: minus seconds per token.

        Parameters
        ----------
        conditions
            What holds, or what is expected.
        table
            Costs of a use; those of the conditions when left out.
        extra_s
            ``(G, O)`` further seconds per token of each option, such as for switching.
        present
            What is planned so far, where that is an option of its own.
        """
        table = self.table(conditions) if table is None else table
        cost = self._seconds(conditions, table, present)
        if extra_s is not None:
            cost = cost + extra_s
        cost[0] += self.dense_s(conditions)
        return np.asarray(-cost.ravel())

    def _seconds(self, conditions: Conditions, table: Table, present: Places | None) -> FloatArray:
        """Return ``(G, O)`` seconds per token of each option of each group."""
        each = table.seconds[self.menu.tier, self.menu.precision]
        return np.outer(self.uses(conditions), each)

    def usage(self, present: Places | None) -> FloatArray | None:
        """Return the ``(K, M)`` use of budgets where `present` changes it; None: it never does."""
        return None

    def options_of(
        self, tier: IntArray, precision: IntArray, form: IntArray | None = None
    ) -> IntArray:
        """Return the option of each group for what serves each unit."""
        return np.asarray(self._lookup[tier, precision])

    def places(
        self, x: IntArray, conditions: Conditions, table: Table, present: Places | None = None
    ) -> Places:
        """Return what the options `x` of all groups stand for."""
        return Places(self.menu.tier[x], self.menu.precision[x], np.zeros(len(x), dtype=np.int64))

    def switching(
        self,
        held: IntArray,
        target: Places,
        price: FloatArray,
        conditions: Conditions,
        table: Table,
    ) -> FloatArray:
        """Return ``(G, O)`` prices of the copies that each option of each group still needs.

        Parameters
        ----------
        held
            ``(T, W)`` precision of each copy, -1 where there is none.
        target
            What is planned so far.
        price
            ``(T, Q)`` price of a copy.
        conditions, table
            What is expected.
        """
        tier, precision = self.menu.tier, self.menu.precision
        there = (precision[None, :] == held[tier].T) | np.isin(tier, self.stores)
        return np.where(there, 0.0, price[tier, precision])

    def latency_s(
        self,
        conditions: Conditions,
        table: Table,
        tier: IntArray,
        precision: IntArray,
        form: IntArray | None = None,
    ) -> float:
        """Return the seconds per token of an assignment under the given costs.

        A token with late uses waits for one timeout; then the rest goes to a store at once.
        """
        uses = self.uses(conditions, form)
        waiting = 0.0
        if table.late is not None:
            waiting = self.timeout_s * min(1.0, float(uses @ table.late[tier, precision]))
        return float(uses @ table.seconds[tier, precision]) + waiting + self.dense_s(conditions)

    def link(self, name: str | None, driven: bool = True) -> int:
        """Return the link that a trace's ``mbit_per_s`` drives.

        Without a name (``a-b``, two tiers) the slowest link between two devices; where no such link
        is and none is driven, the slowest of all.
        """
        links = self.topology.links
        if name is not None:
            for k, link in enumerate(links):
                if name in (f"{link.a}-{link.b}", f"{link.b}-{link.a}"):
                    return k
            names = ", ".join(f"{link.a}-{link.b}" for link in links)
            raise InputError(f"link '{name}': there is none; links: {names}")
        device = {tier.name: tier.device for tier in self.topology.tiers}
        between = [k for k, link in enumerate(links) if device[link.a] != device[link.b]]
        if not between and not driven:
            between = [*range(len(links))]
        if not between:
            raise InputError("links: no link joins two devices; name one with --link a-b")
        return min(between, key=lambda k: links[k].bytes_per_s)

    def beyond(self, link: int) -> list[int]:
        """Return the tiers other than stores that the home tier reaches only over a link."""
        graph: Any = self.topology.graph.copy()
        graph.remove_edge(self.topology.links[link].a, self.topology.links[link].b)
        home = self.topology.names[self.topology.home]
        near = nx.node_connected_component(graph, home)
        return [t for t, name in enumerate(self.topology.names)
                if name not in near and t not in self.stores]  # fmt: skip


def check_instance(instance: Any, follows: frozenset[str] = frozenset()) -> None:
    """Raise `InputError` unless a replay that follows some parts can follow this instance."""
    config = getattr(instance, "config", None)
    if config is None or getattr(config, "problem", "") != "placement":
        raise InputError(f"replay: '{name_of(instance)}' must be a placement")
    for part in _PARTS:
        if getattr(config, part) is not None and part not in follows:
            raise InputError(f"replay: does not follow the part {part} of a placement")
    if config.granularity == "tensor":
        raise InputError("replay: granularity tensor is not followed; take expert or layer")
    if config.objective != "seconds_per_token":
        raise InputError("replay: the objective must be seconds_per_token")
    if instance.activation.robust:
        raise InputError("replay: plans for the worst domain (activation.robust) are not followed")
    for name, limit in config.budgets:
        if limit is not None and name not in _STEADY:
            raise InputError(f"replay: a budget on {name} is not followed")


def _stores(instance: PlacementInstance, stock: int) -> IntArray:
    """Return the disks that hold all weights (every expert, every group) at every precision."""
    layers, experts = instance.shape.size
    total = max(layers * experts, stock) * float(instance.expert_bytes.sum())
    found = [t for t, tier in enumerate(instance.topology.tiers)
             if tier.kind == "disk" and tier.free_bytes >= total]  # fmt: skip
    if not found:
        raise InputError(
            f"replay: needs a disk tier with {total / GIB:.1f} GiB for all experts at every "
            "precision, from which they are copied"
        )
    return np.array(found)
