"""The placement question as a mixed-integer linear model in Pyomo, written expert by expert.

It shares no table with `compile` and serves to check it: both must have the same optimum. `solve`
uses the compiled problem, whose options already contain what is not linear here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.modes.split import Split
from moe2opt.result import InputError

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance


def direct_model(instance: PlacementInstance) -> Any:
    r"""Return a Pyomo model that minimises the objective over single experts.

    Variables are :math:`y_{l,e,t,q}` (expert e of layer l on tier t in format q), pruning, and for
    each layer part its own: exposed copies, the slower machine, covered tokens, one run of layers.

    Raises
    ------
    InputError
        For aggregation, caches, pipelines and periodic patterns: their options are not linear in
        single experts.
    """
    import pyomo.environ as pyo

    config = instance.config
    unsupported = (config.aggregation, config.cache)
    kind = None if config.pattern is None else config.pattern.kind
    if any(unsupported) or kind not in (None, "contiguous") or config.granularity == "tensor":
        raise InputError("milp: this part has no formulation by single experts")
    model = pyo.ConcreteModel(instance.name)
    layers, experts = instance.shape.size
    model.L, model.E = range(layers), range(experts)
    model.T, model.Q = range(len(instance.topology.tiers)), range(len(instance.precisions))
    model.y = pyo.Var(model.L, model.E, model.T, model.Q, domain=pyo.Binary)
    model.gone = pyo.Var(model.L, model.E, domain=pyo.Binary)
    model.rules = pyo.ConstraintList()
    for layer in model.L:
        for e in model.E:
            held = sum(model.y[layer, e, t, q] for t in model.T for q in model.Q)
            model.rules.add(held + model.gone[layer, e] == 1)
    _pruning(model, instance)
    _together(model, instance)
    model.uncovered = pyo.Expression(expr=_uncovered(model, instance))
    model.seconds = pyo.Expression(expr=_seconds(model, instance))
    model.loss = pyo.Expression(expr=_loss(model, instance))
    model.memory = pyo.Expression(
        expr=instance.fixed_bytes.sum() / GIB
        + sum(_bytes(model, instance, t) for t in model.T) / GIB
    )
    _limits(model, instance)
    figures = {
        "seconds_per_token": model.seconds,
        "loss_nats": model.loss,
        "memory_gib": model.memory,
        "uncovered_per_token": model.uncovered,
    }
    if config.objective not in figures:
        raise InputError(f"milp: no formulation of {config.objective}")
    model.cost = pyo.Objective(expr=figures[config.objective], sense=pyo.minimize)
    return model


def _pruning(model: Any, instance: PlacementInstance) -> None:
    """Only the least salient experts may go."""
    from moe2opt.placement.modes.units import prunable_units

    allowed = prunable_units(instance)
    for layer in model.L:
        for e in model.E:
            if not allowed[layer, e]:
                model.gone[layer, e].fix(0)


def _together(model: Any, instance: PlacementInstance) -> None:
    """Layer parts use one format per layer; layers as units and runs also one tier."""
    import pyomo.environ as pyo

    config = instance.config
    parts = (config.prefetch, config.lots, config.split, config.coverage, config.pattern)
    if config.granularity == "layer" or config.pattern is not None:
        for layer, e, t, q in model.y:
            if e:
                model.rules.add(model.y[layer, e, t, q] == model.y[layer, 0, t, q])
    if any(parts):
        model.format = pyo.Var(model.L, model.Q, domain=pyo.Binary)
        for layer, e, t, q in model.y:
            model.rules.add(model.y[layer, e, t, q] <= model.format[layer, q])
        for layer in model.L:
            model.rules.add(sum(model.format[layer, q] for q in model.Q) == 1)
    if config.lots is not None:
        _lots(model, instance)
    if config.pattern is not None:
        _one_run(model, instance)


def _lots(model: Any, instance: PlacementInstance) -> None:
    import pyomo.environ as pyo

    lots = instance.config.lots
    assert lots is not None
    if lots.step > 1:
        raise InputError("milp: no formulation of lots.step")
    tier = instance.topology.index(lots.tier, "lots.tier")
    model.opened = pyo.Var(model.L, domain=pyo.Binary)
    experts = len(model.E)
    for layer in model.L:
        number = sum(model.y[layer, e, tier, q] for e in model.E for q in model.Q)
        model.rules.add(number <= experts * model.opened[layer])
        model.rules.add(number >= lots.least_share * experts * model.opened[layer])


def _one_run(model: Any, instance: PlacementInstance) -> None:
    """Keep the layers on the fast tier consecutive, and one format for the whole model."""
    import pyomo.environ as pyo

    pattern = instance.config.pattern
    assert pattern is not None
    names = instance.topology.names
    fast = instance.topology.index(pattern.fast or names[0], "pattern.fast")
    slow = instance.topology.index(pattern.slow or names[1], "pattern.slow")
    model.starts = pyo.Var(model.L, domain=pyo.Binary)
    before: Any = 0
    for layer in model.L:
        on = sum(model.y[layer, 0, fast, q] for q in model.Q)
        model.rules.add(model.starts[layer] >= on - before)
        before = on
        model.rules.add(on + sum(model.y[layer, 0, slow, q] for q in model.Q) == 1)
        for q in model.Q:
            model.rules.add(model.format[layer, q] == model.format[0, q])
    model.rules.add(sum(model.starts[layer] for layer in model.L) <= 1)


def _bytes(model: Any, instance: PlacementInstance, tier: int) -> Any:
    """Return the bytes of experts on a tier."""
    size = instance.expert_bytes
    return sum(
        float(size[q]) * model.y[layer, e, tier, q]
        for layer in model.L
        for e in model.E
        for q in model.Q
    )


def _sum(model: Any, uses: Any, table: Any) -> Any:
    """Return the sum of uses times a (tier, format) table over all layers."""
    return sum(
        float(uses[layer, e] * table[t, q]) * model.y[layer, e, t, q]
        for layer, e, t, q in model.y
        if uses[layer, e] * table[t, q]
    )


def _seconds(model: Any, instance: PlacementInstance) -> Any:
    import pyomo.environ as pyo

    from moe2opt.placement.experts.activation import uses_per_token

    config, uses, use = instance.config, instance.uses, instance.use
    if config.split is not None:
        return instance.dense_s + _two_machines(model, instance)
    if config.prefetch is not None:
        rest = _sum(model, uses, use.compute_s + use.hand_over_s)
        return instance.dense_s + rest + _exposed(model, instance)
    gone = sum(
        float(uses[layer, e] * instance.pruned_use_s) * model.gone[layer, e]
        for layer, e in model.gone
    )
    if not instance.activation.robust:
        return instance.dense_s + _sum(model, uses, use.seconds) + gone + _waits(model, instance)
    model.worst = pyo.Var(domain=pyo.NonNegativeReals)
    for share in instance.activation.shares:
        by_domain = uses_per_token(share, config.batch)
        model.rules.add(model.worst >= instance.dense_s + _sum(model, by_domain, use.seconds))
    return model.worst


def _exposed(model: Any, instance: PlacementInstance) -> Any:
    """Return the copies that computing does not hide."""
    import pyomo.environ as pyo

    prefetch = instance.config.prefetch
    assert prefetch is not None
    wasted = 1 - prefetch.accuracy if prefetch.wasted else 0.0
    model.open = pyo.Var(model.L, domain=pyo.NonNegativeReals)
    total: Any = 0
    for layer in model.L:
        copies = sum(
            float(instance.uses[layer, e] * instance.use.move_s[t, q]) * model.y[layer, e, t, q]
            for e in model.E
            for t in model.T
            for q in model.Q
        )
        window = prefetch.window_us * 1e-6
        model.rules.add(model.open[layer] >= (prefetch.accuracy + wasted) * copies - window)
        total = total + (1 - prefetch.accuracy) * copies + model.open[layer]
    return total


def _two_machines(model: Any, instance: PlacementInstance) -> Any:
    """Return the sum over layers of the slower of two machines."""
    import pyomo.environ as pyo

    split = Split(instance)
    fast, slow = split.pair
    stay, compute, copy = split.costs
    model.copied = pyo.Var(model.L, model.E, model.Q, domain=pyo.Binary)
    model.slower = pyo.Var(model.L, domain=pyo.NonNegativeReals)
    for layer in model.L:
        cpu: Any = 0
        gpu: Any = 0
        for e in model.E:
            for q in model.Q:
                use, moved = float(instance.uses[layer, e]), model.copied[layer, e, q]
                model.rules.add(moved <= model.y[layer, e, slow, q])
                cpu = cpu + use * float(compute[q]) * (model.y[layer, e, slow, q] - moved)
                gpu = gpu + use * float(stay[q]) * model.y[layer, e, fast, q]
                gpu = gpu + use * float(copy[q]) * moved
            for t in set(model.T) - {fast, slow}:
                for q in model.Q:
                    model.y[layer, e, t, q].fix(0)
        model.rules.add(model.slower[layer] >= cpu)
        model.rules.add(model.slower[layer] >= gpu)
    return sum(model.slower[layer] for layer in model.L)


def _uncovered(model: Any, instance: PlacementInstance) -> Any:
    """Return the layers per token that are not covered: a token needs all its experts resident."""
    import pyomo.environ as pyo

    coverage, trace = instance.config.coverage, instance.activation.trace
    if coverage is None:
        return 0.0
    assert trace is not None
    fast = instance.topology.index(coverage.tier, "coverage.tier")
    slow = instance.topology.index(coverage.backing, "coverage.backing")
    for layer, e, t, q in model.y:
        if t not in (fast, slow):
            model.y[layer, e, t, q].fix(0)
    model.covered = pyo.Var(model.L, range(len(trace)), bounds=(0, 1))
    for layer in model.L:
        for token in range(len(trace)):
            for e in np.unique(trace[token, layer]).tolist():
                resident = sum(model.y[layer, e, fast, q] for q in model.Q)
                model.rules.add(model.covered[layer, token] <= resident)
    covered = sum(model.covered[key] for key in model.covered) / len(trace)
    return len(model.L) - covered


def _waits(model: Any, instance: PlacementInstance) -> Any:
    coverage = instance.config.coverage
    return 0.0 if coverage is None else coverage.sync_us * 1e-6 * model.uncovered


def _loss(model: Any, instance: PlacementInstance) -> Any:
    saliency = instance.activation.saliency
    rounding = [precision.loss_nats for precision in instance.precisions]
    kept = sum(
        float(saliency[layer, e] * rounding[q]) * model.y[layer, e, t, q]
        for layer, e, t, q in model.y
    )
    gone = sum(
        float(saliency[layer, e] * instance.prune_loss_nats) * model.gone[layer, e]
        for layer, e in model.gone
    )
    return kept + gone


def _limits(model: Any, instance: PlacementInstance) -> None:
    for t, tier in enumerate(instance.topology.tiers):
        if np.isfinite(tier.capacity_bytes):
            model.rules.add(_bytes(model, instance, t) / GIB <= tier.free_bytes / GIB)
    budgets = instance.config.budgets
    pairs = (
        (model.seconds, budgets.seconds_per_token),
        (model.loss, budgets.loss_nats),
        (model.memory, budgets.memory_gib),
    )
    for expression, limit in pairs:
        if limit is not None:
            model.rules.add(expression <= limit)
