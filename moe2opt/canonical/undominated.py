"""Which options nothing beats."""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.steps import step

#: Options that are compared at once.
_CHUNK = 256


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
