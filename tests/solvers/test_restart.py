"""Starting a tree again from its root, once the linear programme turns out to be quick."""

from __future__ import annotations

import pytest
from solving import run
from strategies import brute_force

from moe2opt.bench.generated import structured, uniform
from moe2opt.certify import certify
from moe2opt.result import Status
from moe2opt.solvers import brb, lagrangian


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Try the programme after a few cheap boxes, find it quick, and count the restarts."""
    seen: list[int] = []
    restart = brb._Frontier.restart

    def counted(frontier: brb._Frontier) -> None:
        seen.append(frontier.search.nodes)
        restart(frontier)

    monkeypatch.setattr(lagrangian, "_CHEAP_FIRST", 6)
    monkeypatch.setattr(lagrangian, "_BOX_WORK", 10**9)
    monkeypatch.setattr(brb._Frontier, "restart", counted)
    return seen


@pytest.mark.parametrize("threads", [1, 3])
def test_a_restarted_tree_proves_the_optimum(restarts: list[int], threads: int) -> None:
    """After a restart the optimum is that of enumeration, and its certificate is accepted."""
    for seed in range(12):
        problem = uniform(14, 40, 0.35, seed)
        result = run(problem, "brb", threads=threads)
        assert result.objective == brute_force(problem)
        verdict = certify(problem, result)
        assert verdict.ok, verdict.failures
    assert restarts, "no tree was large enough to be started again"


def test_more_nodes_never_prove_less_across_a_restart(restarts: list[int]) -> None:
    """A bound proven before a restart is not lost when a limit stops the new tree early."""
    problem = uniform(40, 100, 0.15, 1)
    last = float("inf")
    for limit in range(1, 40):
        result = run(problem, "brb", node_limit=limit)
        assert result.bound <= last
        assert result.log[-1].bound == result.bound
        verdict = certify(problem, result)
        assert verdict.ok, verdict.failures
        last = result.bound
    assert restarts and max(restarts) < 39


def test_quick_trees_are_not_started_again(restarts: list[int]) -> None:
    """What the first cheap boxes close keeps its tree."""
    assert run(structured(12, 30, 0.3, 0), "brb").status is Status.OPTIMAL
    assert not restarts
