"""Opening costs: value minus the fixed cost of what is chosen, in every engine and every proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import stated
from solving import CERTIFIED, EXACT, HEURISTIC, run, same
from strategies import brute_force, facility_problems

import moe2opt as mo
from moe2opt.canonical import FacilityProblem
from moe2opt.canonical.selftest import self_test, size_words
from moe2opt.certify import certify

#: Three warehouses, four customers; nobody is worth opening for one customer alone.
WAREHOUSES = FacilityProblem(
    values=[[9, 5, 0], [8, 7, 0], [0, 7, 6], [0, 5, 9]],
    costs=[],
    budgets=[],
    opening=[10, 13, 10],
)


def costly(rng: np.random.Generator, experts: int, clusters: int) -> FacilityProblem:
    """Return customers and warehouses in a square, too large for one node."""
    places, homes = rng.random((experts, 2)), rng.random((clusters, 2))
    far = np.round(1000 * np.linalg.norm(homes[:, None] - places[None], axis=2))
    opening = np.round(1000 * rng.uniform(0.8, 1.6, experts))
    return FacilityProblem(far.max() - far, [], [], covers=[np.arange(experts)], opening=opening)


@pytest.mark.parametrize("solver", EXACT)
def test_what_opens_pays(solver: str) -> None:
    """The two outer warehouses are worth 32 and cost 20; all three are worth less than that."""
    result = run(WAREHOUSES, solver)
    assert (result.x.tolist(), result.objective) == ([1, 0, 1], 12.0)  # type: ignore[union-attr]
    assert result.objective == brute_force(WAREHOUSES)
    assert certify(WAREHOUSES, result).ok


@pytest.mark.parametrize("solver", [*EXACT, *HEURISTIC])
def test_nothing_is_opened_where_nothing_pays(solver: str) -> None:
    """Where each opening costs more than it can add, the best choice is none."""
    problem = replace(WAREHOUSES, opening=[100, 100, 100])
    assert run(problem, solver).objective == 0.0


@pytest.mark.parametrize("solver", [*EXACT, *HEURISTIC])
def test_a_cover_is_met_at_a_loss(solver: str) -> None:
    """A cover forces the cheapest loss, and the optimum is negative."""
    problem = replace(WAREHOUSES, opening=[100, 90, 100], covers=[[0, 2]])
    result = run(problem, solver)
    best = brute_force(problem)
    assert best < 0
    assert result.objective == best if solver != "random" else result.objective <= best
    assert certify(problem, result).ok


@settings(max_examples=15)
@given(facility_problems(), st.data())
def test_dearer_openings_never_raise_the_optimum(problem: FacilityProblem, data: Any) -> None:
    """Raising opening costs lowers the optimum or leaves it, by no more than was added."""
    added = data.draw(st.lists(st.integers(0, 6), min_size=problem.size, max_size=problem.size))
    dearer = replace(problem, opening=problem.fixed + np.array(added))
    before, after = brute_force(problem), brute_force(dearer)
    for solver in CERTIFIED:
        found = run(dearer, solver)
        assert same(dearer, found.objective, after, solver)
        assert found.objective <= before + 1e-9
        assert found.objective >= before - sum(added) - 1e-9


@settings(max_examples=15)
@given(facility_problems())
def test_free_openings_change_nothing(problem: FacilityProblem) -> None:
    """Opening costs of zero give the answer and, byte for byte, the proof of none."""
    plain = replace(problem, opening=None)
    zeros = replace(problem, opening=np.zeros(problem.size))
    for solver in CERTIFIED:
        one, other = run(plain, solver), run(zeros, solver)
        assert one.objective == other.objective
        assert one.certificate == other.certificate


@settings(max_examples=25)
@given(facility_problems(), st.integers(1, 5))
def test_proofs_do_not_hold_where_opening_is_cheaper(problem: FacilityProblem, less: int) -> None:
    """The proof of a problem is refused for one whose optimum is larger by cheaper openings."""
    cheaper = replace(problem, opening=np.maximum(problem.fixed - less, 0.0))
    best = brute_force(cheaper)
    for solver in CERTIFIED:
        proof = run(problem, solver).certificate
        assert proof is not None
        moved = replace(proof, problem_hash=cheaper.fingerprint).sealed()
        assert moved.claim >= best or not certify(cheaper, stated(moved)).ok


@pytest.mark.parametrize("bound", ["auto", "cuts", "lagrangian"])
@pytest.mark.parametrize("budget", [None, 60.0])
def test_trees_with_opening_costs_are_proven(bound: str, budget: float | None) -> None:
    """Problems of many nodes end with a checked optimum, the same by every bound and by HiGHS."""
    problem = costly(np.random.default_rng(4), 20, 60)
    if budget is not None:
        costs = np.random.default_rng(5).integers(20, 60, (1, 20))
        problem = replace(problem, costs=costs, budgets=[budget])
    result = run(problem, "brb", bound=bound)
    assert result.status is mo.Status.OPTIMAL
    assert result.objective == run(problem, "milp").objective
    verdict = certify(problem, result)
    assert (verdict.ok, verdict.kind) == (True, "checked")


def test_identical_servers_with_opening_costs_are_one_type() -> None:
    """Copies that cost the same are merged; one that costs more is not a copy."""
    values = np.tile(np.array([[5, 3], [2, 4], [1, 4]]), (1, 2))
    costs = np.kron(np.eye(2), [2, 1])
    alike = FacilityProblem(values, costs, [2, 2], opening=[1, 2, 1, 2])
    differs = replace(alike, opening=[1, 2, 1, 3])
    for problem, types in ((alike, ((0, 1),)), (differs, ())):
        result = run(problem, "brb")
        assert result.certificate.types == types  # type: ignore[union-attr]
        assert result.objective == brute_force(problem)
        assert certify(problem, result).ok


def test_problem_files_with_opening_costs_are_told_and_sampled() -> None:
    """`check` says that opening costs, and samples value and cost, each in its own direction."""
    assert size_words(WAREHOUSES).endswith("0 groups, 0 covers, opening costs")
    assert self_test(WAREHOUSES) > 0
    assert "opening" not in size_words(replace(WAREHOUSES, opening=None))
