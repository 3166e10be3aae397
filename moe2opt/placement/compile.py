"""Placement -> multiple-choice problem: groups, options, rows and their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.canonical.validate import BUDGET_TOLERANCE
from moe2opt.placement.case import Case
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.mode import Mode
from moe2opt.placement.options import Options, Read
from moe2opt.result import FloatArray, InputError


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
    read: Read
    rounded: Callable[[float], float]


@dataclass(frozen=True, slots=True)
class _Row:
    """One budget: its name, use by each option (blocks as in the options), limit."""

    name: str
    usage: list[FloatArray]
    limit: float


def compiled(mode: Mode) -> Compiled:
    """Compile to one group per unit, per layer or for the whole model.

    The first group carries the dense part, whatever its option. The value of an option is minus its
    part of the objective; rows are the capacities of the tiers and the budgets. A robust plan has
    one more group, the worst case on a geometric grid.
    """
    case = mode.case
    blocks, read = mode.options()
    usable = [_usable_bytes(case, blocks, t) for t in range(len(case.topology.tiers))]
    blocks = [_with_dense(case, blocks[0]), *blocks[1:]]
    rows = list(_rows(case, blocks, usable))
    values = [-block.metric(case.config.objective) for block in blocks]
    rounded: Callable[[float], float] = float
    if case.activation.robust:
        grid = _grid(case, blocks)
        rows = _with_worst_case(case, blocks, rows, grid)
        values = [np.zeros(block.size) for block in blocks] + [-grid[None, :]]
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


def _with_dense(case: Case, block: Options) -> Options:
    """Return the options with the dense part added to those of the first group."""
    constants = {
        "seconds_per_token": case.dense_s,
        "joules_per_token": case.dense_j,
        "memory_gib": float(case.fixed_bytes.sum()) / GIB,
    }
    first = np.arange(block.size[0])[:, None] == 0
    metrics = {
        name: figures + np.where(first, constants.get(name, 0.0), 0.0)
        for name, figures in block.metrics.items()
    }
    held = block.held_bytes.copy()
    held[0] += case.fixed_bytes
    domain = block.domain_s
    if domain is not None:
        domain = domain + np.where(first, case.dense_s, 0.0)[:, :, None]
    return Options(metrics, held, domain)


def _rows(case: Case, blocks: Sequence[Options], usable_bytes: Sequence[float]) -> Iterator[_Row]:
    for t, tier in enumerate(case.topology.tiers):
        if math.isfinite(tier.capacity_bytes):
            usage = [block.held_bytes[:, :, t] / GIB for block in blocks]
            yield _Row(f"memory_gib[{tier.name}]", usage, usable_bytes[t] / GIB)
    objective = case.config.objective
    for name, limit in case.config.budgets:
        if limit is None:
            continue
        metric = "slots" if name == "cache_slots" else name
        if metric == objective:
            raise InputError(f"budgets.{name}: it is the objective; a limit on it has no meaning")
        yield _Row(name, [block.metric(metric) for block in blocks], float(limit))


def _usable_bytes(case: Case, blocks: Sequence[Options], tier: int) -> float:
    """Return the limit of a tier, rounded down to what pieces of equal size can fill.

    Where all sizes are multiples of the least one, no plan uses more than a whole number of these
    pieces, and the linear relaxation is the tighter for it.
    """
    # What lies there whatever is planned is part of the first group, so the limit includes it.
    own = float(case.fixed_bytes[tier])
    free = case.topology.tiers[tier].free_bytes
    sizes = np.unique(np.concatenate([np.unique(b.held_bytes[:, :, tier]) for b in blocks]))
    positive = sizes[sizes > 0]
    if not math.isfinite(free) or not len(positive):
        return free + own
    pieces = positive / positive[0]
    if np.abs(pieces - np.round(pieces)).max() > BUDGET_TOLERANCE:
        return free + own
    piece = float(positive[0])
    return float(own + piece * math.floor(free / piece * (1 + BUDGET_TOLERANCE)))


def _grid(case: Case, blocks: Sequence[Options]) -> FloatArray:
    """Return the values that the worst case may take, from a lower to an upper bound."""
    domain = [block.domain_s for block in blocks]
    least = max(_total(domain, d, "min") for d in range(len(case.activation.domains)))
    most = max(_total(domain, d, "max") for d in range(len(case.activation.domains)))
    steps = math.ceil(math.log(max(most / least, 1.0)) / math.log1p(case.activation.resolution))
    return np.asarray(
        least * (1 + 1e-12) * (most / least) ** (np.arange(steps + 1) / max(steps, 1))
    )


def _total(domain: Sequence[FloatArray | None], d: int, which: str) -> float:
    return math.fsum(
        float(getattr(block[:, :, d], which)(axis=1).sum()) for block in domain if block is not None
    )


def _with_worst_case(
    case: Case, blocks: Sequence[Options], rows: Sequence[_Row], grid: FloatArray
) -> list[_Row]:
    """Return the rows with the group of the worst case, and a row for each domain.

    A domain's seconds, and what the grid value leaves, are at most the last value.
    """
    top = float(grid[-1]) * (1 + 1e-9)
    found = [_Row(row.name, [*row.usage, np.zeros((1, len(grid)))], row.limit) for row in rows]
    for d, name in enumerate(case.activation.domains):
        usage = [np.asarray(block.domain_s)[:, :, d] for block in blocks]
        found.append(_Row(f"seconds_per_token[{name}]", [*usage, (top - grid)[None, :]], top))
    return found


def _next_on(grid: FloatArray) -> Callable[[float], float]:
    def rounded(figure: float) -> float:
        place = int(np.searchsorted(grid, figure * (1 - 1e-9)))
        return float(grid[min(place, len(grid) - 1)])

    return rounded
