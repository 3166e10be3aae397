"""Which real memory stands for each tier of a plan, and what a use of an expert does there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moe2opt.placement import PlacementInstance
from moe2opt.placement.assignment import DISTIL, PRUNE, SHARE, Assignment
from moe2opt.result import BoolArray, InputError, IntArray

Kind = Literal["cuda", "dram", "disk", "mmap"]

KINDS: tuple[Kind, ...] = ("cuda", "dram", "disk", "mmap")

#: What a tier becomes unless the configuration says otherwise.
_OF_KIND: dict[str, Kind] = {"gpu": "cuda", "cpu": "dram", "disk": "disk"}


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A plan in terms of this machine.

    Attributes
    ----------
    layers
        ``(L,)`` numbers of the layers with experts.
    kinds
        Real memory of each of the T tiers.
    home
        Tier of the dense part.
    representative
        ``(L, E)`` expert that serves in an expert's place.
    stored, dropped
        ``(L, E)`` whether an expert's own weights are kept; whether no router may choose it.
    tier, precision
        ``(L, E, P)`` of the parts of each expert.
    place, moved
        ``(T, Q)`` tier that computes; whether weights are copied there first.
    slots
        ``(L,)`` cache slots at home, None without a cache.
    notes
        What differs from the plan.
    """

    layers: tuple[int, ...]
    kinds: tuple[Kind, ...]
    home: int
    representative: IntArray
    stored: BoolArray
    dropped: BoolArray
    tier: IntArray
    precision: IntArray
    place: IntArray
    moved: BoolArray
    slots: IntArray | None = None
    notes: tuple[str, ...] = ()


def layout_of(
    instance: PlacementInstance,
    assignment: Assignment,
    asked: Mapping[str, Kind] | None = None,
    *,
    cuda: bool = False,
) -> Layout:
    """Return how a plan is run on this machine.

    Parameters
    ----------
    instance, assignment
        What the plan says.
    asked
        Memory by name of the tier, where the kind of the tier does not decide.
    cuda
        Whether a CUDA device is there. Without one its tiers are in DRAM too, and a note says so.

    Raises
    ------
    InputError
        For forms, parts or tiers that cannot be run here.
    """
    _check_forms(instance, assignment)
    kinds, notes = _kinds(instance, asked or {}, cuda)
    use = instance.use
    for t, q in np.ndindex(use.place.shape):
        if kinds[int(use.place[t, q])] in ("disk", "mmap"):
            name = instance.topology.names[int(use.place[t, q])]
            raise InputError(f"tiers: nothing computes in {kinds[int(use.place[t, q])]} ('{name}')")
    if instance.config.cache is not None and assignment.slots is None:
        raise InputError("the plan has no cache slots, but the configuration has a cache")
    return Layout(
        layers=instance.shape.layers,
        kinds=kinds,
        home=instance.topology.home,
        representative=assignment.representative,
        stored=assignment.stored == 1,
        dropped=assignment.form == PRUNE,
        tier=assignment.tier,
        precision=assignment.precision,
        place=use.place,
        moved=use.move_s > 0,
        slots=assignment.slots,
        notes=notes,
    )


def _check_forms(instance: PlacementInstance, assignment: Assignment) -> None:
    for form, words in ((SHARE, "share a base"), (DISTIL, "are distilled")):
        if (assignment.form == form).any():
            raise InputError(f"execute: experts that {words} cannot be run yet")
    if instance.config.split is not None or instance.config.piped:
        part = "split" if instance.config.split is not None else "pattern pipeline"
        raise InputError(f"execute: {part}: machines that work side by side cannot be run here")
    if instance.config.batch > 1:
        raise InputError("execute: batch: tokens are run one by one; plan with batch: 1")
    kept = (assignment.form != PRUNE).sum(axis=1)
    if (kept < instance.shape.top_k).any():
        layer = instance.shape.layers[int(kept.argmin())]
        raise InputError(
            f"execute: layer {layer} keeps {int(kept.min())} experts, but a token takes "
            f"{instance.shape.top_k}"
        )


def _kinds(
    instance: PlacementInstance, asked: Mapping[str, Kind], cuda: bool
) -> tuple[tuple[Kind, ...], tuple[str, ...]]:
    names = instance.topology.names
    for name in asked:
        if name not in names:
            raise InputError(f"execute.tiers: unknown tier '{name}' (tiers: {', '.join(names)})")
    found: list[Kind] = []
    notes = []
    for tier in instance.topology.tiers:
        kind = asked.get(tier.name, _OF_KIND.get(tier.kind))
        if kind is None:
            raise InputError(
                f"execute: tier '{tier.name}' is {tier.kind} and cannot be run here; "
                f"execute.tiers says what stands for it ({', '.join(KINDS)})"
            )
        if kind == "cuda" and not cuda:
            if tier.name in asked:
                raise InputError(f"execute.tiers.{tier.name}: torch sees no CUDA device")
            kind = "dram"
            notes.append(f"tier '{tier.name}' is DRAM here: torch sees no CUDA device")
        found.append(kind)
    return tuple(found), tuple(notes)
