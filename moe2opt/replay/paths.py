"""Seconds and joules of one use of an expert for any state of links and tiers, in array form.

The same figures as `moe2opt.placement.machine.topology.Topology.use` gives, without a search for
paths: all simple paths between two tiers are listed once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import networkx as nx
import numpy as np

from moe2opt.placement.machine.topology import Topology
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray

#: Bytes of one activation value.
_ACTIVATION_BYTES = 2

#: A link at or below this rate is down, in bytes per second; its transfers never end.
DEAD_BYTES_PER_S = 1.0

#: Most simple paths between all tiers.
_MOST_PATHS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What one use costs from each tier at each precision, and what moving there costs.

    Attributes
    ----------
    seconds, joules
        ``(T, Q)`` one use; joules are NaN where a power or a link's energy is unknown.
    copied
        ``(T, Q)`` whether the weights are copied at every use.
    move_s
        ``(T, Q)`` seconds to copy an expert there from the store where that is quickest; 0 for
        stores.
    move_j
        ``(T, Q)`` joules of that copy.
    move_links
        ``(T, Q, L)`` flags of the links that the copy takes.
    late
        ``(T, Q)`` flags of uses that time out, None where nothing does.
    """

    seconds: FloatArray
    joules: FloatArray
    copied: FloatArray
    move_s: FloatArray
    move_j: FloatArray
    move_links: FloatArray
    late: BoolArray | None = None


class PathTable:
    """All simple paths of a topology, and what is reached over them.

    Parameters
    ----------
    topology
        Tiers and links.
    sizes
        ``(Q,)`` bytes of an expert by precision.
    hidden
        Width of an activation.
    stores
        Tiers that hold every expert at every precision.
    """

    def __init__(
        self, topology: Topology, sizes: FloatArray, hidden: int, stores: IntArray
    ) -> None:
        self.topology, self.sizes, self.stores = topology, sizes, stores
        self.activation_bytes = float(hidden * _ACTIVATION_BYTES)
        links, tiers = topology.links, topology.tiers
        self.rates = np.array([link.bytes_per_s for link in links])
        self.latency = np.array([link.latency_s for link in links])
        self.link_j = np.array([_known(link.joules_per_byte) for link in links])
        self.compute = np.array([_known(tier.compute_bytes_per_s) for tier in tiers])
        self.overhead = np.array([tier.overhead_s for tier in tiers])
        self.power = np.array([_known(tier.power_w) for tier in tiers])
        self.able = np.flatnonzero(np.isfinite(self.compute))
        self._list_paths()

    def _list_paths(self) -> None:
        """List the paths between every two tiers, pair after pair."""
        names, graph = self.topology.names, self.topology.graph
        numbers = {frozenset((link.a, link.b)): k for k, link in enumerate(self.topology.links)}
        rows: list[FloatArray] = []
        starts = []
        for a, b in itertools.product(range(len(names)), repeat=2):
            starts.append(len(rows))
            ways = [[names[a]]] if a == b else nx.all_simple_paths(graph, names[a], names[b])
            for way in ways:
                row = np.zeros(len(self.topology.links))
                row[[numbers[frozenset(pair)] for pair in itertools.pairwise(way)]] = 1.0
                rows.append(row)
                if len(rows) > _MOST_PATHS:
                    raise InputError(f"links: more than {_MOST_PATHS} paths between tiers")
        self.paths = np.array(rows).reshape(len(rows), len(self.topology.links))
        self.starts = np.array(starts)

    def table(self, rates: FloatArray | None = None, load: FloatArray | None = None) -> Table:
        """Return the table for ``(L,)`` bytes per second and ``(T,)`` shares of compute taken."""
        rates = np.maximum(self.rates if rates is None else rates, DEAD_BYTES_PER_S)
        compute = self.compute if load is None else self.compute * np.maximum(1 - load, 1e-9)
        tiers, home = len(self.compute), self.topology.home
        sizes = np.append(self.sizes, self.activation_bytes)
        seconds = (self.paths @ (1.0 / rates))[:, None] * sizes + (self.paths @ self.latency)[
            :, None
        ]
        best = self._best(seconds)
        transfer = seconds[best, np.arange(len(sizes))].reshape(tiers, tiers, -1)
        way = best.reshape(tiers, tiers, -1)
        hand_over = 2 * transfer[home, self.able, -1]
        at = self.able
        work = self.sizes / compute[at, None] + self.overhead[at, None]
        # (T, C, Q): move to the place, compute there, hand activations over and back.
        total = transfer[:, at, :-1] + (work + hand_over[:, None])[None]
        place = self._place(total)
        tier, q = np.indices(place.shape)
        joule = self._link_joules(way, sizes)
        joules = joule[tier, at[place], q] + 2 * joule[home, at[place], -1]
        joules = joules + self.power[at[place]] * work[place, q]
        stores = self.stores
        nearest = stores[np.argmin(transfer[stores][:, :, :-1], axis=0)]
        return Table(
            seconds=total[tier, place, q],
            joules=joules,
            copied=(transfer[tier, at[place], q] > 0).astype(np.float64),
            move_s=transfer[nearest, tier, q],
            move_j=joule[nearest, tier, q],
            move_links=self.paths[way[nearest, tier, q]],
        )

    def _best(self, seconds: FloatArray) -> IntArray:
        """Return the ``(T*T, S)`` path that is quickest for every pair and size."""
        least = np.minimum.reduceat(seconds, self.starts, axis=0)
        counts = np.diff(np.append(self.starts, len(seconds)))
        hit = seconds == np.repeat(least, counts, axis=0)
        number = np.where(hit, np.arange(len(seconds))[:, None], len(seconds))
        return np.asarray(np.minimum.reduceat(number, self.starts, axis=0))

    def _place(self, total: FloatArray) -> IntArray:
        """Return the ``(T, Q)`` place of computing; of equally quick ones the tier itself."""
        own = self.able[None, :] == np.arange(len(total))[:, None]
        least = total.min(axis=1, keepdims=True)
        preferred = (total == least) * (1.0 + own[:, :, None])
        return np.asarray(np.argmax(preferred, axis=1))

    def _link_joules(self, way: IntArray, sizes: FloatArray) -> FloatArray:
        """Return joules of moving every size along its path, NaN where a link's are unknown."""
        known = np.nan_to_num(self.link_j)
        unknown = self.paths @ np.isnan(self.link_j).astype(np.float64) > 0
        per_byte = np.where(unknown, np.nan, self.paths @ known)
        return np.asarray(per_byte[way] * sizes)


def _known(value: float | None) -> float:
    return np.nan if value is None else value
