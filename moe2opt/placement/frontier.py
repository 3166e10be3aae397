"""Pareto frontiers of options."""

from __future__ import annotations

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray

_CHUNK = 512


def undominated(criteria: FloatArray) -> IntArray:
    """Return the positions of the options that no other option equals or beats in everything.

    Of options that are alike in everything the first stays.

    Parameters
    ----------
    criteria
        ``(M, c)`` figures, small is good.
    """
    order = np.lexsort(criteria.T[::-1])
    front = np.zeros((0, criteria.shape[1]))
    kept: list[int] = []
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]
        block = criteria[rows]
        open_ = ~_covered(block, front)
        rows, block = rows[open_], block[open_]
        # In lexicographic order only an earlier option can dominate a later one.
        earlier = np.tri(len(rows), k=-1, dtype=bool)
        beaten = (block[None, :, :] <= block[:, None, :]).all(axis=2) & earlier
        rows, block = rows[~beaten.any(axis=1)], block[~beaten.any(axis=1)]
        kept += rows.tolist()
        front = np.concatenate([front, block])
    return np.sort(np.array(kept, dtype=np.int64))


def _covered(block: FloatArray, front: FloatArray) -> BoolArray:
    """Tell which rows of `block` a row of `front` equals or beats in everything."""
    found = np.zeros(len(block), dtype=bool)
    for start in range(0, len(front), _CHUNK):
        part = front[start : start + _CHUNK]
        found |= np.asarray((part[None, :, :] <= block[:, None, :]).all(axis=2)).any(axis=1)
    return np.asarray(found)
