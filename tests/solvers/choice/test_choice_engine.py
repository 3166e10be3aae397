"""The multiple-choice engine: relaxation, fixing, core search, certificates, large instances."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solving import run
from strategies import brute_force

from moe2opt.bench.orlib import assignments, knapsacks, multiple_choice, read_values
from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.certify import certify
from moe2opt.result import Limit, Status

#: Seconds to fetch a gigabyte of weights from each tier: GPU memory, host memory over PCIe, NVMe.
#: Order-of-magnitude figures, chosen for the shape of the instance and not measured.
TIER_S_PER_GB = (0.002, 0.05, 0.4)

#: Precisions: bits per weight and relative loss of an expert's output. Chosen for the shape.
PRECISION_BITS = (16.0, 8.0, 4.0, 2.0)
PRECISION_LOSS = (0.0, 0.01, 0.08, 0.4)

#: Parameters of one expert: hidden 6144, expert width 2048, three matrices.
EXPERT_PARAMETERS = 3 * 6144 * 2048


def placement(counts: Any, saliency: Any, seed: int = 0) -> MultipleChoiceProblem:
    """Return tier x precision for every expert under two capacities and a budget of loss.

    Value is the time saved against the slowest option, activations times fetch time, in seconds.
    Usage is GB in the fast tier, GB in the middle one, and loss: saliency (as a share of the total)
    times the relative loss of the precision, both with a little noise so that no two experts are
    alike. Budgets are shares (20 %, 30 %) of the 8-bit size of all experts and 30 % of the loss
    that 4 bits would cause everywhere.
    """
    rng = np.random.default_rng(seed)
    experts = len(counts)
    bits, loss = np.array(PRECISION_BITS), np.array(PRECISION_LOSS)
    gb = EXPERT_PARAMETERS * bits / 8 / 1e9
    speed = rng.uniform(0.95, 1.05, (experts, 1, 1))
    fetch = np.array(TIER_S_PER_GB)[None, :, None] * gb[None, None, :] * speed
    saved = np.asarray(counts, float)[:, None, None] * (fetch.max() - fetch)
    share = np.asarray(saliency, float) / np.sum(saliency) * rng.uniform(0.9, 1.1, experts)
    usage = np.zeros((experts, 3, 4, 3))
    usage[:, 0, :, 0] = gb
    usage[:, 1, :, 1] = gb
    usage[:, :, :, 2] = share[:, None, None] * loss
    whole = experts * gb[1]
    budgets = [0.2 * whole, 0.3 * whole, 0.3 * loss[2]]
    return MultipleChoiceProblem(
        list(saved.reshape(experts, 12)), list(usage.reshape(experts, 12, 3)), budgets
    )


def glm_placement(shared: Path, layers: int = 75, seed: int = 0) -> MultipleChoiceProblem:
    """Return the placement problem of GLM-5.2's experts from its activation statistics."""
    import pandas as pd

    stats = pd.read_parquet(shared / "data/moe_traces/glm52/glm52_expert_stats.parquet")
    every = stats[stats.domain == "all"].sort_values(["layer", "expert"]).head(256 * layers)
    return placement(every.cnt.to_numpy(), every.sal.to_numpy(), seed)


def drawn_placement(experts: int, seed: int) -> MultipleChoiceProblem:
    """Return a placement problem with log-normal counts and saliencies, like real ones."""
    rng = np.random.default_rng(seed)
    counts = np.floor(rng.lognormal(8.0, 1.2, experts))
    return placement(counts, counts * rng.lognormal(0.0, 0.7, experts), seed)


# ---------------------------------------------------------------------- published instances


def published(shared: Path, family: str) -> dict[str, tuple[MultipleChoiceProblem, float]]:
    """Return small third-party instances with their proven optima."""
    folder = shared / "data/instances" / family
    known = read_values(folder)
    if family == "mmkp":
        names = ("I01", "I02", "I03", "I05")
        return {n: (multiple_choice(folder / f"{n}.txt"), known[n].best_known) for n in names}
    files = {"gap": ("gap1", "gap2"), "mknap": ("mknap1",)}[family]
    found: list[MultipleChoiceProblem] = []
    for name in files:
        path = folder / f"{name}.txt"
        found += assignments(path) if family == "gap" else knapsacks(path)
    optima = [k.best_known for k in known.values()][: len(found)]
    return dict(zip(list(known)[: len(found)], zip(found, optima, strict=True), strict=True))


@pytest.mark.parametrize("family", ["mmkp", "gap", "mknap"])
def test_published_optima_are_proven(shared_data: Path, family: str) -> None:
    """MMKP I01-I05, gap1-2 and mknap1 are proven to their published optima, and certified."""
    for name, (problem, optimum) in published(shared_data.parent, family).items():
        result = run(problem, "brb")
        assert result.status is Status.OPTIMAL, name
        assert result.objective == pytest.approx(optimum, abs=1e-6), name
        verdict = certify(problem, result)
        assert verdict.ok, (name, verdict.failures)


def test_real_placement_is_within_a_millionth(shared_data: Path) -> None:
    """19,200 experts of GLM-5.2 with 12 options and 3 budgets are placed within a millionth."""
    problem = glm_placement(shared_data.parent)
    result = run(problem, "brb", rel_gap=1e-6)
    assert (problem.size, len(problem.flat_values)) == (19_200, 230_400)
    assert result.status is Status.OPTIMAL
    assert result.gap <= 1e-6
    assert certify(problem, result).ok


