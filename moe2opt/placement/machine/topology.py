"""Tiers and links as a graph: what one use of an expert costs from each tier."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np

from moe2opt.placement.machine.rates import Rates
from moe2opt.result import FloatArray, InputError, IntArray

GIB = 2.0**30
_GB = 1e9
_US = 1e-6

#: Bytes of one activation value; activations travel in 16 bits.
_ACTIVATION_BYTES = 2


@dataclass(frozen=True, slots=True)
class Tier:
    """A memory that can hold experts.

    Attributes
    ----------
    name, kind, device
        Name; ``gpu``, ``cpu``, ``disk`` or ``remote``; machine.
    capacity_bytes
        Size, ``inf`` for no limit.
    margin_bytes, reserved_bytes
        Kept free; taken by other things (dense part and context included on the home tier).
    compute_bytes_per_s
        Rate of computing in place, None when nothing computes here.
    overhead_s
        Seconds per use besides reading the weights.
    power_w
        Power while computing, None when unknown.
    """

    name: str
    kind: str
    device: str
    capacity_bytes: float
    margin_bytes: float = 0.0
    reserved_bytes: float = 0.0
    compute_bytes_per_s: float | None = None
    overhead_s: float = 0.0
    power_w: float | None = None

    @property
    def free_bytes(self) -> float:
        """What is left for experts."""
        return self.capacity_bytes - self.margin_bytes - self.reserved_bytes


@dataclass(frozen=True, slots=True)
class Link:
    """A connection between two tiers, both ways."""

    a: str
    b: str
    bytes_per_s: float
    latency_s: float = 0.0
    joules_per_byte: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """Cost of one use of an expert of given sizes, by tier.

    Attributes
    ----------
    move_s, compute_s, hand_over_s
        ``(T, Q)`` seconds of copying weights, of computing, and of sending activations.
    joules
        ``(T, Q)`` joules, NaN where a power or a link's energy is unknown.
    place
        ``(T, Q)`` index of the tier that computes.
    """

    move_s: FloatArray
    compute_s: FloatArray
    hand_over_s: FloatArray
    joules: FloatArray
    place: IntArray

    @property
    def seconds(self) -> FloatArray:
        """``(T, Q)`` seconds of one use."""
        return self.move_s + self.compute_s + self.hand_over_s

    def taken(self, at: IntArray, count: int) -> Use:
        """Return costs of which each is one of `count`.

        Parameters
        ----------
        at
            Which of `count` groups of Q sizes each entry has, whose figures stand one after the
            other; the arrays become ``(*at.shape, T, Q)``.
        """

        def spread(table: Any) -> Any:
            grouped = table.reshape(len(table), count, -1).transpose(1, 0, 2)
            return grouped[at]

        names = ("move_s", "compute_s", "hand_over_s", "joules", "place")
        return Use(*(spread(getattr(self, name)) for name in names))


@dataclass(frozen=True, eq=False)
class Topology:
    """Tiers, links and the home tier.

    Attributes
    ----------
    tiers, links
        Fastest tier first.
    home
        Index of the tier of the dense part.
    measured
        Seconds to copy and to compute an expert, by tier, place and bytes, where they are known.
    """

    tiers: tuple[Tier, ...]
    links: tuple[Link, ...]
    home: int
    measured: Mapping[tuple[str, str, int], tuple[float, float]] = field(default_factory=dict)
    graph: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [tier.name for tier in self.tiers]
        graph = nx.Graph()
        graph.add_nodes_from(names)
        for k, link in enumerate(self.links):
            for end in (link.a, link.b):
                if end not in names:
                    raise InputError(f"links.{k}.between: unknown tier '{end}' ({_list(names)})")
            if link.a == link.b:
                raise InputError(f"links.{k}.between: '{link.a}' is linked to itself")
            graph.add_edge(link.a, link.b, link=link)
        object.__setattr__(self, "graph", graph)
        home = names[self.home]
        away = sorted(set(names) - nx.node_connected_component(graph, home), key=names.index)
        if away:
            raise InputError(
                f"links: tier '{away[0]}' is not connected with the home tier '{home}'; add a link"
            )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the tiers."""
        return tuple(tier.name for tier in self.tiers)

    def index(self, name: str, key: str) -> int:
        """Return the position of a tier; `key` is named in the error."""
        if name not in self.names:
            raise InputError(f"{key}: unknown tier '{name}' ({_list(self.names)})")
        return self.names.index(name)

    def path(self, a: int, b: int, size: float) -> tuple[Link, ...]:
        """Return the links of the fastest way for `size` bytes; empty when `a` is `b`."""

        def seconds(_a: str, _b: str, data: dict[str, Link]) -> float:
            return _transfer_s(data["link"], size)

        nodes = nx.shortest_path(self.graph, self.names[a], self.names[b], weight=seconds)
        return tuple(self.graph.edges[u, v]["link"] for u, v in itertools.pairwise(nodes))

    def transfer_s(self, a: int, b: int, size: float) -> float:
        """Return the seconds to copy `size` bytes; hops are stored and forwarded."""
        return sum(_transfer_s(link, size) for link in self.path(a, b, size))

    def use_in(self, tier: int, place: int, size: float, hidden: int) -> tuple[float, ...]:
        """Return seconds to move, compute and hand over, and joules, computing at `place`."""
        at = self.tiers[place]
        rate = at.compute_bytes_per_s
        if rate is None:
            raise InputError(f"tiers: nothing computes on tier '{at.name}'")
        weights = self.path(tier, place, size)
        activation = hidden * _ACTIVATION_BYTES
        hops = self.path(self.home, place, activation)
        move = sum(_transfer_s(link, size) for link in weights)
        compute = size / rate + at.overhead_s
        known = self.measured.get((self.names[tier], at.name, round(size)))
        if known is not None:
            move, compute = known
        hand_over = 2 * sum(_transfer_s(link, activation) for link in hops)
        joules = _joules(weights, size) + 2 * _joules(hops, activation)
        joules += np.nan if at.power_w is None else at.power_w * compute
        return move, compute, hand_over, float(joules)

    def use(self, sizes: Sequence[float], hidden: int) -> Use:
        """Return what one use costs from each tier, computed where it is fastest.

        Parameters
        ----------
        sizes
            ``(Q,)`` bytes of an expert (or part) by precision.
        hidden
            Width of an activation.
        """
        shape = (len(self.tiers), len(sizes))
        figures = np.zeros((4, *shape))
        place = np.zeros(shape, dtype=np.int64)
        able = [c for c, tier in enumerate(self.tiers) if tier.compute_bytes_per_s is not None]
        for t in range(shape[0]):
            for q, size in enumerate(sizes):
                ways = {c: self.use_in(t, c, size, hidden) for c in able}
                best = min(able, key=lambda c, ways=ways: (sum(ways[c][:3]), c != t, c))  # type: ignore[misc]
                figures[:, t, q], place[t, q] = ways[best], best
        move, compute, hand_over, joules = figures
        return Use(move, compute, hand_over, joules, place)


