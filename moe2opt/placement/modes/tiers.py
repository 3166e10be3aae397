"""Numbers of a layer's experts per tier at one precision, with or without groups of experts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from moe2opt.placement.assignment import (
    DISTIL,
    MERGE,
    NOWHERE,
    PRUNE,
    SHARE,
    Assignment,
    served_shares,
)
from moe2opt.placement.baselines.rules import by_cost, by_frequency, fixed_places
from moe2opt.placement.experts.activation import uses_per_token
from moe2opt.placement.figures import Baseline
from moe2opt.placement.judge import evaluate, violations
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.modes.groupings import Grouping, groupings
from moe2opt.placement.modes.layered import Layered, LayerMenu
from moe2opt.placement.sections import PlacementConfig
from moe2opt.result import FloatArray, InputError, IntArray

_MOST_VECTORS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Stored experts of a grouping in the order in which they are put on tiers."""

    experts: IntArray
    uses: FloatArray
    sizes: FloatArray


@dataclass(frozen=True, eq=False)
class Tiers(Layered):
    """A layer puts its most used experts on the cheapest tier, the next ones on the next tier."""

    part: ClassVar[str] = "aggregation"
    beside: ClassVar[frozenset[str]] = frozenset({"lots"})

    @classmethod
    def asked(cls, config: PlacementConfig) -> bool:
        """Tell whether the mode's part is on; `lots` alone asks for numbers per tier too."""
        return super().asked(config) or (cls is Tiers and config.lots is not None)

    def check(self) -> None:
        """Raise `InputError` for numbers of experts that a layer cannot keep."""
        aggregation, shape = self.case.config.aggregation, self.case.shape
        for k, number in enumerate(() if aggregation is None else aggregation.keep):
            if not shape.top_k <= number <= shape.experts:
                raise InputError(
                    f"aggregation.keep.{k}: {number} is outside {shape.top_k}..{shape.experts} "
                    "(experts per token, experts of a layer)"
                )

    def misplaced(self, assignment: Assignment) -> list[str]:
        """Return the first layer and tier with a number of experts that `lots` leaves out."""
        lots = self.case.config.lots
        if lots is None:
            return []
        about = self.case.topology.index(lots.tier, "lots.tier")
        stored = assignment.stored == 1
        own = stored.sum(axis=1)
        for t in self._free_tiers(about)[:-1]:
            here = (stored & (assignment.tier[:, :, 0] == t)).sum(axis=1)
            wrong = (here % lots.step > 0) & (here < own)
            if t == about:
                wrong |= (here > 0) & (here < lots.least_share * own - 1e-9)
            for k in np.flatnonzero(wrong)[:1]:
                where = f"{here[k]} of {own[k]} experts on {self.case.topology.tiers[t].name}"
                return [f"lots: layer {self.case.shape.layers[k]} would have {where}"]
        return []

    def _free_tiers(self, about: int | None) -> list[int]:
        """Return the tiers of experts; the last one takes the rest, and is not that of `lots`."""
        free = self.open_tiers()
        if free[-1] == about:
            free[-2:] = free[:-3:-1]
        return free

    def uses(self, assignment: Assignment, shares: FloatArray) -> FloatArray:
        """Return uses of stored experts, which serve the tokens of their groups too."""
        if self.case.config.aggregation is not None:
            shares = served_shares(assignment, shares)
        return super().uses(assignment, shares)

    def loss_terms(self, assignment: Assignment) -> list[FloatArray]:
        """Return the losses of rounding and pruning, and of what becomes of groups."""
        case, terms = self.case, super().loss_terms(assignment)
        aggregation = case.config.aggregation
        if aggregation is None:
            return terms
        distance = np.take_along_axis(
            case.distances, assignment.representative[:, :, None], axis=2
        )[:, :, 0]
        share = np.where(assignment.form == SHARE, aggregation.rank_loss_share, 1.0)
        merged = case.merge_weight * distance * share
        kept = assignment.stored.sum(axis=1)
        weight = case.merge_weight.sum(axis=1) / case.merge_weight.sum()
        distilled = np.flatnonzero((assignment.form == DISTIL).any(axis=1))
        table = [weight[row] * aggregation.distil_loss[int(kept[row])] for row in distilled]
        return [*terms, merged[np.isin(assignment.form, (MERGE, SHARE))], np.array(table)]

    def stored_share(self, assignment: Assignment) -> FloatArray:
        """Return 1 for each stored expert, and the share of a residual beside a shared base."""
        share, aggregation = super().stored_share(assignment), self.case.config.aggregation
        if aggregation is None:
            return share
        return share + np.where(assignment.form == SHARE, aggregation.rank_share, 0.0)

    def open_tiers(self) -> list[int]:
        """Return the tiers that experts may be on."""
        return list(range(len(self.case.topology.tiers)))

    def order(self, precision: int) -> IntArray:
        """Return the tiers from the cheapest use to the dearest: the most used experts go first."""
        return by_cost(self.case, precision)

    def menus(self, layer: int) -> Iterator[LayerMenu]:
        """Yield every number per tier, of every grouping at every precision."""
        saliency = self.case.activation.saliency[layer]
        for g, grouping in enumerate(groupings(self.case, layer)):
            stored = self._stored(layer, grouping)
            counts = self.numbers(len(stored.experts))
            kept = float(saliency[grouping.form != PRUNE].sum())
            for q, precision in enumerate(self.case.precisions):
                metrics, held = self._figures(stored, counts, q)
                loss = grouping.loss_nats + kept * precision.loss_nats
                metrics["loss_nats"] = np.full(len(counts), loss)
                metrics["memory_gib"] = held.sum(axis=1) / GIB
                place = np.full(len(counts), g)
                yield LayerMenu(metrics, held, place, np.full(len(counts), q), counts)

    def _stored(self, layer: int, grouping: Grouping) -> Stored:
        """Return the stored experts, most used per byte first; ties go to the lower index."""
        config, experts = self.case.config, self.case.shape.experts
        own = np.arange(experts)
        alive = grouping.form != PRUNE
        shares = self.case.activation.mixed[layer]
        served = np.bincount(grouping.representative[alive], shares[alive], experts)
        served *= shares.sum() / served.sum()
        stored = own[alive & (grouping.representative == own)]
        sizes = np.ones(experts)
        if config.aggregation is not None:
            sharing = grouping.representative[grouping.form == SHARE]
            sizes += config.aggregation.rank_share * np.bincount(sharing, minlength=experts)
        uses = uses_per_token(np.minimum(served, 1.0), config.batch)
        order = stored[np.argsort(-(uses / sizes)[stored], kind="stable")]
        return Stored(order, uses[order], sizes[order])

    def numbers(self, stored: int) -> IntArray:
        """Return the ``(M, T)`` vectors of numbers that sum to `stored`.

        Numbers are multiples of ``lots.step``, or `stored`; the last tier takes the rest, or the
        one before it where ``lots`` is about the last tier, which holds none or at least its share.
        """
        topology, lots = self.case.topology, self.case.config.lots
        grid = sorted({*range(0, stored + 1, 1 if lots is None else lots.step), stored})
        about = None if lots is None else topology.index(lots.tier, "lots.tier")
        free = self._free_tiers(about)
        if len(grid) ** (len(free) - 1) > _MOST_VECTORS:
            raise InputError(
                f"lots.step: {len(free)} tiers and {stored} experts give too many numbers per "
                "layer; set a larger step"
            )
        vectors = [
            (*head, stored - sum(head))
            for head in itertools.product(grid, repeat=len(free) - 1)
            if sum(head) <= stored
        ]
        counts = np.zeros((len(vectors), len(topology.tiers)), dtype=np.int64)
        counts[:, free] = np.array(vectors)
        if lots is None:
            return counts
        inside = counts[:, about]
        return np.asarray(counts[(inside == 0) | (inside >= lots.least_share * stored - 1e-9)])

    def _figures(
        self, stored: Stored, counts: IntArray, precision: int
    ) -> tuple[dict[str, FloatArray], FloatArray]:
        """Return the figures of every vector of numbers per tier, and the bytes held."""
        order = self.order(precision)
        zero = np.zeros(1)
        used = np.concatenate([zero, np.cumsum(stored.uses)])
        size = np.concatenate([zero, np.cumsum(stored.sizes)]) * self.case.expert_bytes[precision]
        ends = np.cumsum(counts[:, order], axis=1)
        starts = ends - counts[:, order]
        held = np.zeros(counts.shape)
        held[:, order] = size[ends] - size[starts]
        return self.layer_metrics(stored, ends, used[ends] - used[starts], precision), held

    def layer_metrics(
        self, stored: Stored, ends: IntArray, served: FloatArray, precision: int
    ) -> dict[str, FloatArray]:
        """Return figures of M vectors of numbers.

        Parameters
        ----------
        stored
            Experts in the order in which they are put on tiers.
        ends
            ``(M, T)`` how many of them are on the tiers up to each, in `order`.
        served
            ``(M, T)`` uses per token from each tier, in `order`.
        precision
            Their precision.
        """
        use, order = self.case.use, self.order(precision)
        moves = served @ use.move_s[order, precision]
        rest = served @ (use.compute_s + use.hand_over_s)[order, precision]
        metrics = {
            "loads_per_token": served @ (use.move_s[order, precision] > 0).astype(float),
            "seconds_per_token": rest + self.waiting_s(moves),
        }
        joules = use.joules[order, precision]
        if np.isfinite(joules).all():
            metrics["joules_per_token"] = served @ joules
        return metrics

    def waiting_s(self, copies_s: FloatArray) -> FloatArray:
        """Return the seconds that a token waits for copies of a layer: all that they take."""
        return copies_s

    def read(self, menus: list[LayerMenu], x: IntArray) -> Assignment:
        """Return the chosen groupings and numbers per tier."""
        shape = self.case.shape.size
        tier = np.full((*shape, 1), NOWHERE, dtype=np.int64)
        form, representative = (np.zeros(shape, dtype=np.int64) for _ in range(2))
        for layer, (menu, i) in enumerate(zip(menus, x, strict=True)):
            grouping, stored = self.stored_of(layer, menu, i)
            order = self.order(int(menu.precision[i]))
            tier[layer, stored.experts, 0] = np.repeat(order, menu.counts[i][order])
            tier[layer, :, 0] = tier[layer, grouping.representative, 0]
            tier[layer, grouping.form == PRUNE, 0] = NOWHERE
            form[layer], representative[layer] = grouping.form, grouping.representative
        return Assignment(tier, self.chosen_precision(menus, x), form, representative)

    def stored_of(self, layer: int, menu: LayerMenu, option: int) -> tuple[Grouping, Stored]:
        """Return the grouping of a layer's option, and its stored experts."""
        grouping = list(groupings(self.case, layer))[menu.grouping[option]]
        return grouping, self._stored(layer, grouping)

    def baselines(self) -> Iterator[Baseline]:
        """Yield rules with fixed places; with aggregation also those that only do one of both."""
        yield from fixed_places(self)
        if self.case.config.aggregation is not None:
            yield self._offload_only()
            yield self._aggregate_only()

    def _offload_only(self) -> Baseline:
        """Return the best filling of the tiers that merges nothing, with one format for all.

        Experts of one size that are used most go to the cheapest tier: of all places with that
        format none costs less (the rearrangement inequality).
        """
        config = self.case.config.model_copy(update={"aggregation": None})
        found = by_frequency(type(self)(replace(self.case, config=config)))
        return replace(found, name="offload only (top-n by frequency)")

    def _aggregate_only(self) -> Baseline:
        """Return the least lossy number per layer with which everything fits the fast tier."""
        name = "aggregation only (same number in every layer)"
        best: Baseline | None = None
        options = [list(groupings(self.case, layer)) for layer in range(self.case.shape.size[0])]
        for chosen in zip(*options, strict=True):
            form = np.stack([grouping.form for grouping in chosen])
            representative = np.stack([grouping.representative for grouping in chosen])
            tier = np.where(form == PRUNE, NOWHERE, 0)[:, :, None]
            for q, precision in enumerate(self.case.precisions):
                whole = self.placed(tier, np.full_like(tier, q))
                assignment = replace(whole, form=form, representative=representative)
                figures = evaluate(self, assignment)
                if violations(self, assignment, figures):
                    continue
                value = figures.value(self.case.config.objective)
                if best is None or best.value is None or value < best.value:
                    kept = int(assignment.stored[0].sum())
                    note = f"{kept} experts per layer at {precision.name}"
                    best = Baseline(name, value, True, note=note)
        return best or Baseline(name, None, False, note="no number on offer fits the fast tier")
