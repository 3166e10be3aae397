"""How a layer changes over from one form to another while a plan is carried out.

A layer is served in one form at one precision, so its experts change over together: as soon as all
weights of the new form are where they should be, or before that as soon as it is no slower. What
has not arrived by then is served from the quickest place that has it, a store at worst. Budgets
hold all the time.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from moe2opt.replay.compiled import Conditions, Places, ReplayModel
from moe2opt.replay.device import Device, Moved
from moe2opt.replay.merged import MergedModel
from moe2opt.replay.paths import Table
from moe2opt.result import BoolArray, FloatArray, IntArray


def device_of(model: ReplayModel, places: Places, link: int) -> Device:
    """Return what carries plans out, everything at its place."""
    kind = MergingDevice if isinstance(model, MergedModel) else Device
    return kind(model, places.tier, places.precision, link, places.form)


class MergingDevice(Device):
    """Places, copies and moves of experts in groups; see `Device`."""

    ahead: ClassVar[bool] = True
    conditions: Conditions

    def settle(self, table: Table | None = None, conditions: Conditions | None = None) -> None:
        """Carry out the moves that need no copy: single experts, then changes of whole layers."""
        assert table is not None
        assert conditions is not None
        self.conditions = conditions
        steady, ready = self._steady(), self.ready()
        self._arrive(np.flatnonzero(steady & ready))
        if steady.all():
            return
        tier = np.where(ready, self.target_tier, self._nearest(table))
        before = self._layer_s(conditions, table, self.places)
        after = Places(tier, self.target_precision, self.target_form)
        no_slower = self._layer_s(conditions, table, after) <= before * (1 + 1e-12)
        due = ~self._layers(steady).all(axis=1)
        due &= no_slower | self._layers(ready).all(axis=1)
        layers = np.flatnonzero(due)
        change = self._layers(self._loss_change()).sum(axis=1)[layers]
        units = np.isin(np.arange(self.model.units) // self._layers(ready).shape[1],
                        layers[self.affordable(change)])  # fmt: skip
        under_way = self.under_way.copy()
        self._arrive(np.flatnonzero(units))
        self.tier[units], self.under_way = tier[units], under_way

    def _layers(self, figures: np.ndarray) -> np.ndarray:
        """Return figures of units by layer and expert."""
        return figures.reshape(self.model.instance.shape.size)

    def _steady(self) -> BoolArray:
        """Return ``(U,)`` flags of units whose layers keep form and precision."""
        same = (self.form == self.target_form) & (self.precision == self.target_precision)
        return np.asarray(
            np.repeat(self._layers(same).all(axis=1), self.model.instance.shape.experts)
        )

    def _layer_s(self, conditions: Conditions, table: Table, places: Places) -> FloatArray:
        """Return the ``(L,)`` seconds per token of the experts of each layer."""
        each = table.seconds[places.tier, places.precision]
        return np.asarray(self._layers(self.model.uses(conditions, places.form) * each).sum(axis=1))

    def _nearest(self, table: Table) -> IntArray:
        """Return the ``(U,)`` tier that has the wanted weights and serves them most quickly."""
        there = self.held[:, self.target_weights] == self.target_precision
        there[:, self.target_weights < 0] = False
        there[self.model.library] = True
        cost = np.where(there, table.seconds[:, self.target_precision], np.inf)
        return np.asarray(np.argmin(cost, axis=0))

    def copy(
        self, dt_s: float, share: float, table: Table, uses: FloatArray, free_bytes: FloatArray
    ) -> Moved:
        """Copy for one step, then change over the layers for which that was enough."""
        moved = super().copy(dt_s, share, table, uses, free_bytes)
        self.settle(table, self.conditions)
        return moved

    def waiting_for(self, unit: int) -> IntArray:
        """Return the units of steady layers that wait for the same weights."""
        mine = self.target_weights == self.target_weights[unit]
        return np.flatnonzero(mine & self._steady())

    def coming(self) -> IntArray:
        """Return one unit for each of the weights that are not there yet."""
        units = self.pending()
        units = units[~self.ready()[units]]
        _, first = np.unique(self.target_weights[units], return_index=True)
        return np.asarray(units[np.sort(first)])
