"""Layouts by dynamic programming: how many layers each device takes, and what it holds beside."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moe2opt.llamacpp import CPU, Layout
from moe2opt.place.case import Case, Variant
from moe2opt.place.machine import HOP_S
from moe2opt.place.options import kept_matrices
from moe2opt.place.variants import variants_of
from moe2opt.result import FloatArray, IntArray

#: Experts of a device's own layers, matrices of one more, and experts of others' layers.
Held = tuple[int, int, int]

#: Blocks up to which chains are looked for, whose time is their square.
_MOST_BLOCKS = 256


def chained(case: Case) -> Iterator[tuple[Layout, int]]:
    """Yield layouts and their micro-batches, those that should be fastest first.

    Of each set of devices the fastest chain of runs of layers, where a device holds as many of
    their experts as have room, a part of one more, and where some is left those of other devices'
    layers. It takes time in the square of the layers. What is in RAM need not have room there, and
    where layers differ the largest experts stand for all, so that this is a start and no optimum.
    """
    chains: list[tuple[float, Variant, list[int], dict[int, Held]]] = []
    if case.model.blocks > _MOST_BLOCKS:
        return
    for variant in variants_of(case):
        if variant.devices and variant.copies == variant.offloads:
            value, cuts, held = _Chain(case, variant).best()
            if np.isfinite(value):
                chains.append((value, variant, cuts, held))
    for _, variant, cuts, held in sorted(chains, key=lambda chain: -chain[0]):
        yield _layout(case, variant, cuts, held), variant.ubatch


class _Chain:
    """The best runs of layers for the devices of a variant."""

    def __init__(self, case: Case, variant: Variant) -> None:
        self.case, self.variant = case, variant
        sizes = case.layer_bytes(variant.ubatch)
        self.sums = np.concatenate([[0], np.cumsum(sizes)]).astype(np.float64)
        members = [layer for own in case.classes for layer in own]
        self.largest = max(members, key=lambda layer: layer.expert_bytes, default=None)
        self.sparse = np.zeros(case.model.blocks + 1)
        for layer in members:
            self.sparse[layer.index + 1] = 1
        self.sparse = np.cumsum(self.sparse)

    def best(self) -> tuple[float, list[int], dict[int, Held]]:
        """Return minus the seconds beside those of all experts in RAM, cuts, and what is held."""
        case, devices = self.case, self.variant.devices
        ahead = -case.home_seconds(None, self.variant.ubatch)
        if not self.variant.offloads:
            ahead[1:] = -np.inf
        steps = []
        for d in devices:
            worth, *held = self._worth(d)
            total = ahead[:, None] + worth
            came = total.argmax(axis=0)
            steps.append((came, held))
            ahead = total[came, np.arange(len(came))]
        end = case.model.blocks
        value, cuts, found = float(ahead[end]) - case.output_s(self.variant), [], {}
        for d, (came, held) in zip(reversed(devices), reversed(steps), strict=True):
            start = int(came[end])
            home, part, away = (int(own[start, end]) for own in held)
            found[d] = (home, part, away)
            cuts.append(start)
            end = start
        return value, cuts[::-1], found

    def _worth(self, d: int) -> tuple[FloatArray, IntArray, IntArray, IntArray]:
        """Return what a device is worth with the layers between two cuts, and what it holds.

        Returns
        -------
        ``(blocks + 1, blocks + 1)`` each: minus the seconds, experts with their layers, matrices of
        one more layer, and experts of others' layers.
        """
        case, variant = self.case, self.variant
        device = case.machine.devices[d]
        seconds = case.home_seconds(device, variant.ubatch)
        least = case.compute_bytes(variant, d)
        if d == variant.devices[-1]:
            least += case.model.output_bytes
        room = case.usable_bytes(d) - least - (self.sums[None, :] - self.sums[:, None])
        worth = seconds[:, None] - seconds[None, :]
        worth[(room < 0) | (self.sums[None, :] < self.sums[:, None])] = -np.inf
        none = np.zeros(worth.shape, dtype=np.int64)
        if self.largest is None:
            return worth, none, none, none
        size, own = self.largest.expert_bytes, self.sparse[None, :] - self.sparse[:, None]
        in_ram = case.expert_seconds(self.largest, None, variant.ubatch)
        gain = in_ram - case.expert_seconds(self.largest, device, variant.ubatch)
        fitting = np.maximum(np.floor(room / size), 0.0)
        home = np.minimum(fitting, own) if gain > 0 or not variant.offloads else 0.0 * own
        worth = worth + gain * home
        if not variant.offloads:
            worth[home < own] = -np.inf
            return worth, home.astype(np.int64), none, none
        parts, best = none.copy(), np.zeros(worth.shape)
        for count in range(1, len(self.largest.experts)):
            kept = sum(self.largest.experts[m] for m in kept_matrices(self.largest, count))
            share = kept / size
            saved = in_ram - case.expert_seconds(self.largest, None, variant.ubatch, 1 - share)
            saved -= case.expert_seconds(self.largest, device, variant.ubatch, share)
            better = (home < own) & (room - home * size >= kept) & (saved > best)
            parts, best = np.where(better, count, parts), np.where(better, saved, best)
        away = none
        if gain > 2 * HOP_S:
            away = np.minimum(fitting - home, self.sparse[-1] - own).astype(np.int64)
        return worth + best + (gain - 2 * HOP_S) * away, home.astype(np.int64), parts, away


def _layout(case: Case, variant: Variant, cuts: list[int], held: dict[int, Held]) -> Layout:
    """Return where runs of layers and what devices hold of their experts are."""
    homes = np.full(case.model.blocks, CPU)
    for start, d in zip(cuts, variant.devices, strict=True):
        homes[start:] = d
    left, experts = [], dict[int, dict[str, int]]()
    at_home = {d: home for d, (home, _, _) in held.items()}
    parts = {d: count for d, (_, count, _) in held.items()}
    for layer in reversed(case.model.layers):
        home = int(homes[layer.index])
        if at_home.get(home, 0) and layer.experts:
            at_home[home] -= 1
        elif count := parts.pop(home, 0) if layer.experts else 0:
            kept = kept_matrices(layer, count)
            experts[layer.index] = {m: CPU for m in layer.experts if m not in kept}
        elif layer.experts:
            experts[layer.index] = dict.fromkeys(layer.experts, CPU)
            left.append(layer)
    for d, (_, _, count) in held.items():
        others = [layer for layer in left if homes[layer.index] not in (CPU, d)][:count]
        for layer in others:
            experts[layer.index] = dict.fromkeys(layer.experts, d)
            left.remove(layer)
    return Layout((*map(int, homes), variant.devices[-1]), experts)
