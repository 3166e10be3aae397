"""Requirements of a plan in words, and requirements of the parts of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe2opt.placement.assignment import Assignment, Figures, evaluate
from moe2opt.placement.machine.topology import GIB
from moe2opt.result import InputError

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance

#: Relative slack of limits that are not whole numbers, as in the canonical problems.
_SLACK = 1e-9


def violations(instance: PlacementInstance, assignment: Assignment) -> list[str]:
    """Return what an assignment breaks: capacities, budgets, tiers of parts."""
    figures = evaluate(instance, assignment)
    return [*_over_capacity(instance, figures), *_over_budget(instance, figures, assignment)]


def _over_capacity(instance: PlacementInstance, figures: Figures) -> list[str]:
    found = []
    for t, tier in enumerate(instance.topology.tiers):
        limit = (tier.free_bytes + _own(instance, t)) / GIB
        used = figures.bytes_by_tier[t] / GIB
        if used > limit + _SLACK * max(1.0, limit):
            found.append(f"{tier.name} would hold {used:.6g} GiB, {limit:.6g} GiB are free")
    return found


def _over_budget(
    instance: PlacementInstance, figures: Figures, assignment: Assignment
) -> list[str]:
    found = []
    for name, limit in instance.config.budgets:
        if limit is None:
            continue
        if name == "cache_slots":
            used = float(np.sum(assignment.slots)) if assignment.slots is not None else 0.0
        else:
            used = figures.value(name)
        if not used <= limit + _SLACK * max(1.0, limit):
            found.append(f"{name} is {used:.6g}, the limit is {limit:.6g}")
    return found


def _own(instance: PlacementInstance, tier: int) -> float:
    return instance.home_bytes if tier == instance.topology.home else 0.0


def check_parts(instance: PlacementInstance) -> None:
    """Raise `InputError` for parts that do not go together or lack their data."""
    config = instance.config
    names = ("aggregation", "cache", "coverage", "split", "pattern")
    on = [name for name in names if getattr(config, name) is not None]
    if len(on) > 1 and on != ["aggregation", "split"]:
        raise InputError(f"{on[1]}: cannot be combined with {on[0]}")
    _check_layer_parts(instance, on)
    _check_numbers(instance)
    _check_cache(instance)
    _check_robust(instance)
    if config.batch > 1 and (config.cache or config.coverage):
        raise InputError("batch: hit rates of cache and coverage are those of single tokens")
    if config.prune is not None and config.granularity != "expert":
        raise InputError("prune: needs the granularity expert")
    if config.objective == "joules_per_token" or config.budgets.joules_per_token is not None:
        _check_energy(instance)
    if config.objective == "loads_per_token" and config.cache is None and config.pattern:
        raise InputError("objective: loads_per_token does not go with pattern")
    if config.objective == "uncovered_per_token" and config.coverage is None:
        raise InputError("objective: uncovered_per_token needs the part coverage")
    if config.budgets.cache_slots is not None and config.cache is None:
        raise InputError("budgets.cache_slots: needs the part cache")


def _check_layer_parts(instance: PlacementInstance, on: list[str]) -> None:
    config = instance.config
    layered = [*on, *(["prefetch"] if config.prefetch else []), *(["lots"] if config.lots else [])]
    if layered and instance.activation.robust:
        raise InputError(f"activation.robust: cannot be combined with {layered[0]}")
    if layered and config.granularity != "expert":
        raise InputError(f"granularity: {config.granularity} cannot be combined with {layered[0]}")
    if layered and config.prune is not None:
        raise InputError(
            f"prune: cannot be combined with {layered[0]}; aggregation has the form prune"
        )
    for part in ("prefetch", "lots"):
        others = [name for name in on if name in ("cache", "coverage", "split", "pattern")]
        if getattr(config, part) is not None and others:
            raise InputError(f"{part}: cannot be combined with {others[0]}")


def _check_numbers(instance: PlacementInstance) -> None:
    """Raise for numbers of experts that a layer cannot keep."""
    aggregation, shape = instance.config.aggregation, instance.shape
    if aggregation is None:
        return
    for k, number in enumerate(aggregation.keep):
        if not shape.top_k <= number <= shape.experts:
            raise InputError(
                f"aggregation.keep.{k}: {number} is outside {shape.top_k}..{shape.experts} "
                "(experts per token, experts of a layer)"
            )


def _check_cache(instance: PlacementInstance) -> None:
    """Raise for a cache without its data or without any number of slots."""
    cache, experts = instance.config.cache, instance.shape.experts
    if cache is None:
        return
    if cache.hits == "published" and cache.table is None:
        raise InputError("cache.table: hits 'published' need a table")
    if cache.hits == "lru" and cache.table is None and instance.activation.trace is None:
        raise InputError("cache.table: hits 'lru' need a table, or an activation with a trace")
    most = experts if cache.most is None else min(cache.most, experts)
    if cache.least > most:
        raise InputError(f"cache.least: {cache.least} slots, but a layer has {most} at most")


def _check_robust(instance: PlacementInstance) -> None:
    """Raise where a worst case over domains is not what the objective counts."""
    config = instance.config
    if not instance.activation.robust:
        return
    if config.objective != "seconds_per_token":
        raise InputError("activation.robust: needs the objective seconds_per_token")
    if len(instance.activation.domains) < 2:
        raise InputError("activation.robust: the activation has a single domain")


def _check_energy(instance: PlacementInstance) -> None:
    if instance.piped:
        raise InputError("objective: joules are not modelled for pipelines")
    if not np.isfinite(instance.use.joules).all() or not np.isfinite(instance.dense_j):
        tiers = [t.name for t in instance.topology.tiers if t.compute_bytes_per_s and not t.power_w]
        missing = f"tier '{tiers[0]}' has no power_w" if tiers else "a link has no joules_per_gb"
        raise InputError(f"objective: joules are asked for, but {missing}")
