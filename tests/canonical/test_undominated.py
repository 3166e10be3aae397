"""Which options are kept."""

from __future__ import annotations

import numpy as np
import pytest

from moe2opt.canonical import undominated


@pytest.mark.parametrize(("rows", "criteria", "values"), [(60, 3, 6), (700, 4, 9), (600, 1, 50)])
def test_frontier_keeps_exactly_the_undominated(rows: int, criteria: int, values: int) -> None:
    """The frontier is what comparing all pairs gives, first of equals kept, however many."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        table = rng.integers(0, values, size=(rows, criteria)).astype(float)
        table[:, -1] += rng.integers(0, 2) * rng.random(rows)
        kept = undominated(table)
        less = (table[:, None] <= table[None]).all(axis=2)
        equal = (table[:, None] == table[None]).all(axis=2)
        first = np.tri(rows, k=-1, dtype=bool)
        beaten = (less & ~equal).any(axis=0) | (equal & first.T).any(axis=0)
        assert kept.tolist() == np.flatnonzero(~beaten).tolist()
