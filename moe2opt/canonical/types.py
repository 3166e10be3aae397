"""Identical servers as one type: what interchangeable budget rows allow a bound to forget.

Two budget rows are interchangeable when the k-th expert of one is a copy of the k-th expert of the
other: same value everywhere, same opening cost, same size, same use of all other rows; and the
limits are the same. Identical servers are the usual case. Every solution then has an image in the
*merged* problem, in which the copies of an expert are one expert and the rows are one row with the
summed limit. The image is worth no less, since only the best copy counts and one is paid for. The
merged problem therefore bounds the original one; what it forgets is that the chosen experts must
also pack into the single rows, which `packing` decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical.facility import FacilityProblem
from moe2opt.canonical.validate import BIGGEST_EXACT, indicators
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray

#: A packing search gives up after so many placements.
_MOST_PLACEMENTS = 50_000


@dataclass(frozen=True, slots=True)
class Merged:
    """A problem with one row per type of interchangeable rows.

    Attributes
    ----------
    problem
        The merged problem: rows of no type in their old order, then one row per type.
    types
        Interchangeable rows of the original problem.
    copies
        Per merged expert its original experts; on a type, one per row of the type, in order.
    type_of
        ``(N',)`` type of each merged expert, -1 for none.
    limits
        ``(T,)`` limit of a single row of each type, numerical slack included.
    sizes
        ``(N',)`` use of its row by each merged expert of a type.
    rivals
        Sets of merged experts of a type of which one row holds at most one: groups that existed
        once per row.
    """

    problem: FacilityProblem
    types: tuple[tuple[int, ...], ...]
    copies: tuple[tuple[int, ...], ...]
    type_of: IntArray
    limits: FloatArray
    sizes: FloatArray
    rivals: tuple[frozenset[int], ...] = ()

    def packing(self, chosen: BoolArray, t: int) -> dict[int, int] | None:
        """Return row positions for the chosen experts of type `t`, None if they do not fit.

        Raises
        ------
        OverflowError
            When the search for a packing gives up undecided.
        """
        items = np.flatnonzero(chosen & (self.type_of == t))
        ranked = items[np.argsort(-self.sizes[items], kind="stable")]
        places = pack(
            self.sizes[ranked].tolist(),
            len(self.types[t]),
            float(self.limits[t]),
            [{k for k, i in enumerate(ranked) if int(i) in both} for both in self.met(items)],
        )
        if places is None:
            return None
        return {int(i): place for i, place in zip(ranked, places, strict=True)}

    def met(self, items: IntArray) -> list[frozenset[int]]:
        """Return the sets of rivals of which at least two are among the items."""
        if not self.rivals:
            return []
        present = frozenset(items.tolist())
        return [both for rivals in self.rivals if len(both := present & rivals) > 1]


def pack(
    sizes: Sequence[float], bins: int, limit: float, rivals: Sequence[set[int]] = ()
) -> list[int] | None:
    """Return a bin for each item so that no bin exceeds `limit`, None if there is no such packing.

    Depth-first over the items in the given order (largest first is best); of the empty bins only
    the first is tried. A bin's content is compared as a correctly rounded sum.

    Parameters
    ----------
    sizes
        Size of each item.
    bins, limit
        Number of bins and what each holds.
    rivals
        Sets of items of which a bin holds at most one.

    Raises
    ------
    OverflowError
        When the search gives up undecided.
    """
    content: list[list[int]] = [[] for _ in range(bins)]
    tried = 0

    def fits(item: int, held: list[int]) -> bool:
        if math.fsum(sizes[k] for k in (*held, item)) > limit:
            return False
        return not any(item in set_ and not set_.isdisjoint(held) for set_ in rivals)

    def place(item: int) -> bool:
        nonlocal tried
        if item == len(sizes):
            return True
        for held in content:
            if fits(item, held):
                tried += 1
                if tried > _MOST_PLACEMENTS:
                    raise OverflowError("the packing search gave up")
                held.append(item)
                if place(item + 1):
                    return True
                held.pop()
            if not held:
                break
        return False

    if not place(0):
        return None
    return [next(b for b, held in enumerate(content) if k in held) for k in range(len(sizes))]


def interchangeable_rows(problem: FacilityProblem) -> tuple[tuple[int, ...], ...]:
    """Return sets of at least two budget rows that `merge` accepts, found from the data."""
    alike: dict[bytes, list[int]] = {}
    for k, (row, budget) in enumerate(zip(problem.costs, problem.budgets, strict=True)):
        signature = np.concatenate([[budget], np.sort(row[row > 0])])
        alike.setdefault(signature.tobytes(), []).append(k)
    # Limits that even the empty choice exceeds would add up to a row with a slack of its own.
    types = [
        tuple(rows)
        for rows in alike.values()
        if len(rows) > 1 and problem.costs[rows].any() and problem.limits[rows[0]] >= 0
    ]
    while types:
        rejected = _first_rejected(problem, types)
        if rejected is None:
            return tuple(types)
        types.remove(rejected)
    return ()


def _first_rejected(
    problem: FacilityProblem, types: list[tuple[int, ...]]
) -> tuple[int, ...] | None:
    """Return a type that cannot be merged together with the others, None if all can."""
    support = problem.costs > 0
    rows = np.array([row for t in types for row in t], dtype=np.int64)
    crossing = support[rows].sum(axis=0) > 1
    for t in types:
        if support[list(t)][:, crossing].any():
            return t
    for t in types:
        try:
            merge(problem, [t])
        except InputError:
            return t
    return None


def merge(problem: FacilityProblem, types: Sequence[Sequence[int]]) -> Merged:
    """Return the merged problem for sets of interchangeable rows.

    Groups that exist once per row of a type become rivals, which only `Merged.packing` regards.

    Raises
    ------
    InputError
        When the rows of a type are not interchangeable, or a cover treats copies differently.
    """
    rows = [row for rows in types for row in rows]
    if not rows:
        return _unmerged(problem)
    if len(set(rows)) != len(rows) or any(not 0 <= r < len(problem.budgets) for r in rows):
        raise InputError("types: a row does not exist or appears twice")
    support = problem.costs[rows] > 0
    if (support.sum(axis=0) > 1).any():
        raise InputError("types: an expert uses two rows of a type")
    typed_rows = np.flatnonzero(np.isin(np.arange(len(problem.budgets)), rows))
    keys = _column_keys(problem, typed_rows)
    typed = [_copies_of(problem, list(t), keys) for t in types]
    on_type = support.any(axis=0)
    copies: list[tuple[int, ...]] = [(int(i),) for i in np.flatnonzero(~on_type)]
    type_of = [-1] * len(copies)
    for t, found in enumerate(typed):
        copies += found
        type_of += [t] * len(found)
    first = np.array([c[0] for c in copies], dtype=np.int64)
    groups, rivals = _merged_groups(problem, copies)
    return Merged(
        problem=_merged_problem(problem, types, copies, groups),
        types=tuple(tuple(int(r) for r in t) for t in types),
        copies=tuple(copies),
        type_of=np.array(type_of, dtype=np.int64),
        limits=np.array([problem.limits[t[0]] for t in types]),
        sizes=problem.costs[rows].sum(axis=0)[first],
        rivals=rivals,
    )


def _unmerged(problem: FacilityProblem) -> Merged:
    copies = tuple((i,) for i in range(problem.size))
    nothing = np.zeros(problem.size)
    return Merged(problem, (), copies, nothing.astype(np.int64) - 1, np.zeros(0), nothing)


def _column_keys(problem: FacilityProblem, rows: IntArray) -> list[bytes]:
    """Return a fingerprint of each expert: values, own size on `rows`, use of all other rows."""
    others = np.setdiff1d(np.arange(len(problem.budgets)), rows)
    own = problem.costs[rows].sum(axis=0) if len(rows) else np.zeros(problem.size)
    table = np.vstack([problem.weighted, problem.fixed, own, problem.costs[others]])
    return [np.ascontiguousarray(column).tobytes() for column in table.T]


def _copies_of(
    problem: FacilityProblem, rows: list[int], keys: list[bytes]
) -> list[tuple[int, ...]]:
    """Match the experts on interchangeable rows in the order of their indices."""
    if len({float(problem.budgets[r]) for r in rows}) != 1:
        raise InputError("types: rows of a type have different limits")
    members = [np.flatnonzero(problem.costs[r] > 0) for r in rows]
    if len({len(found) for found in members}) != 1:
        raise InputError("types: rows of a type hold different experts")
    matched = [tuple(int(i) for i in copies) for copies in zip(*members, strict=True)]
    for copies in matched:
        if len({keys[i] for i in copies}) != 1:
            raise InputError(f"types: expert {copies[0]} has no identical copy on every row")
    covered = indicators(problem.covers, problem.size)
    held = covered[:, np.array(matched, dtype=np.int64).reshape(-1, len(rows))].sum(axis=2)
    partly = ((held > 0) & (held < len(rows))).any(axis=0)
    if partly.any():
        first = matched[int(np.argmax(partly))][0]
        raise InputError(f"types: a cover holds only some copies of expert {first}")
    return matched


def _merged_groups(
    problem: FacilityProblem, copies: list[tuple[int, ...]]
) -> tuple[list[list[int]], tuple[frozenset[int], ...]]:
    """Return the groups of the merged problem, and the sets of which a single row holds one."""
    home = {original: (i, b) for i, c in enumerate(copies) for b, original in enumerate(c)}
    groups: list[list[int]] = []
    rows_of: dict[frozenset[int], set[int]] = {}
    for group in problem.groups:
        image = frozenset(home[int(i)][0] for i in group)
        if sum(len(copies[i]) for i in image) == len(group):
            groups.append(sorted(image))
        elif len({home[int(i)][1] for i in group}) == 1 and len(image) == len(group):
            rows_of.setdefault(image, set()).add(home[int(group[0])][1])
        else:
            raise InputError("types: a group treats the copies of an expert differently")
    for image, found in rows_of.items():
        if any(len(found) != len(copies[i]) for i in image):
            raise InputError("types: a group exists for some rows of a type only")
    return groups, tuple(rows_of)


def _merged_problem(
    problem: FacilityProblem,
    types: Sequence[Sequence[int]],
    copies: list[tuple[int, ...]],
    groups: list[list[int]],
) -> FacilityProblem:
    first = np.array([c[0] for c in copies], dtype=np.int64)
    typed = [row for rows in types for row in rows]
    others = [k for k in range(len(problem.budgets)) if k not in typed]
    summed = [problem.costs[list(t)].sum(axis=0)[first] for t in types]
    total = [_summed_limit(problem, t[0], len(t)) for t in types]
    position = {original: merged for merged, c in enumerate(copies) for original in c}
    covers = [sorted({position[int(i)] for i in cover}) for cover in problem.covers]
    return FacilityProblem(
        problem.values[:, first],
        np.vstack([problem.costs[others][:, first], *summed]),
        np.concatenate([problem.budgets[others], total]),
        problem.weights,
        tuple(np.array(group, dtype=np.int64) for group in groups),
        tuple(np.array(cover, dtype=np.int64) for cover in covers),
        None if problem.opening is None else problem.opening[first],
    )


def _summed_limit(problem: FacilityProblem, row: int, count: int) -> float:
    """Return a limit that the use of so many rows like `row` cannot exceed together.

    Rows with slack are summed with their slack, and where usage is compared after rounding, every
    row may hold a little more than its limit.
    """
    limit = float(problem.limits[row])
    if abs(count * limit) < BIGGEST_EXACT:
        return count * limit
    return math.nextafter(count * math.nextafter(limit, math.inf), math.inf)
