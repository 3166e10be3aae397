"""Compiled loops over whole traces: depths in the LRU stack, and next uses."""

from __future__ import annotations

import numpy as np

from moe2opt.caching.trace import IdArray
from moe2opt.result import BoolArray, IntArray
from moe2opt.solvers.jit import entry, inner


@entry
def stack_depths(
    experts: IdArray, fresh: BoolArray, restart: bool, width: int, last: IntArray, tree: IntArray
) -> IntArray:
    """Return how often an expert was found at each depth of the LRU stack of all given layers.

    Parameters
    ----------
    experts
        ``(tokens, L, k)`` experts of the layers that share a cache.
    fresh, restart
        Where sequences begin, and whether the stack is emptied there.
    width
        Experts per layer.
    last
        ``(L * width,)`` filled with -1.
    tree
        ``(tokens * L * k + 1,)`` zeros: a Fenwick tree that marks the last use of every expert.

    Returns
    -------
    ndarray
        ``(L * width + 1,)`` counts; with s slots, those at depths up to s are hits.
    """
    tokens, layers, top_k = experts.shape
    found = np.zeros(layers * width + 1, dtype=np.int64)
    marked = 0
    for t in range(tokens):
        if fresh[t] and restart:
            for g in range(len(last)):
                last[g] = -1
        for layer in range(layers):
            base = (t * layers + layer) * top_k
            for r in range(top_k):
                at = last[layer * width + experts[t, layer, r]]
                if at >= 0:
                    earlier = 0
                    while at > 0:
                        earlier += tree[at]
                        at -= at & -at
                    found[marked - earlier] += 1
            for r in range(top_k):
                g = layer * width + experts[t, layer, r]
                if last[g] >= 0:
                    marked += _mark(tree, last[g], -1)
                last[g] = base + r
                marked += _mark(tree, base + r, 1)
    return found


@inner
def _mark(tree: IntArray, position: int, change: int) -> int:
    at = position + 1
    while at < len(tree):
        tree[at] += change
        at += at & -at
    return change


@entry
def next_uses(experts: IdArray, fresh: BoolArray, restart: bool, width: int) -> IntArray:
    """Return the ``(tokens, L, k)`` step of each expert's next use, a huge number for none."""
    tokens, layers, top_k = experts.shape
    never = np.int64(2) ** 60
    nexts = np.empty((tokens, layers, top_k), dtype=np.int64)
    coming = np.full(layers * width, never)
    for back in range(tokens):
        t = tokens - 1 - back
        for layer in range(layers):
            for r in range(top_k):
                g = layer * width + experts[t, layer, r]
                nexts[t, layer, r] = coming[g]
                coming[g] = t * layers + layer
        if fresh[t] and restart:
            for g in range(len(coming)):
                coming[g] = never
    return nexts
