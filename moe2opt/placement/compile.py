"""Placement instance -> multiple-choice problem: groups, options, rows and their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.canonical.validate import BUDGET_TOLERANCE
from moe2opt.placement.assignment import Assignment
from moe2opt.placement.machine.topology import GIB
from moe2opt.result import FloatArray, InputError, IntArray

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """Options of one group, or of several groups alike in number of options.

    Attributes
    ----------
    metrics
        Figures of the options by metric, each ``(G, M)``; a metric left out is 0.
    held_bytes
        ``(G, M, T)`` bytes on each tier.
    domain_s
        ``(G, M, D)`` seconds by domain, None unless the plan is robust.
    """

    metrics: dict[str, FloatArray]
    held_bytes: FloatArray
    domain_s: FloatArray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Groups and options per group."""
        groups, options, _ = self.held_bytes.shape
        return groups, options

    def metric(self, name: str) -> FloatArray:
        """Return ``(G, M)`` figures."""
        return self.metrics.get(name, np.zeros(self.size))


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A multiple-choice problem and how to read its solutions.

    Attributes
    ----------
    problem, row_names
        The problem and the names of its budgets.
    read
        From option indices to an assignment.
    rounded
        From the objective's figure to what the problem counts: the same number, or for a worst case
        the next value on its grid.
    """

    problem: MultipleChoiceProblem
    row_names: tuple[str, ...]
    read: Callable[[IntArray], Assignment]
    rounded: Callable[[float], float]


@dataclass(frozen=True, slots=True)
class _Row:
    """One budget: its name, use by each option (blocks as in the options), limit."""

    name: str
    usage: list[FloatArray]
    limit: float


def compile_instance(instance: PlacementInstance) -> Compiled:
    """Compile to one group per unit, per layer or for the whole model.

    The first group carries the dense part, whatever its option. The value of an option is minus its
    part of the objective; rows are the capacities of the tiers and the budgets. A robust plan has
    one more group, the worst case on a geometric grid.
    """
    blocks, read = _blocks(instance)
    usable = [_usable_bytes(instance, blocks, t) for t in range(len(instance.topology.tiers))]
    return _assembled(instance, [_with_dense(instance, blocks[0]), *blocks[1:]], usable, read)


def _blocks(
    instance: PlacementInstance,
) -> tuple[list[Options], Callable[[IntArray], Assignment]]:
    """Return the options at the level that the parts ask for: model, layer or unit."""
    config = instance.config
    layered = (config.cache, config.coverage, config.prefetch, config.split, config.lots)
    if config.pattern is not None:
        from moe2opt.placement.modes.pattern import pattern_options

        return pattern_options(instance)
    if any((*layered, config.aggregation)):
        from moe2opt.placement.modes.tiers import layer_options

        return layer_options(instance)
    from moe2opt.placement.modes.units import unit_options

    return unit_options(instance)


def _assembled(
    instance: PlacementInstance,
    blocks: list[Options],
    usable_bytes: Sequence[float],
    read: Callable[[IntArray], Assignment],
) -> Compiled:
    rows = list(_rows(instance, blocks, usable_bytes))
    values = [-block.metric(instance.config.objective) for block in blocks]
    rounded: Callable[[float], float] = float
    if instance.activation.robust:
        grid = _grid(instance, blocks)
        rows += _domain_rows(instance, blocks, grid)
        values = [np.zeros(block.size) for block in blocks] + [-grid[None, :]]
        rows = [_with_grid(row, len(grid)) for row in rows]
        rounded = _next_on(grid)
    flat_values = [row for value in values for row in value]
    stacked = [
        np.stack([row.usage[b] for row in rows], axis=2) if rows else np.zeros((*v.shape, 0))
        for b, v in enumerate(values)
    ]
    usage = [table for block in stacked for table in block]
    problem = MultipleChoiceProblem(flat_values, usage, np.array([row.limit for row in rows]))
    units = sum(value.shape[0] for value in values[: len(blocks)])
    return Compiled(problem, tuple(r.name for r in rows), lambda x: read(x[:units]), rounded)


def _with_dense(instance: PlacementInstance, block: Options) -> Options:
    """Return the options with the dense part added to those of the first group."""
    constants = {
        "seconds_per_token": instance.dense_s,
        "joules_per_token": instance.dense_j,
        "memory_gib": instance.home_bytes / GIB,
    }
    first = np.arange(block.size[0])[:, None] == 0
    metrics = {
        name: figures + np.where(first, constants.get(name, 0.0), 0.0)
        for name, figures in block.metrics.items()
    }
    held = block.held_bytes.copy()
    held[0, :, instance.topology.home] += instance.home_bytes
    domain = block.domain_s
    if domain is not None:
        domain = domain + np.where(first, instance.dense_s, 0.0)[:, :, None]
    return Options(metrics, held, domain)


def _rows(
    instance: PlacementInstance, blocks: Sequence[Options], usable_bytes: Sequence[float]
) -> Iterator[_Row]:
    for t, tier in enumerate(instance.topology.tiers):
        if math.isfinite(tier.capacity_bytes):
            usage = [block.held_bytes[:, :, t] / GIB for block in blocks]
            yield _Row(f"memory_gib[{tier.name}]", usage, usable_bytes[t] / GIB)
    objective = instance.config.objective
    for name, limit in instance.config.budgets:
        if limit is None:
            continue
        metric = "slots" if name == "cache_slots" else name
        if metric == objective:
            raise InputError(f"budgets.{name}: it is the objective; a limit on it has no meaning")
        yield _Row(name, [block.metric(metric) for block in blocks], float(limit))


def _own(instance: PlacementInstance, tier: int) -> float:
    """Return what the dense part takes: it is a group, so the row's limit must include it."""
    return instance.home_bytes if tier == instance.topology.home else 0.0


