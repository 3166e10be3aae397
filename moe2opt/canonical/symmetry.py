"""Variables that may change places: which ones parts show, and how boxes of ordered points shrink.

Of all ways to hand the same levels to variables that no function tells apart, one is enough: the
one whose levels fall. A problem is as good without the other points, and so is every proof about
it. What rounding makes of another order of summing is bounded here, and 0 where there is none.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from moe2opt.canonical.composite import Added, Composed, Extreme, Ratio, Structure, rounding_error
from moe2opt.canonical.declared import Box
from moe2opt.canonical.placed import Block, Blocks, Coverage, Function, Placed, Quadratic
from moe2opt.canonical.reading import Axis
from moe2opt.canonical.validate import index_sets
from moe2opt.result import InputError, IntArray

#: Sets of variables, each in the order in which their levels fall.
Orders = Sequence[Sequence[int]]

#: Problems with more variables are not searched for some that may change places.
MOST_VARIABLES = 512

_UNIT = 2.0**-52


def raised_to_order(points: IntArray, orders: Orders) -> IntArray:
    """Raise ``(B, n)`` points, in place, to the least ordered ones above them; return them."""
    for order in orders:
        levels = points[:, order[::-1]]
        points[:, order[::-1]] = np.maximum.accumulate(levels, axis=1)
    return points


def lowered_to_order(points: IntArray, orders: Orders) -> IntArray:
    """Lower ``(B, n)`` points, in place, to the largest ordered ones below them; return them."""
    for order in orders:
        points[:, order] = np.minimum.accumulate(points[:, order], axis=1)
    return points


def declared_sets(given: Any, lower: IntArray, upper: IntArray) -> tuple[tuple[int, ...], ...]:
    """Return declared sets of variables; raise `InputError` unless each has one range."""
    n, axis = len(lower), Axis("variables")
    sets = [tuple(m.tolist()) for m in index_sets("interchangeable", given, n, axis, flat=False)]
    seen = [i for members in sets for i in members]
    if len(set(seen)) < len(seen):
        i = next(i for i in seen if seen.count(i) > 1)
        raise InputError(f"interchangeable: variable {i} is in two sets")
    for k, members in enumerate(sets):
        ranges = [(int(lower[i]), int(upper[i])) for i in members]
        if len(set(ranges)) > 1:
            j = next(j for j, ends in enumerate(ranges) if ends != ranges[0])
            raise InputError(
                f"interchangeable[{k}]: variables {members[0]} and {members[j]} have the ranges "
                f"{ranges[0]} and {ranges[j]}"
            )
    return tuple(members for members in sets if len(members) > 1)


def swap_error(part: Placed, box: Box) -> float:
    """Return how far values may move where variables change places that no number tells apart.

    Infinite where nothing is known about it: what is made of rounded values by code.
    """
    if isinstance(part, Blocks) and part.is_product:
        return 2.0 * len(part.blocks) * _UNIT * float(part(box.upper[None, :])[0])
    if isinstance(part, Quadratic) and not part.is_integral:
        terms = len(part.linear) + np.count_nonzero(part.pairs)
        return 2.0 * terms * _UNIT * float(part(box.upper[None, :])[0])
    if isinstance(part, Coverage):
        return 0.0 if part.is_integral else 2.0 * rounding_error(part, box)
    if isinstance(part, Added):
        others = (swap_error(p, box) for p in part.parts if not isinstance(p, Coverage))
        return math.fsum(others) + 2.0 * rounding_error(part, box)
    inner: tuple[Placed, ...] = ()
    if isinstance(part, Extreme):
        return max(swap_error(p, box) for p in part.parts)
    if isinstance(part, Composed):
        inner = (part.inner,)
    elif isinstance(part, Ratio):
        inner = (part.top, part.under)
    return math.inf if any(swap_error(p, box) > 0 for p in inner) else 0.0


def are_alike(made: Structure, variables: Sequence[int], lower: IntArray, upper: IntArray) -> bool:
    """Tell whether objective and rows are the same functions when two of some variables swap.

    Every row by itself, so that this is still true without some of them, and in its rounded
    values; only those of the objective may move, by no more than `swap_error`.
    """
    first, rest = variables[0], variables[1:]
    functions = _functions(made)
    if functions is None or any((lower[i], upper[i]) != (lower[first], upper[first]) for i in rest):
        return False
    same = np.arange(len(lower))
    before = [_image(part, same) for part in functions]
    return all(_is_kept(functions, before, first, i, len(lower)) for i in rest)


def found_alike(made: Structure, lower: IntArray, upper: IntArray) -> tuple[tuple[int, ...], ...]:
    """Return sets of variables that objective and rows do not tell apart, as far as they show."""
    functions = _functions(made)
    if functions is None or len(lower) > MOST_VARIABLES:
        return ()
    groups = _candidates(functions, lower, upper)
    before = [_image(part, np.arange(len(lower))) for part in functions] if groups else []
    found: list[tuple[int, ...]] = []
    for candidates in groups:
        sets: list[list[int]] = []
        for i in candidates:
            fits = (s for s in sets if _is_kept(functions, before, s[0], i, len(lower)))
            if (known := next(fits, None)) is not None:
                known.append(i)
            else:
                sets.append([i])
        found += [tuple(s) for s in sets if len(s) > 1]
    return tuple(found)


def _functions(made: Structure) -> list[Placed] | None:
    """Return the objective and what is limited, None where rounding or code decides."""
    rows = [row.part for row in (*made.at_most, *made.at_least) if math.isfinite(row.limit)]
    parts = [made.objective, *rows]
    if any(map(_has_code, parts)) or not math.isfinite(swap_error(made.objective, made.box)):
        return None
    return None if any(swap_error(part, made.box) > 0 for part in rows) else parts


def _has_code(part: Placed) -> bool:
    inner: tuple[Placed, ...] = ()
    if isinstance(part, Extreme | Added):
        inner = part.parts
    elif isinstance(part, Composed):
        inner = (part.inner,)
    elif isinstance(part, Ratio):
        inner = (part.top, part.under)
    return isinstance(part, Function) or any(map(_has_code, inner))


def _candidates(functions: Sequence[Placed], lower: IntArray, upper: IntArray) -> list[list[int]]:
    """Return variables of one range that, each alone at an end of it, make the same of all."""
    n = len(lower)
    high, low = np.repeat(lower[None, :], n, axis=0), np.repeat(upper[None, :], n, axis=0)
    np.fill_diagonal(high, upper)
    np.fill_diagonal(low, lower)
    values = np.column_stack([part(ends) for part in functions for ends in (high, low)])
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i in np.flatnonzero(upper > lower).tolist():
        groups[f"{lower[i]} {upper[i]}", *(f"{v:.9g}" for v in values[i])].append(i)
    return [group for group in groups.values() if len(group) > 1]


def _is_kept(functions: Sequence[Placed], before: Sequence[bytes], i: int, j: int, n: int) -> bool:
    """Tell whether functions stay the same when two variables swap."""
    places = np.arange(n)
    places[[i, j]] = j, i
    pairs = zip(functions, before, strict=True)
    return all(_image(part, places) == image for part, image in pairs)


def _image(part: Placed, places: IntArray) -> bytes:
    """Return a digest of a part whose variables stand at other places; equal ones are equal.

    Terms of a sum, factors and targets have no order.
    """
    if isinstance(part, Blocks):
        blocks = sorted(_block_image(block, places) for block in part.blocks)
        return _digest("blocks", part.is_product, *blocks)
    at = np.argsort(places)  # the variable that stands at each place
    if isinstance(part, Coverage):
        misses = np.concatenate([part.misses[i] for i in at]).T + 0.0
        targets = sorted(
            _digest(weight, row.tobytes()) for weight, row in zip(part.weights, misses, strict=True)
        )
        return _digest("coverage", part.lower[at].tolist(), *targets)
    if isinstance(part, Quadratic):
        both = (part.pairs + part.pairs.T)[np.ix_(at, at)] + 0.0
        return _digest("quadratic", (part.linear[at] + 0.0).tobytes(), both.tobytes())
    if isinstance(part, Composed):
        return _digest("composed", id(part.outer), _image(part.inner, places))
    if isinstance(part, Extreme | Added):
        kind = str(part.is_least) if isinstance(part, Extreme) else "added"
        return _digest(kind, *sorted(_image(p, places) for p in part.parts))
    if isinstance(part, Ratio):
        return _digest("ratio", part.whole, _image(part.top, places), _image(part.under, places))
    return _digest("code", id(part), places.tobytes())


def _block_image(block: Block, places: IntArray) -> bytes:
    """Return a digest of a table with the variables in the order of their places."""
    now = places[block.variables]
    order = np.argsort(now)
    steps = [len(block.table), *block.strides.tolist()]
    sizes = np.array([a // b for a, b in pairwise(steps)])
    table = block.table.reshape(sizes).transpose(order) + 0.0
    return _digest(now[order].tolist(), block.lower[order].tolist(), table.tobytes())


def _digest(*items: object) -> bytes:
    digest = hashlib.sha256()
    for item in items:
        text = item if isinstance(item, bytes) else repr(item).encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.digest()
