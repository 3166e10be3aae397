"""At-most-one sets and how bounds use them: shared by solvers and the checker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe2opt.result import IntArray


def at_most_one_sets(groups: Sequence[IntArray], chains: Sequence[Sequence[int]]) -> list[IntArray]:
    """Return the groups of a facility problem followed by its dominance chains."""
    return [*groups, *(np.asarray(chain, dtype=np.int64) for chain in chains)]


def partition(sets: Sequence[IntArray], size: int) -> list[IntArray]:
    """Split ``0..size-1`` into disjoint parts of which at most one member is chosen.

    Large sets are taken first; a set that meets one taken before is left out (it still counts as
    a row), and what remains becomes singletons.
    """
    free = np.ones(size, dtype=bool)
    parts = []
    for k in sorted(range(len(sets)), key=lambda k: (-len(sets[k]), k)):
        if free[sets[k]].all():
            free[sets[k]] = False
            parts.append(np.asarray(sets[k]))
    return parts + [np.array([i]) for i in np.flatnonzero(free)]
