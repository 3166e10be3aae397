"""Rounded budget rows: valid for every packable choice, and checked like everything else."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solving import run

from moe2opt.canonical import (
    FacilityProblem,
    interchangeable_rows,
    merge,
    pack,
    rounded_row,
    violated_rows,
)
from moe2opt.certify import certify
from moe2opt.result import Status


def servers(sizes: list[float], count: int, capacity: float) -> FacilityProblem:
    """Return a problem in which each item may go to any of some identical servers."""
    items = len(sizes)
    rng = np.random.default_rng(items)
    values = np.tile(rng.integers(1, 50, size=(6, items)), (1, count)).astype(np.float64)
    costs = np.zeros((count, items * count))
    for k in range(count):
        costs[k, k * items : (k + 1) * items] = sizes
    groups = [[i + k * items for k in range(count)] for i in range(items)]
    return FacilityProblem(values, costs, np.full(count, capacity), groups=groups)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.floats(0.01, 1.2) | st.sampled_from([0.5, 1 / 3, 0.25, 1.0]), min_size=2,
                   max_size=7),
    count=st.integers(2, 3),
    parts=st.integers(1, 24),
)  # fmt: skip
def test_every_choice_that_packs_satisfies_rounded_rows(
    sizes: list[float], count: int, parts: int
) -> None:
    """No choice that packs into the servers violates a rounded row of the merged budget."""
    problem = servers(sizes, count, 1.0)
    merged = merge(problem, interchangeable_rows(problem))
    assert len(merged.types) == 1
    coefficients, limit = rounded_row(merged, 0, parts)
    for x in itertools.product([0, 1], repeat=merged.problem.size):
        chosen = np.array(x, dtype=bool)
        held = merged.sizes[chosen].tolist()
        if pack(sorted(held, reverse=True), count, float(merged.limits[0])) is not None:
            assert coefficients @ chosen <= limit


@settings(max_examples=60, deadline=None)
@given(
    costs=st.lists(st.integers(0, 12), min_size=1, max_size=7),
    limit=st.integers(1, 25),
    parts=st.integers(1, 24),
)
def test_a_plain_budget_is_one_bin(costs: list[int], limit: int, parts: int) -> None:
    """Every choice within a plain budget satisfies its rounded rows."""
    problem = FacilityProblem(np.ones((1, len(costs))), [costs], [limit])
    coefficients, most = rounded_row(merge(problem, ()), 0, parts)
    for x in itertools.product([0, 1], repeat=len(costs)):
        if problem.is_feasible(x):
            assert coefficients @ np.array(x) <= most


def test_violated_rows_cut_off_the_choice() -> None:
    """Half of each of four items of 0.6 in two bins violates the row of halves first of all."""
    merged = merge(problem := servers([0.6] * 4, 2, 1.0), interchangeable_rows(problem))
    found = violated_rows(merged, np.full(4, 0.75))
    assert found[0] == (0, 1)
    for row, parts in found:
        coefficients, limit = rounded_row(merged, row, parts)
        assert coefficients @ np.full(4, 0.75) > limit


@pytest.mark.parametrize(("row", "parts"), [(1, 1), (-1, 1), (0, 0), (0, 25)])
def test_rows_that_cannot_be_rounded(row: int, parts: int) -> None:
    """A row or a number of parts out of range is refused."""
    merged = merge(problem := servers([0.6] * 4, 2, 1.0), interchangeable_rows(problem))
    with pytest.raises(ValueError, match="no rounded row"):
        rounded_row(merged, row, parts)


@pytest.fixture
def rounded() -> tuple[FacilityProblem, Any]:
    """Return a problem whose proof needs rounded rows, and its result."""
    problem = servers([0.73, 0.57, 0.45, 0.51, 0.31, 0.36, 0.64, 0.62], 2, 1.0)
    result = run(problem, "brb")
    assert result.certificate.rounded
    return problem, result


def test_proofs_with_rounded_rows_are_accepted(rounded: tuple[FacilityProblem, Any]) -> None:
    """A proof that prices rounded rows is checked and optimal."""
    problem, result = rounded
    assert result.status is Status.OPTIMAL
    assert any(m.row[-len(result.certificate.rounded) :].any() for m in
               result.certificate.multipliers)  # fmt: skip
    verdict = certify(problem, result)
    assert verdict.ok and verdict.kind == "checked", verdict.failures


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: (),
        lambda rows: rows[1:],
        lambda rows: tuple((row, 0) for row, _ in rows),
        lambda rows: tuple((row, parts + 100) for row, parts in rows),
        lambda rows: tuple((row + 1, parts) for row, parts in rows),
        lambda rows: tuple((-1, parts) for row, parts in rows),
        lambda rows: tuple((row, parts + 1) for row, parts in rows),
    ],
)
def test_changed_rounded_rows_are_rejected(
    rounded: tuple[FacilityProblem, Any], change: Any
) -> None:
    """A proof whose rounded rows are changed, and sealed anew, does not hold any more."""
    problem, result = rounded
    changed = replace(result.certificate, rounded=change(result.certificate.rounded)).sealed()
    verdict = certify(problem, replace(result, certificate=changed))
    assert not verdict.ok


@pytest.mark.parametrize("limit", [0.0, 5e-324, 1e-300])
def test_next_to_no_capacity_is_no_reason_to_round(limit: float) -> None:
    """Budgets of zero, or next to it, are proven like all others, without a warning."""
    values, costs = np.array([[0, 0, 0, 0, 2.0], [0, 0, 2.0, 0, 0]]), np.zeros((2, 5))
    costs[0], costs[1, 3] = [0, 0, 1, 2, 1], 1
    problem = FacilityProblem(values, costs, np.array([1.6, limit]))
    result = run(problem, "brb")
    assert result.objective == 2.0
    verdict = certify(problem, result)
    assert verdict.ok, verdict.failures
