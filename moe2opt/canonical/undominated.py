"""Which options nothing beats."""

from __future__ import annotations

import math

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.steps import step

#: Options that are compared at once.
_CHUNK = 256

#: Options from which on a table of the best so far is kept, that are compared at once, and the
#: most cells of it.
_MANY, _PART, _CELLS = 8192, 4096, 2**22


def undominated(criteria: FloatArray) -> IntArray:
    """Return the positions of the options that no other option equals or beats in everything.

    Of options that are alike in everything the first stays.

    Parameters
    ----------
    criteria
        ``(M, c)`` figures, small is good.
    """
    # Small whole numbers compare fastest, and only their order counts.
    ranks = [np.unique(figures, return_inverse=True)[1] for figures in criteria.T]
    # With the criteria of few values first, neighbours are alike, and few options reach them.
    ranks.sort(key=lambda rank: int(rank.max(initial=0)))
    shape = [int(rank.max(initial=0)) + 1 for rank in ranks]
    if len(criteria) > _MANY and len(ranks) > 2 and math.prod(shape[:-2]) <= _CELLS:
        return _by_table(ranks, shape)
    table = np.array(ranks).astype(np.min_scalar_type(len(criteria)))
    order = np.lexsort(table[::-1])
    table = table[:, order]
    front, size = np.empty_like(table), 0
    kept = [order[:0]]
    for start in range(0, len(order), _CHUNK):
        step()
        block = table[:, start : start + _CHUNK]
        rows = block.shape[1]
        near = front[:, :size]
        for own in range(len(table)):
            near = near[:, near[own] <= block[own].max()]
        near = np.concatenate([near, block], axis=1)
        beaten = np.ones((rows, near.shape[1]), dtype=bool)
        # In lexicographic order only an earlier option can dominate a later one.
        beaten[:, -rows:] = np.tri(rows, k=-1, dtype=bool)
        for figures, others in zip(block, near, strict=True):
            beaten &= others <= figures[:, None]
        open_ = ~beaten.any(axis=1)
        found = block[:, open_]
        front[:, size : size + found.shape[1]] = found
        size += found.shape[1]
        kept.append(order[start : start + _CHUNK][open_])
    return np.sort(np.concatenate(kept))


def _by_table(ranks: list[IntArray], shape: list[int]) -> IntArray:
    """Return the positions of options that nothing beats, few of whose ranks take many values.

    In order of the last rank an option is beaten by an earlier one, if by any. For the values of
    all but the last two, a table keeps the least second to last one of what came before.
    """
    *cells, stored, last = ranks
    order = np.lexsort((*cells, stored, last))
    table = np.full(shape[:-2], shape[-2], dtype=np.min_scalar_type(shape[-2]))
    stored = stored.astype(table.dtype)
    kept = []
    for start in range(0, len(order), _PART):
        step()
        rows = order[start : start + _PART]
        rows = rows[stored[rows] < table[tuple(rank[rows] for rank in cells)]]
        beaten = np.tri(len(rows), k=-1, dtype=bool)
        for rank in (*cells, stored, last):
            beaten &= rank[rows] <= rank[rows][:, None]
        rows = rows[~beaten.any(axis=1)]
        kept.append(rows)
        np.minimum.at(table, tuple(rank[rows] for rank in cells), stored[rows])
        for axis in range(table.ndim):
            np.minimum.accumulate(table, axis=axis, out=table)
    return np.sort(np.concatenate(kept))
