"""Trees that grow in compiled code: the same optima, limits, and certificates of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from solving import run
from strategies import brute_force

from moe2opt.bench.generated import structured, uniform
from moe2opt.canonical import FacilityProblem
from moe2opt.certify import certify
from moe2opt.result import Limit, Status
from moe2opt.solvers.facility import flat, growth, loop, warm
from moe2opt.solvers.facility.relaxation import FacilityRelaxation
from moe2opt.solvers.tuning import FacilityTuning, Tuning

#: Grows trees of any size in compiled code.
AT_ONCE = Tuning(facility=FacilityTuning(grown_cells=0))

#: Leaves the first tree after three nodes, and finds the LP slow.
TO_AND_FRO = Tuning(
    facility=FacilityTuning(
        grown_cells=0, first_look=3, least_progress=2.0, cheap_first=6, node_work=0, stalled_work=0
    )
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note why each call of the loop ended."""
    seen: list[int] = []
    grow = loop.grow

    def noted(*arguments: object) -> int:
        seen.append(grow(*arguments))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(loop, "grow", noted)
    return seen


def drawn(seed: int) -> FacilityProblem:
    """Return a small problem: whole or fractional, with or without groups and opening costs."""
    rng = np.random.default_rng(seed)
    values, costs = rng.integers(0, 50, (25, 11)) * 1.0, rng.integers(1, 20, (2, 11)) * 1.0
    budgets = np.floor(0.45 * costs.sum(axis=1))
    if seed % 2:
        values, costs, budgets = values / 7.0, costs / 3.0, budgets / 3.0
    groups = [[0, 1, 2], [3, 4], [4, 5]] if seed % 3 == 0 else []
    opening = rng.integers(0, 120, 11) / (7.0 if seed % 2 else 1.0) if seed % 4 > 1 else None
    return FacilityProblem(values, costs, budgets, groups=groups, opening=opening)


@pytest.mark.parametrize("tuning", [AT_ONCE, TO_AND_FRO], ids=["as it is", "to and fro"])
def test_compiled_trees_prove_the_optimum(calls: list[int], tuning: Tuning) -> None:
    """Whole and fractional data, groups, opening costs: optima of enumeration, accepted proofs."""
    for seed in range(12):
        problem = drawn(seed)
        result = run(problem, "brb", tuning=tuning)
        assert result.status is Status.OPTIMAL
        assert result.objective == pytest.approx(brute_force(problem), rel=1e-12)
        verdict = certify(problem, result)
        assert verdict.ok, verdict.failures
    assert loop.DONE in calls


def test_nodes_are_those_of_the_loop_in_python(
    calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same incumbent the compiled tree has as many nodes as the one node by node."""
    problem = structured(30, 80, 0.2, 0, noise=1.0)
    best = run(problem, "brb").x
    compiled = run(problem, "brb", warm_start=best, tuning=AT_ONCE)
    assert calls
    monkeypatch.setattr(FacilityRelaxation, "can_grow", lambda self, search: False)
    single = run(problem, "brb", warm_start=best, tuning=AT_ONCE)
    assert compiled.stats["nodes"] == single.stats["nodes"] > 20


def test_limits_leave_a_proof_and_the_run_repeats(calls: list[int]) -> None:
    """A node limit is kept to the node, its bound is certified, and two runs write one proof."""
    problem = uniform(40, 100, 0.15, 1)
    for limit in (2, 30, 90):
        first, second = (run(problem, "brb", node_limit=limit, tuning=AT_ONCE) for _ in range(2))
        assert first.stats["nodes"] == limit
        assert first.limit is Limit.NODES
        assert first.certificate.digest == second.certificate.digest
        verdict = certify(problem, first)
        assert verdict.ok, verdict.failures
    assert loop.PAUSED in calls


def test_many_multipliers_go_to_a_file(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Multipliers beyond the limit of memory are the same in a file, and so is the proof."""
    problem = uniform(40, 100, 0.15, 1)
    expected = run(problem, "brb", tuning=AT_ONCE)
    monkeypatch.setattr(growth, "MOST_IN_MEMORY_BYTES", 1000)
    result = run(problem, "brb", tuning=AT_ONCE)
    assert loop.FULL in calls
    assert result.certificate.digest == expected.certificate.digest


def test_what_the_loop_finds_is_taken(calls: list[int]) -> None:
    """Without kicks the loop itself finds incumbents, and hands them over."""
    tuning = Tuning(facility=FacilityTuning(grown_cells=0, kicks=0))
    for seed in range(4):
        result = run(uniform(40, 100, 0.15, seed), "brb", tuning=tuning)
        assert result.status is Status.OPTIMAL
    assert {loop.ROUNDED, loop.POINT} & set(calls)


def test_warming_compiles_what_a_search_uses() -> None:
    """No kernel is compiled a second time while a search runs."""
    warm.compile_kernels()
    warm.compile_trees()
    kernels = (*warm._kernels(), loop.grow, flat.in_preorder)
    before = [len(kernel.signatures) for kernel in kernels]
    for seed in range(4):
        run(drawn(seed), "brb", tuning=TO_AND_FRO)
    assert [len(kernel.signatures) for kernel in kernels] == before


def test_short_trees_of_small_problems_compile_no_loop(calls: list[int]) -> None:
    """The loop in compiled code begins with large problems, or after many nodes."""
    problem = uniform(40, 100, 0.15, 1)
    result = run(problem, "brb", node_limit=100)
    assert result.stats["nodes"] == 100
    assert not calls
    run(problem, "brb", node_limit=100, tuning=Tuning(facility=FacilityTuning(grown_nodes=50)))
    assert calls
    calls.clear()
    run(structured(50, 100, 0.2, 0, noise=1.0), "brb")
    assert calls
