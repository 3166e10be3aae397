"""Options of whole layers: each is one way to treat all experts of a layer.

Whatever depends on a layer as a whole (groups of experts, overlap of copies, slots, balance of two
machines, lots) is computed per option, so that the canonical problem stays linear and exact over
the options on offer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import undominated
from moe2opt.placement.assignment import Assignment
from moe2opt.placement.mode import Mode
from moe2opt.placement.options import Options, Read
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.steps import step

#: Most options of one layer, before dominated ones are left out.
MOST_OPTIONS = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class LayerMenu:
    """Options of one layer.

    Attributes
    ----------
    metrics
        Figures of the options by metric, each ``(M,)``.
    held_bytes
        ``(M, T)`` bytes on each tier.
    grouping, precision
        ``(M,)`` position in the layer's groupings, and precision.
    counts
        ``(M, T)`` stored experts per tier, ``(M, 1)`` slots of a cache or residents of a coverage.
    """

    metrics: dict[str, FloatArray]
    held_bytes: FloatArray
    grouping: IntArray
    precision: IntArray
    counts: IntArray

    def __len__(self) -> int:
        return len(self.grouping)

    def at(self, rows: IntArray) -> LayerMenu:
        """Return only some of the options."""
        return LayerMenu(
            {name: figures[rows] for name, figures in self.metrics.items()},
            self.held_bytes[rows],
            self.grouping[rows],
            self.precision[rows],
            self.counts[rows],
        )


@dataclass(frozen=True, eq=False)
class Layered(Mode):
    """A mode with one group per layer."""

    @abstractmethod
    def menus(self, layer: int) -> Iterator[LayerMenu]:
        """Yield the options of a layer, in parts."""

    @abstractmethod
    def read(self, menus: list[LayerMenu], x: IntArray) -> Assignment:
        """Return what the options `x` of the layers stand for."""

    def options(self) -> tuple[list[Options], Read]:
        """Return the undominated options of all layers, and how to read a choice."""
        menus = []
        layers = self.case.shape.size[0]
        for layer in range(layers):
            step(f"layer {layer + 1} of {layers}")
            menu = _joined(list(self.menus(layer)))
            menus.append(menu.at(undominated(self._criteria(menu))))
        blocks = [
            Options({k: v[None, :] for k, v in menu.metrics.items()}, menu.held_bytes[None])
            for menu in menus
        ]
        return blocks, lambda x: self.read(menus, x)

    def _criteria(self, menu: LayerMenu) -> FloatArray:
        """Return ``(M, c)`` everything that an option should have little of."""
        config = self.case.config
        names: list[str] = [config.objective]
        for name, limit in config.budgets:
            if limit is not None:
                names.append("slots" if name == "cache_slots" else name)
        columns = [menu.metrics[name] for name in names if name in menu.metrics]
        finite = [np.isfinite(tier.capacity_bytes) for tier in self.case.topology.tiers]
        return np.column_stack([*columns, menu.held_bytes[:, finite]])

    def chosen_precision(self, menus: list[LayerMenu], x: IntArray) -> IntArray:
        """Return the ``(L, E, 1)`` precision of the options `x` of the layers."""
        chosen = np.array([menu.precision[i] for menu, i in zip(menus, x, strict=True)])
        shape = (*self.case.shape.size, 1)
        return np.broadcast_to(chosen[:, None, None], shape).astype(np.int64)


def _joined(menus: list[LayerMenu]) -> LayerMenu:
    if sum(map(len, menus)) > MOST_OPTIONS:
        raise InputError(
            f"lots: a layer has {sum(map(len, menus))} options, more than {MOST_OPTIONS}; offer "
            "fewer numbers in aggregation.keep, or set lots.step"
        )
    names = menus[0].metrics
    return LayerMenu(
        {name: np.concatenate([menu.metrics[name] for menu in menus]) for name in names},
        np.concatenate([menu.held_bytes for menu in menus]),
        np.concatenate([menu.grouping for menu in menus]),
        np.concatenate([menu.precision for menu in menus]),
        np.concatenate([menu.counts for menu in menus]),
    )