def _transfer_s(link: Link, size: float) -> float:
    return size / link.bytes_per_s + link.latency_s


def _joules(links: tuple[Link, ...], size: float) -> float:
    unknown = float("nan")
    return sum(
        size * (unknown if link.joules_per_byte is None else link.joules_per_byte) for link in links
    )


def _list(names: Sequence[str]) -> str:
    return f"tiers: {', '.join(names)}"


def build_topology(
    tiers: Sequence[Any],
    links: Sequence[Any],
    home: str | None,
    reserved_bytes: float,
    rates: Rates | None = None,
    ram_bytes: float = 0.0,
) -> Topology:
    """Return the topology of the YAML sections.

    `reserved_bytes` are taken on the home tier, `ram_bytes` in RAM or, without any, there too.

    Measured rates, where there are any, stand for those that the sections leave out, and measured
    seconds of experts for all that follows from rates.

    Raises
    ------
    InputError
        For an unknown tier, a disconnected graph, a graph where nothing computes, or a capacity
        below what is reserved.
    """
    names = [tier.name for tier in tiers]
    if rates is not None:
        tiers = [_rated(tier, rates) for tier in tiers]
        links = [_linked(link, rates) for link in links]
    for k, link in enumerate(links):
        if link.gb_per_s is None:
            raise InputError(f"links.{k}.gb_per_s: is missing, and no `rates` tell it")
    computing = [tier.name for tier in tiers if tier.compute_gb_per_s is not None]
    if not computing:
        raise InputError("tiers: nothing computes on any tier; give one a compute_gb_per_s")
    if home is not None and home not in names:
        raise InputError(f"home: unknown tier '{home}' ({_list(names)})")
    at = names.index(home or computing[0])
    if tiers[at].compute_gb_per_s is None:
        raise InputError(f"home: nothing computes on tier '{names[at]}'")
    reserved = [0.0] * len(tiers)
    reserved[at] += reserved_bytes
    reserved[ram_of(tiers, at)] += ram_bytes
    made = tuple(_tier(*each) for each in zip(tiers, reserved, strict=True))
    for k, tier in enumerate(made):
        if tier.free_bytes < 0:
            raise InputError(
                f"tiers.{k}.capacity_gib: {tier.name} has {tier.capacity_bytes / GIB:.2f} GiB, but "
                f"{(tier.reserved_bytes + tier.margin_bytes) / GIB:.2f} GiB are reserved "
                f"(dense part, context, margin){_spread(made, at) if k == at else ''}"
            )
    cells = {} if rates is None else rates.cells
    return Topology(made, tuple(_link(link) for link in links), at, cells)