def _usable_bytes(instance: PlacementInstance, blocks: Sequence[Options], tier: int) -> float:
    """Return the limit of a tier, rounded down to what pieces of equal size can fill.

    Where all sizes are multiples of the least one, no plan uses more than a whole number of these
    pieces, and the linear relaxation is the tighter for it.
    """
    own = _own(instance, tier)
    free = instance.topology.tiers[tier].free_bytes
    sizes = np.unique(np.concatenate([np.unique(b.held_bytes[:, :, tier]) for b in blocks]))
    positive = sizes[sizes > 0]
    if not math.isfinite(free) or not len(positive):
        return free + own
    pieces = positive / positive[0]
    if np.abs(pieces - np.round(pieces)).max() > BUDGET_TOLERANCE:
        return free + own
    piece = float(positive[0])
    return float(own + piece * math.floor(free / piece * (1 + BUDGET_TOLERANCE)))


def _grid(instance: PlacementInstance, blocks: Sequence[Options]) -> FloatArray:
    """Return the values that the worst case may take, from a lower to an upper bound."""
    domain = [block.domain_s for block in blocks]
    least = max(_total(domain, d, "min") for d in range(len(instance.activation.domains)))
    most = max(_total(domain, d, "max") for d in range(len(instance.activation.domains)))
    steps = math.ceil(math.log(max(most / least, 1.0)) / math.log1p(instance.activation.resolution))
    return np.asarray(
        least * (1 + 1e-12) * (most / least) ** (np.arange(steps + 1) / max(steps, 1))
    )


def _total(domain: Sequence[FloatArray | None], d: int, which: str) -> float:
    return math.fsum(
        float(getattr(block[:, :, d], which)(axis=1).sum()) for block in domain if block is not None
    )


def _domain_rows(
    instance: PlacementInstance, blocks: Sequence[Options], grid: FloatArray
) -> Iterator[_Row]:
    """Yield one row per domain: its seconds, plus what the grid value leaves, ≤ the last value."""
    top = float(grid[-1]) * (1 + 1e-9)
    for d, name in enumerate(instance.activation.domains):
        usage = [np.asarray(block.domain_s)[:, :, d] for block in blocks]
        yield _Row(f"seconds_per_token[{name}]", [*usage, (top - grid)[None, :]], top)


def _with_grid(row: _Row, options: int) -> _Row:
    """Return the row with no use by the group of the worst case unless it has one already."""
    if row.name.startswith("seconds_per_token["):
        return row
    return _Row(row.name, [*row.usage, np.zeros((1, options))], row.limit)


def _next_on(grid: FloatArray) -> Callable[[float], float]:
    def rounded(figure: float) -> float:
        place = int(np.searchsorted(grid, figure * (1 - 1e-9)))
        return float(grid[min(place, len(grid) - 1)])

    return rounded
