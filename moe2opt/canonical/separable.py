"""Separable monotone problems as multiple-choice problems: the same optimum, exactly.

Variables that no table couples are groups, and the points of a group are its options. What rounding
or a logarithm changes is rounded outward: the value of an option is never too small and its use
never too large, so a bound of the multiple-choice problem bounds the monotone one. Products become
sums of whole numbers above ``2**bits`` times the logarithms of their factors
(`moe2opt.canonical.logarithm`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical.choice import MultipleChoiceProblem
from moe2opt.canonical.composite import Composed, Row
from moe2opt.canonical.logarithm import log_bounds
from moe2opt.canonical.monotone import MonotoneProblem
from moe2opt.canonical.placed import Blocks, Placed
from moe2opt.canonical.scales import (
    ROW_BITS,
    Scale,
    Through,
    Worth,
    last_true,
    logarithmic,
    outward_logs,
    rounding_units,
)
from moe2opt.canonical.undominated import undominated
from moe2opt.result import BoolArray, FloatArray, IntArray

#: Points of a group at most.
MOST_OPTIONS = 2**17


@dataclass(frozen=True, eq=False)
class ChoiceView:
    """A multiple-choice problem whose options are points of groups of variables.

    Attributes
    ----------
    problem
        The multiple-choice problem.
    groups
        Variables of each group.
    levels
        ``(M_g, k)`` levels that the options of each group stand for.
    size
        Number of variables n.
    scale
        How its values correspond to those of the monotone problem.
    """

    problem: MultipleChoiceProblem
    groups: tuple[IntArray, ...]
    levels: tuple[IntArray, ...]
    size: int
    scale: Scale

    def point(self, x: IntArray) -> IntArray:
        """Return the ``(n,)`` point that options stand for."""
        point = np.zeros(self.size, dtype=np.int64)
        for variables, levels, option in zip(self.groups, self.levels, x, strict=True):
            point[variables] = levels[option]
        return point

    def options(self, point: IntArray) -> IntArray | None:
        """Return the options of a point, None where one was dropped for a better one."""
        chosen = []
        for variables, levels in zip(self.groups, self.levels, strict=True):
            places = np.flatnonzero((levels == point[variables]).all(axis=1))
            if not len(places):
                return None
            chosen.append(int(places[0]))
        return np.array(chosen, dtype=np.int64)


def choice_view(problem: MonotoneProblem) -> ChoiceView | None:
    """Return a separable problem as a multiple-choice problem, None for any other."""
    made = problem.structure
    if made is None:
        return None
    value, outers = _opened(made.objective)
    rows = [*(_limited(row, 1, problem) for row in made.at_most)]
    rows += [_limited(row, -1, problem) for row in made.at_least]
    known = [row for row in rows if row is not None]
    if value is None or len(known) < len(rows) or (made.minimises and outers):
        return None
    sides = [1] * len(made.at_most) + [-1] * len(made.at_least)
    groups = _groups(problem, [value, *(blocks for blocks, _ in known)])
    if groups is None:
        return None
    tables = _Tables(problem, groups)
    worth = tables.values(value, made.minimises)
    if worth is None:
        return None
    limits: list[float] = []
    for (blocks, limit), side in zip(known, sides, strict=True):
        if not math.isinf(limit) and not tables.limit(blocks, limit, side, limits):
            return None
    scale = worth.scale
    for outer in reversed(outers):
        scale = Through(outer, problem, scale)
    return tables.view(worth, limits, scale)


def _opened(part: Placed) -> tuple[Blocks | None, list[Composed]]:
    """Return the tables inside of compositions, and these from the outside to the inside."""
    outers = []
    while isinstance(part, Composed):
        outers.append(part)
        part = part.inner
    return (part if isinstance(part, Blocks) else None), outers


def _limited(row: Row, side: int, problem: MonotoneProblem) -> tuple[Blocks, float] | None:
    """Return tables and their limit of a row, rounded outward; None for other functions."""
    blocks, outers = _opened(row.part)
    if blocks is None:
        return None
    limit = row.limit
    if row.relief:
        limit = row.limit + row.relief
        limit += side * 4 * math.ulp(max(abs(row.limit), abs(row.relief), abs(limit)))
    for outer in outers:
        if not math.isinf(limit):
            limit = _inner_limit(outer, problem, limit, side)
    if blocks.is_integral and not math.isinf(limit):
        limit = float(math.floor(limit) if side > 0 else math.ceil(limit))
    return blocks, limit


def _inner_limit(outer: Composed, problem: MonotoneProblem, limit: float, side: int) -> float:
    """Return the last inner value that `outer` keeps within a limit, or the first one from it on.

    Infinite where all values of the box do; beyond the box where none does.
    """
    low, high = map(float, outer.inner(np.stack([problem.lower, problem.upper])))
    last = last_true(outer, lambda value: value <= limit, low, high)
    if side > 0:
        return math.inf if last == high else last
    first = math.nextafter(last_true(outer, lambda value: value < limit, low, high), math.inf)
    return -math.inf if first <= low else first


def _groups(problem: MonotoneProblem, tables: Sequence[Blocks]) -> list[IntArray] | None:
    """Return the sets of variables that tables couple, None where one has too many points."""
    parent = list(range(problem.size))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for blocks in tables:
        for block in blocks.blocks:
            for other in block.variables[1:].tolist():
                parent[root(other)] = root(int(block.variables[0]))
    roots = np.array([root(i) for i in range(problem.size)])
    groups = [np.flatnonzero(roots == r) for r in np.unique(roots)]
    widths = (problem.upper - problem.lower + 1).astype(np.float64)
    small = all(np.prod(widths[group]) <= MOST_OPTIONS for group in groups)
    return groups if small else None


class _Tables:
    """Values and uses of the options of all groups, while a view is made."""

    def __init__(self, problem: MonotoneProblem, groups: list[IntArray]) -> None:
        self.size, self.groups = problem.size, groups
        self.levels = [_grid(problem, group) for group in groups]
        self.keep = [np.ones(len(levels), dtype=bool) for levels in self.levels]
        self.usage: list[list[FloatArray]] = []
        self.group_of = np.empty(problem.size, dtype=np.int64)
        for g, group in enumerate(groups):
            self.group_of[group] = g

    def of(self, blocks: Blocks) -> list[list[FloatArray]]:
        """Return, for each group, the tables over its options."""
        found: list[list[FloatArray]] = [[] for _ in self.groups]
        for block in blocks.blocks:
            g = int(self.group_of[block.variables[0]])
            columns = np.searchsorted(self.groups[g], block.variables)
            places = (self.levels[g][:, columns] - block.lower) @ block.strides
            found[g].append(block.table[places])
        return found

    def values(self, blocks: Blocks, minimises: bool) -> Worth | None:
        """Return what options are worth, None where logarithms need too many digits."""
        exact = blocks.is_integral
        if not blocks.is_product:
            terms = self.of(blocks)
            if minimises:
                return Worth([-self._sum(g, t, exact, -math.inf) for g, t in enumerate(terms)])
            return Worth([self._sum(g, t, exact, math.inf) for g, t in enumerate(terms)])
        if minimises:
            return None
        return logarithmic(self.of(blocks), [len(levels) for levels in self.levels])

    def _sum(self, g: int, terms: list[FloatArray], exact: bool, toward: float) -> FloatArray:
        """Return sums over a group, rounded towards an infinity where they are rounded at all."""
        if len(terms) < 2:
            return terms[0] if terms else np.zeros(len(self.levels[g]))
        if exact:
            return sum(terms, np.zeros(len(terms[0])))
        sums = np.array([math.fsum(row) for row in zip(*terms, strict=True)])
        return np.asarray(np.nextafter(sums, toward))

    def limit(self, blocks: Blocks, limit: float, side: int, limits: list[float]) -> bool:
        """Add a row; return False where a product cannot be one."""
        terms, exact = self.of(blocks), blocks.is_integral
        if blocks.is_product:
            if side < 0 and limit <= 0:
                return True
            logs = _log_rows(terms, limit, side)
            if logs is None:
                return False
            terms, limit, dropped = logs
            exact = True
            self.keep = [keep & ~zero for keep, zero in zip(self.keep, dropped, strict=True)]
        elif not exact and len(blocks.blocks) > 1:
            # Sums are compared after rounding, which differences to the least ones no longer show.
            limit = math.nextafter(limit, side * math.inf)
        sums = [side * self._sum(g, t, exact, -side * math.inf) for g, t in enumerate(terms)]
        least = [float(s.min()) for s in sums]
        if side > 0:
            least = [min(0.0, low) for low in least]
        uses = [_down(s, low, exact) for s, low in zip(sums, least, strict=True)]
        budget = math.fsum([side * limit, *(-low for low in least)])
        if not exact and any(least):
            budget = math.nextafter(budget, math.inf)
        touched = [g for g, use in enumerate(uses) if use.any()]
        if len(touched) == 1:
            self.keep[touched[0]] &= uses[touched[0]] <= budget
        elif touched or budget < 0:
            self.usage.append(uses)
            limits.append(budget)
        return True

    def view(self, worth: Worth, limits: list[float], scale: Scale) -> ChoiceView:
        """Return the view, without options that another one beats."""
        if not all(keep.any() for keep in self.keep):
            self.usage.append([np.zeros(len(keep)) for keep in self.keep])
            limits.append(-1.0)
        kept = []
        for g, keep in enumerate(self.keep):
            use = np.array([row[g] for row in self.usage]).reshape(len(self.usage), len(keep))
            left = np.flatnonzero(keep) if keep.any() else np.arange(len(keep))
            kept.append(
                left[undominated(np.column_stack([-worth.compared[g][left], *use[:, left]]))]
            )
        usage = [
            np.array([row[g][k] for row in self.usage]).reshape(-1, len(k)).T
            for g, k in enumerate(kept)
        ]
        problem = MultipleChoiceProblem(
            [worth.of(g, k) for g, k in enumerate(kept)], usage, np.array(limits)
        )
        levels = tuple(levels[k] for levels, k in zip(self.levels, kept, strict=True))
        return ChoiceView(problem, tuple(self.groups), levels, self.size, scale)


def _grid(problem: MonotoneProblem, group: IntArray) -> IntArray:
    widths = (problem.upper - problem.lower + 1)[group].tolist()
    return np.indices(widths).reshape(len(widths), -1).T + problem.lower[group]


def _down(sums: FloatArray, least: float, exact: bool) -> FloatArray:
    """Return non-negative differences, rounded down where they are rounded at all."""
    if exact or least == 0:
        return sums - least
    return np.maximum(0.0, np.nextafter(sums - least, -math.inf))


def _log_rows(
    terms: list[list[FloatArray]], limit: float, side: int
) -> tuple[list[list[FloatArray]], float, list[BoolArray]] | None:
    """Return logarithms of the factors of a row, of its limit, and the options that it rules out.

    Whole numbers, rounded in favour of the options. None where no logarithm says what a factor of
    zero does to a limit from above.
    """
    zeros = [
        np.any([t == 0 for t in group], axis=0) if group else np.zeros(0, bool) for group in terms
    ]
    if side > 0 and (limit <= 0 or any(zero.any() for zero in zeros)):
        return None
    logs = [[outward_logs(t, side) for t in group] for group in terms]
    low, high = log_bounds(limit, ROW_BITS)
    slack = rounding_units(sum(map(len, terms)), ROW_BITS)
    return logs, float(high + slack if side > 0 else low - slack), zeros
