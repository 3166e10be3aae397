"""Compiled vertices of the dual of a multiple-choice problem: data, prices, profits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.jit import inner

#: Flags of allowed options.
FlagArray = npt.NDArray[np.uint8]


class Core(NamedTuple):
    """The groups that are still open; the others are part of the constants.

    Attributes
    ----------
    values, costs, rows
        ``(M,)`` value and ``(M, K)`` use of every option, group after group; `rows` is ``(K, M)``.
    starts, group_of
        ``(G + 1,)`` first option of each group, ``(M,)`` group of each option.
    limits, loose
        ``(K,)`` limits less what closed groups use, and the same with a margin for rounding.
    base
        Value of the closed groups.
    error
        Relative rounding error of a Lagrangian value.
    size, sizes
        What the error is relative to: ``size + prices · sizes``.
    integral
        Whether every objective value is an integer.
    aimless
        Whether `values` only guide: the true objective is zero.
    tiny
        Differences of value below this are rounding noise.
    """

    values: FloatArray
    costs: FloatArray
    rows: FloatArray
    starts: IntArray
    group_of: IntArray
    limits: FloatArray
    loose: FloatArray
    base: float
    error: float
    size: float
    sizes: FloatArray
    integral: bool
    aimless: bool
    tiny: float


class Vertex(NamedTuple):
    """A vertex of the dual and room to work; all arrays change in place.

    Attributes
    ----------
    price
        ``(K,)`` prices of the rows.
    key
        ``(G,)`` a best option of each group.
    first, partner
        ``(K,)`` the hyperplanes: ``first`` ties with ``partner``, or price ``-1 - first`` is zero.
    inverse
        ``(K, K)`` inverse of the matrix of the hyperplanes.
    weight
        ``(K,)`` fraction of each ``first`` in the fractional choice, or slack of the row.
    direction
        ``(K,)`` edge that is followed, or the ray that proves infeasibility.
    """

    price: FloatArray
    key: IntArray
    first: IntArray
    partner: IntArray
    inverse: FloatArray
    weight: FloatArray
    direction: FloatArray
    square: FloatArray
    use: FloatArray
    profit: FloatArray
    rate: FloatArray
    basic: FlagArray
    saved: IntArray
    heap_time: FloatArray
    heap_option: IntArray


def new_vertex(core: Core) -> Vertex:
    """Return the vertex where every price is zero."""
    options, rows = core.costs.shape
    groups = len(core.starts) - 1
    return Vertex(
        price=np.zeros(rows),
        key=core.starts[:-1].copy(),
        first=-1 - np.arange(rows),
        partner=np.full(rows, -1),
        inverse=np.eye(rows),
        weight=np.zeros(rows),
        direction=np.zeros(rows),
        square=np.zeros((rows, rows)),
        use=np.zeros(rows),
        profit=np.zeros(options),
        rate=np.zeros(options),
        basic=np.zeros(options, np.uint8),
        saved=np.zeros(groups, np.int64),
        heap_time=np.zeros(groups + 1),
        heap_option=np.zeros(groups + 1, np.int64),
    )


@inner
def assign(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """Copy a vector."""
    for i in range(len(target)):
        target[i] = source[i]


@inner
def load_row(target: npt.NDArray[Any], table: npt.NDArray[Any], row: int) -> None:
    """Copy a row of a table to a vector."""
    for i in range(len(target)):
        target[i] = table[row, i]


@inner
def store_row(table: npt.NDArray[Any], row: int, source: npt.NDArray[Any]) -> None:
    """Copy a vector to a row of a table."""
    for i in range(len(source)):
        table[row, i] = source[i]


@inner
def clear(target: npt.NDArray[Any]) -> None:
    """Set a vector to zero."""
    for i in range(len(target)):
        target[i] = 0


@inner
def _invert(square: FloatArray, inverse: FloatArray) -> bool:
    """Gauss-Jordan with row pivoting; destroys `square`; False when it is singular.

    K cubed for K rows: with up to `ChoiceTuning.most_rows` rows less than a pass over the options,
    and free of the errors that updates of an inverse gather.
    """
    size = len(square)
    for i in range(size):
        for k in range(size):
            inverse[i, k] = 1.0 if i == k else 0.0
    for c in range(size):
        p = c
        for i in range(c + 1, size):
            if abs(square[i, c]) > abs(square[p, c]):
                p = i
        if abs(square[p, c]) < 1e-10:
            return False
        if p != c:
            for k in range(size):
                square[c, k], square[p, k] = square[p, k], square[c, k]
                inverse[c, k], inverse[p, k] = inverse[p, k], inverse[c, k]
        factor = 1.0 / square[c, c]
        for k in range(size):
            square[c, k] *= factor
            inverse[c, k] *= factor
        for i in range(size):
            lead = square[i, c]
            if i != c and lead != 0.0:
                for k in range(size):
                    square[i, k] -= lead * square[c, k]
                    inverse[i, k] -= lead * inverse[c, k]
    return True


@inner
def locate(core: Core, at: Vertex) -> None:
    """Compute prices and inverse from the hyperplanes; start over at zero if they do not meet."""
    rows = len(at.price)
    for i in range(rows):
        f = at.first[i]
        at.use[i] = 0.0
        for k in range(rows):
            at.square[i, k] = 0.0
        if f < 0:
            at.square[i, -1 - f] = 1.0
        else:
            p = at.partner[i]
            at.use[i] = core.values[f] - core.values[p]
            for k in range(rows):
                at.square[i, k] = core.costs[f, k] - core.costs[p, k]
    if not _invert(at.square, at.inverse):
        for i in range(rows):
            at.first[i] = -1 - i
            at.partner[i] = -1
            at.use[i] = 0.0
            for k in range(rows):
                at.inverse[i, k] = 1.0 if i == k else 0.0
    for k in range(rows):
        price = 0.0
        for i in range(rows):
            price += at.inverse[k, i] * at.use[i]
        at.price[k] = max(price, 0.0)
    for i in range(rows):
        if at.first[i] < 0:
            at.price[-1 - at.first[i]] = 0.0


@inner
def swap_key(at: Vertex, group: int, new: int) -> None:
    """Make a tied option the key of its group; the ties stay the same hyperplanes."""
    old = at.key[group]
    at.key[group] = new
    for i in range(len(at.first)):
        if at.first[i] >= 0 and at.partner[i] == old:
            if at.first[i] == new:
                at.first[i] = old
            at.partner[i] = new


@inner
def subtract(rows: FloatArray, price: FloatArray, sign: float, profit: FloatArray) -> None:
    """Subtract the priced use of all options times `sign`, row after row: this vectorises."""
    for k in range(len(price)):
        factor = sign * price[k]
        if factor != 0.0:
            row = rows[k]
            for o in range(len(profit)):
                profit[o] -= factor * row[o]


@inner
def fill_profit(core: Core, at: Vertex) -> None:
    """Fill the profits of all options under the prices."""
    assign(at.profit, core.values)
    subtract(core.rows, at.price, 1.0, at.profit)


@inner
def is_live(group_of: IntArray, at: Vertex, box: FlagArray, i: int) -> bool:
    """Tell whether hyperplane `i` is a tie at the top of its group, both options allowed."""
    f = at.first[i]
    return bool(f >= 0 and box[f] and at.partner[i] == at.key[group_of[f]])


@inner
def mark_basics(core: Core, at: Vertex, box: FlagArray) -> None:
    """Set the flag of the options that tie with their key."""
    for i in range(len(at.first)):
        if is_live(core.group_of, at, box, i):
            at.basic[at.first[i]] = 1


@inner
def unmark_basics(at: Vertex) -> None:
    """Clear the flags that `mark_basics` set, whatever became of the keys since."""
    for i in range(len(at.first)):
        if at.first[i] >= 0:
            at.basic[at.first[i]] = 0
