"""The campaign's own parts: draws that repeat, a truth that is exact, a judge that finds fault."""

from __future__ import annotations

import dataclasses
import math

import pytest
from campaign.checking import Tally, examine, faults
from campaign.instances import Choice, ExactRow, Facility, draw, limit_of
from campaign.mutating import ALL, _Target

import moe2opt as mo
from moe2opt.result import Certificate, Status


@pytest.mark.parametrize("seed", range(40))
def test_draws_repeat(seed: int) -> None:
    """A seed always gives the same instance, and another seed another one."""
    assert draw(seed) == draw(seed)
    assert draw(seed) != draw(seed + 4)


def test_truth_is_exact() -> None:
    """Sums are those of rational numbers, rounded once; limits are those of the documentation."""
    row = ExactRow([1e16, 1.0, 1.0, 5e-324, 0.1, 0.2])
    assert row.total([0, 1]) == 1e16
    assert row.total([0, 1, 2]) == 1e16 + 2.0
    assert row.total([4, 5]) == 0.1 + 0.2
    assert ExactRow([1.7e308]).total([0, 0]) == math.inf
    assert limit_of([1.0, 2.0], 3.0) == 3.0
    assert limit_of([0.1, 0.2], 0.3) == 0.3 + 1e-9
    assert limit_of([1.0], 2.5) == 2.5 + 2.5e-9


def test_truth_of_a_small_instance() -> None:
    """What is best and what clashes is found by trying every point."""
    instance = Choice([[-1e16, 0.0], [0.3, 0.6]], [[[0.0], [1.0]], [[0.0], [1.0]]], [2.0])
    assert instance.best == 0.6
    assert instance.with_budget(0, 1.0).best == 0.3
    assert instance.with_budget(0, -1.0).best == -math.inf
    assert instance.without([], []).best == 0.6


@pytest.fixture
def small() -> Facility:
    """Two experts of which one fits."""
    return Facility([[3.0, 2.0]], [[2.0, 1.0]], [1.0], None, [], [], 2)


@pytest.mark.parametrize(
    "change",
    [
        {"bound": 1.5},
        {"objective": 2.5, "bound": 2.5},
        {"x": [1, 0], "objective": 3.0, "bound": 3.0},
        {"status": Status.INFEASIBLE, "x": None, "objective": -math.inf, "bound": -math.inf},
        {"status": Status.FEASIBLE, "bound": 3.0},
        {"certificate": None},
    ],
)
def test_the_judge_finds_fault(small: Facility, change: dict[str, object]) -> None:
    """A result that is wrong in one way is called wrong, and the right one is not."""
    problem = small.problem()
    result = mo.solve(problem)
    assert list(faults(problem, small, result, {})) == []
    if change.get("x") is not None:
        change = {**change, "x": problem.vector(change["x"])}
    with pytest.MonkeyPatch.context() as patch:
        # A bound below the objective is refused by `Result` itself, but not one from a file.
        patch.setattr(mo.Result, "__post_init__", lambda self: None)
        wrong = dataclasses.replace(result, **change)  # type: ignore[arg-type]
        assert list(faults(problem, small, wrong, {}))


def test_a_checker_that_believes_is_caught(
    small: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were a false claim accepted, the campaign would count a fault."""
    problem, tally = small.problem(), Tally()
    proof = Certificate("facility", 1.0, (("corner", 0, 0),), problem_hash=problem.fingerprint)
    target = _Target(0, problem, small, "", tally)
    target.put("false", proof)
    assert not tally.faults
    accepted = mo.certify(problem, mo.solve(problem))
    monkeypatch.setattr(mo, "certify", lambda *_: accepted)
    target.put("false", proof)
    assert "accepted, but the claim 1.0 is below the optimum 2.0" in tally.faults[0]


def test_there_are_many_kinds_of_mutation() -> None:
    """At least 25 kinds are tried."""
    assert len(ALL) >= 25


def test_instances_are_examined() -> None:
    """Ordinary instances pass every engine."""
    tally = Tally()
    for seed in (1, 7, 9, 19):
        examine(seed, tally)
    assert tally.counts["runs"] >= 16
    assert tally.faults == []
