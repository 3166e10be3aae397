"""What is where while a plan is carried out: copies, moves under way, and what must give way.

Every unit (an expert or a layer) is served from one place: a tier and a precision. Stores hold all
units at all precisions, so a move to a store takes effect at once. A move to another tier takes a
copy from the store where that is quickest; until it has arrived the unit is served from its old
place. Copies stay where they are until the room is needed. At no time does a tier hold more than it
has room for, or the loss exceed its budget: what cannot move yet waits, and what must leave goes
back to a store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.replay.compiled import ReplayModel
from moe2opt.replay.paths import Table
from moe2opt.result import FloatArray, IntArray

#: Relative slack of limits.
_SLACK = 1e-9

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
    """

    def __init__(self, model: ReplayModel, tier: IntArray, precision: IntArray, link: int) -> None:
        self.model, self.link = model, link
        self.tier, self.precision = tier.copy(), precision.copy()
        self.target_tier, self.target_precision = tier.copy(), precision.copy()
        tiers = len(model.topology.tiers)
        self.is_store = np.isin(np.arange(tiers), model.stores)
        self.held = np.full((tiers, model.units), -1)
        here = np.flatnonzero(~self.is_store[tier])
        self.held[tier[here], here] = precision[here]
        self.under_way = np.zeros(model.units)
        self.elsewhere: dict[str, IntArray] = {}
        self.server: str | None = None
        self.most_loss = model.instance.config.budgets.loss_nats

    # ------------------------------------------------------------------ what holds now

    def used_bytes(self) -> FloatArray:
        """Return the ``(T,)`` bytes of copies on each tier, stores left out."""
        size = np.where(self.held >= 0, self.model.bytes[self.held], 0.0)
        return np.asarray(size.sum(axis=1))

    def loss(self) -> float:
        """Return the loss in nats of the places in use."""
        return float(self.model.loss[np.arange(self.model.units), self.precision].sum())

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
        return np.flatnonzero(away)

    # ------------------------------------------------------------------ orders and events

    def aim(self, tier: IntArray, precision: IntArray) -> bool:
        """Set where units should be; return whether that differs from before."""
        same = (tier == self.target_tier) & (precision == self.target_precision)
        self.target_tier, self.target_precision = tier.copy(), precision.copy()
        self.under_way[~same] = 0.0
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
        blank = np.full((len(rows), self.model.units), -1)
        self.held[rows] = self.elsewhere.get(server, blank)
        for t in rows:
            gone = np.flatnonzero((self.tier == t) & (self.held[t] != self.precision))
            self._to_store(gone)

    def shrink(self, free_bytes: FloatArray) -> None:
        """Drop copies where a tier holds more than it has room for: unused, then least used."""
        for t in np.flatnonzero(~self.is_store):
            room = max(float(free_bytes[t]), 0.0) * (1 + _SLACK)
            self._make_room(int(t), room, 0.0, self._order(int(t)))

    def _order(self, t: int) -> IntArray:
        """Return units with a copy on a tier: not served from it first, then the least salient."""
        units = np.flatnonzero(self.held[t] >= 0)
        serves = (self.tier[units] == t) & (self.precision[units] == self.held[t, units])
        wanted = (self.target_tier[units] == t) & (
            self.target_precision[units] == self.held[t, units]
        )
        rank = np.lexsort((self.model.domain_uses[0][units], wanted, serves))
        return np.asarray(units[rank])

    def _make_room(self, t: int, room: float, need: float, order: IntArray) -> bool:
        """Drop copies in an order until `need` bytes fit; return whether they do."""
        held = self.held[t]
        used = float(self.model.bytes[held[held >= 0]].sum())
        for unit in order.tolist():
            if used + need <= room:
                break
            used -= float(self.model.bytes[held[unit]])
            if self.tier[unit] == t and self.precision[unit] == held[unit]:
                self._to_store(np.array([unit]))
            held[unit] = -1
        return used + need <= room

    def _to_store(self, units: IntArray) -> None:
        """Serve units from a store at the same precision."""
        self.tier[units] = self.model.library

    # ------------------------------------------------------------------ moving

    def settle(self) -> None:
        """Carry out the moves that need no copy, as far as the loss allows."""
        units = self.pending()
        at = self.target_tier[units]
        ready = self.is_store[at] | (self.held[at, units] == self.target_precision[units])
        units = units[ready]
        change = self._loss_change(units)
        order = np.argsort(change, kind="stable")
        total = self.loss() + np.cumsum(change[order])
        fits = (change[order] <= 0) | (total <= self._loss_limit())
        self._arrive(units[order[fits]])

    def _loss_change(self, units: IntArray) -> FloatArray:
        loss = self.model.loss
        return np.asarray(
            loss[units, self.target_precision[units]] - loss[units, self.precision[units]]
        )

    def _loss_limit(self) -> float:
        return np.inf if self.most_loss is None else self.most_loss + _SLACK

    def _arrive(self, units: IntArray) -> None:
        self.tier[units] = self.target_tier[units]
        self.precision[units] = self.target_precision[units]
        self.under_way[units] = 0.0

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
        loss = self.loss()
        for unit in units.tolist():
            t, q = int(self.target_tier[unit]), int(self.target_precision[unit])
            if left[t] <= 0:
                continue
            change = float(self._loss_change(np.array([unit]))[0])
            if change > 0 and loss + change > self._loss_limit():
                continue
            room = max(float(free_bytes[t]), 0.0) * (1 + _SLACK)
            if not self._claim(t, unit, room):
                continue
            left[t] -= self._spend(moved, unit, float(left[t]), table, dt_s)
            if self.under_way[unit] >= 1 - 1e-9:
                self.held[t, unit] = q
                self._arrive(np.array([unit]))
                loss += change
        return moved

    def _waiting(self, table: Table, uses: FloatArray) -> IntArray:
        """Return the units that wait for a copy, most gain per second of copying first."""
        units = self.pending()
        t, q = self.target_tier[units], self.target_precision[units]
        cost = table.move_s[t, q] * self.model.count
        possible = ~self.is_store[t] & (cost < _TOO_LONG_S)
        units, t, q, cost = units[possible], t[possible], q[possible], cost[possible]
        now = table.seconds[self.tier[units], self.precision[units]]
        gain = uses[units] * (now - table.seconds[t, q])
        return np.asarray(units[np.argsort(-gain / np.maximum(cost, 1e-12), kind="stable")])

    def _claim(self, t: int, unit: int, room: float) -> bool:
        """Make room for a copy by dropping what is not wanted there; tell whether it fits."""
        held = self.held[t]
        need = float(self.model.bytes[self.target_precision[unit]])
        if held[unit] >= 0:
            need -= float(self.model.bytes[held[unit]])
        wanted = (self.target_tier == t) & (self.target_precision == held)
        others = self._order(t)
        others = others[~wanted[others] & (others != unit)]
        if not self._make_room(t, room, need, others):
            return False
        if held[unit] >= 0:
            # The old copy of the same unit gives way to the new one.
            if self.tier[unit] == t:
                self._to_store(np.array([unit]))
            held[unit] = -1
        return True

    def _spend(self, moved: Moved, unit: int, left_s: float, table: Table, dt_s: float) -> float:
        """Go on with a copy for at most `left_s` seconds; return the seconds that it took."""
        t, q = int(self.target_tier[unit]), int(self.target_precision[unit])
        whole = max(float(table.move_s[t, q]) * self.model.count, 1e-12)
        part = min(left_s / whole, 1.0 - float(self.under_way[unit]))
        self.under_way[unit] += part
        size = part * float(self.model.bytes[q])
        moved.bytes += size
        moved.network_bytes += size * float(table.move_links[t, q, self.link])
        moved.joules += part * float(table.move_j[t, q]) * self.model.count
        moved.busy += table.move_links[t, q] * (part * whole / dt_s)
        return part * whole

    # ------------------------------------------------------------------ staging ahead

    def stage(self, server: str, tiers: Iterable[int], held: IntArray) -> None:
        """Note what another server holds, ``(tiers, U)`` precisions or -1."""
        assert held.shape == (len(list(tiers)), self.model.units)
        self.elsewhere[server] = held

    def state(self) -> dict[str, Any]:
        """Return everything that changes, as arrays."""
        return {
            "tier": self.tier,
            "precision": self.precision,
            "target_tier": self.target_tier,
            "target_precision": self.target_precision,
            "held": self.held,
            "under_way": self.under_way,
            **{f"server:{name}": held for name, held in self.elsewhere.items()},
            "server_now": np.array(self.server or ""),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        for name in ("tier", "precision", "target_tier", "target_precision", "held", "under_way"):
            setattr(self, name, np.array(state[name]))
        self.elsewhere = {k[7:]: np.array(v) for k, v in state.items() if k.startswith("server:")}
        self.server = str(state["server_now"]) or None
