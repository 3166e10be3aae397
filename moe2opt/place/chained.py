"""Layouts by dynamic programming: how many layers each device takes, and what it holds beside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from moe2opt.llamacpp import CPU, Layout, LlamaLayer
from moe2opt.place.case import Case, Variant
from moe2opt.place.contents import Contents, Prices, Runs, pieces_of, room_of
from moe2opt.place.options import kept_matrices
from moe2opt.place.variants import variants_of
from moe2opt.result import FloatArray, IntArray

#: Blocks up to which chains are looked for, whose time is their square.
_MOST_BLOCKS = 256

#: Chains in which devices hand parts of layers to each other.
_EXCHANGING = 2

#: Rests of others' layers that a device takes, and that are on their way at any cut.
_MOST_RESTS = 2


@dataclass(frozen=True, slots=True)
class Held:
    """What a device holds of experts.

    Attributes
    ----------
    home, away
        Layers of its own, and of others, all of whose experts it holds.
    kept, to_ram
        Matrices that stay of one more layer of its own, and whether the others are in RAM.
    rests
        How many rests of other devices' layers it holds, by matrices that stay there.
    """

    home: int
    away: int
    kept: int
    to_ram: bool
    rests: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Chain:
    """Minus the seconds beside those of all experts in RAM, cuts, and what devices hold."""

    value: float
    variant: Variant
    cuts: tuple[int, ...]
    held: tuple[Held, ...]


def chained(case: Case) -> Iterator[tuple[Layout, int]]:
    """Yield layouts and their micro-batches, those that should be fastest first.

    Of each set of devices the fastest chain of runs of layers, where a device holds as many of
    their experts as have room, a part of one more, and where some is left those of other devices'
    layers; in the best of them devices hand each other the rests of split layers, too. It takes
    time in the square of the layers. What is in RAM need not have room there, and where layers
    differ the largest experts stand for all, so that this is a start and no optimum.
    """
    if case.model.blocks > _MOST_BLOCKS:
        return
    chains = [
        _best(case, variant, 0)
        for variant in variants_of(case)
        if variant.devices and variant.copies == variant.offloads
    ]
    chains = sorted((c for c in chains if np.isfinite(c.value)), key=lambda c: -c.value)
    if case.classes:
        several = [c for c in chains if c.variant.offloads and len(c.variant.devices) > 1]
        chains += [_best(case, chain.variant, _MOST_RESTS) for chain in several[:_EXCHANGING]]
    for chain in sorted(chains, key=lambda c: -c.value):
        yield _layout(case, chain), chain.variant.ubatch


def _best(case: Case, variant: Variant, most: int) -> _Chain:
    """Return the best chain of a variant whose devices take so many rests of others."""
    runs = Runs.of(case, variant.ubatch)
    layers = [layer for own in case.classes for layer in own]
    largest = max(layers, key=lambda layer: layer.expert_bytes, default=None)
    own = [largest] if largest else []
    tables = [
        Contents(pieces_of(case, d, variant.ubatch, own), runs, room_of(case, variant, d), most)
        for d in variant.devices
    ]
    balances = _balances(tables[0].kinds, most)
    none = len(balances) // 2
    ahead = np.full((case.model.blocks + 1, len(balances)), -np.inf)
    ahead[:, none] = -case.home_seconds(None, variant.ubatch)
    if not variant.offloads:
        ahead[1:] = -np.inf
    steps = []
    for d, table in zip(variant.devices, tables, strict=True):
        ahead, came = _onwards(case, d, table, ahead, balances, whole=not variant.offloads)
        steps.append(came)
    end, now, cuts, held = case.model.blocks, none, list[int](), list[Held]()
    value = float(ahead[end, now]) - case.output_s(variant)
    for table, (starts, sources, contents) in zip(reversed(tables), reversed(steps), strict=True):
        start, content = int(starts[end, now]), int(contents[end, now])
        held.append(_held(table, content, int(runs.kind[start, end])))
        cuts.append(start)
        end, now = start, int(sources[end, now])
    return _Chain(value, variant, tuple(reversed(cuts)), tuple(reversed(held)))


def _balances(kinds: int, most: int) -> IntArray:
    """Return the ``(M, K - 1)`` rests handed over less those taken, nothing in the middle."""
    found = list(product(range(-most, most + 1), repeat=kinds))
    return np.array(found, dtype=np.int64).reshape(len(found), kinds)


def _onwards(
    case: Case, d: int, table: Contents, ahead: FloatArray, balances: IntArray, *, whole: bool
) -> tuple[FloatArray, tuple[IntArray, IntArray, IntArray]]:
    """Return what the devices up to the next cut save, by cut and balance, and where it comes from.

    Of contents that change the balance alike the best is enough for a run.
    """
    saved = table.saved(Prices(np.zeros(table.kinds)))
    if whole:
        saved = np.where(table.home == table.runs.sparse, saved, -np.inf)[:1]
    changes = (table.sent - table.rests)[: len(saved)]
    best = np.full(ahead.shape, -np.inf)
    starts, sources, contents = (np.zeros(ahead.shape, dtype=np.int64) for _ in range(3))
    kind, seconds = table.runs.kind, case.homes_s(d)
    for change in np.unique(changes, axis=0):
        alike = np.flatnonzero((changes == change).all(axis=1))
        top = alike[saved[alike].argmax(axis=0)]
        values = saved[top, np.arange(saved.shape[1])]
        worth = np.where(kind >= 0, values[kind], -np.inf) - seconds
        at, to = np.nonzero((balances[:, None] + change == balances[None, :]).all(axis=2))
        total = ahead[:, None, at] + worth[:, :, None]
        start = total.argmax(axis=0)
        found = np.take_along_axis(total, start[None], axis=0)[0]
        better = found > best[:, to]
        best[:, to] = np.where(better, found, best[:, to])
        ends = np.arange(len(kind))[:, None]
        starts[:, to] = np.where(better, start, starts[:, to])
        sources[:, to] = np.where(better, at, sources[:, to])
        contents[:, to] = np.where(better, top[kind[start, ends]], contents[:, to])
    return best, (starts, sources, contents)


def _held(table: Contents, content: int, run: int) -> Held:
    """Return what a content holds beside a run."""
    split, kinds = int(table.split[content]), table.kinds
    return Held(
        int(table.home[content, run]),
        int(table.away[content, run]),
        (split - 1) % kinds + 1 if split else 0,
        split <= kinds,
        tuple(table.rests[content].tolist()),
    )


def _layout(case: Case, chain: _Chain) -> Layout:
    """Return where runs of layers and what devices hold of their experts are."""
    devices = chain.variant.devices
    homes = np.full(case.model.blocks, CPU)
    for start, d in zip(chain.cuts, devices, strict=True):
        homes[start:] = d
    held = dict(zip(devices, chain.held, strict=True))
    takers = _takers(held)
    left, experts = list[LlamaLayer](), dict[int, dict[str, int]]()
    for layer in reversed(case.model.layers):
        home = int(homes[layer.index])
        own = held.get(home)
        if not layer.experts or (own and own.home):
            if layer.experts and own:
                held[home] = replace(own, home=own.home - 1)
        elif own and own.kept:
            held[home] = replace(own, kept=0)
            kept, to = kept_matrices(layer, own.kept), takers.get(home, CPU)
            experts[layer.index] = {m: to for m in layer.experts if m not in kept}
        else:
            experts[layer.index] = dict.fromkeys(layer.experts, CPU)
            left.append(layer)
    for d, own in held.items():
        others = [layer for layer in left if homes[layer.index] not in (CPU, d)][: own.away]
        for layer in others:
            experts[layer.index] = dict.fromkeys(layer.experts, d)
            left.remove(layer)
    return Layout((*map(int, homes), devices[-1]), experts)


def _takers(held: dict[int, Held]) -> dict[int, int]:
    """Return which device takes the rest of the layer that each device splits with another."""
    found: dict[int, int] = {}
    for count in {own.kept for own in held.values() if not own.to_ram}:
        free = [d for d, own in held.items() for _ in range(own.rests[count - 1])]
        senders = [d for d, own in held.items() if own.kept == count and not own.to_ram]
        # One that takes as well goes first, as it may not take its own.
        for d in sorted(senders, key=lambda d: d not in free):
            other = next((e for e in free if e != d), None)
            if other is not None:
                found[d] = other
                free.remove(other)
    return found