# ---------------------------------------------------------------------- random instances


def random_problem(seed: int, groups: int, options: int, rows: int, *, whole: bool = True) -> Any:
    """Return a problem with correlated use and value and room for half of the largest use."""
    rng = np.random.default_rng(seed)
    usage = rng.integers(0, 40, (groups, options, rows)).astype(float)
    values = usage.sum(axis=2) / max(rows, 1) + rng.integers(0, 15, (groups, options))
    if not whole:
        usage, values = usage * 0.37, values / 7
    else:
        values = np.floor(values)
    budgets = 0.5 * usage.max(axis=1).sum(axis=0)
    return MultipleChoiceProblem(list(values), list(usage), np.floor(budgets))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_small_problems_agree_with_enumeration(rows: int, whole: bool) -> None:
    """On problems small enough to enumerate the engine finds the optimum, certified."""
    for seed in range(6):
        problem = random_problem(seed, 5, 4, rows, whole=whole)
        result = run(problem, "brb")
        assert result.objective == pytest.approx(brute_force(problem), rel=1e-9)
        verdict = certify(problem, result)
        assert verdict.ok, verdict.failures


def test_many_rows_leave_the_dual_to_a_linear_solver() -> None:
    """With more budgets than the compiled dual is made for, the optimum is proven all the same."""
    problem = random_problem(3, 5, 3, 45)
    result = run(problem, "brb")
    assert result.objective == pytest.approx(brute_force(problem))
    assert certify(problem, result).ok


def test_a_gap_that_is_asked_for_ends_the_run() -> None:
    """A relative gap is kept: fewer nodes than to the optimum, and a bound within the gap."""
    problem = random_problem(1, 40, 6, 4)
    exact, close = run(problem, "brb"), run(problem, "brb", rel_gap=0.01)
    assert close.gap <= 0.01
    assert close.stats["nodes"] < exact.stats["nodes"]
    assert close.bound >= exact.objective


@pytest.mark.parametrize("nodes", [1, 2, 10, 50])
def test_stopped_searches_are_certified(nodes: int) -> None:
    """A search stopped in its core has a bound between the root's and the optimum, certified."""
    problem = random_problem(1, 40, 6, 4)
    root, stopped, exact = (run(problem, "brb", node_limit=n) for n in (1, nodes, None))
    assert stopped.limit is Limit.NODES
    assert root.bound >= stopped.bound >= exact.objective
    verdict = certify(problem, stopped)
    assert verdict.ok, verdict.failures


def test_an_infeasible_core_is_explained() -> None:
    """Two budgets that clash only together are named in the conflict, and the proof holds."""
    usage = [[[1.0, 0.0], [0.0, 1.0]]] * 9
    problem = MultipleChoiceProblem([[1.0, 2.0]] * 9, usage, [4.0, 4.0])
    result = run(problem, "brb")
    assert result.status is Status.INFEASIBLE
    assert result.certificate is not None
    assert result.certificate.conflict is not None
    assert result.certificate.conflict.rows == (0, 1)
    assert certify(problem, result).ok


def test_a_large_problem_is_closed_within_a_gap() -> None:
    """A drawn placement of 2,000 experts closes within a millionth; its proof is one leaf."""
    problem = drawn_placement(2000, 5)
    result = run(problem, "brb", rel_gap=1e-6)
    assert result.gap <= 1e-6
    assert result.certificate is not None
    assert result.certificate.leaves == 1
    assert certify(problem, result).ok


# ---------------------------------------------------------------------- the checker


def changed(result: Any, tree: Any) -> Any:
    """Return the result with another, freshly sealed tree."""
    certificate = dataclasses.replace(result.certificate, tree=tuple(tree)).sealed()
    return dataclasses.replace(result, certificate=certificate)


def reduced_result() -> tuple[Any, Any, list[int]]:
    """Return a problem, its result, and the places of reductions by prices in its proof."""
    problem = random_problem(1, 40, 6, 4)
    result = run(problem, "brb")
    places = [k for k, r in enumerate(result.certificate.tree) if r[0] == "out:dual"]
    assert len(places) > 20
    return problem, result, places


def test_reductions_of_options_that_are_out_are_rejected() -> None:
    """An option cannot be excluded twice, nor one that does not exist."""
    problem, result, places = reduced_result()
    tree = list(result.certificate.tree)
    twice = [*tree[: places[0]], tree[places[0]], *tree[places[0] :]]
    assert not certify(problem, changed(result, twice)).ok
    for option in (-1, len(problem.flat_values)):
        outside = [*tree[: places[0]], ("out:dual", option, 0), *tree[places[0] + 1 :]]
        assert not certify(problem, changed(result, outside)).ok


def test_reductions_of_good_options_are_rejected() -> None:
    """Excluding the options of the optimum by prices does not pass the checker."""
    problem, result, places = reduced_result()
    tree = list(result.certificate.tree)
    for group in range(problem.size):
        option = int(problem.offsets[group] + result.x[group])
        forged = [("out:dual", option, tree[places[0]][2]), *tree]
        claimed = changed(result, forged)
        assert math.isfinite(claimed.bound)
        assert not certify(problem, claimed).ok
