"""Where experts may lie, and which layers may be split: the options of a problem."""

from __future__ import annotations

from dataclasses import dataclass

from moe2opt.llamacpp import LlamaLayer
from moe2opt.place.case import Case
from moe2opt.place.machine import Device


@dataclass(frozen=True, slots=True)
class Site:
    """Where the experts of a layer may lie.

    Attributes
    ----------
    device
        Number of the device, -1 for RAM.
    away
        Whether the layer itself is elsewhere on the devices.
    ubatch
        The micro-batch for which experts in RAM are priced, 0 on a device.
    """

    device: int
    away: bool = False
    ubatch: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """One layer of a device that keeps some matrices of experts which are elsewhere otherwise.

    Attributes
    ----------
    kind
        Number of the class of the layer, -1 for none.
    kept
        How many matrices stay.
    ubatch
        The micro-batch for which the others are priced, 0 on a device.
    to
        Number of the device where the others are, -1 for RAM.
    """

    kind: int = -1
    kept: int = 0
    ubatch: int = 0
    to: int = -1


@dataclass(frozen=True, slots=True)
class Begin:
    """Where the blocks of the first device begin; those before lie in RAM.

    Attributes
    ----------
    block
        The first block of any device.
    ubatch
        The micro-batch for which blocks in RAM are priced.
    """

    block: int
    ubatch: int


def begins_of(case: Case) -> tuple[Begin, ...]:
    """Return where devices may begin: at the first block, or later, for each micro-batch."""
    later = range(1, case.model.blocks + 1)
    ubatches = list(case.ubatches())
    return (Begin(0, ubatches[0]), *(Begin(t, u) for u in ubatches for t in later))


def kept_matrices(layer: LlamaLayer, count: int) -> tuple[str, ...]:
    """Return which matrices stay on a device where only some do, as ``--fit`` chooses them."""
    order = ("up", "gate", "gate_up", "down")
    return tuple(name for name in order if name in layer.experts)[:count]


def sites_of(case: Case) -> tuple[Site, ...]:
    """Return where experts may lie: with their layer, on another device, in RAM."""
    count = len(case.machine.devices)
    found = [Site(d) for d in range(count)]
    if count > 1:
        found += [Site(d, away=True) for d in range(count)]
    return (*found, *(Site(-1, ubatch=u) for u in case.ubatches()))


def splits_of(case: Case) -> tuple[Split, ...]:
    """Return which layer of a device may be split: none, or one of a class."""
    count = len(case.machine.devices)
    found = [
        Split(c, kept, ubatch, to)
        for c, members in enumerate(case.classes)
        for kept in range(1, len(members[0].experts))
        for ubatch, to in (
            *((own, -1) for own in case.ubatches()),
            *((0, e) for e in range(count) if count > 1),
        )
    ]
    return (Split(), *found) if found else ()


def kept_bytes(case: Case, d: int, split: Split) -> float:
    """Return the bytes that a split keeps on a device; none where the others are there, too."""
    if split.kind < 0 or split.to == d:
        return 0.0
    layer = case.classes[split.kind][0]
    return float(sum(layer.experts[name] for name in kept_matrices(layer, split.kept)))


def part_of(case: Case, d: int, split: Split) -> float:
    """Return the share of a layer's experts that stays."""
    return kept_bytes(case, d, split) / case.classes[split.kind][0].expert_bytes


def split_saved_s(
    case: Case,
    layer: LlamaLayer,
    part: float,
    device: Device,
    other: Device | None,
    ubatch: int,
) -> float:
    """Return weighted seconds that a part of a layer's experts saves beside all of them elsewhere.

    What is left there still counts as handed over.
    """
    both = case.expert_seconds(layer, device, ubatch, part) if part else 0.0
    both += case.expert_seconds(layer, other, ubatch, 1 - part)
    return case.expert_seconds(layer, other, ubatch) - both


def split_value_s(case: Case, d: int, split: Split) -> float:
    """Return weighted seconds that a split of a layer of a device saves."""
    layer, part = case.classes[split.kind][0], part_of(case, d, split)
    device, other = case.machine.devices[d], place_of(case, split)
    return split_saved_s(case, layer, part, device, other, split.ubatch or 1)


def place_of(case: Case, split: Split) -> Device | None:
    """Return where the other matrices of a split layer are, None for RAM."""
    return None if split.to < 0 else case.machine.devices[split.to]


def prompt_saved_s(case: Case, d: int, split: Split) -> float:
    """Return seconds per prompt token that a split takes off those elsewhere."""
    if split.kind < 0:
        return 0.0
    layer, ends = case.classes[split.kind][0], (place_of(case, split), case.machine.devices[d])
    there, here = (case.prompt_experts_s(layer, at, split.ubatch or 1) for at in ends)
    return part_of(case, d, split) * (there - here)
