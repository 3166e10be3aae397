"""Starting a tree again from its root, where it stalls or the LP is quick."""

from __future__ import annotations

import numpy as np
import pytest
from solving import run
from strategies import brute_force

from moe2opt.bench.generated import structured, uniform
from moe2opt.canonical import FacilityProblem
from moe2opt.certify import certify
from moe2opt.solvers import brb
from moe2opt.solvers.base import Options, Search
from moe2opt.solvers.facility.relaxation import facility_relaxation
from moe2opt.solvers.tuning import FacilityTuning, Tuning

#: Ends the first tree after three nodes, and finds the LP quick.
HASTY = Tuning(
    facility=FacilityTuning(first_look=3, least_progress=2.0, cheap_first=6, node_work=10**9)
)


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the restarts."""
    seen: list[int] = []
    restart = brb._Frontier.restart

    def counted(frontier: brb._Frontier) -> None:
        seen.append(frontier.search.nodes)
        restart(frontier)

    monkeypatch.setattr(brb._Frontier, "restart", counted)
    return seen


@pytest.mark.parametrize("threads", [1, 3])
def test_a_restarted_tree_proves_the_optimum(restarts: list[int], threads: int) -> None:
    """After a restart the optimum is that of enumeration, and its certificate is accepted."""
    for seed in range(12):
        problem = uniform(14, 40, 0.35, seed)
        result = run(problem, "brb", threads=threads, tuning=HASTY)
        assert result.objective == brute_force(problem)
        verdict = certify(problem, result)
        assert verdict.ok, verdict.failures
    assert len(restarts) > 12, "no tree was large enough to be started again twice"


def test_more_nodes_never_prove_less_across_a_restart(restarts: list[int]) -> None:
    """A bound proven before a restart is not lost when a limit stops the new tree early."""
    problem = uniform(40, 100, 0.15, 1)
    last = float("inf")
    for limit in range(1, 40):
        result = run(problem, "brb", node_limit=limit, tuning=HASTY)
        assert result.bound <= last
        assert result.log[-1].bound == result.bound
        verdict = certify(problem, result)
        assert verdict.ok, verdict.failures
        last = result.bound
    assert len(set(restarts)) > 1 and max(restarts) < 39


def test_rows_may_be_added_after_the_first_tree(restarts: list[int]) -> None:
    """What the first tree proved stays valid when the LP's root adds rounded rows."""
    added = 0
    for seed in range(10):
        drawn = uniform(14, 60, 0.35, seed)
        costs = np.random.default_rng(seed).integers(25, 60, drawn.costs.shape).astype(float)
        problem = FacilityProblem(drawn.values, costs, np.full(len(costs), 100.0))
        result = run(problem, "brb", tuning=HASTY)
        assert result.objective == brute_force(problem)
        verdict = certify(problem, result)
        assert verdict.ok, verdict.failures
        added += bool(result.certificate.rounded)
    assert added and restarts


def test_quick_trees_are_not_started_again() -> None:
    """What the first cheap nodes close needs no LP."""
    problem = structured(12, 30, 0.3, 0)
    relaxation = facility_relaxation(problem, search := Search(problem, Options()))
    assert brb.explore(relaxation, search).bound == search.objective
    assert relaxation.bounder._cuts is None
