"""The engine on problems of parts: what each kind of part is worth to the proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from solving import run

import moe2opt as mo
from moe2opt.bench.monotone import coverage
from moe2opt.canonical import parts
from moe2opt.solvers.monotone import planes

N = 12
RNG = np.random.default_rng(11)
COSTS = RNG.integers(1, 10, N)
HITS = RNG.random((20, N)) < 0.2
WORTHS = RNG.integers(1, 9, 20).astype(float)
WITHIN = [(parts.linear(COSTS), int(COSTS.sum()) // 3)]
ROOTS = [parts.concave(np.sqrt, parts.linear(row * 4.0)) for row in HITS if row.any()]


def covered(points: Any) -> Any:
    """Return the worth of the targets that are hit."""
    return (points @ HITS.T > 0) @ WORTHS


def gained(points: Any) -> Any:
    """Return what one more unit of each variable hits first."""
    return ((points @ HITS.T == 0) * WORTHS) @ HITS


OBJECTIVES = {
    "submodular": parts.submodular(covered, integral=True),
    "marginals": parts.submodular(covered, integral=True, marginals=gained),
    "concave": ROOTS,
    "supermodular": parts.supermodular(lambda x: (x.sum(axis=1) / 4.0) ** 2 + x @ COSTS / 3),
    "convex": parts.convex(lambda v: (v / 4.0) ** 2, parts.linear(COSTS)),
    "least": parts.minimum(
        parts.linear(RNG.integers(1, 9, N)), parts.linear(RNG.integers(1, 9, N))
    ),
    "ratio": parts.ratio(
        parts.linear(RNG.integers(1, 9, N)),
        parts.total([[3.0, 3.0 + k] for k in RNG.integers(1, 5, N)]),
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_planes_shrink_the_tree_of_every_kind_of_part(name: str) -> None:
    """A proof with planes is accepted, agrees with corners, and is half as large or smaller."""
    problem = mo.MonotoneProblem.from_parts([0] * N, [1] * N, OBJECTIVES[name], at_most=WITHIN)
    result = mo.solve(problem)
    assert mo.certify(problem, result).kind == "checked"
    plain = "corner" if problem.mixed_objective is None else "mixed"
    corners = mo.solve(replace(problem, structure=None), bound=plain)
    assert result.objective == pytest.approx(corners.objective, rel=1e-9)
    assert result.stats["nodes"] <= corners.stats["nodes"] / 2


def test_rows_that_contradict_each_other_are_found_without_a_tree() -> None:
    """Prices of a cover and a budget show at the root that nothing fits, and the checker agrees."""
    most = parts.coverage(HITS.astype(float), WORTHS)
    problem = mo.MonotoneProblem.from_parts(
        [0] * N,
        [1] * N,
        minimise=parts.linear(COSTS),
        at_most=[(parts.linear(COSTS), 8)],
        at_least=[(most, float(0.9 * covered(np.ones((1, N)))[0]))],
    )
    result = mo.solve(problem)
    assert result.status is mo.Status.INFEASIBLE
    assert mo.certify(problem, result).kind == "checked"
    proof = result.certificate
    assert proof is not None
    assert proof.conflict is not None
    assert any(record[0] == "farkas" for record in proof.tree)
    hidden = replace(proof, conflict=replace(proof.conflict, covers=())).sealed()
    assert not mo.certify(problem, replace(result, certificate=hidden)).ok


def test_a_proof_holds_in_the_box_that_it_closes() -> None:
    """Base points move with a box, so that the proof of a node may say less in a part of it."""
    rng = np.random.default_rng([4, 18, 9])
    hits, worths = rng.random((30, 18)) < 0.15, rng.integers(1, 99, 30) / 8.0
    costs = rng.integers(1, 10, 18)

    def worth(points: Any) -> Any:
        return ((points @ hits.T > 0) * worths).sum(axis=1)

    problem = mo.MonotoneProblem.from_parts(
        [0] * 18,
        [1] * 18,
        parts.submodular(worth),
        at_most=[(parts.linear(costs), int(costs.sum()) // 4)],
    )
    best = mo.solve(problem).objective
    for nodes in (3, 5, 7, 9):
        result = mo.solve(problem, node_limit=nodes)
        assert mo.certify(problem, result).failures == ()
        assert result.bound >= best


def test_an_lp_weighs_the_base_points_of_a_submodular_oracle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ranges within rows of both sides are proven, and sensors with half the nodes of steps."""
    seen = coverage(7, 0).objective
    ranges = mo.MonotoneProblem.from_parts(
        [0] * 7,
        [2] * 7,
        mo.parts.submodular(lambda x: seen(np.minimum(x, 1)) + 2.0 * np.sqrt(x).sum(axis=1)),
        at_most=[(mo.parts.linear([3, 1, 4, 1, 5, 9, 2]), 14)],
        at_least=[(mo.parts.linear([1] * 7), 3)],
    )
    found, worth = run(ranges, "brb"), coverage(20, 1).objective
    costs = np.random.default_rng(3).integers(1, 10, 20)
    sensors = mo.MonotoneProblem.from_parts(
        [0] * 20,
        [1] * 20,
        mo.parts.submodular(lambda x: worth(x)),
        at_most=[(mo.parts.linear(costs), int(costs.sum()) // 3)],
    )
    assert np.isclose(found.objective, run(ranges, "enumerate").objective, rtol=1e-9)
    now = run(sensors, "brb")
    with monkeypatch.context() as patch:
        patch.setattr(planes, "takes_bases", lambda _: False)
        steps = run(sensors, "brb")
    assert np.isclose(now.objective, steps.objective, rtol=1e-9)
    assert 2 * now.stats["nodes"] <= steps.stats["nodes"]
    for problem, result in ((ranges, found), (sensors, now), (sensors, steps)):
        assert mo.certify(problem, result).kind == "checked"
