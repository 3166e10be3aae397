"""What is where while a plan is carried out: copies, moves under way, and what must give way.

Every unit (an expert or a layer) is served from one place: a tier and a precision. Stores hold all
units at all precisions, so a move to a store takes effect at once. A move to another tier takes a
copy from the store where that is quickest; until it has arrived the unit is served from its old
place. A copy is of weights: a unit's own, or those that it shares with others (`merging`). Copies
stay where they are until the room is needed. At no time does a tier hold more than it has room for,
or the loss exceed its budget: what cannot move yet waits, and what must leave goes back to a store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from moe2opt.replay.compiled import Conditions, Places, ReplayModel
from moe2opt.replay.paths import Table
from moe2opt.result import BoolArray, FloatArray, IntArray

#: Relative slack of limits.
_SLACK = 1e-9

#: What changes from step to step besides servers out of reach.
_CHANGES = (
    "tier", "precision", "form", "target_tier", "target_precision", "target_form", "held",
    "under_way",
)  # fmt: skip

#: A copy that would take longer than this is not started.
_TOO_LONG_S = 3600.0


@dataclass(slots=True)
class Moved:
    """What a step moved.

    Attributes
    ----------
    bytes, network_bytes
        Bytes copied, and of these what went over the replayed link.
    joules
        Energy of the copies; NaN where a link's is unknown.
    busy
        ``(L,)`` share of the step in which copies kept each link busy.
    """

    bytes: float
    network_bytes: float
    joules: float
    busy: FloatArray


class Device:
    """Places, copies and moves of all units.

    Parameters
    ----------
    model
        The compiled instance.
    tier, precision
        ``(U,)`` places to start with; their copies are there already.
    link
        The replayed link.
    form
        ``(U,)`` which weights serve each unit, a column of `ReplayModel.weights`; the first when
        left out.

    Attributes
    ----------
    ahead
        Whether copies may come before the loss allows that they are used.
    """

    ahead: ClassVar[bool] = False

    def __init__(
        self,
        model: ReplayModel,
        tier: IntArray,
        precision: IntArray,
        link: int,
        form: IntArray | None = None,
    ) -> None:
        self.model, self.link = model, link
        form = np.zeros(model.units, dtype=np.int64) if form is None else form
        self.tier, self.precision, self.form = tier.copy(), precision.copy(), form.copy()
        self.target_tier, self.target_precision = tier.copy(), precision.copy()
        self.target_form = form.copy()
        tiers, stock = len(model.topology.tiers), int(model.weights.max()) + 1
        self.is_store = np.isin(np.arange(tiers), model.stores)
        self.held = np.full((tiers, stock), -1)
        here = np.flatnonzero(~self.is_store[tier])
        self.held[tier[here], self.weights[here]] = precision[here]
        self.under_way = np.zeros(stock)
        self.elsewhere: dict[str, IntArray] = {}
        self.server: str | None = None
        self.most_loss = model.instance.config.budgets.loss_nats

    # ------------------------------------------------------------------ what holds now

    @property
    def places(self) -> Places:
        """What serves each unit now."""
        return Places(self.tier.copy(), self.precision.copy(), self.form.copy())

    @property
    def target(self) -> Places:
        """What should serve each unit."""
        return Places(self.target_tier, self.target_precision, self.target_form)

    @property
    def weights(self) -> IntArray:
        """``(U,)`` weights that serve each unit, -1 where none do."""
        return self.model.weights_of(self.form)

    @property
    def target_weights(self) -> IntArray:
        """``(U,)`` weights that should serve each unit."""
        return self.model.weights_of(self.target_form)

    def used_bytes(self) -> FloatArray:
        """Return the ``(T,)`` bytes of copies on each tier, stores left out."""
        size = np.where(self.held >= 0, self.model.bytes[self.held], 0.0)
        return np.asarray(size.sum(axis=1))

    def loss(self) -> float:
        """Return the loss in nats of the places in use."""
        return float(self.model.loss_of(self.precision, self.form).sum())

    def violations(self, free_bytes: FloatArray) -> list[str]:
        """Return what is over its limit, in words."""
        used = self.used_bytes()
        found = [
            f"memory[{tier.name}]"
            for t, tier in enumerate(self.model.topology.tiers)
            if not self.is_store[t] and used[t] > max(free_bytes[t], 0.0) * (1 + _SLACK)
        ]
        if free_bytes[self.model.topology.home] < 0:
            found.append(f"dense part[{self.model.topology.names[self.model.topology.home]}]")
        if self.most_loss is not None and self.loss() > self.most_loss + _SLACK:
            found.append("loss_nats")
        return found

    def pending(self) -> IntArray:
        """Return the units that are not yet where they should be."""
        away = (self.tier != self.target_tier) | (self.precision != self.target_precision)
        return np.flatnonzero(away | (self.form != self.target_form))

    # ------------------------------------------------------------------ orders and events

    def aim(self, tier: IntArray, precision: IntArray, form: IntArray | None = None) -> bool:
        """Set where, and as what, units should be; return whether that differs from before."""
        form = self.target_form if form is None else form
        before, after = self.target_weights, self.model.weights_of(form)
        same = (tier == self.target_tier) & (precision == self.target_precision)
        same &= before == after
        self.target_tier, self.target_precision = tier.copy(), precision.copy()
        self.target_form = form.copy()
        changed = np.concatenate([before[~same], after[~same]])
        self.under_way[changed[changed >= 0]] = 0.0
        return not bool(same.all())

    def reach(self, server: str, tiers: Iterable[int]) -> None:
        """Change the server in reach: what its tiers hold is what was left or staged there.

        Nothing happens for "", no server in reach: the link is down then, and copies stay.
        """
        rows = list(tiers)
        if server in ("", self.server):
            return
        before, self.server = self.server, server
        if before is None:
            return
        self.elsewhere[before] = self.held[rows].copy()
        blank = np.full((len(rows), self.held.shape[1]), -1)
        self.held[rows] = self.elsewhere.get(server, blank)
        for t in rows:
            there = self.held[t, self.weights] == self.precision
            gone = np.flatnonzero((self.tier == t) & ~there)
            self._to_store(gone)

    def shrink(self, free_bytes: FloatArray) -> None:
        """Drop copies where a tier holds more than it has room for: unused, then least used."""
        for t in np.flatnonzero(~self.is_store):
            room = max(float(free_bytes[t]), 0.0) * (1 + _SLACK)
            self._make_room(int(t), room, 0.0, self._order(int(t)))

    def _order(self, t: int) -> IntArray:
        """Return weights with a copy on a tier: those that serve nothing first, then by uses."""
        copies = np.flatnonzero(self.held[t] >= 0)
        serves = self._among(t, self.weights, self.tier, self.precision)[copies]
        wanted = self._wanted(t)[copies]
        rank = np.lexsort((self.model.stock_uses[copies], wanted, serves))
        return np.asarray(copies[rank])

    def _wanted(self, t: int) -> BoolArray:
        """Return ``(W,)`` flags of the copies on a tier that units should be served from."""
        return self._among(t, self.target_weights, self.target_tier, self.target_precision)

    def _among(self, t: int, weights: IntArray, tier: IntArray, precision: IntArray) -> BoolArray:
        """Return ``(W,)`` flags of the copies on a tier that some unit's place means."""
        found = np.zeros(self.held.shape[1], dtype=bool)
        here = (tier == t) & (self.held[t, weights] == precision)
        found[weights[here]] = True
        return found

    def _make_room(self, t: int, room: float, need: float, order: IntArray) -> bool:
        """Drop copies in an order until `need` bytes fit; return whether they do."""
        held = self.held[t]
        used = float(self.model.bytes[held[held >= 0]].sum())
        for copy in order.tolist():
            if used + need <= room:
                break
            used -= float(self.model.bytes[held[copy]])
            served = self._served(t, copy)
            self._to_store(served[self.precision[served] == held[copy]])
            held[copy] = -1
        return used + need <= room

    def _served(self, t: int, copy: int) -> IntArray:
        """Return the units that are served by some weights on a tier."""
        return np.flatnonzero((self.tier == t) & (self.weights == copy))

    def _to_store(self, units: IntArray) -> None:
        """Serve units from a store at the same precision."""
        self.tier[units] = self.model.library

    # ------------------------------------------------------------------ moving

    def settle(self, table: Table | None = None, conditions: Conditions | None = None) -> None:
        """Carry out the moves that need no copy, as far as the loss allows.

        Units that change over together do so under the costs in `table`.
        """
        units = self.pending()
        units = units[self.ready()[units]]
        self._arrive(units[self.affordable(self._loss_change()[units])])

    def ready(self) -> BoolArray:
        """Return ``(U,)`` flags of units for which everything is where it should be."""
        at = self.target_tier
        there = self.held[at, self.target_weights] == self.target_precision
        return np.asarray(self.is_store[at] | there)

    def affordable(self, change: FloatArray) -> IntArray:
        """Return which changes of the loss may be made within its budget, the least first."""
        order = np.argsort(change, kind="stable")
        total = self.loss() + np.cumsum(change[order])
        fits = (change[order] <= 0) | (total <= self._loss_limit())
        return np.asarray(order[fits])

    def _loss_change(self) -> FloatArray:
        """Return the ``(U,)`` changes of the loss that the targets mean."""
        after = self.model.loss_of(self.target_precision, self.target_form)
        return np.asarray(after - self.model.loss_of(self.precision, self.form))

    def _loss_limit(self) -> float:
        return np.inf if self.most_loss is None else self.most_loss + _SLACK

    def _arrive(self, units: IntArray) -> None:
        self.tier[units] = self.target_tier[units]
        self.precision[units] = self.target_precision[units]
        self.form[units] = self.target_form[units]
        weights = self.target_weights[units]
        self.under_way[weights[weights >= 0]] = 0.0

    def copy(
        self, dt_s: float, share: float, table: Table, uses: FloatArray, free_bytes: FloatArray
    ) -> Moved:
        """Copy for one step, per tier one unit after the other, best gain per second first.

        Parameters
        ----------
        dt_s, share
            Length of the step and the share of it that copies may take of a link.
        table
            Costs in this step.
        uses
            ``(U,)`` uses per token.
        free_bytes
            ``(T,)`` room on each tier.
        """
        moved = Moved(0.0, 0.0, 0.0, np.zeros(len(self.model.topology.links)))
        units = self._waiting(table, uses)
        left = np.full(len(self.is_store), dt_s * share)
        weights, change, loss = self.target_weights, self._loss_change(), self.loss()
        for unit in units.tolist():
            t, copy = int(self.target_tier[unit]), int(weights[unit])
            lossy = change[unit] > 0 and loss + change[unit] > self._loss_limit()
            if left[t] <= 0 or (lossy and not self.ahead):
                continue
            room = max(float(free_bytes[t]), 0.0) * (1 + _SLACK)
            if not self._claim(t, unit, copy, room):
                continue
            left[t] -= self._spend(moved, unit, copy, float(left[t]), table, dt_s)
            if self.under_way[copy] >= 1 - 1e-9:
                self.held[t, copy], self.under_way[copy] = self.target_precision[unit], 0.0
                arrived = self.waiting_for(unit)
                self._arrive(arrived)
                loss += float(change[arrived].sum())
        return moved

    def waiting_for(self, unit: int) -> IntArray:
        """Return the units that arrive together with the copy that a unit waits for."""
        return np.array([unit])

    def coming(self) -> IntArray:
        """Return the units for which copies are on their way, one for each copy."""
        return self.pending()

    def _waiting(self, table: Table, uses: FloatArray) -> IntArray:
        """Return the units that wait for a copy, most gain per second of copying first."""
        units = self.coming()
        t, q = self.target_tier[units], self.target_precision[units]
        cost = table.move_s[t, q] * self.model.count
        possible = ~self.is_store[t] & (cost < _TOO_LONG_S)
        units, t, q, cost = units[possible], t[possible], q[possible], cost[possible]
        now = table.seconds[self.tier[units], self.precision[units]]
        gain = uses[units] * (now - table.seconds[t, q])
        return np.asarray(units[np.argsort(-gain / np.maximum(cost, 1e-12), kind="stable")])

    def _claim(self, t: int, unit: int, copy: int, room: float) -> bool:
        """Make room for a copy by dropping what is not wanted there; tell whether it fits."""
        held = self.held[t]
        need = float(self.model.bytes[self.target_precision[unit]])
        if held[copy] >= 0:
            need -= float(self.model.bytes[held[copy]])
        others = self._order(t)
        others = others[~self._wanted(t)[others] & (others != copy)]
        if not self._make_room(t, room, need, others):
            return False
        if held[copy] >= 0:
            # The old copy of the same weights gives way to the new one.
            self._to_store(self._served(t, copy))
            held[copy] = -1
        return True

    def _spend(
        self, moved: Moved, unit: int, copy: int, left_s: float, table: Table, dt_s: float
    ) -> float:
        """Go on with a copy for at most `left_s` seconds; return the seconds that it took."""
        t, q = int(self.target_tier[unit]), int(self.target_precision[unit])
        whole = max(float(table.move_s[t, q]) * self.model.count, 1e-12)
        part = min(left_s / whole, 1.0 - float(self.under_way[copy]))
        self.under_way[copy] += part
        size = part * float(self.model.bytes[q])
        moved.bytes += size
        moved.network_bytes += size * float(table.move_links[t, q, self.link])
        moved.joules += part * float(table.move_j[t, q]) * self.model.count
        moved.busy += table.move_links[t, q] * (part * whole / dt_s)
        return part * whole

    # ------------------------------------------------------------------ staging ahead

    def stage(self, server: str, tiers: Iterable[int], held: IntArray) -> None:
        """Note what another server holds, ``(tiers, W)`` precisions or -1."""
        assert held.shape == (len(list(tiers)), self.held.shape[1])
        self.elsewhere[server] = held

    def state(self) -> dict[str, Any]:
        """Return everything that changes, as arrays."""
        return {
            **{name: getattr(self, name) for name in _CHANGES},
            **{f"server:{name}": held for name, held in self.elsewhere.items()},
            "server_now": np.array(self.server or ""),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        for name in _CHANGES:
            setattr(self, name, np.array(state[name]))
        self.elsewhere = {k[7:]: np.array(v) for k, v in state.items() if k.startswith("server:")}
        self.server = str(state["server_now"]) or None