def _spread(tiers: Sequence[Tier], home: int) -> str:
    """Return what to do where further GPUs could hold a part of what the home tier cannot."""
    others = [t for k, t in enumerate(tiers) if t.kind == "gpu" and k != home]
    if tiers[home].kind != "gpu" or not others:
        return ""
    return (
        f"; they are all on this tier, '{others[0].name}' takes experts only: `moe2opt place` "
        "splits dense part and context over several GPUs"
    )


def ram_of(tiers: Sequence[Any], home: int) -> int:
    """Return the first tier of a processor beside the home tier, the home tier without any."""
    near = (k for k, t in enumerate(tiers) if (t.kind, t.device) == ("cpu", tiers[home].device))
    return next(near, home)


def _rated(tier: Any, rates: Rates) -> Any:
    """Return the section with the measured rate where none is typed."""
    rate = rates.compute_bytes_per_s.get(tier.name)
    if tier.compute_gb_per_s is not None or rate is None:
        return tier
    return tier.model_copy(update={"compute_gb_per_s": rate / _GB})


def _linked(link: Any, rates: Rates) -> Any:
    found = rates.links.get(frozenset(link.between))
    if link.gb_per_s is not None or found is None:
        return link
    return link.model_copy(update={"gb_per_s": found[0] / _GB, "latency_us": found[1] / _US})


def _tier(tier: Any, reserved_bytes: float) -> Tier:
    rate = tier.compute_gb_per_s
    return Tier(
        name=tier.name,
        kind=tier.kind,
        device=tier.device,
        capacity_bytes=float("inf") if tier.capacity_gib is None else tier.capacity_gib * GIB,
        margin_bytes=tier.margin_gib * GIB,
        reserved_bytes=tier.reserve_gib * GIB + reserved_bytes,
        compute_bytes_per_s=None if rate is None else rate * _GB,
        overhead_s=tier.overhead_us * _US,
        power_w=tier.power_w,
    )


def _link(link: Any) -> Link:
    joules = link.joules_per_gb
    return Link(
        link.between[0],
        link.between[1],
        link.gb_per_s * _GB,
        link.latency_us * _US,
        None if joules is None else joules / _GB,
    )
