"""Placements whose experts may be merged or dropped, compiled for replays.

A layer is served in one form (which experts stand for which, `placement.modes.groupings`) at one
precision. For every form, precision and number of stored experts per tier there is an option: the
most used of them are on the tier whose use is cheapest under the conditions. With equal sizes no
other places with these numbers are faster (the rearrangement inequality), so the best option bounds
every state that a layer can be in. One more option leaves a layer as it is planned.

Weights of groups are made beforehand and lie in the stores beside the experts; a change of form
copies those that are not there yet, at the size of one expert each. The abstract of CoMoE
(arXiv 2508.09208) says that it adapts the granularity of aggregation to resources, and not how
merged weights come about; this model is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import ClassVar

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.placement.assignment import (
    DISTIL,
    KEEP,
    MERGE,
    PRUNE,
    Assignment,
    served_shares,
)
from moe2opt.placement.experts.activation import uses_per_token
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.modes.groupings import Grouping, groupings
from moe2opt.placement.modes.tiers import Tiers
from moe2opt.replay.compiled import Conditions, Places, ReplayModel
from moe2opt.replay.paths import Table
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray

#: Most options of all layers together.
_MOST_OPTIONS = 1_000_000

#: Up to so many options branch and bound closes the gap of every plan: rounding is coarse then.
_FEW_OPTIONS = 5_000


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Options of all layers in one form at one precision.

    Attributes
    ----------
    form, precision, start
        Which, and the number of the first option.
    counts
        ``(C, T)`` stored experts per tier.
    """

    form: int
    precision: int
    start: int
    counts: IntArray

    @property
    def rows(self) -> slice:
        """Numbers of the options within a layer."""
        return slice(self.start, self.start + len(self.counts))


