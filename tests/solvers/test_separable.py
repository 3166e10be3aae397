"""Separable monotone problems, solved as multiple-choice problems."""

from __future__ import annotations

import pytest

import moe2opt as mo
from moe2opt.bench.monotone import series


@pytest.mark.parametrize("rel_gap", [1e-3, 0.05, 0.5])
def test_a_generous_gap_ends_a_product_early(rel_gap: float) -> None:
    """A gap counts in values of the problem, not of its logarithms, and spares nodes."""
    problem = series(80, 1)
    exact = mo.solve(problem)
    result = mo.solve(problem, rel_gap=rel_gap)
    assert result.status is mo.Status.OPTIMAL
    assert 1e-9 < result.gap <= rel_gap
    assert result.bound >= exact.objective
    assert result.stats["nodes"] < exact.stats["nodes"]
    assert mo.certify(problem, result).kind == "checked"
