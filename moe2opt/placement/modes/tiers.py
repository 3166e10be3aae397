"""Options of whole layers: each is one way to treat all experts of a layer.

Whatever depends on a layer as a whole (groups of experts, overlap of copies, slots, balance of two
machines, lots) is computed per option, so that the canonical problem stays linear and exact over
the options on offer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.placement.assignment import NOWHERE, PRUNE, SHARE, Assignment, evaluate, plain
from moe2opt.placement.baselines.rules import Baseline
from moe2opt.placement.compile import Options
from moe2opt.placement.frontier import undominated
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.modes.cache import cache_assignment
from moe2opt.placement.modes.coverage import best_residents
from moe2opt.placement.modes.groupings import Grouping, groupings
from moe2opt.placement.modes.split import best_split, numbers_per_tier
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.steps import step

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance

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


def layer_options(
    instance: PlacementInstance,
) -> tuple[list[Options], Callable[[IntArray], Assignment]]:
    """Return the undominated options of all layers and how to read a choice."""
    menus = []
    for layer in range(instance.shape.size[0]):
        step(f"layer {layer + 1} of {instance.shape.size[0]}")
        menu = _menu(instance, layer)
        menus.append(menu.at(undominated(_criteria(instance, menu))))
    blocks = [
        Options({k: v[None, :] for k, v in menu.metrics.items()}, menu.held_bytes[None])
        for menu in menus
    ]
    return blocks, lambda x: _read(instance, menus, x)


def _criteria(instance: PlacementInstance, menu: LayerMenu) -> FloatArray:
    """Return ``(M, c)`` everything that an option should have little of."""
    config = instance.config
    names: list[str] = [config.objective]
    for name, limit in config.budgets:
        if limit is not None:
            names.append("slots" if name == "cache_slots" else name)
    columns = [menu.metrics[name] for name in names if name in menu.metrics]
    finite = [np.isfinite(tier.capacity_bytes) for tier in instance.topology.tiers]
    return np.column_stack([*columns, menu.held_bytes[:, finite]])


def _menu(instance: PlacementInstance, layer: int) -> LayerMenu:
    if instance.config.cache is not None:
        return _joined(list(_cache_menus(instance, layer)))
    if instance.config.coverage is not None:
        return _joined(list(_coverage_menus(instance, layer)))
    return _joined(list(_tier_menus(instance, layer)))


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


def _cache_menus(instance: PlacementInstance, layer: int) -> Iterator[LayerMenu]:
    cache = instance.config.cache
    assert cache is not None
    experts = instance.shape.experts
    slots = np.arange(cache.least, min(experts, experts if cache.most is None else cache.most) + 1)
    backing = instance.topology.index(cache.backing, "cache.backing")
    saliency = float(instance.activation.saliency[layer].sum())
    misses = instance.load_table[layer, slots]
    for q, precision in enumerate(instance.precisions):
        size = float(instance.expert_bytes[q])
        copy, compute = instance.cache_costs[:, q]
        held = np.zeros((len(slots), len(instance.topology.tiers)))
        held[:, backing] = experts * size
        held[:, instance.topology.home] += slots * size
        metrics = {
            "seconds_per_token": misses * copy + instance.shape.top_k * compute,
            "loads_per_token": misses,
            "loss_nats": np.full(len(slots), saliency * precision.loss_nats),
            "memory_gib": held.sum(axis=1) / GIB,
            "slots": slots.astype(np.float64),
        }
        copy_j, compute_j = instance.cache_joules[:, q]
        if np.isfinite([copy_j, compute_j]).all():
            metrics["joules_per_token"] = misses * copy_j + instance.shape.top_k * compute_j
        nothing = np.zeros(len(slots), dtype=np.int64)
        yield LayerMenu(metrics, held, nothing, nothing + q, slots[:, None])


def _coverage_menus(instance: PlacementInstance, layer: int) -> Iterator[LayerMenu]:
    coverage = instance.config.coverage
    assert coverage is not None
    fast = instance.topology.index(coverage.tier, "coverage.tier")
    slow = instance.topology.index(coverage.backing, "coverage.backing")
    residents = best_residents(instance, layer)
    numbers = np.arange(len(residents.covered))
    uses = instance.uses[layer]
    kept = np.array([uses[list(chosen)].sum() for chosen in residents.experts])
    saliency = float(instance.activation.saliency[layer].sum())
    for q, precision in enumerate(instance.precisions):
        size = float(instance.expert_bytes[q])
        held = np.zeros((len(numbers), len(instance.topology.tiers)))
        held[:, fast] += numbers * size
        held[:, slow] += (len(uses) - numbers) * size
        each, moved = instance.use.seconds[:, q], instance.use.move_s[:, q] > 0
        open_ = 1.0 - residents.covered
        rest = uses.sum() - kept
        metrics = {
            "seconds_per_token": kept * each[fast]
            + rest * each[slow]
            + open_ * coverage.sync_us * 1e-6,
            "uncovered_per_token": open_,
            "loads_per_token": kept * moved[fast] + rest * moved[slow],
            "loss_nats": np.full(len(numbers), saliency * precision.loss_nats),
            "memory_gib": held.sum(axis=1) / GIB,
        }
        joules = instance.use.joules[:, q]
        if np.isfinite(joules[[fast, slow]]).all():
            metrics["joules_per_token"] = kept * joules[fast] + rest * joules[slow]
        nothing = np.zeros(len(numbers), dtype=np.int64)
        yield LayerMenu(metrics, held, nothing, nothing + q, numbers[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """Stored experts of a grouping in the order in which they are put on tiers."""

    experts: IntArray
    uses: FloatArray
    sizes: FloatArray


def _stored(instance: PlacementInstance, layer: int, grouping: Grouping) -> _Stored:
    """Return the stored experts, most used per byte first; ties go to the lower index."""
    from moe2opt.placement.experts.activation import uses_per_token

    experts = instance.shape.experts
    own = np.arange(experts)
    alive = grouping.form != PRUNE
    shares = instance.activation.mixed[layer]
    served = np.bincount(grouping.representative[alive], shares[alive], experts)
    served *= shares.sum() / served.sum()
    stored = own[alive & (grouping.representative == own)]
    sizes = np.ones(experts)
    aggregation = instance.config.aggregation
    if aggregation is not None:
        sharing = grouping.representative[grouping.form == SHARE]
        sizes += aggregation.rank_share * np.bincount(sharing, minlength=experts)
    uses = uses_per_token(np.minimum(served, 1.0), instance.config.batch)
    order = stored[np.argsort(-(uses / sizes)[stored], kind="stable")]
    return _Stored(order, uses[order], sizes[order])


def _tier_menus(instance: PlacementInstance, layer: int) -> Iterator[LayerMenu]:
    for g, grouping in enumerate(groupings(instance, layer)):
        stored = _stored(instance, layer, grouping)
        counts = numbers_per_tier(instance, len(stored.experts))
        kept = instance.activation.saliency[layer][grouping.form != PRUNE].sum()
        for q, precision in enumerate(instance.precisions):
            metrics, held = _tier_figures(instance, stored, counts, q)
            loss = grouping.loss_nats + float(kept) * precision.loss_nats
            metrics["loss_nats"] = np.full(len(counts), loss)
            metrics["memory_gib"] = held.sum(axis=1) / GIB
            place = np.full(len(counts), g)
            yield LayerMenu(metrics, held, place, np.full(len(counts), q), counts)


def _order_of_tiers(instance: PlacementInstance, precision: int) -> IntArray:
    """Return the tiers from the cheapest use to the dearest: the most used experts go first."""
    if instance.config.split is not None:
        return np.array(instance.split_tiers)
    thrifty = instance.config.objective == "joules_per_token"
    each = instance.use.joules if thrifty else instance.use.seconds
    return np.asarray(np.argsort(each[:, precision], kind="stable"))


def _tier_figures(
    instance: PlacementInstance, stored: _Stored, counts: IntArray, precision: int
) -> tuple[dict[str, FloatArray], FloatArray]:
    """Return the figures of every vector of numbers per tier, and the bytes held."""
    order = _order_of_tiers(instance, precision)
    zero = np.zeros(1)
    used = np.concatenate([zero, np.cumsum(stored.uses)])
    size = np.concatenate([zero, np.cumsum(stored.sizes)]) * instance.expert_bytes[precision]
    ends = np.cumsum(counts[:, order], axis=1)
    starts = ends - counts[:, order]
    served = used[ends] - used[starts]
    held = np.zeros((len(counts), len(instance.topology.tiers)))
    held[:, order] = size[ends] - size[starts]
    use = instance.use
    moves = served @ use.move_s[order, precision]
    rest = served @ (use.compute_s + use.hand_over_s)[order, precision]
    metrics = {"loads_per_token": served @ (use.move_s[order, precision] > 0).astype(float)}
    if instance.config.split is not None:
        found = [best_split(instance, stored.uses, int(n), precision) for n in ends[:, 0]]
        metrics["seconds_per_token"] = np.array([s.seconds for s in found])
        metrics["loads_per_token"] = np.array([s.copied_uses for s in found])
        stay_j, slow_j, copy_j = instance.split_joules[:, precision]
        kept = used[ends[:, 0]]
        copied = metrics["loads_per_token"]
        rest_j = (used[-1] - kept - copied) * slow_j + copied * copy_j
        if np.isfinite([stay_j, slow_j, copy_j]).all():
            metrics["joules_per_token"] = kept * stay_j + rest_j
        return metrics, held
    if instance.config.prefetch is not None:
        from moe2opt.placement.times import exposed

        metrics["seconds_per_token"] = rest + exposed(moves, instance)
    else:
        metrics["seconds_per_token"] = rest + moves
    joules = use.joules[order, precision]
    if np.isfinite(joules).all():
        metrics["joules_per_token"] = served @ joules
    return metrics, held


def _read(instance: PlacementInstance, menus: list[LayerMenu], x: IntArray) -> Assignment:
    precision = np.array([menu.precision[i] for menu, i in zip(menus, x, strict=True)])
    if instance.config.cache is not None:
        slots = np.array([menu.counts[i, 0] for menu, i in zip(menus, x, strict=True)])
        return cache_assignment(instance, slots, precision)
    if instance.config.coverage is not None:
        return _covered(instance, menus, x, precision)
    shape = (*instance.shape.size, 1)
    tier = np.full(shape, NOWHERE, dtype=np.int64)
    form, representative = (np.zeros(shape[:2], dtype=np.int64) for _ in range(2))
    copied = None if instance.config.split is None else np.zeros(shape[:2], dtype=np.int64)
    for layer, (menu, i) in enumerate(zip(menus, x, strict=True)):
        grouping = list(groupings(instance, layer))[menu.grouping[i]]
        stored = _stored(instance, layer, grouping)
        order = _order_of_tiers(instance, int(menu.precision[i]))
        counts = menu.counts[i][order]
        tier[layer, stored.experts, 0] = np.repeat(order, counts)
        tier[layer, :, 0] = tier[layer, grouping.representative, 0]
        tier[layer, grouping.form == PRUNE, 0] = NOWHERE
        form[layer], representative[layer] = grouping.form, grouping.representative
        if copied is not None:
            split = best_split(instance, stored.uses, int(counts[0]), int(menu.precision[i]))
            copied[layer, stored.experts[counts[0] :][split.copied]] = 1
    wide = np.broadcast_to(precision[:, None, None], shape).astype(np.int64)
    return Assignment(tier, wide, form, representative, copied=copied)


def _covered(
    instance: PlacementInstance, menus: list[LayerMenu], x: IntArray, precision: IntArray
) -> Assignment:
    coverage = instance.config.coverage
    assert coverage is not None
    fast = instance.topology.index(coverage.tier, "coverage.tier")
    slow = instance.topology.index(coverage.backing, "coverage.backing")
    shape = (*instance.shape.size, 1)
    tier = np.full(shape, slow, dtype=np.int64)
    for layer, (menu, i) in enumerate(zip(menus, x, strict=True)):
        chosen = best_residents(instance, layer).experts[menu.counts[i, 0]]
        tier[layer, list(chosen), 0] = fast
    return plain(tier, np.broadcast_to(precision[:, None, None], shape).astype(np.int64))


def one_sided_baselines(instance: PlacementInstance) -> Iterator[Baseline]:
    """Yield the rules that only aggregate, or that only offload, with one number for all layers."""
    yield _offload_only(instance)
    yield _aggregate_only(instance)


def _offload_only(instance: PlacementInstance) -> Baseline:
    """Return the best marginal filling of the fast tier that merges nothing."""
    from moe2opt.placement.baselines.rules import by_frequency

    alone = replace(instance, config=instance.config.model_copy(update={"aggregation": None}))
    return replace(by_frequency(alone), name="offload only (top-n by frequency)")


def _aggregate_only(instance: PlacementInstance) -> Baseline:
    """Return the least lossy number per layer with which everything fits the fast tier."""
    from moe2opt.placement.checks import violations

    name = "aggregation only (same number in every layer)"
    best: tuple[float, str] | None = None
    layers = instance.shape.size[0]
    options = [list(groupings(instance, layer)) for layer in range(layers)]
    for k in range(len(options[0])):
        for q, precision in enumerate(instance.precisions):
            chosen = [option[k] for option in options]
            assignment = _all_fast([c.form for c in chosen], [c.representative for c in chosen], q)
            if violations(instance, assignment):
                continue
            value = evaluate(instance, assignment).value(instance.config.objective)
            if best is None or value < best[0]:
                kept = int(assignment.stored[0].sum())
                best = value, f"{kept} experts per layer at {precision.name}"
    if best is None:
        return Baseline(name, None, False, note="no number on offer fits the fast tier")
    return Baseline(name, best[0], True, note=best[1])


def _all_fast(forms: list[IntArray], representatives: list[IntArray], precision: int) -> Assignment:
    form, representative = np.stack(forms), np.stack(representatives)
    tier = np.where(form == PRUNE, NOWHERE, 0)[:, :, None]
    return Assignment(tier, np.full_like(tier, precision), form, representative)
