"""Excesses summed over the best experts of each cluster: equal to sums over all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from solving import run

from moe2opt.bench.generated import uniform
from moe2opt.certify import certify
from moe2opt.certify import facility as facility_rules
from moe2opt.certify.near import DEPTH, NearTable


@pytest.mark.parametrize("experts", [DEPTH // 2, DEPTH, 5 * DEPTH])
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.97])
def test_the_table_gives_the_full_sums(experts: int, quantile: float) -> None:
    """Where the table answers, it gives each wanted expert's total excess; else it says None."""
    rng = np.random.default_rng(experts)
    values = rng.integers(0, 10_000, size=(experts, 40))
    thresholds = np.quantile(values, quantile, axis=0).astype(np.int64)
    wanted = rng.random(experts) < 0.8
    found = NearTable(values).excess(thresholds, wanted)
    expected = np.maximum(values - thresholds, 0).sum(axis=1)
    if found is None:
        assert np.count_nonzero(wanted) < DEPTH or quantile == 0.5
    else:
        np.testing.assert_array_equal(found[wanted], expected[wanted])
    assert quantile < 0.9 or experts < 2 * DEPTH or found is not None


def test_large_proofs_are_decided_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the table the checker accepts a proof and rejects a smaller claim."""
    problem = uniform(110, 150, 0.1, 0)
    result = run(problem, "brb", bound="lagrangian")
    assert len(result.certificate.multipliers) > 100
    forged = replace(result.certificate, claim=result.bound - 1.0).sealed()
    for few in (100, 10**9):
        monkeypatch.setattr(facility_rules, "_FEW", few)
        assert certify(problem, result).ok
        assert not certify(problem, replace(result, certificate=forged, bound=forged.claim)).ok
