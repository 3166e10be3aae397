"""The monotone suite: published optima are met with proofs, random problems repeat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import moe2opt as mo
from moe2opt.bench.cases import build_case
from moe2opt.bench.job import Job
from moe2opt.bench.launch import Launcher
from moe2opt.bench.monotone import HALF_A_DIGIT
from moe2opt.bench.peers import PEERS
from moe2opt.bench.redundancy import NETWORKS, network
from moe2opt.bench.suites import cases_of
from moe2opt.bench.worker import work

CASES = {case.name: case for case in cases_of("monotone", 1)}

#: The weights between the two that the literature's tables begin and end with.
FYFFE = sorted(name for name in CASES if name.startswith("fyffe"))


@pytest.mark.parametrize("name", ["tillman", "luus", "fyffe-w191", "fyffe-w159"])
def test_published_optima_are_proven(name: str) -> None:
    """Series systems are proven at their published optima, and the proofs accepted."""
    built = build_case(CASES[name].recipe, CASES[name].arguments, None)
    result = mo.solve(built.problem)
    verdict = mo.certify(built.problem, result)
    assert verdict.ok
    assert verdict.kind == "checked"
    assert result.status is mo.Status.OPTIMAL
    assert 0 <= result.objective - built.known <= 2 * HALF_A_DIGIT


@pytest.mark.slow
def test_optima_fall_with_the_weight_that_is_left() -> None:
    """All 33 mixed systems are proven, each at most as reliable as the one with more weight."""
    values = []
    for name in FYFFE:
        problem = build_case(CASES[name].recipe, CASES[name].arguments, None).problem
        result = mo.solve(problem)
        assert mo.certify(problem, result).kind == "checked"
        assert result.status is mo.Status.OPTIMAL
        values.append(result.objective)
    assert len(values) == 33
    assert values == sorted(values)


@pytest.mark.parametrize(
    "name", ["series-40-s0", "coverage-12-s0", "cover-16-s0", "quadratic-knapsack-15-s0"]
)
def test_random_problems_repeat(name: str) -> None:
    """The same arguments give the same problem, another seed another one."""
    case = CASES[name]
    first, again = (build_case(case.recipe, case.arguments, None).problem for _ in range(2))
    other = build_case(case.recipe, case.arguments | {"seed": 1}, None).problem
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_greedy_leaves_a_plateau() -> None:
    """A product that is zero until all of 14 blocks hold something is not left at zero."""
    case = CASES["fyffe-w191"]
    problem = build_case(case.recipe, case.arguments, None).problem
    assert mo.solve(problem, "greedy").objective > 0.6
    assert mo.solve(problem, "local_search").objective > 0.95


def test_polyblock_begins_with_the_greedy_plan() -> None:
    """On fifteen stages polyblock has a plan from its first node on, as good as greedy's."""
    case = CASES["luus"]
    problem = build_case(case.recipe, case.arguments, None).problem
    result = mo.solve(problem, "polyblock", node_limit=1)
    assert result.objective >= mo.solve(problem, "greedy").objective > 0.9


@pytest.mark.parametrize(
    "name",
    [
        "luus",
        "fyffe-w159",
        "coverage-12-s0",
        "cover-16-s0",
        "quadratic-knapsack-15-s0",
        "series-20-s0",
    ],
)
def test_linear_forms_have_the_same_optimum(name: str) -> None:
    """HiGHS on the reformulation of parts ends at the optimum that is proven without it."""
    job = Job(CASES[name], "highs-milp", time_limit_s=60.0)
    row, own = work(job), work(replace(job, peer="brb"))
    assert row.solved, row
    assert own.certificate == "checked"
    assert row.objective == pytest.approx(own.objective, rel=1e-6)
    assert row.bound >= own.objective - 1e-9 * abs(own.objective)


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("cpsat", "quadratic-knapsack-15-s0"),
        ("scip", "quadratic-knapsack-15-s0"),
        ("scip", "power-control-4-s0"),
    ],
)
def test_peers_on_parts_agree(peer: str, name: str, tmp_path: Path) -> None:
    """A peer that is installed ends at our optimum, too, in a process of its own."""
    if missing := PEERS[peer].missing():
        pytest.skip(f"{missing[0]} is not installed")
    job = Job(CASES[name], peer, time_limit_s=60.0)
    row = Launcher(tmp_path).run(job, 1)
    assert row.solved, row
    assert row.objective == pytest.approx(work(replace(job, peer="brb")).objective, rel=1e-6)


def test_published_networks_are_proven() -> None:
    """The bridge with mixed components is proven at its published optimum, from oracles alone."""
    built = build_case("monotone", CASES["network-bridge-3"].arguments, None)
    result = mo.solve(built.problem)
    assert mo.certify(built.problem, result).kind == "checked"
    assert 0 <= result.objective - built.known <= 2 * HALF_A_DIGIT


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_networks_rise(name: str) -> None:
    """No pair of points contradicts that reliability and use of resources increase."""
    assert mo.find_counterexample(network(name)) is None
