"""Where the search starts: the best of chains of layers and of what rules in use set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from moe2opt.llamacpp import CPU, Layout, LlamaLayer
from moe2opt.place.baselines import layouts
from moe2opt.place.case import Case
from moe2opt.place.chained import chained
from moe2opt.place.compile import Compiled
from moe2opt.place.judge import Judge
from moe2opt.place.options import Begin, Site, Split, kept_matrices
from moe2opt.result import IntArray

#: Chains of layers that fit, of which the best one is taken.
_CHAINS = 4


def start_of(case: Case, compiled: Compiled) -> IntArray | None:
    """Return the best solution of a chain or of a rule in use; None where none is permitted."""
    ubatch, problem = min(case.config.ubatch), compiled.problem

    def fitting(layouts: Iterable[tuple[Layout, int]]) -> Iterator[IntArray]:
        found = (encoded(case, compiled, *own) for own in layouts)
        return (x for x in found if x is not None and problem.is_feasible(x))

    by_rule = fitting((layout, ubatch) for layout in layouts(case))
    # Chains come in order of their worth, at best.
    best_chains = islice(fitting(chained(case)), _CHAINS)
    return max((*by_rule, *best_chains), key=problem.evaluate, default=None)


def encoded(case: Case, compiled: Compiled, layout: Layout, ubatch: int) -> IntArray | None:
    """Return the solution that stands for a layout; None where no options say it.

    A layer that is split where no option says so has all its experts in RAM.
    """
    devices = range(len(case.machine.devices))
    variant = Judge(case).variant(layout, ubatch)
    if (first := case.first_of_equal(variant.devices)) != variant.devices:
        layout = _renamed(layout, dict(zip(variant.devices, first, strict=True)))
        variant = replace(variant, devices=first)
    priced = ubatch if case.prompt_matters else case.config.ubatch[0]
    cuts = np.searchsorted(layout.homes[:-1], devices).tolist()
    begins = [Begin(t, priced if t else compiled.begins[0].ubatch) for t in cuts[:1]]
    splits = dict.fromkeys(devices if compiled.splits else (), Split())
    sites: dict[int, Site] = {}
    for c, members in enumerate(case.classes):
        for layer in members:
            home = layout.homes[layer.index]
            at = {matrix: layout.of_experts(layer.index, matrix) for matrix in layer.experts}
            to = min(set(at.values()) - {home}, default=home)
            if kept := sum(place == home != to for place in at.values()):
                split = Split(c, kept, priced if to == CPU else 0, to)
                if splits.get(home) == Split() and _says(layer, at, home, split):
                    splits[home] = split
                else:
                    to = CPU
            sites[layer.index] = (
                Site(CPU, ubatch=priced) if to == CPU else Site(to, away=to != home)
            )
    try:
        options = [
            compiled.variants.index(variant),
            *map(compiled.begins.index, begins),
            *cuts[1:],
            *(compiled.splits.index(split) for split in splits.values()),
            *(compiled.sites.index(sites[index]) for index in sorted(sites)),
        ]
    except ValueError:  # a set of devices that no option stands for
        return None
    return np.array(options, dtype=np.int64)


def _renamed(layout: Layout, names: dict[int, int]) -> Layout:
    """Return a layout with other devices of the same kind."""
    experts = {
        block: {matrix: names.get(place, place) for matrix, place in own.items()}
        for block, own in layout.experts.items()
    }
    return Layout(tuple(names.get(place, place) for place in layout.homes), experts)


def _says(layer: LlamaLayer, at: dict[str, int], home: int, split: Split) -> bool:
    """Tell whether a split leaves the matrices of a layer's experts where they are."""
    kept = kept_matrices(layer, split.kept)
    return all(place == (home if matrix in kept else split.to) for matrix, place in at.items())
