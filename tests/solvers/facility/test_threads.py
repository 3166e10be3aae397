"""Several threads on one tree: the same answer, the same tree for a given number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from solving import run
from strategies import brute_force

from moe2opt.bench.generated import structured, uniform
from moe2opt.certify import certify
from moe2opt.result import Status


@pytest.mark.parametrize("threads", [2, 3])
def test_the_tree_depends_on_the_number_of_threads_only(threads: int) -> None:
    """Two runs with the same number of threads write the same certificate."""
    problem = uniform(50, 120, 0.15, 3)
    first, second = (run(problem, "brb", bound="lagrangian", threads=threads) for _ in range(2))
    assert first.status is Status.OPTIMAL
    assert first.stats["nodes"] > 20
    assert first.certificate.digest == second.certificate.digest


@pytest.mark.parametrize("bound", ["auto", "lagrangian", "cuts", "corner"])
def test_threads_do_not_change_the_optimum(bound: str) -> None:
    """With three threads every bound proves the value that enumeration finds."""
    for seed in range(4):
        problem = structured(11, 15, 0.3, seed)
        result = run(problem, "brb", bound=bound, threads=3)
        assert result.objective == brute_force(problem)
        verdict = certify(problem, result)
        assert verdict.ok, verdict.failures


def test_threads_stop_at_a_limit_with_a_proof() -> None:
    """A node limit ends a tree of several threads with a certified bound."""
    problem = uniform(50, 120, 0.15, 3)
    result = run(problem, "brb", bound="lagrangian", threads=2, node_limit=20)
    assert result.status is Status.FEASIBLE
    assert result.bound > result.objective
    assert np.isfinite(result.bound)
    assert certify(problem, result).ok


def test_a_run_without_time_still_proves_a_bound() -> None:
    """With no time at all, the best of everything is the bound, and it is certified."""
    problem = structured(12, 15, 0.3, 0)
    result = run(problem, "brb", time_limit_s=0.0)
    assert result.objective <= result.bound <= float(problem.weighted.max(axis=1).sum())
    verdict = certify(problem, result)
    assert verdict.ok, verdict.failures