class MergedModel(ReplayModel):
    """Options, sizes and uses of an instance with the part `aggregation`.

    Units are the experts as they were trained; the forms of a unit are those of its layer. For the
    parameters see `ReplayModel`.

    Attributes
    ----------
    kind, representative
        ``(L, F, E)`` what becomes of each expert in each form of its layer, and which expert stands
        for it.
    group_loss
        ``(L, F, E)`` each expert's part in the loss of a form, rounding left out.
    """

    follows: ClassVar[frozenset[str]] = frozenset({"aggregation"})

    def _weights(self) -> IntArray:
        case = self.instance
        aggregation = case.config.aggregation
        assert aggregation is not None
        if "share" in aggregation.forms:
            raise InputError(
                "aggregation.forms: share is not followed by a replay, whose copies have one size; "
                "take merge, prune or distil"
            )
        found = [list(groupings(case, layer)) for layer in range(case.shape.size[0])]
        self.kind: IntArray = np.array([[own.form for own in forms] for forms in found])
        self.representative: IntArray = np.array(
            [[own.representative for own in forms] for forms in found]
        )
        self.group_loss = np.stack([self._losses(f, found) for f in range(len(found[0]))], axis=1)
        weights: IntArray = np.empty(self.kind.shape, dtype=np.int64)
        known: dict[tuple[int, ...], int] = {}
        for layer, form in np.ndindex(self.kind.shape[:2]):
            weights[layer, form] = self._named(layer, form, known)
        return np.moveaxis(weights, 1, 2).reshape(-1, weights.shape[1])

    def _losses(self, form: int, found: list[list[Grouping]]) -> FloatArray:
        """Return the ``(L, E)`` loss that each expert brings into a form.

        The loss of a distilled layer is that of all of it; its merged experts bear it in equal
        parts.
        """
        case, kind = self.instance, self.kind[:, form]
        if (kind == PRUNE).any():
            return np.where(kind == PRUNE, case.activation.saliency * case.prune_loss_nats, 0.0)
        if (kind == DISTIL).any():
            whole = np.array([[own[form].loss_nats] for own in found])
            distilled = kind == DISTIL
            return np.where(distilled, whole / distilled.sum(axis=1, keepdims=True), 0.0)
        if not (kind == MERGE).any():
            return np.zeros(kind.shape)
        standing = self.representative[:, form, :]
        distance = np.take_along_axis(case.distances, standing[:, :, None], axis=2)[:, :, 0]
        return np.where(kind == MERGE, case.merge_weight * distance, 0.0)

    def _named(self, layer: int, form: int, known: dict[tuple[int, ...], int]) -> IntArray:
        """Return the ``(E,)`` weights of a layer's experts: their own, or those of their groups."""
        kind, standing = self.kind[layer, form], self.representative[layer, form]
        experts = len(kind)
        weights = np.where(kind == PRUNE, -1, layer * experts + np.arange(experts))
        for own in np.unique(standing[kind != KEEP]):
            members = np.flatnonzero(standing == own)
            if kind[own] == PRUNE or len(members) < 2:
                continue
            made_for = form if (kind == DISTIL).any() else -1
            name = (layer, made_for, int(own), *members.tolist())
            weights[members] = known.setdefault(name, self.kind[:, 0].size + len(known))
        return weights

    @cached_property
    def stored(self) -> BoolArray:
        """``(L, F, E)`` flags of the experts in whose place weights are stored."""
        own = self.representative == np.arange(self.kind.shape[2])
        return np.asarray(own & (self.kind != PRUNE))

    # ------------------------------------------------------------------ figures of units

    def loss_of(self, precision: IntArray, form: IntArray) -> FloatArray:
        """Return the ``(U,)`` losses of units at a precision and in a form each."""
        layers, _, experts = self.kind.shape
        layer, expert = np.divmod(np.arange(layers * experts), experts)
        rounding = np.where(self.kind[layer, form, expert] == PRUNE, 0.0, 1.0)
        own = rounding * self.loss[np.arange(self.units), precision]
        return np.asarray(own + self.group_loss[layer, form, expert])

    def uses(self, conditions: Conditions, form: IntArray | None = None) -> FloatArray:
        """Return the ``(U,)`` uses per token of each unit, its part in those of its group."""
        layers, _, experts = self.kind.shape
        one = np.zeros(layers, np.int64) if form is None else form.reshape(layers, experts)[:, 0]
        shares = np.tensordot(conditions.mix, self.instance.activation.shares, axes=1)
        stored, row = self._stored_uses(shares, one), np.arange(layers)
        kind, standing = self.kind[row, one], self.representative[row, one]
        alive, together = np.where(kind == PRUNE, 0.0, shares), np.zeros(shares.shape)
        np.add.at(together, (row[:, None], standing), alive)
        part = np.divide(alive, np.take_along_axis(together, standing, axis=1),
                         out=np.zeros(shares.shape), where=alive > 0)  # fmt: skip
        return np.asarray((part * np.take_along_axis(stored, standing, axis=1)).ravel())

    def _stored_uses(self, shares: FloatArray, form: IntArray) -> FloatArray:
        """Return the ``(L, E)`` uses per token of stored weights, layers in a form each."""
        row = np.arange(len(form))
        kind, standing = self.kind[row, form], self.representative[row, form]
        place = np.zeros((*kind.shape, 1), dtype=np.int64)
        served = served_shares(Assignment(place, place, kind, standing), shares)
        return uses_per_token(served, self.instance.config.batch)

    # ------------------------------------------------------------------ options

    def _problem(self) -> MultipleChoiceProblem:
        """Return the problem of all options; one more per layer leaves it as it is."""
        mode, number = self.instance.mode, self.stored[0].sum(axis=1)
        assert isinstance(mode, Tiers)
        counts = {int(n): mode.numbers(int(n)) for n in np.unique(number)}
        self.blocks: list[_Block] = []
        start, layers = 0, len(self.kind)
        for form, precision in product(range(len(number)), range(len(self.bytes))):
            self.blocks.append(_Block(form, precision, start, counts[int(number[form])]))
            start += len(self.blocks[-1].counts)
        self.width = start + 1
        if self.width * layers > _MOST_OPTIONS:
            raise InputError(
                f"aggregation.keep: {self.width * layers:,} options, a replay follows at most "
                f"{_MOST_OPTIONS:,}; offer fewer numbers, precisions or tiers"
            )
        self.many = self.width * layers > _FEW_OPTIONS
        usage = self._fixed_usage.reshape(len(self.rows), layers, -1)
        values = np.split(self.values(self.nominal), layers)
        limits = np.array(self.instance.problem().budgets)
        for t, tier in enumerate(self.topology.tiers):
            if (name := f"memory_gib[{tier.name}]") in self.rows:
                limits[self.rows.index(name)] = (tier.free_bytes + self.own(t)) / GIB
        return MultipleChoiceProblem(values, list(usage.transpose(1, 2, 0)), limits)

    @cached_property
    def _fixed_usage(self) -> FloatArray:
        """``(K, M)`` use of budgets; what leaves a layer as it is counts like the first option."""
        layers = len(self.kind)
        held = np.zeros((layers, self.width, len(self.topology.tiers)))
        loss = np.zeros((layers, self.width))
        for block in self.blocks:
            held[:, block.rows] = block.counts * self.bytes[block.precision]
            form, precision = (np.full(self.units, n) for n in (block.form, block.precision))
            own = self.loss_of(precision, form).reshape(layers, -1).sum(axis=1)
            loss[:, block.rows] = own[:, None]
        held[:, -1], loss[:, -1] = held[:, 0], loss[:, 0]
        return self._rows_of(held, loss).reshape(len(self.rows), -1)

    def _rows_of(self, held: FloatArray, loss: FloatArray) -> FloatArray:
        """Return ``(K, L, O)`` use of budgets by ``(L, O, T)`` bytes and ``(L, O)`` losses."""
        held = held.copy()
        held[0] += self.instance.fixed_bytes
        known = {"loss_nats": loss, "memory_gib": held.sum(axis=2) / GIB}
        for t, tier in enumerate(self.topology.tiers):
            known[f"memory_gib[{tier.name}]"] = held[:, :, t] / GIB
        return np.stack([known[name] for name in self.rows])

    def usage(self, present: Places | None) -> FloatArray:
        """Return the ``(K, M)`` use of budgets when the last options leave things at `present`."""
        if present is None:
            return self._fixed_usage
        layers, _, experts = self.kind.shape
        layer, expert = np.divmod(np.arange(self.units), experts)
        here = np.flatnonzero(self.stored[layer, present.form, expert])
        held = np.zeros((layers, 1, len(self.topology.tiers)))
        at = (layer[here], np.zeros(len(here), np.int64), present.tier[here])
        np.add.at(held, at, self.bytes[present.precision[here]])
        loss = self.loss_of(present.precision, present.form).reshape(layers, -1).sum(axis=1)
        usage = self._fixed_usage.reshape(len(self.rows), layers, -1).copy()
        usage[:, :, -1:] = self._rows_of(held, loss[:, None])
        return usage.reshape(len(self.rows), -1)

    def ranked(self, conditions: Conditions) -> list[tuple[IntArray, FloatArray]]:
        """Return for each form the ``(L, n)`` stored experts, most used first, and their uses."""
        key = conditions.mix.tobytes()
        if key not in self._ranked:
            shares = np.tensordot(conditions.mix, self.instance.activation.shares, axes=1)
            self._ranked.clear()
            self._ranked[key] = [self._ranking(shares, f) for f in range(self.kind.shape[1])]
        return self._ranked[key]

    @cached_property
    def _ranked(self) -> dict[bytes, list[tuple[IntArray, FloatArray]]]:
        """The last answer of `ranked`."""
        return {}

    def _ranking(self, shares: FloatArray, form: int) -> tuple[IntArray, FloatArray]:
        stored = self.stored[:, form]
        uses = self._stored_uses(shares, np.full(len(shares), form))
        order = np.argsort(np.where(stored, -uses, np.inf), axis=1, kind="stable")
        order = order[:, : int(stored[0].sum())]
        return order, np.take_along_axis(uses, order, axis=1)

    # ------------------------------------------------------------------ coefficients

    def _seconds(self, conditions: Conditions, table: Table, present: Places | None) -> FloatArray:
        ranked, layers = self.ranked(conditions), len(self.kind)
        cost = np.empty((layers, self.width))
        for block in self.blocks:
            uses, price = ranked[block.form][1], table.seconds[:, block.precision]
            order = np.argsort(price, kind="stable")
            cost[:, block.rows] = _by_tier(block.counts, order, [uses * price[t] for t in order])
        cost[:, -1] = cost[:, 0]
        if present is not None:
            each = table.seconds[present.tier, present.precision]
            own = self.uses(conditions, present.form) * each
            cost[:, -1] = own.reshape(layers, -1).sum(axis=1)
        return cost

    def switching(
        self,
        held: IntArray,
        target: Places,
        price: FloatArray,
        conditions: Conditions,
        table: Table,
    ) -> FloatArray:
        """Return ``(L, O)`` prices of the copies that each option of each layer still needs."""
        ranked, layers = self.ranked(conditions), len(self.kind)
        is_store = np.isin(np.arange(len(held)), self.stores)
        weights = self.weights.reshape(layers, -1, self.weights.shape[1])
        found = np.empty((layers, self.width))
        for block in self.blocks:
            q, order = block.precision, np.argsort(table.seconds[:, block.precision], kind="stable")
            own = np.take_along_axis(weights[:, :, block.form], ranked[block.form][0], axis=1)
            needed = [np.where((held[t, own] == q) | is_store[t], 0.0, price[t, q]) for t in order]
            found[:, block.rows] = _by_tier(block.counts, order, needed)
        layer, expert = np.divmod(np.arange(self.units), weights.shape[1])
        at, wanted = target.tier, target.precision
        away = self.stored[layer, target.form, expert] & ~is_store[at]
        away &= held[at, self.weights_of(target.form)] != wanted
        found[:, -1] = np.where(away, price[at, wanted], 0.0).reshape(layers, -1).sum(axis=1)
        return found

    def options_of(
        self, tier: IntArray, precision: IntArray, form: IntArray | None = None
    ) -> IntArray:
        """Return the options that leave every layer as it is."""
        return np.full(len(self.kind), self.width - 1)

    def places(
        self, x: IntArray, conditions: Conditions, table: Table, present: Places | None = None
    ) -> Places:
        """Return what the options `x` of all layers stand for."""
        layers, _, experts = self.kind.shape
        first = np.array([block.start for block in self.blocks])
        tier, precision, form = (np.zeros((layers, experts), np.int64) for _ in range(3))
        for layer, option in enumerate(x.tolist()):
            if option == self.width - 1:
                if present is not None:
                    for mine, kept in zip((tier, precision, form), present, strict=True):
                        mine[layer] = kept.reshape(layers, experts)[layer]
                    continue
                option = 0
            block = self.blocks[int(np.searchsorted(first, option, side="right")) - 1]
            order = np.argsort(table.seconds[:, block.precision], kind="stable")
            counts = block.counts[option - block.start][order]
            tier[layer, self.ranked(conditions)[block.form][0][layer]] = np.repeat(order, counts)
            tier[layer] = tier[layer, self.representative[layer, block.form]]
            tier[layer, self.kind[layer, block.form] == PRUNE] = self.library
            precision[layer], form[layer] = block.precision, block.form
        return Places(tier.ravel(), precision.ravel(), form.ravel())


def _by_tier(counts: IntArray, order: IntArray, figures: list[FloatArray]) -> FloatArray:
    """Return the ``(L, C)`` sums over stored experts, each of the figures of its tier.

    Parameters
    ----------
    counts
        ``(C, T)`` stored experts per tier.
    order
        Tiers in the order in which experts are put there.
    figures
        For each tier in that order ``(L, n)`` figures of the experts, in the order of putting.
    """
    ends = np.cumsum(counts[:, order], axis=1)
    found = np.zeros((len(figures[0]), len(counts)))
    for k, own in enumerate(figures):
        total = np.concatenate([np.zeros((len(own), 1)), np.cumsum(own, axis=1)], axis=1)
        found += total[:, ends[:, k]] - total[:, ends[:, k] - counts[:, order[k]]]
    return found
