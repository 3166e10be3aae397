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


def test_many_options_of_few_values_are_kept_alike() -> None:
    """What keeps the same options among so many is what keeps them among parts of these."""
    rng = np.random.default_rng(1)
    table = np.column_stack(
        [rng.integers(0, 9, 12_000), rng.integers(0, 20, 12_000), rng.integers(0, 30, 12_000)]
    ).astype(float)
    for own in (table, np.column_stack([table, rng.random(12_000)])):
        parts = [
            undominated(part) + at
            for at, part in zip((0, 4000, 8000), np.split(own, 3), strict=True)
        ]
        last = np.concatenate(parts)
        assert undominated(own).tolist() == last[undominated(own[last])].tolist()
